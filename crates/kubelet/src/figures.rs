//! What the kubelet counts of its own work, for `/metrics` and `/metrics/probes`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Upper bounds of upstream's `podStartupDurationBuckets`, in seconds.
const POD_START: [f64; 25] = [
    0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0,
    600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0,
];

/// Durations by upper bounds.
#[derive(Debug, Clone)]
pub struct Histogram {
    bounds: &'static [f64],
    /// How many were at most as long as each bound.
    counts: Vec<u64>,
    count: u64,
    sum: f64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Histogram {
        Histogram {
            bounds,
            counts: vec![0; bounds.len()],
            count: 0,
            sum: 0.0,
        }
    }

    fn observe(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        for (count, bound) in self.counts.iter_mut().zip(self.bounds) {
            *count += u64::from(seconds <= *bound);
        }
        self.count += 1;
        self.sum += seconds;
    }

    /// The lines of its series.
    pub fn text(&self, name: &str) -> String {
        let buckets = self.bounds.iter().zip(&self.counts);
        let mut text: String = buckets
            .map(|(bound, count)| format!("{name}_bucket{{le=\"{bound}\"}} {count}\n"))
            .collect();
        text.push_str(&format!("{name}_bucket{{le=\"+Inf\"}} {}\n", self.count));
        text.push_str(&format!("{name}_sum {}\n{name}_count {}\n", self.sum, self.count));
        text
    }
}

/// A probe of a container, and how it went.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProbeSeries {
    pub pod_uid: String,
    pub namespace: String,
    pub pod: String,
    pub container: String,
    /// `Liveness`, `Readiness`, `Startup`.
    pub probe: &'static str,
    /// `successful`, `failed`, `unknown`.
    pub result: &'static str,
}

/// Ends of containers: the kind (`container`, `init_container`, `ephemeral_container`), exit code and reason.
pub type End = (&'static str, i32, String);

#[derive(Debug)]
struct Counts {
    probes: BTreeMap<ProbeSeries, u64>,
    ends: BTreeMap<End, u64>,
    pod_start: Histogram,
}

#[derive(Debug)]
pub struct Figures(Mutex<Counts>);

impl Default for Figures {
    fn default() -> Self {
        Figures(Mutex::new(Counts {
            probes: BTreeMap::new(),
            ends: BTreeMap::new(),
            pod_start: Histogram::new(&POD_START),
        }))
    }
}

impl Figures {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn probed(&self, series: ProbeSeries) {
        *self.lock().probes.entry(series).or_insert(0) += 1;
    }

    pub fn ended(&self, end: End) {
        *self.lock().ends.entry(end).or_insert(0) += 1;
    }

    /// How long a pod took from when the kubelet first saw it until it ran.
    pub fn pod_started(&self, took: Duration) {
        self.lock().pod_start.observe(took);
    }

    /// A pod that is gone has no series any more.
    pub fn forget(&self, pod_uid: &str) {
        self.lock().probes.retain(|series, _| series.pod_uid != pod_uid);
    }

    pub fn probes(&self) -> BTreeMap<ProbeSeries, u64> {
        self.lock().probes.clone()
    }

    pub fn ends(&self) -> BTreeMap<End, u64> {
        self.lock().ends.clone()
    }

    pub fn pod_start(&self) -> Histogram {
        self.lock().pod_start.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_counted_in_every_bucket_that_holds_them() {
        let figures = Figures::default();
        figures.pod_started(Duration::from_millis(1500));
        figures.pod_started(Duration::from_secs(7200));
        let text = figures.pod_start().text("x");
        for line in [
            "x_bucket{le=\"1\"} 0",
            "x_bucket{le=\"2\"} 1",
            "x_bucket{le=\"+Inf\"} 2",
            "x_sum 7201.5",
            "x_count 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
    }

    #[test]
    fn a_pod_that_is_gone_has_no_series() {
        let figures = Figures::default();
        let series = |uid: &str| ProbeSeries {
            pod_uid: uid.into(),
            namespace: "n".into(),
            pod: "p".into(),
            container: "c".into(),
            probe: "Liveness",
            result: "failed",
        };
        figures.probed(series("1"));
        figures.probed(series("1"));
        figures.probed(series("2"));
        figures.forget("2");
        assert_eq!(figures.probes(), BTreeMap::from([(series("1"), 2)]));
    }
}
