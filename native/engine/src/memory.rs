//! Memory that was freed and that allocators keep.

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
        libmimalloc_sys::mi_collect(true);
    }
}
