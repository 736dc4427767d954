//! Memory that batches are gathered into.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// Fits a cache line and the widest vector registers.
const ALIGNMENT: usize = 64;
/// Below this a buffer is never given back.
const KEPT_BYTES: usize = 1024 * 1024;
/// So many uses in a row must need far less before a buffer is given back: batches vary, and so does their memory.
const SMALL_USES_MAX: u32 = 256;

/// A buffer that grows to what is needed, keeps its memory for the next batch, and gives it back when batches have
/// been far smaller for long.
pub(crate) struct AlignedBuffer {
    /// Valid for `capacity` bytes; dangling while that is 0.
    start: NonNull<u8>,
    capacity: usize,
    /// Uses in a row that needed less than an eighth.
    small_uses: u32,
}

// SAFETY: the buffer owns its memory, and nothing about it belongs to a thread.
unsafe impl Send for AlignedBuffer {}

impl AlignedBuffer {
    pub(crate) const fn new() -> Self {
        Self { start: NonNull::<Line>::dangling().cast(), capacity: 0, small_uses: 0 }
    }

    /// Where it begins. Moves when [`Self::room`] says so.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Makes room for `bytes`; true if the buffer has moved.
    #[inline]
    pub(crate) fn room(&mut self, bytes: usize) -> bool {
        let is_far_too_large = self.capacity > KEPT_BYTES && bytes < self.capacity / 8;
        self.small_uses = if is_far_too_large { self.small_uses + 1 } else { 0 };
        if bytes <= self.capacity && self.small_uses < SMALL_USES_MAX {
            return false;
        }
        self.renew(bytes);
        true
    }

    #[cold]
    fn renew(&mut self, bytes: usize) {
        let capacity = bytes.max(ALIGNMENT).checked_next_power_of_two().unwrap_or(bytes);
        *self = Self::with_capacity(capacity);
    }

    /// The first `bytes` bytes; there must be room for them.
    pub(crate) fn first(&mut self, bytes: usize) -> &mut [u8] {
        assert!(bytes <= self.capacity || bytes == 0, "no room was made");
        // SAFETY: `start` is valid for `capacity` bytes, initialised with zeros at first; aligned and not null for 0.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), bytes) }
    }

    fn with_capacity(capacity: usize) -> Self {
        let layout = Self::layout(capacity);
        // SAFETY: the size is at least ALIGNMENT, so not 0.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Self { start, capacity, small_uses: 0 }
    }

    fn layout(capacity: usize) -> Layout {
        Layout::from_size_align(capacity, ALIGNMENT).expect("a batch fits the address space")
    }
}

/// Gives an empty buffer an aligned address.
#[repr(align(64))]
struct Line;

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        if self.capacity > 0 {
            // SAFETY: allocated with this very layout by `with_capacity`, and never used again.
            unsafe { dealloc(self.start.as_ptr(), Self::layout(self.capacity)) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_and_keeps_its_place() {
        let mut buffer = AlignedBuffer::new();
        assert_eq!(buffer.first(0), [0_u8; 0]);
        assert!(buffer.room(100));
        assert_eq!(buffer.start().as_ptr() as usize % 64, 0);
        buffer.first(100).fill(7);
        assert!(!buffer.room(128));
        assert_eq!(buffer.first(128)[99..101], [7, 0]);
    }

    #[test]
    fn memory_is_given_back_when_batches_stay_small() {
        let mut buffer = AlignedBuffer::new();
        buffer.room(16 * KEPT_BYTES);
        let moves = (0..SMALL_USES_MAX).filter(|_| buffer.room(10)).count();
        assert_eq!((moves, buffer.capacity), (1, 64));
    }
}
