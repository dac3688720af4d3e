//! Work that costs do not count, counted so that it ends: comparing, walking over and showing values. A few joined or repeated lists
//! may hold more values than there is time for.

use std::cell::Cell;

/// Values that one evaluation may look at beyond what it pays for: twice as many as comparing lists may cost.
const MOST: u64 = 20_000_000;

thread_local! {
    /// What is left for the evaluation that runs on the thread; nothing is counted outside of one.
    static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
}

/// An evaluation runs; dropping it goes on counting for the one around it.
pub(crate) struct Counted(Option<u64>);

impl Counted {
    /// Begins to count work, which ends when this is dropped.
    pub fn begin() -> Counted {
        Counted(LEFT.replace(Some(MOST)))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        LEFT.set(self.0);
    }
}

/// Counts one value. False when it is one too many: the evaluation then ends with its next charge, whatever is made of the value.
pub(crate) fn look() -> bool {
    match LEFT.get() {
        None => true,
        Some(0) => false,
        Some(left) => {
            LEFT.set(Some(left - 1));
            true
        }
    }
}

/// Whether the evaluation has looked at all that it may.
pub(crate) fn is_over() -> bool {
    LEFT.get() == Some(0)
}
