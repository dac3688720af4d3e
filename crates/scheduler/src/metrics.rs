//! What the scheduler counts, under upstream's names (`pkg/scheduler/metrics`).

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Family, Gauge, Histogram, Metric, Page, Source, exponential};

/// Seconds.
const ATTEMPTS: [f64; 15] = exponential(0.001, 2.0);
const SLI: [f64; 20] = exponential(0.01, 2.0);
const POINTS: [f64; 12] = exponential(0.0001, 2.0);
const PLUGINS: [f64; 20] = exponential(0.000_01, 1.5);
/// Pods, and tries.
const VICTIMS: [f64; 7] = exponential(1.0, 2.0);
const TRIES: [f64; 5] = exponential(1.0, 2.0);

const ATTEMPT: Metric = Metric::stable(
    "scheduler_schedule_attempts_total",
    "Attempts to schedule pods by result: scheduled, unschedulable, or error where something failed.",
);
const ATTEMPT_TIME: Metric = Metric::stable(
    "scheduler_scheduling_attempt_duration_seconds",
    "Seconds that attempts to schedule pods took, bindings among them.",
);
const ALGORITHM: Metric = Metric::beta(
    "scheduler_scheduling_algorithm_duration_seconds",
    "Seconds that it took to find nodes for pods.",
);
const VICTIM: Metric = Metric::stable(
    "scheduler_preemption_victims",
    "Pods that one pod's preemption has chosen to leave.",
);
const PREEMPTION: Metric = Metric::stable("scheduler_preemption_attempts_total", "Attempts to preempt pods.");
const PENDING: Metric = Metric::stable(
    "scheduler_pending_pods",
    "Pods that wait, by where: active, backoff, unschedulable, gated.",
);
const WORKING: Metric = Metric::beta("scheduler_goroutines", "Tasks that run, by what they do.");
const SLI_TIME: Metric = Metric::beta(
    "scheduler_pod_scheduling_sli_duration_seconds",
    "Seconds from a pod's coming until it was scheduled, by the number of attempts.",
);
const TRY: Metric = Metric::stable(
    "scheduler_pod_scheduling_attempts",
    "Attempts that it took until a pod was scheduled.",
);
const POINT: Metric = Metric::stable(
    "scheduler_framework_extension_point_duration_seconds",
    "Seconds that all plugins of an extension point took.",
);
const PLUGIN: Metric = Metric::beta(
    "scheduler_plugin_execution_duration_seconds",
    "Seconds that a plugin took at an extension point, in one cycle of ten.",
);
const INCOMING: Metric = Metric::stable(
    "scheduler_queue_incoming_pods_total",
    "Pods that came into a part of the queue, by what brought them there.",
);
const UNSCHEDULABLE: Metric = Metric::beta(
    "scheduler_unschedulable_pods",
    "Unschedulable pods by the plugins that refused them: a pod counts for each of them.",
);
const EVALUATION: Metric = Metric::beta(
    "scheduler_plugin_evaluation_total",
    "How often each plugin was asked at an extension point.",
);

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Scheduled,
    Unschedulable,
    Error,
}

/// The extension points that are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    PreFilter,
    Filter,
    PreScore,
    Score,
    PostFilter,
    Reserve,
    PreBind,
    Bind,
}

impl Point {
    fn name(self) -> &'static str {
        match self {
            Point::PreFilter => "PreFilter",
            Point::Filter => "Filter",
            Point::PreScore => "PreScore",
            Point::Score => "Score",
            Point::PostFilter => "PostFilter",
            Point::Reserve => "Reserve",
            Point::PreBind => "PreBind",
            Point::Bind => "Bind",
        }
    }
}

/// Where pods wait, as metrics name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    Active,
    Backoff,
    Unschedulable,
    Gated,
}

impl Line {
    fn name(self) -> &'static str {
        match self {
            Line::Active => "active",
            Line::Backoff => "backoff",
            Line::Unschedulable => "unschedulable",
            Line::Gated => "gated",
        }
    }
}

/// What is counted for one profile, which is named as its scheduler is.
pub struct SchedulerMetrics {
    profile: String,
    attempts: Family<2, Counter>,
    attempt_times: Family<2, Histogram>,
    algorithm: Histogram,
    victims: Histogram,
    preemptions: Counter,
    pending: [(Line, Arc<Gauge>); 4],
    pending_family: Family<1, Gauge>,
    working: Family<1, Gauge>,
    sli: Family<1, Histogram>,
    tries: Histogram,
    points: Family<3, Histogram>,
    plugins: Family<3, Histogram>,
    incoming: Family<2, Counter>,
    unschedulable: Family<2, Gauge>,
    evaluations: Family<3, Counter>,
}

