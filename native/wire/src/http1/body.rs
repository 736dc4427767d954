//! Reading bodies, within what the owner granted.

use bytes::Bytes;

use super::chunks::Chunks;
use super::head::BodyPlan;
use crate::{Limits, Violation};

/// Room asked for at least, when a chunked body outgrows its grant.
const GROWTH_BYTES_MIN: usize = 4 << 10;

/// A body in the making.
#[derive(Debug)]
pub struct Body {
    framing: Framing,
    bytes: Vec<u8>,
    /// Bytes that may be stored.
    grant: usize,
    /// The owner has been asked for more and has not decided yet.
    asked: bool,
}

#[derive(Debug)]
enum Framing {
    Length(usize),
    Chunked(Box<Chunks>),
}

/// What came of a piece of input.
#[derive(Debug)]
pub enum Progress {
    /// All of it was stored, and more is needed.
    More,
    /// The grant is too small: this much is needed. Told once for each grant.
    Grow(usize),
    /// Nothing moves until the owner has granted more.
    Asked,
    /// The body is complete.
    Done(Bytes),
}

impl Body {
    /// A body of which no byte has come.
    pub fn new(plan: BodyPlan, grant: usize) -> Self {
        let framing = match plan {
            BodyPlan::Length(length) => Framing::Length(usize::try_from(length).unwrap_or(usize::MAX)),
            BodyPlan::Chunked => Framing::Chunked(Box::default()),
        };
        Self { framing, bytes: Vec::new(), grant, asked: false }
    }

    /// Lets the body take `grant` bytes in all.
    pub fn grant(&mut self, grant: usize) {
        (self.grant, self.asked) = (grant, false);
    }

    /// Takes from the front of `input`.
    pub fn take(&mut self, input: &mut &[u8], limits: &Limits) -> Result<Progress, Violation> {
        if self.asked {
            return Ok(Progress::Asked);
        }
        let needed = match &mut self.framing {
            Framing::Length(length) if *length > self.grant => *length,
            Framing::Length(length) => return Ok(take_length(*length, input, &mut self.bytes)),
            Framing::Chunked(chunks) => {
                while let Some(size) = chunks.next(input, self.bytes.len(), limits)? {
                    let needed = self.bytes.len() + size;
                    if needed > self.grant {
                        return Ok(self.ask(needed.max(self.grant.saturating_mul(2)).max(GROWTH_BYTES_MIN), limits));
                    }
                    if input.is_empty() {
                        return Ok(Progress::More);
                    }
                    let (data, rest) = input.split_at(size.min(input.len()));
                    grow(&mut self.bytes, data.len(), self.grant);
                    self.bytes.extend_from_slice(data);
                    chunks.took(data.len());
                    *input = rest;
                }
                return Ok(if chunks.ended() {
                    Progress::Done(std::mem::take(&mut self.bytes).into())
                } else {
                    Progress::More
                });
            }
        };
        Ok(self.ask(needed, limits))
    }

    /// Bytes that came.
    pub fn received_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes in all, where the peer said it.
    pub fn expected_bytes(&self) -> Option<usize> {
        match self.framing {
            Framing::Length(length) => Some(length),
            Framing::Chunked(_) => None,
        }
    }

    /// Whether the owner has to decide before anything moves.
    pub fn asked(&self) -> bool {
        self.asked
    }

    /// Memory held.
    pub fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    fn ask(&mut self, needed: usize, limits: &Limits) -> Progress {
        self.asked = true;
        Progress::Grow(needed.min(limits.request_body_bytes_max))
    }
}

fn take_length(length: usize, input: &mut &[u8], bytes: &mut Vec<u8>) -> Progress {
    if bytes.is_empty() && input.len() >= length {
        // All of it is here: one allocation of exactly its size, and one copy.
        let (body, rest) = input.split_at(length);
        *input = rest;
        return Progress::Done(Bytes::copy_from_slice(body));
    }
    if bytes.capacity() == 0 {
        bytes.reserve_exact(length);
    }
    let (data, rest) = input.split_at(input.len().min(length - bytes.len()));
    bytes.extend_from_slice(data);
    *input = rest;
    if bytes.len() == length { Progress::Done(std::mem::take(bytes).into()) } else { Progress::More }
}

/// Doubles the room, but never beyond the grant.
fn grow(bytes: &mut Vec<u8>, more: usize, grant: usize) {
    let needed = bytes.len() + more;
    if needed > bytes.capacity() {
        let capacity = (2 * bytes.capacity()).max(needed).max(GROWTH_BYTES_MIN).min(grant);
        bytes.reserve_exact(capacity - bytes.len());
    }
}
