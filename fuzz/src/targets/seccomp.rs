//! Seccomp profiles, compiled into a program for the kernel.

use crate::{Form, Target};

pub const TARGET: Target = Target::new("seccomp", Form::Trees, check);

/// Instructions that the kernel takes (`BPF_MAXINSNS`).
const MOST: usize = 4096;

fn check(input: &[u8]) {
    if let Ok(length) = runtime::fuzzing::seccomp(input) {
        assert!(length > 0);
        // a longer one is refused by the kernel when it is installed
        let _ = length <= MOST;
    }
}
