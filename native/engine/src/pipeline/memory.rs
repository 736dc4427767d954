//! Memory for the values of a batch: used again from batch to batch, but never while anybody still reads it.

use std::ptr::NonNull;
use std::sync::Arc;

use bytes::Bytes;
use servekit_core::{Datatype, Shape, Tensor};

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
    bytes: usize,
    slot: usize,
}

impl Room {
    /// Where it begins. Whoever writes there does so while nobody reads it.
    pub(super) fn start(&self) -> NonNull<u8> {
        self.buffer.0.start()
    }

    /// All of it, as it was written.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: as in `bytes_mut`; and what it is written by is `bytes_mut` or a call that is over.
        unsafe { std::slice::from_raw_parts(self.start().as_ptr(), self.bytes) }
    }

    /// All of it; holds what the last batch left.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the buffer has room for so many bytes from here on, initialised at least with zeros. Whoever made this
        // room had the only reference to it, which is in here.
        unsafe { std::slice::from_raw_parts_mut(self.start().as_ptr(), self.bytes) }
    }
}

/// Where the elements of a value are.
pub(super) enum Data {
    /// Others may read them too, for as long as they like.
    Shared(Bytes),
    /// Nobody else knows them: kernels read what kernels have written without sharing it.
    Own(Room),
}

impl std::ops::Deref for Data {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Own(room) => room.bytes(),
        }
    }
}

/// A value of the batch in hand.
pub(super) struct Held {
    pub(super) datatype: Datatype,
    pub(super) shape: Shape,
    /// From when it is made until nobody reads it any more; the rest means nothing without.
    pub(super) data: Option<Data>,
}

impl Held {
    pub(super) fn new(datatype: Datatype, shape: Shape, data: Data) -> Self {
        Self { datatype, shape, data: Some(data) }
    }

    /// Where its elements begin, for a kernel that only reads them; for none, a place that any kernel may be told.
    pub(super) fn start(&self) -> *mut u8 {
        #[repr(align(64))]
        struct Line;
        match &self.data {
            Some(Data::Own(room)) => room.start().as_ptr(),
            Some(Data::Shared(bytes)) if !bytes.is_empty() => bytes.as_ptr().cast_mut(),
            _ => NonNull::<Line>::dangling().as_ptr().cast(),
        }
    }
}

impl From<Tensor> for Held {
    fn from(Tensor { datatype, shape, data }: Tensor) -> Self {
        Self::new(datatype, shape, Data::Shared(data))
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
    #[inline]
    pub(super) fn room(&mut self, slot: usize, bytes: usize) -> Room {
        if let Some(kept) = self.slots.get_mut(slot) {
            for place in 0..kept.len() {
                if let Some(Shared(free)) = Arc::get_mut(&mut kept[place]) {
                    free.room(bytes);
                    return Room { buffer: kept.swap_remove(place), bytes, slot };
                }
            }
        }
        Self::further(slot, bytes)
    }

    #[cold]
    fn further(slot: usize, bytes: usize) -> Room {
        let mut free = AlignedBuffer::new();
        free.room(bytes);
        Room { buffer: Arc::new(Shared(free)), bytes, slot }
    }

    /// What was written, to be read. The slot uses its memory again once nobody reads it any more.
    pub(super) fn written(&mut self, room: Room) -> Bytes {
        let Room { buffer, bytes, slot } = room;
        self.keep(slot, Arc::clone(&buffer));
        if bytes == 0 { Bytes::new() } else { Bytes::from_owner(Slice { buffer, bytes }) }
    }

    /// A value as others know it, who may read it from now on.
    pub(super) fn shared(&mut self, held: &mut Held) -> Option<Tensor> {
        let data = match held.data.take()? {
            Data::Shared(bytes) => bytes,
            Data::Own(room) => self.written(room),
        };
        held.data = Some(Data::Shared(data.clone()));
        Some(Tensor { datatype: held.datatype, shape: Shape::from_slice(&held.shape), data })
    }

    /// Ends a value that nobody in the lane reads any more.
    #[inline]
    pub(super) fn release(&mut self, held: &mut Held) {
        if let Some(Data::Own(Room { buffer, slot, .. })) = held.data.take() {
            self.keep(slot, buffer);
        }
    }

    fn keep(&mut self, slot: usize, buffer: Arc<Shared>) {
        if let Some(kept) = self.slots.get_mut(slot)
            && kept.len() < KEPT_MAX
        {
            kept.push(buffer);
        }
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

    fn own(room: Room) -> Held {
        Held::new(Datatype::Uint8, Shape::from_slice(&[room.bytes as i64]), Data::Own(room))
    }

    #[test]
    fn what_a_lane_had_for_itself_is_used_again() {
        let mut memory = Memory::new(1);
        let mut held = own(memory.room(0, 100));
        let start = held.start();
        assert_ne!(own(memory.room(0, 100)).start(), start, "it is still held");
        memory.release(&mut held);
        assert!(held.data.is_none());
        assert_eq!(own(memory.room(0, 50)).start(), start);
    }

    #[test]
    fn what_a_lane_has_shared_is_not_written_over() {
        let mut memory = Memory::new(1);
        let mut room = memory.room(0, 100);
        room.bytes_mut().fill(7);
        let mut held = own(room);
        let start = held.start();
        let told = [memory.shared(&mut held), memory.shared(&mut held)].map(|tensor| tensor.expect("a value"));
        assert!(told.iter().all(|tensor| tensor.data.as_ptr() == start && *tensor.data == [7; 100]), "{told:?}");
        assert_eq!((held.start(), told[0].shape.as_slice()), (start, [100].as_slice()));
        memory.release(&mut held);
        assert_eq!(memory.shared(&mut held), None);
        assert_ne!(written(&mut memory, 8, 100).as_ptr(), start, "others still read it");
        drop(told);
        let again: Vec<Bytes> = (0..2).map(|byte| written(&mut memory, byte, 100)).collect();
        assert!(again.iter().any(|bytes| bytes.as_ptr() == start));
    }

    #[test]
    fn nothing_has_a_place_too() {
        let mut memory = Memory::new(0);
        let mut room = memory.room(7, 0);
        assert_eq!(room.bytes_mut().as_ptr() as usize % 64, 0);
        assert!(memory.written(room).is_empty());
    }
}
