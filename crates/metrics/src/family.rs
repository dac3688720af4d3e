//! A metric with labels: one value for each set of them that has occurred.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, PoisonError, RwLock};

use crate::page::{Kind, Metric, Page, Samples};
use crate::value::{Bounds, Counter, Gauge, Histogram};

/// The values of the labels, in their order, and what is counted under them.
#[derive(Debug)]
struct Series<const N: usize, M> {
    labels: [Box<str>; N],
    value: Arc<M>,
}

/// A metric with `N` labels.
#[derive(Debug)]
pub struct Family<const N: usize, M> {
    metric: Metric,
    labels: [&'static str; N],
    bounds: Bounds,
    hasher: RandomState,
    /// By the hash of the labels, so that looking one up copies none.
    series: RwLock<HashMap<u64, Vec<Series<N, M>>>>,
}

/// What a family is of.
pub trait Value: Sized {
    /// The word behind `# TYPE`.
    const KIND: Kind;

    /// The value before anything was counted.
    fn start(bounds: Bounds) -> Self;

    /// Writes its samples.
    fn show(&self, samples: &mut Samples<'_>, labels: &[(&str, &str)]);
}

impl Value for Counter {
    const KIND: Kind = Kind::Counter;

    fn start(_: Bounds) -> Counter {
        Counter::default()
    }

    fn show(&self, samples: &mut Samples<'_>, labels: &[(&str, &str)]) {
        samples.count(labels, self.get());
    }
}

impl Value for Gauge {
    const KIND: Kind = Kind::Gauge;

    fn start(_: Bounds) -> Gauge {
        Gauge::default()
    }

    #[allow(clippy::cast_precision_loss)]
    fn show(&self, samples: &mut Samples<'_>, labels: &[(&str, &str)]) {
        samples.number(labels, self.get() as f64);
    }
}

impl Value for Histogram {
    const KIND: Kind = Kind::Histogram;

    fn start(bounds: Bounds) -> Histogram {
        Histogram::new(bounds)
    }

    fn show(&self, samples: &mut Samples<'_>, labels: &[(&str, &str)]) {
        samples.histogram(labels, self);
    }
}

impl<const N: usize> Family<N, Counter> {
    /// A family of counters. With labels it is empty until the first value is asked for.
    pub fn counters(metric: Metric, labels: [&'static str; N]) -> Self {
        Family::of(metric, labels, &[])
    }
}

impl<const N: usize> Family<N, Gauge> {
    /// A family of gauges. With labels it is empty until the first value is asked for.
    pub fn gauges(metric: Metric, labels: [&'static str; N]) -> Self {
        Family::of(metric, labels, &[])
    }
}

impl<const N: usize> Family<N, Histogram> {
    /// A family of histograms with buckets of these bounds. With labels it is empty until the first value is asked for.
    pub fn histograms(metric: Metric, labels: [&'static str; N], bounds: Bounds) -> Self {
        Family::of(metric, labels, bounds)
    }
}

impl<const N: usize, M: Value> Family<N, M> {
    fn of(metric: Metric, labels: [&'static str; N], bounds: Bounds) -> Self {
        let family = Family {
            metric,
            labels,
            bounds,
            hasher: RandomState::new(),
            series: RwLock::default(),
        };
        if N == 0 {
            // what has no labels is there from the start
            family.with([""; N]);
        }
        family
    }

    /// What is counted under these labels. Who counts often keeps it.
    pub fn with(&self, labels: [&str; N]) -> Arc<M> {
        let hash = self.hasher.hash_one(labels);
        {
            let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(found) = find(series.get(&hash), labels) {
                return found;
            }
        }
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        let same_hash = series.entry(hash).or_default();
        if let Some(found) = find(Some(same_hash), labels) {
            return found;
        }
        let value = Arc::new(M::start(self.bounds));
        same_hash.push(Series {
            labels: labels.map(Box::from),
            value: value.clone(),
        });
        value
    }

    /// Forgets what is counted under labels of which this is true.
    pub fn forget(&self, gone: impl Fn(&[Box<str>; N]) -> bool) {
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        series.retain(|_, same_hash| {
            same_hash.retain(|series| !gone(&series.labels));
            !same_hash.is_empty()
        });
    }

    /// Writes all that was counted, in the order of the labels.
    pub fn show(&self, page: &mut Page) {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<(&[Box<str>; N], &Arc<M>)> =
            series.values().flatten().map(|s| (&s.labels, &s.value)).collect();
        all.sort_by_key(|(labels, _)| *labels);
        let mut samples = page.samples(&self.metric, M::KIND);
        for (values, value) in all {
            let labels: Vec<(&str, &str)> = self.labels.iter().copied().zip(values.iter().map(|v| &**v)).collect();
            value.show(&mut samples, &labels);
        }
    }
}

fn find<const N: usize, M>(same_hash: Option<&Vec<Series<N, M>>>, labels: [&str; N]) -> Option<Arc<M>> {
    let mut all = same_hash?.iter();
    let found = all.find(|series| series.labels.iter().zip(labels).all(|(own, asked)| **own == *asked))?;
    Some(found.value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_labels_count_together_and_what_is_gone_is_not_shown() {
        let family = Family::counters(Metric::alpha("x_total", "Things."), ["a", "b"]);
        family.with(["1", "2"]).increment();
        family.with(["1", "2"]).increment();
        family.with(["", "\"q\"\n"]).increment();
        let show = || {
            let mut page = Page::default();
            family.show(&mut page);
            page.text()
        };
        assert_eq!(
            show(),
            "# HELP x_total [ALPHA] Things.\n# TYPE x_total counter\nx_total{a=\"\",b=\"\\\"q\\\"\\n\"} 1\nx_total{a=\"1\",b=\"2\"} 2\n"
        );
        family.forget(|labels| &*labels[0] == "1");
        assert!(!show().contains("a=\"1\""));
    }
}