impl SchedulerMetrics {
    /// Of the profile of this name.
    pub fn new(profile: &str) -> Arc<SchedulerMetrics> {
        let pending_family = Family::gauges(PENDING, ["queue"]);
        let line = |line: Line| (line, pending_family.with([line.name()]));
        let pending = [Line::Active, Line::Backoff, Line::Gated, Line::Unschedulable].map(line);
        Arc::new(SchedulerMetrics {
            profile: profile.to_owned(),
            attempts: Family::counters(ATTEMPT, ["profile", "result"]),
            attempt_times: Family::histograms(ATTEMPT_TIME, ["profile", "result"], &ATTEMPTS),
            algorithm: Histogram::new(&ATTEMPTS),
            victims: Histogram::new(&VICTIMS),
            preemptions: Counter::default(),
            pending,
            pending_family,
            working: Family::gauges(WORKING, ["operation"]),
            sli: Family::histograms(SLI_TIME, ["attempts"], &SLI),
            tries: Histogram::new(&TRIES),
            points: Family::histograms(POINT, ["extension_point", "profile", "status"], &POINTS),
            plugins: Family::histograms(PLUGIN, ["extension_point", "plugin", "status"], &PLUGINS),
            incoming: Family::counters(INCOMING, ["event", "queue"]),
            unschedulable: Family::gauges(UNSCHEDULABLE, ["plugin", "profile"]),
            evaluations: Family::counters(EVALUATION, ["extension_point", "plugin", "profile"]),
        })
    }

    /// An attempt has ended.
    pub fn attempted(&self, outcome: Outcome, took: Duration) {
        let result = match outcome {
            Outcome::Scheduled => "scheduled",
            Outcome::Unschedulable => "unschedulable",
            Outcome::Error => "error",
        };
        self.attempts.with([&self.profile, result]).increment();
        self.attempt_times.with([&self.profile, result]).observe_time(took);
    }

    /// A pod was scheduled after so many attempts, so long after it came.
    pub fn scheduled(&self, attempts: u32, since: Duration) {
        self.tries.observe(f64::from(attempts));
        // upstream counts from 15 on as one
        let label = match attempts {
            15.. => "15+".to_owned(),
            few => few.to_string(),
        };
        self.sli.with([&label]).observe_time(since);
    }

    /// It took so long to find a node.
    pub fn decided(&self, took: Duration) {
        self.algorithm.observe_time(took);
    }

    /// Preemption was tried.
    pub fn preempts(&self) {
        self.preemptions.increment();
    }

    /// So many pods are to leave for one.
    #[allow(clippy::cast_precision_loss)]
    pub fn preempted(&self, victims: usize) {
        self.victims.observe(victims as f64);
    }

    /// All plugins of an extension point took so long.
    pub fn point(&self, point: Point, status: &str, took: Duration) {
        self.points
            .with([point.name(), &self.profile, status])
            .observe_time(took);
    }

    /// A plugin took so long.
    pub fn plugin(&self, point: Point, plugin: &str, status: &str, took: Duration) {
        self.plugins.with([point.name(), plugin, status]).observe_time(took);
    }

    /// A plugin was asked so often.
    pub fn asked(&self, point: Point, plugin: &str, times: u64) {
        if times > 0 {
            self.evaluations.with([point.name(), plugin, &self.profile]).add(times);
        }
    }

    /// So many more pods, or fewer, wait there.
    pub fn pending(&self, at: Line, more: i64) {
        if let Some((_, gauge)) = self.pending.iter().find(|(line, _)| *line == at) {
            gauge.add(more);
        }
    }

    /// A pod came into a part of the queue.
    pub fn came(&self, into: Line, event: &str) {
        self.incoming.with([event, into.name()]).increment();
    }

    /// One pod more, or less, is refused by these plugins.
    pub fn refused(&self, plugins: &[&'static str], more: i64) {
        for plugin in plugins {
            self.unschedulable.with([plugin, &self.profile]).add(more);
        }
    }

    /// A pod is being bound, until what is returned is dropped.
    pub fn binding(&self) -> Binding {
        let gauge = self.working.with(["binding"]);
        gauge.add(1);
        Binding(gauge)
    }
}

/// A pod that is being bound.
#[derive(Debug)]
pub struct Binding(Arc<Gauge>);

impl Drop for Binding {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

impl Source for SchedulerMetrics {
    fn show(&self, page: &mut Page) {
        self.attempts.show(page);
        self.attempt_times.show(page);
        page.histogram(&ALGORITHM, &self.algorithm);
        page.histogram(&VICTIM, &self.victims);
        page.counter(&PREEMPTION, &self.preemptions);
        self.pending_family.show(page);
        self.working.show(page);
        self.sli.show(page);
        page.histogram(&TRY, &self.tries);
        self.points.show(page);
        self.plugins.show(page);
        self.incoming.show(page);
        self.unschedulable.show(page);
        self.evaluations.show(page);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_is_counted_while_it_lasts_and_many_attempts_count_as_one() {
        let metrics = SchedulerMetrics::new("default-scheduler");
        let text = || {
            let mut page = Page::default();
            metrics.show(&mut page);
            page.text()
        };
        let binding = metrics.binding();
        assert!(text().contains("scheduler_goroutines{operation=\"binding\"} 1\n"));
        drop(binding);
        assert!(text().contains("scheduler_goroutines{operation=\"binding\"} 0\n"));
        metrics.scheduled(40, Duration::from_secs(1));
        assert!(text().contains("scheduler_pod_scheduling_sli_duration_seconds_count{attempts=\"15+\"} 1\n"));
    }
}
