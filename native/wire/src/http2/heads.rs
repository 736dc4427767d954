//! Header blocks to heads: decoding once, checking (RFC 9113, section 8.3), and remembering.

use std::rc::Rc;

use super::fields::{Fields, Trailers};
use super::settings::TABLE_BYTES_DEFAULT;
use crate::Head;
use crate::event::Violation;
use crate::hpack::{Decoder, Undecodable};
use crate::limits::Limits;

/// Blocks remembered. A client that calls one method needs one; each more is another method or another metadata.
const KNOWN_MAX: usize = 8;

/// A block longer than this is not worth remembering.
const KNOWN_BYTES_MAX: usize = 1_024;

/// What a header block that opens a stream says.
#[derive(Debug)]
pub(super) enum Outcome {
    Request(Request),
    /// Too long or too many fields, with what its answer must know: a gRPC call? HEAD?
    Violation {
        violation: Violation,
        grpc: bool,
        bodyless: bool,
    },
    /// Against HTTP/2 itself.
    Malformed,
}

/// What a header block that ends a request says.
#[derive(Debug)]
pub(super) enum TrailersOutcome {
    Valid,
    Violation(Violation),
    Malformed,
}

#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) head: Rc<Head>,
    /// `expect: 100-continue`.
    pub(super) expects_continue: bool,
}

/// Reads the header blocks of one connection.
#[derive(Debug)]
pub(super) struct Heads {
    decoder: Decoder,
    known: Vec<Known>,
    /// Which of `known` the next new one replaces.
    replaced_next: usize,
    id_next: u32,
}

/// A block and what it decoded to, while the decoder's table was and stayed at a generation.
#[derive(Debug)]
struct Known {
    block: Vec<u8>,
    generation: u64,
    request: Request,
}

impl Heads {
    pub(super) fn new() -> Self {
        Self { decoder: Decoder::new(TABLE_BYTES_DEFAULT), known: Vec::new(), replaced_next: 0, id_next: 0 }
    }

    /// A block that opens a stream.
    #[inline]
    pub(super) fn request(&mut self, block: &[u8], limits: &Limits) -> Result<Outcome, Undecodable> {
        let generation = self.decoder.generation();
        match self.known.iter().find(|known| known.generation == generation && known.block == block) {
            Some(known) => Ok(Outcome::Request(known.request.clone())),
            None => self.decode(block, limits),
        }
    }

    fn decode(&mut self, block: &[u8], limits: &Limits) -> Result<Outcome, Undecodable> {
        let generation = self.decoder.generation();
        let mut fields = Fields::new(limits);
        self.decoder.decode(block, |name, value| fields.take(name, value))?;
        let outcome = fields.finish(self.id_next);
        if let Outcome::Request(request) = &outcome {
            self.id_next = self.id_next.wrapping_add(1);
            if self.decoder.generation() == generation && block.len() <= KNOWN_BYTES_MAX {
                self.remember(block, request);
            }
        }
        Ok(outcome)
    }

    /// A block that ends a request: its fields are dropped.
    pub(super) fn trailers(&mut self, block: &[u8], limits: &Limits) -> Result<TrailersOutcome, Undecodable> {
        let mut trailers = Trailers::new(limits);
        self.decoder.decode(block, |name, value| trailers.take(name, value))?;
        Ok(trailers.finish())
    }

    /// A block that means nothing any more, but changes the table.
    pub(super) fn skip(&mut self, block: &[u8]) -> Result<(), Undecodable> {
        self.decoder.decode(block, |_, _| {})
    }

    fn remember(&mut self, block: &[u8], request: &Request) {
        let known = Known { block: block.to_vec(), generation: self.decoder.generation(), request: request.clone() };
        if self.known.len() < KNOWN_MAX {
            self.known.push(known);
        } else {
            self.known[self.replaced_next] = known;
            self.replaced_next = (self.replaced_next + 1) % KNOWN_MAX;
        }
    }
}
