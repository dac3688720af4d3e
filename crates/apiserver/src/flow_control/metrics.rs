//! `apiserver_flowcontrol_*` (`flowcontrol/metrics`).

use std::collections::BTreeMap;
use std::time::Duration;

use metrics::{Family, Histogram, Kind, Metric, Page, Source};

use super::FlowControl;
use super::level::{Counts, Level, State};

/// Seconds.
const DURATIONS: [f64; 13] = [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];
const SEATS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 100.0];

const NOMINAL: Metric = Metric::beta(
    "apiserver_flowcontrol_nominal_limit_seats",
    "Nominal number of execution seats configured for each priority level",
);
const LOWER: Metric = Metric::alpha(
    "apiserver_flowcontrol_lower_limit_seats",
    "Configured lower bound on number of execution seats available to each priority level",
);
const UPPER: Metric = Metric::alpha(
    "apiserver_flowcontrol_upper_limit_seats",
    "Configured upper bound on number of execution seats available to each priority level",
);
const LIMIT: Metric = Metric::alpha(
    "apiserver_flowcontrol_current_limit_seats",
    "current derived number of execution seats available to each priority level",
);
const QUEUED: Metric = Metric::beta(
    "apiserver_flowcontrol_current_inqueue_requests",
    "Requests that wait, by priority level and flow schema.",
);
const QUEUED_SEATS: Metric = Metric::alpha(
    "apiserver_flowcontrol_current_inqueue_seats",
    "Seats that requests wait for, by priority level and flow schema.",
);
const GOING: Metric = Metric::beta(
    "apiserver_flowcontrol_current_executing_requests",
    "Requests that are answered, watches until they have begun, by priority level and flow schema.",
);
const GOING_SEATS: Metric = Metric::beta(
    "apiserver_flowcontrol_current_executing_seats",
    "Seats of requests that are answered, watches until they have begun, by priority level and flow schema.",
);
const DISPATCHED: Metric = Metric::beta(
    "apiserver_flowcontrol_dispatched_requests_total",
    "Requests that were let go, by priority level and flow schema.",
);
const REJECTED: Metric = Metric::beta(
    "apiserver_flowcontrol_rejected_requests_total",
    "Requests that were refused, by priority level, flow schema and why.",
);
const WAIT: Metric = Metric::beta(
    "apiserver_flowcontrol_request_wait_duration_seconds",
    "Seconds that requests waited, by priority level, flow schema and whether they were let go.",
);
const EXECUTION: Metric = Metric::alpha(
    "apiserver_flowcontrol_request_execution_seconds",
    "Seconds of the first part of watches and of all of other requests, by priority level and flow schema.",
);
const ESTIMATED: Metric = Metric::alpha(
    "apiserver_flowcontrol_work_estimated_seats",
    "The most seats that requests were thought to need, by priority level and flow schema.",
);

/// One of the counts.
type Count = fn(&Counts) -> u64;

/// How long requests waited and took, and how much they were thought to need.
pub struct Times {
    waits: Family<3, Histogram>,
    executions: Family<3, Histogram>,
    seats: Family<2, Histogram>,
}

impl Default for Times {
    fn default() -> Times {
        Times {
            waits: Family::histograms(WAIT, ["execute", "flow_schema", "priority_level"], &DURATIONS),
            executions: Family::histograms(EXECUTION, ["flow_schema", "priority_level", "type"], &DURATIONS),
            seats: Family::histograms(ESTIMATED, ["flow_schema", "priority_level"], &SEATS),
        }
    }
}

impl Times {
    /// A request has waited, and was let go or not.
    pub fn waited(&self, schema: &str, level: &str, goes: bool, took: Duration) {
        let goes = if goes { "true" } else { "false" };
        self.waits.with([goes, schema, level]).observe_time(took);
    }

    /// A request was answered, or a watch has begun.
    pub fn executed(&self, schema: &str, level: &str, watch: bool, took: Duration) {
        let kind = if watch { "watch" } else { "regular" };
        self.executions.with([schema, level, kind]).observe_time(took);
    }

    /// A request was thought to need so many seats.
    pub fn estimated(&self, schema: &str, level: &str, seats: u32) {
        self.seats.with([schema, level]).observe(f64::from(seats));
    }
}

/// A gauge of each level.
fn of_levels<'l>(
    page: &mut Page,
    metric: &Metric,
    levels: impl Iterator<Item = &'l Level>,
    of: impl Fn(&State) -> u32,
) {
    let mut samples = page.samples(metric, Kind::Gauge);
    for level in levels {
        let value = of(&level.lock());
        samples.number(&[("priority_level", &level.name)], f64::from(value));
    }
}

/// Requests, or seats, that wait or go, by schema.
fn now<'l>(page: &mut Page, metric: &Metric, levels: impl Iterator<Item = &'l Level>, going: bool, seats: bool) {
    let mut samples = page.samples(metric, Kind::Gauge);
    for level in levels {
        let state = level.lock();
        // schemas that have had requests, also where none is left
        let mut sums: BTreeMap<&str, u32> = state.counts.keys().map(|schema| (schema.as_str(), 0)).collect();
        for (id, shown) in &state.shown {
            if state.set.started(*id).is_some() == going {
                let width = if seats { shown.width.most() } else { 1 };
                *sums.entry(&shown.schema.name).or_default() += width;
            }
        }
        for (schema, sum) in sums {
            samples.number(
                &[("flow_schema", schema), ("priority_level", &level.name)],
                f64::from(sum),
            );
        }
    }
}

/// Requests of each schema, if there were any.
fn by_schema(level: &Level, of: Count) -> Vec<(String, u64)> {
    let counts = level.lock().counts.clone().into_iter();
    let counts = counts.map(|(schema, counts)| (schema, of(&counts)));
    counts.filter(|(_, count)| *count > 0).collect()
}

impl Source for FlowControl {
    fn show(&self, page: &mut Page) {
        let current = self.current.load_full();
        let levels = || current.levels.values().map(|level| &**level);
        of_levels(page, &NOMINAL, levels(), |state| state.nominal);
        of_levels(page, &LOWER, levels(), |state| state.least);
        of_levels(page, &UPPER, levels(), |state| state.most);
        of_levels(page, &LIMIT, levels(), |state| state.set.limit());
        now(page, &QUEUED, levels(), false, false);
        now(page, &QUEUED_SEATS, levels(), false, true);
        now(page, &GOING, levels(), true, false);
        now(page, &GOING_SEATS, levels(), true, true);
        let mut samples = page.samples(&DISPATCHED, Kind::Counter);
        for level in levels() {
            for (schema, count) in by_schema(level, |counts| counts.dispatched) {
                samples.count(&[("flow_schema", &schema), ("priority_level", &level.name)], count);
            }
        }
        let reasons: [(&str, Count); 3] = [
            ("concurrency-limit", |counts| counts.no_seat),
            ("queue-full", |counts| counts.queue_full),
            ("time-out", |counts| counts.timed_out),
        ];
        let mut samples = page.samples(&REJECTED, Kind::Counter);
        for level in levels() {
            for (reason, of) in reasons {
                for (schema, count) in by_schema(level, of) {
                    let labels = [
                        ("flow_schema", &*schema),
                        ("priority_level", &level.name),
                        ("reason", reason),
                    ];
                    samples.count(&labels, count);
                }
            }
        }
        self.times.waits.show(page);
        self.times.executions.show(page);
        self.times.seats.show(page);
    }
}
