//! What the allocator keeps, given back to the kernel when what needed it is over.
#![allow(unsafe_code)]

/// The allocator makes an arena for each thread that waits for another, and each keeps its own free pages. Work here is
/// done by as many threads as there are processors, and rarely two of them allocate at once.
const ARENAS: libc::c_int = 2;

/// What is as large as this is mapped by itself and given back when it is freed. Left alone, the allocator maps nothing of
/// a size that was freed once, and large bodies then leave holes between what stays.
const MAPPED: libc::c_int = 1 << 20;
/// So much may stay free at the end of the heap.
const KEPT: libc::c_int = 4 << 20;

/// Before threads are started.
pub fn bound() {
    // SAFETY: sets numbers, before another thread allocates
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
    }
}

/// Gives free pages back, also those between pages in use. Takes milliseconds where there are many.
pub fn give_back() {
    // SAFETY: the allocator locks each arena while it looks at it
    unsafe { libc::malloc_trim(0) };
}
