//! How often the pods of a DaemonSet ended on a node, and when the next may be deleted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

type Key = (String, String);

#[derive(Clone, Default)]
pub(super) struct Failures(Arc<Mutex<HashMap<Key, (u32, Instant)>>>);

impl Failures {
    /// The wait that is left before an ended pod may go; zero counts it.
    pub(super) fn wait(&self, set: &str, node: &str, backoff: client::Backoff) -> Duration {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let entry = all.entry((set.to_owned(), node.to_owned())).or_insert((0, now));
        if now.duration_since(entry.1) > backoff.max * 2 {
            *entry = (0, now);
        }
        if entry.1 > now {
            return entry.1 - now;
        }
        *entry = (entry.0 + 1, now + backoff.delay(entry.0));
        Duration::ZERO
    }

    pub(super) fn forget(&self, set: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|(s, _), _| s != set);
    }
}
