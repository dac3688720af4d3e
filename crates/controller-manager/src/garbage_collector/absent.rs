//! Owners known to be gone, so that their many dependents need not ask for each.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use super::graph::Identity;

/// As many as upstream remembers.
const REMEMBERED: usize = 500;

/// By 128 bits of keyed hashes: they outlive the objects, and as texts would each keep a page of memory.
#[derive(Default)]
pub(super) struct Absent {
    keys: [RandomState; 2],
    known: HashSet<[u64; 2]>,
}

impl Absent {
    /// Of everything that a reference says: one that names a wrong kind says nothing of who names the right one.
    fn key(&self, owner: &Identity) -> [u64; 2] {
        self.keys.each_ref().map(|key| key.hash_one(owner))
    }

    pub(super) fn insert(&mut self, owner: &Identity) {
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(self.key(owner));
    }

    pub(super) fn contains(&self, owner: &Identity) -> bool {
        self.known.contains(&self.key(owner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_absent_as_it_was_named_only() {
        let named = |uid: &str, namespace: &str, kind: &str| Identity {
            api_version: "v1".into(),
            kind: kind.into(),
            namespace: namespace.into(),
            name: "n".into(),
            uid: uid.into(),
        };
        let mut absent = Absent::default();
        absent.insert(&named("u", "a", "K"));
        assert!(absent.contains(&named("u", "a", "K")));
        for other in [named("u", "b", "K"), named("U", "a", "K"), named("u", "a", "L")] {
            assert!(!absent.contains(&other), "{other:?}");
        }
        (0..REMEMBERED).for_each(|i| absent.insert(&named(&i.to_string(), "a", "K")));
        assert!(absent.known.len() <= REMEMBERED && absent.contains(&named("499", "a", "K")));
    }
}
