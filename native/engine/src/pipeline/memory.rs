//! Memory for the values of a batch: used again from batch to batch, but never while anybody still reads it.

use std::ptr::NonNull;
use std::sync::Arc;

use bytes::Bytes;

use crate::aligned::AlignedBuffer;

/// Buffers that one slot keeps: one to write, and some that callers have not sent yet.
const KEPT_MAX: usize = 4;

/// A buffer that is written by one and then read by many.
struct Shared(AlignedBuffer);

// SAFETY: through a shared reference the buffer tells its start and nothing else; it is written only by the one who has
// it alone.
unsafe impl Sync for Shared {}

/// The first bytes of a buffer, as an answer holds them.
struct Slice {
    buffer: Arc<Shared>,
    bytes: usize,
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `Room` made room for so many bytes, initialised by the buffer at least with zeros. Nobody writes to
        // it or moves it while this slice shares it: both take `Arc::get_mut`.
        unsafe { std::slice::from_raw_parts(self.buffer.0.start().as_ptr(), self.bytes) }
    }
}

/// Memory that is being written, and that nobody else knows.
pub(super) struct Room {
    /// Shared with nobody: of the slot it was taken out.
    buffer: Arc<Shared>,
    /// Where it begins.
    start: NonNull<u8>,
    bytes: usize,
    slot: usize,
}

// SAFETY: a room has its buffer to itself, and nothing about it belongs to a thread.
unsafe impl Send for Room {}

impl Room {
    /// All of it; holds what the last batch left.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the buffer has room for so many bytes from here on, initialised at least with zeros. Whoever made this
        // room had the only reference to it, which is in here.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

/// The buffers of a lane, by slot.
#[derive(Default)]
pub(super) struct Memory {
    slots: Vec<Vec<Arc<Shared>>>,
}

impl Memory {
    pub(super) fn new(slots: usize) -> Self {
        Self { slots: (0..slots).map(|_| Vec::new()).collect() }
    }

    /// So many bytes at a multiple of 64: those of the slot, unless somebody still reads them.
    pub(super) fn room(&mut self, slot: usize, bytes: usize) -> Room {
        if let Some(kept) = self.slots.get_mut(slot) {
            for place in 0..kept.len() {
                if let Some(start) = Self::start(&mut kept[place], bytes) {
                    return Room { buffer: kept.swap_remove(place), start, bytes, slot };
                }
            }
        }
        let mut buffer = Arc::new(Shared(AlignedBuffer::new()));
        let start = Self::start(&mut buffer, bytes).expect("a new buffer has one owner");
        Room { buffer, start, bytes, slot }
    }

    /// Where a buffer begins that nobody else has, once it has room for so many bytes.
    fn start(buffer: &mut Arc<Shared>, bytes: usize) -> Option<NonNull<u8>> {
        let Shared(free) = Arc::get_mut(buffer)?;
        free.room(bytes);
        Some(free.start())
    }

    /// What was written, to be read. The slot uses its memory again once nobody reads it any more.
    pub(super) fn written(&mut self, room: Room) -> Bytes {
        let Room { buffer, bytes, slot, .. } = room;
        if let Some(kept) = self.slots.get_mut(slot)
            && kept.len() < KEPT_MAX
        {
            kept.push(Arc::clone(&buffer));
        }
        if bytes == 0 { Bytes::new() } else { Bytes::from_owner(Slice { buffer, bytes }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(memory: &mut Memory, byte: u8, bytes: usize) -> Bytes {
        let mut room = memory.room(0, bytes);
        room.bytes_mut().fill(byte);
        memory.written(room)
    }

    #[test]
    fn what_is_read_is_not_written_over() {
        let mut memory = Memory::new(1);
        let answers: Vec<Bytes> = (0..9).map(|byte| written(&mut memory, byte, 100)).collect();
        for (byte, answer) in answers.iter().enumerate() {
            assert_eq!(answer.len(), 100);
            assert!(answer.iter().all(|&found| usize::from(found) == byte), "{byte}: {answer:?}");
        }
        assert_eq!(memory.slots[0].len(), KEPT_MAX);
    }

    #[test]
    fn memory_is_used_again_when_nobody_reads_it() {
        let mut memory = Memory::new(1);
        let first = written(&mut memory, 1, 100);
        let (place, slice) = (first.as_ptr(), first.slice(10..20));
        drop(first);
        assert_ne!(written(&mut memory, 2, 100).as_ptr(), place, "a slice of it is still read");
        assert_eq!(slice[0], 1);
        drop(slice);
        let again: Vec<Bytes> = (0..2).map(|byte| written(&mut memory, byte, 50)).collect();
        assert!(again.iter().any(|bytes| bytes.as_ptr() == place));
        assert_eq!(place as usize % 64, 0);
    }

    #[test]
    fn nothing_has_a_place_too() {
        let mut memory = Memory::new(0);
        let mut room = memory.room(7, 0);
        assert_eq!(room.bytes_mut().as_ptr() as usize % 64, 0);
        assert!(memory.written(room).is_empty());
    }
}
