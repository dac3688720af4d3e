//! What watchers are told.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Family, Histogram, Metric, Page, exponential};

use crate::registry::resource::Resource;

/// Bytes.
const SIZES: [f64; 8] = exponential(1024.0, 2.0);
/// Seconds.
const LISTS: [f64; 25] = [
    0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
    90.0, 120.0, 180.0, 300.0,
];

const EVENTS: Metric = Metric::beta(
    "apiserver_watch_events_total",
    "Events that watchers were sent, by group, version and resource.",
);
const SIZE: Metric = Metric::beta(
    "apiserver_watch_events_sizes",
    "Bytes of events that watchers were sent, by group, version and resource.",
);
const LIST: Metric = Metric::beta(
    "apiserver_watch_list_duration_seconds",
    "Seconds until a watch had sent the objects that there were, by group, version, resource and scope.",
);

/// What is counted of all watches.
pub struct Watches {
    events: Family<3, Counter>,
    sizes: Family<3, Histogram>,
    lists: Family<4, Histogram>,
}

/// What is counted of the watches of one resource.
#[derive(Debug, Clone)]
pub struct Watched {
    events: Arc<Counter>,
    sizes: Arc<Histogram>,
    list: Arc<Histogram>,
}

impl Watches {
    pub(super) fn new() -> Watches {
        let labels = ["group", "resource", "version"];
        Watches {
            events: Family::counters(EVENTS, labels),
            sizes: Family::histograms(SIZE, labels, &SIZES),
            lists: Family::histograms(LIST, ["group", "resource", "scope", "version"], &LISTS),
        }
    }

    /// Of a watch of this scope.
    pub fn of(&self, resource: &Resource, scope: &str) -> Watched {
        let (group, plural, version) = (&*resource.group, &*resource.plural, &*resource.version);
        Watched {
            events: self.events.with([group, plural, version]),
            sizes: self.sizes.with([group, plural, version]),
            list: self.lists.with([group, plural, scope, version]),
        }
    }

    pub(super) fn show(&self, page: &mut Page) {
        self.events.show(page);
        self.sizes.show(page);
        self.lists.show(page);
    }
}

impl Watched {
    /// One event was written.
    #[allow(clippy::cast_precision_loss)]
    pub fn event(&self, bytes: usize) {
        self.events.increment();
        self.sizes.observe(bytes as f64);
    }

    /// The objects that there were have been sent.
    pub fn listed(&self, took: Duration) {
        self.list.observe_time(took);
    }
}
