//! Owners known to be gone, so that their many dependents need not ask for each.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

/// As many as upstream remembers.
const REMEMBERED: usize = 500;

/// By 128 bits of keyed hashes: they outlive the objects, and as texts would each keep a page of memory.
#[derive(Default)]
pub(super) struct Absent {
    keys: [RandomState; 2],
    known: HashSet<[u64; 2]>,
}

impl Absent {
    fn key(&self, uid: &str, namespace: &str) -> [u64; 2] {
        self.keys.each_ref().map(|key| key.hash_one((uid, namespace)))
    }

    pub(super) fn insert(&mut self, uid: &str, namespace: &str) {
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(self.key(uid, namespace));
    }

    pub(super) fn contains(&self, uid: &str, namespace: &str) -> bool {
        self.known.contains(&self.key(uid, namespace))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_absent_in_its_namespace_only() {
        let mut absent = Absent::default();
        absent.insert("u", "a");
        assert!(absent.contains("u", "a"));
        assert!(!absent.contains("u", "b") && !absent.contains("U", "a"));
        (0..REMEMBERED).for_each(|i| absent.insert(&i.to_string(), "a"));
        assert!(absent.known.len() <= REMEMBERED && absent.contains("499", "a"));
    }
}
