//! What work queues count, under upstream's names (`k8s.io/component-base/metrics/prometheus/workqueue`).

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use metrics::{Counter, Family, Gauge, Histogram, Kind, Metric, Page, Source, exponential};
use tokio::time::Instant;

/// Seconds.
const DURATIONS: [f64; 10] = exponential(10e-9, 10.0);

const DEPTH: Metric = Metric::beta("workqueue_depth", "Keys that wait in a queue.");
const ADDS: Metric = Metric::beta("workqueue_adds_total", "Keys that were put into a queue.");
const WAITS: Metric = Metric::beta(
    "workqueue_queue_duration_seconds",
    "Seconds that keys waited in a queue before they were worked on.",
);
const WORK: Metric = Metric::beta(
    "workqueue_work_duration_seconds",
    "Seconds that keys of a queue were worked on.",
);
const UNFINISHED: Metric = Metric::beta(
    "workqueue_unfinished_work_seconds",
    "Seconds that the keys which are worked on have been so far, all together: much of it is a sign of workers that are stuck.",
);
const LONGEST: Metric = Metric::beta(
    "workqueue_longest_running_processor_seconds",
    "Seconds that the key which is worked on for longest has been so far.",
);
const RETRIES: Metric = Metric::beta(
    "workqueue_retries_total",
    "Keys that were put into a queue again after a failure.",
);

/// A queue whose workers are asked how long they have been at it.
pub(crate) trait Busy: Send + Sync {
    fn times(&self, now: Instant) -> Vec<Duration>;
}

/// What all queues of a component count.
pub struct QueueMetrics {
    depth: Family<1, Gauge>,
    adds: Family<1, Counter>,
    waits: Family<1, Histogram>,
    work: Family<1, Histogram>,
    retries: Family<1, Counter>,
    queues: Mutex<Vec<(String, Weak<dyn Busy>)>>,
}

/// What one queue counts; a queue without a name counts nothing.
#[derive(Default)]
pub(crate) struct Counted(Option<Queue>);

struct Queue {
    depth: Arc<Gauge>,
    adds: Arc<Counter>,
    waits: Arc<Histogram>,
    work: Arc<Histogram>,
    retries: Arc<Counter>,
}

impl Default for QueueMetrics {
    fn default() -> QueueMetrics {
        QueueMetrics {
            depth: Family::gauges(DEPTH, ["name"]),
            adds: Family::counters(ADDS, ["name"]),
            waits: Family::histograms(WAITS, ["name"], &DURATIONS),
            work: Family::histograms(WORK, ["name"], &DURATIONS),
            retries: Family::counters(RETRIES, ["name"]),
            queues: Mutex::default(),
        }
    }
}

impl QueueMetrics {
    pub(crate) fn queue(&self, name: &str) -> Counted {
        Counted(Some(Queue {
            depth: self.depth.with([name]),
            adds: self.adds.with([name]),
            waits: self.waits.with([name]),
            work: self.work.with([name]),
            retries: self.retries.with([name]),
        }))
    }

    pub(crate) fn watch(&self, name: &str, queue: &Arc<dyn Busy>) {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.push((name.to_owned(), Arc::downgrade(queue)));
    }
}

impl Counted {
    pub(crate) fn added(&self) {
        if let Some(queue) = &self.0 {
            queue.adds.increment();
        }
    }

    pub(crate) fn depth(&self, waiting: usize) {
        if let Some(queue) = &self.0 {
            queue.depth.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        }
    }

    pub(crate) fn waited(&self, time: Duration) {
        if let Some(queue) = &self.0 {
            queue.waits.observe_time(time);
        }
    }

    pub(crate) fn worked(&self, time: Duration) {
        if let Some(queue) = &self.0 {
            queue.work.observe_time(time);
        }
    }

    pub(crate) fn retried(&self) {
        if let Some(queue) = &self.0 {
            queue.retries.increment();
        }
    }
}

impl Source for QueueMetrics {
    fn show(&self, page: &mut Page) {
        self.depth.show(page);
        self.adds.show(page);
        self.waits.show(page);
        self.work.show(page);
        self.retries.show(page);
        let now = Instant::now();
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let mut times: Vec<(&str, Vec<Duration>)> = Vec::new();
        for (name, queue) in queues.iter() {
            if let Some(queue) = queue.upgrade() {
                times.push((name, queue.times(now)));
            }
        }
        times.sort_by_key(|(name, _)| *name);
        for (name, times) in times {
            let all: Duration = times.iter().sum();
            let longest = times.into_iter().max().unwrap_or_default();
            page.samples(&UNFINISHED, Kind::Gauge)
                .number(&[("name", name)], all.as_secs_f64());
            page.samples(&LONGEST, Kind::Gauge)
                .number(&[("name", name)], longest.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WorkQueue;

    #[tokio::test(start_paused = true)]
    async fn a_queue_counts_what_waits_and_what_is_worked_on() {
        let metrics = QueueMetrics::default();
        let queue = WorkQueue::named("job", &metrics);
        queue.add("a");
        queue.add("b");
        queue.add("b");
        let value = |name: &str| {
            let mut page = Page::default();
            metrics.show(&mut page);
            let prefix = format!("workqueue_{name}{{name=\"job\"}} ");
            let text = page.text();
            let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
            line.unwrap_or_else(|| panic!("{text}")).to_owned()
        };
        assert_eq!((value("adds_total"), value("depth")), ("2".into(), "2".into()));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(queue.next().await, Some("a"));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(
            (value("unfinished_work_seconds"), value("depth")),
            ("3".into(), "1".into())
        );
        assert_eq!(value("queue_duration_seconds_sum"), "2");
        queue.done(&"a");
        assert_eq!(value("work_duration_seconds_sum"), "3");
        assert_eq!(value("longest_running_processor_seconds"), "0");
        queue.add_rate_limited("a");
        assert_eq!(value("retries_total"), "1");
    }
}
