//! An allocator that knows how much is allocated, so that a parser that takes far more memory than its input is found.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator with a count of all bytes that are allocated, by any thread.
#[derive(Debug)]
pub struct Meter;

impl Meter {
    /// Runs `work` and returns the most bytes that were allocated at one time on top of those before. 0 where `Meter` is not the
    /// program's allocator.
    pub fn peak_of(work: impl FnOnce()) -> usize {
        let before = LIVE.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        work();
        PEAK.load(Ordering::Relaxed).saturating_sub(before)
    }

    fn took(bytes: usize) {
        let live = LIVE.fetch_add(bytes, Ordering::Relaxed).wrapping_add(bytes);
        PEAK.fetch_max(live, Ordering::Relaxed);
    }
}

// SAFETY: every call is the system allocator's own; the counters beside it touch no memory of the caller.
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Meter::took(layout.size());
        // SAFETY: the caller keeps to the contract of `alloc`, which is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the pointer came from `alloc` above, hence from the system.
        unsafe { System.dealloc(pointer, layout) }
    }
}
