//! What a controller has done and its cache must still show before it may act again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// An expectation that was not met in this time is given up: the event was missed.
const EXPIRES: Duration = Duration::from_secs(300);

#[derive(Debug)]
struct Expected {
    creations: i64,
    deletions: HashSet<String>,
    since: Instant,
}

impl Default for Expected {
    fn default() -> Expected {
        Expected {
            creations: 0,
            deletions: HashSet::new(),
            since: Instant::now(),
        }
    }
}

/// By the controller object's uid. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expectations {
    by_owner: Arc<Mutex<HashMap<String, Expected>>>,
}

impl Expectations {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Expected>> {
        self.by_owner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn expect_creations(&self, owner: &str, count: usize) {
        let mut all = self.lock();
        let expected = all.entry(owner.to_owned()).or_default();
        expected.creations += i64::try_from(count).unwrap_or(i64::MAX);
        expected.since = Instant::now();
    }

    pub(crate) fn expect_deletions(&self, owner: &str, keys: impl IntoIterator<Item = String>) {
        let mut all = self.lock();
        let expected = all.entry(owner.to_owned()).or_default();
        expected.deletions.extend(keys);
        expected.since = Instant::now();
    }

    pub(crate) fn creation_observed(&self, owner: &str) {
        self.creations_observed(owner, 1);
    }

    pub(crate) fn creations_observed(&self, owner: &str, count: usize) {
        if let Some(expected) = self.lock().get_mut(owner) {
            expected.creations = (expected.creations - i64::try_from(count).unwrap_or(i64::MAX)).max(0);
        }
    }

    pub(crate) fn deletion_observed(&self, owner: &str, key: &str) {
        if let Some(expected) = self.lock().get_mut(owner) {
            expected.deletions.remove(key);
        }
    }

    /// Whether the cache shows all that was done.
    pub(crate) fn satisfied(&self, owner: &str) -> bool {
        let mut all = self.lock();
        let Some(expected) = all.get(owner) else { return true };
        let met = expected.creations == 0 && expected.deletions.is_empty();
        if met || expected.since.elapsed() > EXPIRES {
            all.remove(owner);
            return true;
        }
        false
    }

    pub(crate) fn forget(&self, owner: &str) {
        self.lock().remove(owner);
    }

    /// Takes note of a dependent's change.
    pub(crate) fn observe(&self, change: &client::Change) {
        let Some(owner) = change.object().and_then(|o| o.meta.controller()) else {
            return;
        };
        if change.old.is_none() {
            self.creation_observed(&owner.uid);
        }
        if let Some(object) = change.object()
            && (change.new.is_none() || object.meta.deleting)
        {
            self.deletion_observed(&owner.uid, &object.key());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_is_done_until_the_cache_shows_what_was_done() {
        let expectations = Expectations::default();
        assert!(expectations.satisfied("u"));
        expectations.expect_creations("u", 2);
        expectations.expect_deletions("u", ["n/a".to_owned()]);
        expectations.creation_observed("u");
        assert!(!expectations.satisfied("u"));
        expectations.creation_observed("u");
        expectations.deletion_observed("u", "n/b");
        assert!(!expectations.satisfied("u"));
        expectations.deletion_observed("u", "n/a");
        assert!(expectations.satisfied("u"));
        expectations.expect_creations("u", 1);
        tokio::time::advance(EXPIRES + Duration::from_secs(1)).await;
        assert!(expectations.satisfied("u"), "a missed event does not block for ever");
    }
}
