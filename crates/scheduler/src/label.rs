//! Labels of nodes as numbers: comparing them is comparing integers.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::LazyLock;

/// Drawn when the process starts: nobody can look for two texts that share a number.
static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// 64 bits that stand for a value in this process.
pub(crate) fn keyed_hash(value: &impl Hash) -> u64 {
    KEY.hash_one(value)
}

/// A key or a value of a label, by its keyed hash: nothing is kept of texts whose objects are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelText(u64);

impl LabelText {
    /// The text as it is compared.
    pub fn of(text: &str) -> LabelText {
        LabelText(keyed_hash(&text))
    }
}
