//! Flow control (RFC 9113, section 5.2): what the peer may still send, and what we may.

use super::frame::LARGEST;

/// A window that the peer fills and we widen, once half of it is used.
#[derive(Debug)]
pub(crate) struct ReceiveWindow {
    /// Bytes that the peer may send now. 64 bits, so that arithmetic on 31-bit windows cannot overflow.
    available: i64,
    /// Bytes that came and were stored or dropped, not yet given back.
    used: i64,
    /// `available` and `used` together, as long as nothing waits for a decision.
    size: i64,
}

impl ReceiveWindow {
    pub(crate) fn new(size: u32) -> Self {
        Self { available: i64::from(size), used: 0, size: i64::from(size) }
    }

    /// Takes what the peer sent; false if it was not allowed to.
    #[must_use]
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        self.available -= bytes as i64;
        self.available >= 0
    }

    /// Gives back what was taken; returns the increment once it is worth a frame.
    pub(crate) fn give_back(&mut self, bytes: usize) -> Option<u32> {
        self.used += bytes as i64;
        (self.used * 2 >= self.size && self.used > 0).then(|| self.widen(self.used))
    }

    /// Makes the window larger for good; returns the increment.
    pub(crate) fn raise(&mut self, size: u32) -> Option<u32> {
        let more = i64::from(size) - self.size;
        (more > 0).then(|| {
            self.size += more;
            self.widen(more + self.used)
        })
    }

    fn widen(&mut self, increment: i64) -> u32 {
        self.available += increment;
        self.used = 0;
        increment as u32
    }
}

/// A window that the peer widens and we fill. Negative after the peer shrank its initial window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendWindow(i64);

impl SendWindow {
    pub(crate) fn new(size: u32) -> Self {
        Self(i64::from(size))
    }

    /// Bytes that may be sent now.
    pub(crate) fn open(self) -> usize {
        self.0.max(0) as usize
    }

    pub(crate) fn fill(&mut self, bytes: usize) {
        self.0 -= bytes as i64;
    }

    /// Takes WINDOW_UPDATE, or a change of the initial window; false if the window grows beyond what is allowed.
    #[must_use]
    pub(crate) fn widen(&mut self, increment: i64) -> bool {
        self.0 += increment;
        self.0 <= i64::from(LARGEST)
    }
}
