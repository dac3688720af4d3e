//! libFuzzer's program for all targets: `FUZZ_TARGET` names the one that it runs. `fuzz/run.py` builds and starts it.
#![no_main]

use std::sync::OnceLock;

use fuzz::{Meter, Target};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

#[global_allocator]
static METER: Meter = Meter;

fn target() -> &'static Target {
    static TARGET: OnceLock<&'static Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        fuzz::target(&name).unwrap_or_else(|| panic!("FUZZ_TARGET is no target: {name:?}"))
    })
}

fuzz_target!(|data: &[u8]| target().run(data));

fuzz_mutator!(|data: &mut [u8], size: usize, room: usize, seed: u32| {
    // every second change is libFuzzer's own: it knows what the target compares
    if seed % 2 == 0
        && let Some(changed) = target().mutate(&data[..size], u64::from(seed))
        && changed.len() <= room
    {
        data[..changed.len()].copy_from_slice(&changed);
        return changed.len();
    }
    fuzzer_mutate(data, size, room)
});
