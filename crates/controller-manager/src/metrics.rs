//! What the controllers count, under upstream's names; a controller that counts has its part in `counts`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use client::QueueMetrics;
use metrics::{Counter, Family, Gauge, Histogram, Kind, Metric, Page, Source, exponential};

const RUNNING: Metric = Metric::beta(
    "running_managed_controllers",
    "Controllers that run, by name and by who runs them.",
);
const EVICTIONS: Metric = Metric::stable(
    "node_collector_evictions_total",
    "Nodes that were tainted so that their pods leave, by zone.",
);
const SKEW: Metric = Metric::stable(
    "cronjob_controller_job_creation_skew_duration_seconds",
    "Seconds from when a job should have been made until it was.",
);
/// Seconds.
const SKEWS: [f64; 10] = exponential(1.0, 2.0);

/// What all controllers of a manager count.
pub(crate) struct ControllerMetrics {
    pub queues: QueueMetrics,
    running: Family<2, Gauge>,
    evictions: Family<1, Counter>,
    /// How much later than their time jobs are made.
    pub skew: Histogram,
    pub jobs: JobMetrics,
    pub slices: SliceMetrics,
    pub autoscalers: AutoscalerMetrics,
}

impl Default for ControllerMetrics {
    fn default() -> ControllerMetrics {
        ControllerMetrics {
            queues: QueueMetrics::default(),
            running: Family::gauges(RUNNING, ["manager", "name"]),
            evictions: Family::counters(EVICTIONS, ["zone"]),
            skew: Histogram::new(&SKEWS),
            jobs: JobMetrics::default(),
            slices: SliceMetrics::default(),
            autoscalers: AutoscalerMetrics::default(),
        }
    }
}

impl ControllerMetrics {
    /// A controller runs, or runs no more.
    pub fn runs(&self, controller: &str, yes: bool) {
        let gauge = self.running.with(["kube-controller-manager", controller]);
        gauge.set(i64::from(yes));
    }

    /// There is a zone; its nodes' evictions are counted from nothing on.
    pub fn zone(&self, region: &str, zone: &str) {
        self.evictions.with([&zone_key(region, zone)]);
    }

    /// The pods of a node in this zone are to leave.
    pub fn evicts(&self, region: &str, zone: &str) {
        self.evictions.with([&zone_key(region, zone)]).increment();
    }
}

/// A zone as upstream names it (`GetZoneKey`).
fn zone_key(region: &str, zone: &str) -> String {
    match (region, zone) {
        ("", "") => String::new(),
        (region, zone) => format!("{region}:\0:{zone}"),
    }
}

impl Source for ControllerMetrics {
    fn show(&self, page: &mut Page) {
        self.queues.show(page);
        self.running.show(page);
        self.evictions.show(page);
        page.histogram(&SKEW, &self.skew);
        self.jobs.show(page);
        self.slices.show(page);
        self.autoscalers.show(page);
    }
}

const JOB_SYNCS: Metric = Metric::stable(
    "job_controller_job_syncs_total",
    "Times that a Job was looked at, by completion mode, result and what was done.",
);
const JOB_SYNC: Metric = Metric::stable(
    "job_controller_job_sync_duration_seconds",
    "Seconds that it took to look at a Job, by completion mode, result and what was done.",
);
const JOBS_FINISHED: Metric = Metric::stable(
    "job_controller_jobs_finished_total",
    "Jobs that have ended, by completion mode, result and reason.",
);
const PODS_FINISHED: Metric = Metric::stable(
    "job_controller_job_pods_finished_total",
    "Pods of Jobs that have ended and are counted, by completion mode and result.",
);
const POLICY: Metric = Metric::beta(
    "job_controller_pod_failures_handled_by_failure_policy_total",
    "Failed pods of Jobs that a rule of the pod failure policy was for, by the rule's action.",
);
const TRACKED: Metric = Metric::beta(
    "job_controller_terminated_pods_tracking_finalizer_total",
    "Ended pods of Jobs with the finalizer that they are counted by: add when they come to be such, delete when it is gone.",
);
/// Seconds.
const JOB_TIMES: [f64; 15] = exponential(0.004, 2.0);

/// What the controller of Jobs counts.
pub(crate) struct JobMetrics {
    syncs: Family<3, Counter>,
    times: Family<3, Histogram>,
    finished: Family<3, Counter>,
    pods: Family<2, Counter>,
    policy: Family<1, Counter>,
    tracked: Family<1, Counter>,
}

impl Default for JobMetrics {
    fn default() -> JobMetrics {
        let labels = ["action", "completion_mode", "result"];
        JobMetrics {
            syncs: Family::counters(JOB_SYNCS, labels),
            times: Family::histograms(JOB_SYNC, labels, &JOB_TIMES),
            finished: Family::counters(JOBS_FINISHED, ["completion_mode", "reason", "result"]),
            pods: Family::counters(PODS_FINISHED, ["completion_mode", "result"]),
            policy: Family::counters(POLICY, ["action"]),
            tracked: Family::counters(TRACKED, ["event"]),
        }
    }
}

