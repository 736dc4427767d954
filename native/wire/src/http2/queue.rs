//! What a stream still has to send while the peer's windows are shut.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use crate::output::Output;
use crate::payload::Piece;

/// How a stream's answer ends once its bytes are out.
#[derive(Debug)]
pub(super) enum End {
    /// Not yet: more messages may follow.
    Open,
    /// With the last byte.
    Data,
    /// With this header block.
    Trailers(Vec<u8>),
}

/// Bytes of one stream in their order, and its end.
#[derive(Debug)]
pub(super) struct Queue {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    pub(super) end: End,
    /// When bytes last moved on; for the limit on stalls.
    pub(super) moved_at: Instant,
}

#[derive(Debug)]
struct Chunk {
    bytes: Bytes,
    /// A copy of our own, so that `detach` need not copy it again.
    owned: bool,
}

impl Queue {
    pub(super) fn new(now: Instant) -> Self {
        Self { chunks: VecDeque::new(), bytes: 0, end: End::Open, moved_at: now }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends what follows the first `from` bytes of `piece`.
    pub(super) fn push(&mut self, piece: &Piece<'_>, from: usize) {
        let chunk = match piece {
            Piece::Copied(bytes) => Chunk { bytes: Bytes::copy_from_slice(&bytes[from..]), owned: true },
            Piece::Shared(bytes) => Chunk { bytes: bytes.slice(from..), owned: false },
        };
        self.bytes += chunk.bytes.len();
        self.chunks.push_back(chunk);
    }

    /// Moves `bytes` from the front to the output.
    pub(super) fn move_to(&mut self, output: &mut Output, mut bytes: usize) {
        self.bytes -= bytes;
        while bytes > 0 {
            let Some(chunk) = self.chunks.front_mut() else { return };
            let part = chunk.bytes.split_to(bytes.min(chunk.bytes.len()));
            bytes -= part.len();
            output.share(part);
            if chunk.bytes.is_empty() {
                self.chunks.pop_front();
            }
        }
    }

    /// Replaces shared bytes by copies.
    pub(super) fn detach(&mut self) {
        for chunk in self.chunks.iter_mut().filter(|chunk| !chunk.owned) {
            *chunk = Chunk { bytes: Bytes::copy_from_slice(&chunk.bytes), owned: true };
        }
    }
}
