//! What waits for the socket.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use crate::Payload;
use crate::payload::{Piece, SHARED_BYTES_MIN};

/// A drained output keeps a buffer of this size for the next answer; a larger one is given back.
const IDLE_BYTES_MAX: usize = 32 << 10;

/// Written bytes at the front of the buffer are moved over once they are this many and at least half of it.
const COMPACT_BYTES_MIN: usize = 16 << 10;

/// A queue of bytes: small writes are appended to one buffer that is used again and again, large shared slices are
/// kept as they are. The order is that of the calls.
#[derive(Debug, Default)]
pub struct Output {
    copied: Vec<u8>,
    /// Bytes at the front of `copied` that the socket has taken already.
    copied_written: usize,
    /// Each follows the first `at` bytes of `copied`; in order. Dropped as soon as it is written.
    shared: VecDeque<Shared>,
    /// Sum of the lengths in `shared`.
    shared_bytes: usize,
}

#[derive(Debug)]
struct Shared {
    at: usize,
    bytes: Bytes,
    /// Already a copy of our own, so that `detach` need not copy it again.
    owned: bool,
}

impl Output {
    /// The append point. Only append: what is in it already waits to be written.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.copied
    }

    /// Appends without copying, where that pays.
    pub fn share(&mut self, bytes: Bytes) {
        if bytes.len() < SHARED_BYTES_MIN {
            self.copied.extend_from_slice(&bytes);
        } else {
            self.shared_bytes += bytes.len();
            self.shared.push_back(Shared { at: self.copied.len(), bytes, owned: false });
        }
    }

    /// Appends a whole payload.
    pub fn payload(&mut self, payload: &Payload) {
        if let Some(copied) = payload.copied() {
            return self.copied.extend_from_slice(copied);
        }
        for piece in payload.pieces() {
            match piece {
                Piece::Copied(bytes) => self.copied.extend_from_slice(bytes),
                Piece::Shared(bytes) => self.share(bytes.clone()),
            }
        }
    }

    /// Bytes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.copied.len() - self.copied_written + self.shared_bytes
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All that waits, where it lies in one piece; `None` where only [`slices`](Self::slices) can tell.
    #[must_use]
    pub fn sole_slice(&self) -> Option<&[u8]> {
        self.shared.is_empty().then(|| &self.copied[self.copied_written..])
    }

    /// Fills `into` from the front, for a vectored write, and returns how many slices there are. None is empty.
    pub fn slices<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        let mut put = |bytes: &'a [u8]| {
            if bytes.is_empty() {
                return true;
            }
            let Some(slot) = into.get_mut(count) else { return false };
            *slot = IoSlice::new(bytes);
            count += 1;
            true
        };
        let mut from = self.copied_written;
        for shared in &self.shared {
            if !put(&self.copied[from..shared.at]) || !put(&shared.bytes) {
                return count;
            }
            from = shared.at;
        }
        put(&self.copied[from..]);
        count
    }

    /// Drops `bytes` from the front: the socket took them. More than waits counts as all.
    pub fn consume(&mut self, mut bytes: usize) {
        loop {
            let copied_end = self.shared.front().map_or(self.copied.len(), |shared| shared.at);
            let copied = bytes.min(copied_end - self.copied_written);
            self.copied_written += copied;
            bytes -= copied;
            let Some(shared) = self.shared.front_mut() else { break };
            if bytes == 0 {
                break;
            }
            let taken = bytes.min(shared.bytes.len());
            shared.bytes.advance(taken);
            self.shared_bytes -= taken;
            bytes -= taken;
            if shared.bytes.is_empty() {
                self.shared.pop_front();
            }
        }
        self.give_back();
    }

    /// Drops everything: nobody will take it.
    pub fn clear(&mut self) {
        self.consume(self.len());
    }

    /// Replaces shared slices by copies of their own, so that whoever lent them has them back. The order stays.
    pub fn detach(&mut self) {
        for shared in self.shared.iter_mut().filter(|shared| !shared.owned) {
            shared.bytes = Bytes::copy_from_slice(&shared.bytes);
            shared.owned = true;
        }
    }

    /// Memory held: what waits, and the buffers kept for what comes.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.copied.capacity() + self.shared_bytes
    }

    fn give_back(&mut self) {
        if self.is_empty() {
            self.copied_written = 0;
            if self.copied.capacity() > IDLE_BYTES_MAX {
                self.copied = Vec::new();
                self.shared = VecDeque::new();
            } else {
                self.copied.clear();
            }
        } else if self.copied_written >= COMPACT_BYTES_MIN && self.copied_written * 2 >= self.copied.len() {
            self.copied.drain(..self.copied_written);
            for shared in &mut self.shared {
                shared.at -= self.copied_written;
            }
            self.copied_written = 0;
        }
    }
}

#[cfg(test)]
mod tests;