impl JobMetrics {
    /// A Job was looked at. `action` is `reconciling`, `tracking`, `pods_created` or `pods_deleted`.
    pub fn synced(&self, mode: &str, action: &str, well: bool, took: Duration) {
        let result = if well { "success" } else { "error" };
        self.syncs.with([action, mode, result]).increment();
        self.times.with([action, mode, result]).observe_time(took);
    }

    /// A Job has ended.
    pub fn finished(&self, mode: &str, reason: &str, well: bool) {
        let result = if well { "succeeded" } else { "failed" };
        self.finished.with([mode, reason, result]).increment();
    }

    /// More pods are counted.
    pub fn pods(&self, mode: &str, succeeded: u64, failed: u64) {
        self.pods.with([mode, "succeeded"]).add(succeeded);
        self.pods.with([mode, "failed"]).add(failed);
    }

    /// A rule of the failure policy was for a pod that is counted now.
    pub fn policy(&self, action: &str) {
        self.policy.with([action]).increment();
    }

    /// A pod ended that has the finalizer, or an ended one lost it.
    pub fn tracked(&self, has_it: bool) {
        self.tracked.with([if has_it { "add" } else { "delete" }]).increment();
    }

    fn show(&self, page: &mut Page) {
        self.syncs.show(page);
        self.times.show(page);
        self.finished.show(page);
        self.pods.show(page);
        self.policy.show(page);
        self.tracked.show(page);
    }
}

const ADDED: Metric = Metric::beta(
    "endpoint_slice_controller_endpoints_added_per_sync",
    "Endpoints that were added when a Service was looked at.",
);
const REMOVED: Metric = Metric::beta(
    "endpoint_slice_controller_endpoints_removed_per_sync",
    "Endpoints that were removed when a Service was looked at.",
);
const ENDPOINTS: Metric = Metric::beta(
    "endpoint_slice_controller_endpoints_desired",
    "Endpoints that there should be.",
);
const SLICES: Metric = Metric::beta(
    "endpoint_slice_controller_num_endpoint_slices",
    "EndpointSlices that there are.",
);
const DESIRED: Metric = Metric::beta(
    "endpoint_slice_controller_desired_endpoint_slices",
    "EndpointSlices that there would be if each were full.",
);
const TRAFFIC: Metric = Metric::beta(
    "endpoint_slice_controller_services_count_by_traffic_distribution",
    "Services by their trafficDistribution.",
);
/// Endpoints.
const CHANGES: [f64; 15] = exponential(2.0, 2.0);

/// What a Service's slices hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub endpoints: u64,
    pub slices: u64,
    pub desired: u64,
    pub traffic: Option<String>,
}

/// What the controller of EndpointSlices counts.
pub(crate) struct SliceMetrics {
    added: Histogram,
    removed: Histogram,
    services: Mutex<BTreeMap<String, Held>>,
}

impl Default for SliceMetrics {
    fn default() -> SliceMetrics {
        SliceMetrics {
            added: Histogram::new(&CHANGES),
            removed: Histogram::new(&CHANGES),
            services: Mutex::default(),
        }
    }
}

impl SliceMetrics {
    /// A Service was looked at: so many endpoints came and went, and this is what it has now.
    #[allow(clippy::cast_precision_loss)]
    pub fn synced(&self, service: &str, added: usize, removed: usize, held: Held) {
        self.added.observe(added as f64);
        self.removed.observe(removed as f64);
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        services.insert(service.to_owned(), held);
    }

    /// A Service is gone.
    pub fn gone(&self, service: &str) {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        services.remove(service);
    }

    #[allow(clippy::cast_precision_loss)]
    fn show(&self, page: &mut Page) {
        page.histogram(&ADDED, &self.added);
        page.histogram(&REMOVED, &self.removed);
        let services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = |of: fn(&Held) -> u64| services.values().map(of).sum::<u64>() as f64;
        page.number(&ENDPOINTS, sum(|held| held.endpoints));
        page.number(&SLICES, sum(|held| held.slices));
        page.number(&DESIRED, sum(|held| held.desired));
        let mut by_traffic = BTreeMap::<&str, u64>::new();
        for traffic in services.values().filter_map(|held| held.traffic.as_deref()) {
            *by_traffic.entry(traffic).or_default() += 1;
        }
        let mut samples = page.samples(&TRAFFIC, Kind::Gauge);
        for (traffic, count) in by_traffic {
            samples.number(&[("traffic_distribution", traffic)], count as f64);
        }
    }
}

