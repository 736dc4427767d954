//! A body to be sent: copied bytes and shared slices in one order.

use bytes::Bytes;

/// Shared slices shorter than this are copied: a copy costs less than a piece of its own in `writev`.
pub(crate) const SHARED_BYTES_MIN: usize = 1_024;

/// The bytes of one answer, built by an encoder and taken by the connection. Reusable: [`clear`](Payload::clear)
/// keeps the buffer.
#[derive(Debug, Default)]
pub struct Payload {
    copied: Vec<u8>,
    /// Each follows the first `at` bytes of `copied`; in order.
    shared: Vec<Shared>,
    shared_bytes: usize,
}

#[derive(Debug)]
struct Shared {
    at: usize,
    bytes: Bytes,
}

/// A stretch of a payload.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// To be copied by whoever keeps it.
    Copied(&'a [u8]),
    /// May be kept by a cheap clone.
    Shared(&'a Bytes),
}

impl Payload {
    /// Empties it for the next answer.
    pub fn clear(&mut self) {
        self.copied.clear();
        if !self.shared.is_empty() {
            self.shared.clear();
            self.shared_bytes = 0;
        }
    }

    /// Where encoders append.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.copied
    }

    /// Appends without copying, where that pays.
    pub fn share(&mut self, bytes: Bytes) {
        if bytes.len() < SHARED_BYTES_MIN {
            self.copied.extend_from_slice(&bytes);
        } else {
            self.shared_bytes += bytes.len();
            self.shared.push(Shared { at: self.copied.len(), bytes });
        }
    }

    /// Bytes in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.copied.len() + self.shared_bytes
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of it, where nothing is shared.
    pub(crate) fn copied(&self) -> Option<&[u8]> {
        self.shared.is_empty().then_some(&*self.copied)
    }

    /// The stretches in order; none is empty.
    pub fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        let mut from = 0;
        let mut shared = self.shared.iter();
        let mut held: Option<&Bytes> = None;
        let mut done = false;
        std::iter::from_fn(move || {
            loop {
                if let Some(bytes) = held.take() {
                    return Some(Piece::Shared(bytes));
                }
                if done {
                    return None;
                }
                let to = match shared.next() {
                    Some(next) => {
                        held = Some(&next.bytes);
                        next.at
                    }
                    None => {
                        done = true;
                        self.copied.len()
                    }
                };
                if to > from {
                    let piece = Piece::Copied(&self.copied[from..to]);
                    from = to;
                    return Some(piece);
                }
            }
        })
    }
}
