//! The process's memory: who gives it, and what allocators keep of what was freed.

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys as mimalloc;

/// What any block of mimalloc is aligned to.
const ALIGNMENT_OF_ALL: usize = 8;

/// Mimalloc as the allocator of a process. Asked for an alignment, it makes most blocks larger, and aligns within them;
/// here it is only asked for one that not all blocks have.
#[derive(Debug)]
pub struct Allocator;

// SAFETY: mimalloc gives blocks of at least the size that is asked for, which no other block overlaps until they are
// freed, or null; never does it unwind. Its blocks are all aligned to a word, and to more where that is asked for. What
// one of its functions gives, the others take, and a block is always asked for with the alignment that it has.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: any size, and any power of two as the alignment.
        let block = unsafe {
            match layout.align() {
                ..=ALIGNMENT_OF_ALL => mimalloc::mi_malloc(layout.size()),
                alignment => mimalloc::mi_malloc_aligned(layout.size(), alignment),
            }
        };
        block.cast()
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        let block = unsafe {
            match layout.align() {
                ..=ALIGNMENT_OF_ALL => mimalloc::mi_zalloc(layout.size()),
                alignment => mimalloc::mi_zalloc_aligned(layout.size(), alignment),
            }
        };
        block.cast()
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _layout: Layout) {
        // SAFETY: the caller had the block from here, and does not use it any more.
        unsafe { mimalloc::mi_free(block.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: as in `alloc` and `dealloc`.
        let block = unsafe {
            match layout.align() {
                ..=ALIGNMENT_OF_ALL => mimalloc::mi_realloc(block.cast(), bytes),
                alignment => mimalloc::mi_realloc_aligned(block.cast(), bytes, alignment),
            }
        };
        block.cast()
    }
}

/// Gives what the calling thread and nobody else has freed back to the system: both allocators, the C library's, which
/// ONNX Runtime uses, and ours, keep it unless they are asked. Takes up to milliseconds; for threads with nothing to do.
pub fn give_back_freed_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: only releases memory that nobody uses; any thread may call it.
    unsafe {
        libc::malloc_trim(0);
    }
    // SAFETY: as above; where ours is not the process's allocator, it has nothing.
    unsafe {
        mimalloc::mi_collect(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_hold_their_bytes_and_keep_them_when_they_grow() {
        for (bytes, alignment) in (1..=1200).flat_map(|bytes| [1, 2, 4, 8, 16, 64, 4096].map(|to| (bytes, to))) {
            let layout = Layout::from_size_align(bytes, alignment).expect("a layout");
            let grown = 3 * bytes + 1;
            // SAFETY: each block is used within its size, and freed once, with the size that it has by then.
            unsafe {
                let zeroed = Allocator.alloc_zeroed(layout);
                assert!(zeroed.addr().is_multiple_of(alignment), "{layout:?}");
                assert!(std::slice::from_raw_parts(zeroed, bytes).iter().all(|byte| *byte == 0));
                let block = Allocator.alloc(layout);
                block.write_bytes(bytes as u8, bytes);
                zeroed.write_bytes(0xff, bytes);
                let block = Allocator.realloc(block, layout, grown);
                assert!(block.addr().is_multiple_of(alignment), "{layout:?}");
                assert!(std::slice::from_raw_parts(block, bytes).iter().all(|byte| *byte == bytes as u8));
                Allocator.dealloc(block, Layout::from_size_align(grown, alignment).expect("a layout"));
                Allocator.dealloc(zeroed, layout);
            }
        }
    }

    #[test]
    fn what_cannot_be_had_is_null() {
        let layout = Layout::from_size_align(isize::MAX as usize - 4096, 8).expect("a layout");
        // SAFETY: nothing is done with what comes back.
        assert!(unsafe { Allocator.alloc(layout) }.is_null());
    }
}
