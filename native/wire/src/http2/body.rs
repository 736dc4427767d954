//! A request's body in the making.

use bytes::Bytes;

use crate::event::Violation;
use crate::grpc::{PREFIX_BYTES, Prefix};

/// A body of unknown length asks for at least this much when it outgrows its grant.
const GROWTH_BYTES_MIN: usize = 64 << 10;

/// What a DATA frame's bytes, or the end, did to a body.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Stored; more is to come.
    Taken,
    /// The end, and all is well.
    Whole { body: Bytes, compressed: bool },
    /// Nothing was stored: this much must be granted first.
    Grow(usize),
    /// Against a rule whose breach is answered.
    Broken(Violation),
    /// Against HTTP/2 itself.
    Malformed,
}

/// Collects a plain body, or the one message of a gRPC call.
#[derive(Debug)]
pub(super) struct Body {
    grpc: bool,
    /// Bytes of `stored` that the owner agreed to.
    pub(super) grant: usize,
    /// `content-length`.
    announced: Option<u64>,
    /// Data that came, gRPC prefix included.
    received: u64,
    prefix: [u8; PREFIX_BYTES],
    stored: Vec<u8>,
}

impl Body {
    pub(super) fn new(grpc: bool, announced: Option<u64>) -> Self {
        Self { grpc, grant: 0, announced, received: 0, prefix: [0; PREFIX_BYTES], stored: Vec::new() }
    }

    pub(super) fn is_grpc(&self) -> bool {
        self.grpc
    }

    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Memory in use.
    pub(super) fn stored_bytes(&self) -> usize {
        self.stored.len()
    }

    /// Bytes of data in all, where the peer said it.
    pub(super) fn expected(&self) -> Option<u64> {
        let message = || Prefix::parse(self.prefix).map(|prefix| u64::from(prefix.message_bytes) + PREFIX_BYTES as u64);
        self.announced.or_else(|| if self.grpc && self.received >= PREFIX_BYTES as u64 { message() } else { None })
    }

    /// Forgets what was stored: the request is refused.
    pub(super) fn clear(&mut self) {
        self.stored = Vec::new();
    }

    /// Takes `data`, the last of it if `end`. Nothing changes on `Grow`, so that it can be tried again.
    pub(super) fn take(&mut self, data: &[u8], end: bool, bytes_max: usize) -> Verdict {
        let received = self.received + data.len() as u64;
        if self.announced.is_some_and(|announced| received > announced || (end && received < announced)) {
            return Verdict::Malformed;
        }
        let verdict =
            if self.grpc { self.take_message(data, end, bytes_max) } else { self.take_plain(data, end, bytes_max) };
        if !matches!(verdict, Verdict::Grow(_)) {
            self.received = received;
        }
        verdict
    }

    fn take_message(&mut self, data: &[u8], end: bool, bytes_max: usize) -> Verdict {
        let prefix_had = self.received.min(PREFIX_BYTES as u64) as usize;
        let (prefix_data, message) = data.split_at(data.len().min(PREFIX_BYTES - prefix_had));
        let mut prefix = self.prefix;
        let prefix_has = prefix_had + prefix_data.len();
        prefix[prefix_had..prefix_has].copy_from_slice(prefix_data);
        if prefix_has < PREFIX_BYTES {
            self.prefix = prefix;
            return match (end, prefix_has) {
                (false, _) => Verdict::Taken,
                (true, 0) => broken("no message in a call that takes one; send one"),
                (true, _) => broken("message is cut short within its 5-byte prefix"),
            };
        }
        let Some(Prefix { compressed, message_bytes }) = Prefix::parse(prefix) else {
            return broken("compressed flag of a message is neither 0 nor 1");
        };
        let length = message_bytes as usize;
        let stored = self.stored.len() + message.len();
        if length > bytes_max {
            return Verdict::Broken(Violation::BodyTooLarge { found: length as u64, allowed: bytes_max as u64 });
        }
        if stored > length {
            return broken("data after the message of a call that takes one; send one message a call");
        }
        if end && stored < length {
            return broken("message is shorter than its prefix says");
        }
        if length > self.grant {
            return Verdict::Grow(length);
        }
        self.prefix = prefix;
        if end && self.stored.is_empty() {
            return Verdict::Whole { body: Bytes::copy_from_slice(message), compressed };
        }
        self.store(message, length);
        if end { Verdict::Whole { body: std::mem::take(&mut self.stored).into(), compressed } } else { Verdict::Taken }
    }

    fn take_plain(&mut self, data: &[u8], end: bool, bytes_max: usize) -> Verdict {
        let needed = self.stored.len() + data.len();
        if needed > bytes_max {
            return Verdict::Broken(Violation::BodyTooLarge { found: needed as u64, allowed: bytes_max as u64 });
        }
        // What was announced was found to be within the limit when the request was accepted.
        let announced = self.announced.map(|announced| announced as usize);
        if announced.unwrap_or(needed) > self.grant {
            let room = || if end { needed } else { (needed * 2).max(GROWTH_BYTES_MIN).min(bytes_max) };
            return Verdict::Grow(announced.unwrap_or_else(room));
        }
        if end && self.stored.is_empty() {
            return Verdict::Whole { body: Bytes::copy_from_slice(data), compressed: false };
        }
        let room = announced.unwrap_or_else(|| (self.stored.capacity() * 2).clamp(needed, self.grant));
        self.store(data, room);
        if !end {
            return Verdict::Taken;
        }
        self.stored.shrink_to_fit();
        Verdict::Whole { body: std::mem::take(&mut self.stored).into(), compressed: false }
    }

    /// Stores `data`; when that needs memory, takes `room` in all at once.
    fn store(&mut self, data: &[u8], room: usize) {
        if !data.is_empty() && self.stored.len() + data.len() > self.stored.capacity() {
            self.stored.reserve_exact(room - self.stored.len());
        }
        self.stored.extend_from_slice(data);
    }
}

fn broken(what: &'static str) -> Verdict {
    Verdict::Broken(Violation::Framing(what))
}
