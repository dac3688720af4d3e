//! Single values: each change is a few atomic additions.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

/// Upper bounds of a histogram's buckets, ascending, without the last one, which has none.
pub type Bounds = &'static [f64];

/// The bounds `start`, `start * factor`, and so on, as upstream's `ExponentialBuckets` gives them.
pub const fn exponential<const N: usize>(start: f64, factor: f64) -> [f64; N] {
    let mut bounds = [start; N];
    let mut at = 1;
    while at < N {
        bounds[at] = bounds[at - 1] * factor;
        at += 1;
    }
    bounds
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Counts so many.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// What was counted so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Replaces the number.
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// Adds to it, or takes from it.
    pub fn add(&self, more: i64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// How many observations were at most as large as each bound, and what all come to.
#[derive(Debug)]
pub struct Histogram {
    bounds: Bounds,
    /// One for each bound and one for what is above all; each counts its own alone.
    counts: Box<[AtomicU64]>,
    /// The bits of a floating-point number.
    sum: AtomicU64,
}

impl Histogram {
    /// A histogram without observations.
    pub fn new(bounds: Bounds) -> Histogram {
        Histogram {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0f64.to_bits()),
        }
    }

    /// Counts the value in the lowest bucket whose bound is not below it, and adds it to the sum. Safe from many
    /// threads; a reader at the same time may see one without the other.
    pub fn observe(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Relaxed);
        }
        let mut sum = self.sum.load(Relaxed);
        let add = |sum: u64| (f64::from_bits(sum) + value).to_bits();
        while let Err(now) = self.sum.compare_exchange_weak(sum, add(sum), Relaxed, Relaxed) {
            sum = now;
        }
    }

    /// Observes a time in seconds.
    pub fn observe_time(&self, time: Duration) {
        self.observe(time.as_secs_f64());
    }

    /// The bounds it was made with.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// The counts of the buckets, each with those of the ones below it; the last is that of all.
    pub fn counts(&self) -> Vec<u64> {
        let mut all = 0;
        let counts = self.counts.iter().map(|count| {
            all += count.load(Relaxed);
            all
        });
        counts.collect()
    }

    /// The sum of all observations.
    pub fn sum(&self) -> f64 {
        f64::from_bits(self.sum.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_is_counted_in_every_bucket_that_holds_it() {
        let histogram = Histogram::new(&[1.0, 2.0]);
        for value in [0.5, 1.0, 1.5, 7.0] {
            histogram.observe(value);
        }
        assert_eq!(histogram.counts(), [2, 3, 4]);
        assert!((histogram.sum() - 10.0).abs() < 1e-9);
    }

    #[test]
    fn bounds_grow_by_their_factor() {
        assert_eq!(exponential::<4>(1.0, 2.0), [1.0, 2.0, 4.0, 8.0]);
    }
}
