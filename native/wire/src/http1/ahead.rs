//! Bytes taken from the socket before they could be used.

/// An emptied buffer larger than this is given back, so that idle connections stay small.
const IDLE_BYTES_MAX: usize = 8 << 10;

/// A queue of bytes that never moves more than it has taken in.
#[derive(Debug, Default)]
pub struct ReadAhead {
    bytes: Vec<u8>,
    /// Bytes at the front that were consumed.
    start: usize,
}

impl ReadAhead {
    /// A queue that holds these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), start: 0 }
    }

    /// What waits.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// Memory held.
    pub fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Drops bytes from the front.
    pub fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        if self.is_empty() {
            self.clear();
        }
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.start = 0;
        if self.bytes.capacity() > IDLE_BYTES_MAX {
            self.bytes = Vec::new();
        } else {
            self.bytes.clear();
        }
    }

    /// How many bytes `fill` would take.
    pub fn room(&self, bytes_max: usize) -> usize {
        let occupied = if self.moves() { self.bytes.len() - self.start } else { self.bytes.len() };
        bytes_max.saturating_sub(occupied)
    }

    /// Takes from `input` until the queue occupies `bytes_max`.
    pub fn fill(&mut self, input: &mut &[u8], bytes_max: usize) {
        let (taken, left) = input.split_at(input.len().min(self.room(bytes_max)));
        if taken.is_empty() {
            return;
        }
        if self.moves() {
            self.compact();
        }
        self.bytes.extend_from_slice(taken);
        *input = left;
    }

    /// Moves what waits to the front, to make all room usable.
    pub fn compact(&mut self) {
        self.bytes.drain(..self.start);
        self.start = 0;
    }

    /// Moving pays once at least as much was consumed as must be moved.
    fn moves(&self) -> bool {
        self.start > 0 && self.start >= self.bytes.len() - self.start
    }
}
