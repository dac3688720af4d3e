//! How many requests are answered at a time.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Instant;

use metrics::{Kind, Metric, Page};

const IN_FLIGHT: Metric = Metric::stable(
    "apiserver_current_inflight_requests",
    "The most requests that were answered at a time within this second, by kind.",
);

/// Requests of one kind.
#[derive(Debug, Default)]
struct Peak {
    now: AtomicI64,
    /// The second that `most` is of.
    second: AtomicU64,
    most: AtomicI64,
}

impl Peak {
    fn enter(&self, second: u64) {
        let now = self.now.fetch_add(1, Relaxed) + 1;
        match self.second.swap(second, Relaxed) == second {
            true => self.most.fetch_max(now, Relaxed),
            false => self.most.swap(now, Relaxed),
        };
    }

    fn read(&self, second: u64) -> i64 {
        let now = self.now.load(Relaxed);
        match self.second.load(Relaxed) == second {
            true => self.most.load(Relaxed).max(now),
            false => now,
        }
    }
}

/// Requests that are answered, but for those that last.
#[derive(Debug)]
pub struct InFlight {
    begun: Instant,
    reading: Peak,
    writing: Peak,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct Load<'a>(&'a Peak);

impl Drop for Load<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Relaxed);
    }
}

impl InFlight {
    pub(super) fn new() -> InFlight {
        InFlight {
            begun: Instant::now(),
            reading: Peak::default(),
            writing: Peak::default(),
        }
    }

    fn second(&self) -> u64 {
        self.begun.elapsed().as_secs()
    }

    /// Counts a request of this verb.
    pub fn enter(&self, verb: &str) -> Load<'_> {
        let peak = match verb {
            "get" | "list" | "watch" => &self.reading,
            _ => &self.writing,
        };
        peak.enter(self.second());
        Load(peak)
    }

    #[allow(clippy::cast_precision_loss)]
    pub(super) fn show(&self, page: &mut Page) {
        let second = self.second();
        let mut samples = page.samples(&IN_FLIGHT, Kind::Gauge);
        samples.number(&[("request_kind", "mutating")], self.writing.read(second) as f64);
        samples.number(&[("request_kind", "readOnly")], self.reading.read(second) as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_of_a_second_is_shown_until_it_is_over() {
        let peak = Peak::default();
        peak.enter(7);
        peak.enter(7);
        drop(Load(&peak));
        assert_eq!((peak.read(7), peak.read(8)), (2, 1));
        peak.enter(8);
        drop(Load(&peak));
        drop(Load(&peak));
        assert_eq!((peak.read(8), peak.read(9)), (2, 0));
    }
}