const RECONCILIATIONS: Metric = Metric::beta(
    "horizontal_pod_autoscaler_controller_reconciliations_total",
    "Times that a HorizontalPodAutoscaler was looked at, by what was done and whose fault it was that nothing was.",
);
const RECONCILIATION: Metric = Metric::beta(
    "horizontal_pod_autoscaler_controller_reconciliation_duration_seconds",
    "Seconds that it took to look at a HorizontalPodAutoscaler, by what was done and whose fault it was that nothing was.",
);
const COMPUTATIONS: Metric = Metric::beta(
    "horizontal_pod_autoscaler_controller_metric_computation_total",
    "Metrics of HorizontalPodAutoscalers that were asked for, by what they propose, fault and type.",
);
const COMPUTATION: Metric = Metric::beta(
    "horizontal_pod_autoscaler_controller_metric_computation_duration_seconds",
    "Seconds that it took to ask for a metric of a HorizontalPodAutoscaler, by what it proposes, fault and type.",
);
const AUTOSCALERS: Metric = Metric::alpha(
    "horizontal_pod_autoscaler_controller_num_horizontal_pod_autoscalers",
    "HorizontalPodAutoscalers that there are.",
);
const DESIRED_REPLICAS: Metric = Metric::alpha(
    "horizontal_pod_autoscaler_controller_desired_replicas",
    "Replicas that the target of a HorizontalPodAutoscaler is to have.",
);
const STALE: Metric = Metric::alpha(
    "horizontal_pod_autoscaler_controller_stale_sync_skips_total",
    "Times that a HorizontalPodAutoscaler was not looked at, as what was written last was not in the cache yet.",
);
/// Seconds.
const AUTOSCALER_TIMES: [f64; 15] = exponential(0.001, 2.0);

/// What the controller of HorizontalPodAutoscalers counts. Actions are `scale_up`, `scale_down` and `none`, faults `spec`, `internal` and `none`.
pub(crate) struct AutoscalerMetrics {
    reconciliations: Family<2, Counter>,
    times: Family<2, Histogram>,
    computations: Family<3, Counter>,
    computing: Family<3, Histogram>,
    number: Gauge,
    desired: Family<2, Gauge>,
    stale: Family<2, Counter>,
}

impl Default for AutoscalerMetrics {
    fn default() -> AutoscalerMetrics {
        let (labels, by_type) = (["action", "error"], ["action", "error", "metric_type"]);
        AutoscalerMetrics {
            reconciliations: Family::counters(RECONCILIATIONS, labels),
            times: Family::histograms(RECONCILIATION, labels, &AUTOSCALER_TIMES),
            computations: Family::counters(COMPUTATIONS, by_type),
            computing: Family::histograms(COMPUTATION, by_type, &AUTOSCALER_TIMES),
            number: Gauge::default(),
            desired: Family::gauges(DESIRED_REPLICAS, ["hpa_name", "namespace"]),
            stale: Family::counters(STALE, ["group", "resource"]),
        }
    }
}

impl AutoscalerMetrics {
    /// An autoscaler was looked at.
    pub fn reconciled(&self, action: &str, fault: &str, took: Duration) {
        self.reconciliations.with([action, fault]).increment();
        self.times.with([action, fault]).observe_time(took);
    }

    /// One metric of an autoscaler was asked for.
    pub fn computed(&self, action: &str, fault: &str, type_: &str, took: Duration) {
        self.computations.with([action, fault, type_]).increment();
        self.computing.with([action, fault, type_]).observe_time(took);
    }

    /// There are so many autoscalers.
    pub fn number(&self, number: usize) {
        self.number.set(i64::try_from(number).unwrap_or(i64::MAX));
    }

    /// The target of an autoscaler is to have so many replicas.
    pub fn desires(&self, namespace: &str, name: &str, replicas: i32) {
        self.desired.with([name, namespace]).set(replicas.into());
    }

    /// An autoscaler is gone.
    pub fn gone(&self, namespace: &str, name: &str) {
        self.desired
            .forget(|[known, of]| **known == *name && **of == *namespace);
    }

    /// An autoscaler was not looked at, as the cache is behind.
    pub fn stale(&self) {
        self.stale.with(["autoscaling", "horizontalpodautoscalers"]).increment();
    }

    fn show(&self, page: &mut Page) {
        self.reconciliations.show(page);
        self.times.show(page);
        self.computations.show(page);
        self.computing.show(page);
        page.gauge(&AUTOSCALERS, &self.number);
        self.desired.show(page);
        self.stale.show(page);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_services_hold_is_summed_until_they_are_gone() {
        let metrics = SliceMetrics::default();
        let held = |endpoints, traffic: Option<&str>| Held {
            endpoints,
            slices: 1,
            desired: 1,
            traffic: traffic.map(str::to_owned),
        };
        metrics.synced("n/a", 3, 0, held(3, Some("PreferSameZone")));
        metrics.synced("n/a", 1, 0, held(4, Some("PreferSameZone")));
        metrics.synced("n/b", 2, 0, held(2, None));
        let text = || {
            let mut page = Page::default();
            metrics.show(&mut page);
            page.text()
        };
        assert!(text().contains("endpoints_desired 6\n"), "{}", text());
        assert!(text().contains("{traffic_distribution=\"PreferSameZone\"} 1\n"));
        metrics.gone("n/a");
        assert!(text().contains("endpoints_desired 2\n") && text().contains("endpoints_added_per_sync_count 3\n"));
    }
}
