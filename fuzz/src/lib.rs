//! Targets for fuzzers: every parser of bytes that others wrote, and the laws that what it reads has to keep.
//!
//! A target is a file in `targets` with a function that takes bytes and panics when a law is broken. `fuzz/run.py` runs it under
//! libFuzzer (`make fuzz TARGET=yaml SECONDS=60`); `tests/replay.rs` gives it all that is kept in `seeds` with every `cargo test`.

pub mod bytes;
mod meter;
mod random;
pub mod targets;
pub mod trees;

pub use meter::Meter;
pub use random::Random;

/// What a target's input is made of, which decides how it is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Bytes of any kind, or text.
    Bytes,
    /// JSON documents with a NUL between them: objects of kinds, patches.
    Trees,
}

/// A parser and its laws.
#[derive(Debug)]
pub struct Target {
    /// The name of its file, and of the folder of its seeds.
    pub name: &'static str,
    form: Form,
    check: fn(&[u8]),
}

/// Bytes that a target may take at one time, whatever its input is: tables that are made once, a body's own bounds.
const ROOM: usize = 96 << 20;
/// Bytes that a target may take for each byte of its input.
const ROOM_PER_BYTE: usize = 4096;

impl Target {
    pub(crate) const fn new(name: &'static str, form: Form, check: fn(&[u8])) -> Target {
        Target { name, form, check }
    }

    /// Gives the target an input.
    ///
    /// # Panics
    /// When the target breaks one of its laws, or takes far more memory than its input is worth.
    pub fn run(&self, input: &[u8]) {
        let peak = Meter::peak_of(|| (self.check)(input));
        let room = ROOM + ROOM_PER_BYTE * input.len();
        assert!(
            peak <= room,
            "{}: {} bytes of input took {peak} bytes",
            self.name,
            input.len()
        );
    }

    /// Changes an input at random, as its form wants it. Nothing where that cannot be done with this input.
    pub fn mutate(&self, input: &[u8], seed: u64) -> Option<Vec<u8>> {
        let mut random = Random::new(seed);
        match self.form {
            Form::Bytes => None,
            Form::Trees => trees::mutated(input, &mut random),
        }
    }
}

/// The target of a name.
pub fn target(name: &str) -> Option<&'static Target> {
    targets::ALL.iter().find(|target| target.name == name)
}
