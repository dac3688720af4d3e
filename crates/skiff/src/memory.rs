//! What the allocator keeps, given back to the kernel when what needed it is over.
#![allow(unsafe_code)]

/// The allocator makes an arena for each thread that waits for another, and each keeps its own free pages. Work here is
/// done by as many threads as there are processors, and rarely two of them allocate at once.
const ARENAS: libc::c_int = 2;

/// Before threads are started.
pub fn bound_arenas() {
    // SAFETY: sets a number, before another thread allocates
    unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS) };
}

/// Gives free pages back, also those between pages in use. Takes milliseconds where there are many.
pub fn give_back() {
    // SAFETY: the allocator locks each arena while it looks at it
    unsafe { libc::malloc_trim(0) };
}
