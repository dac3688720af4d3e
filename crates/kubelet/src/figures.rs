//! What the kubelet counts of its own work, for `/metrics` and `/metrics/probes`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{Counter, Family, Histogram, Kind, Metric, Page};

/// Upper bounds of upstream's `podStartupDurationBuckets`, in seconds.
const POD_START: [f64; 25] = [
    0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0,
    600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0,
];

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

const PROBES: Metric = Metric::beta(
    "prober_probe_total",
    "Probes of containers, by container, kind and result.",
);
const ENDS: Metric = Metric::alpha(
    "kubelet_terminated_containers_total",
    "Cumulative number of container terminations.",
);
const STARTS: Metric = Metric::alpha(
    "kubelet_pod_start_duration_seconds",
    "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run",
);
const IMAGES_REQUESTED: Metric = Metric::beta(
    "kubelet_image_volume_requested_total",
    "Image volumes that pods asked for.",
);
const IMAGES_MOUNTED: Metric = Metric::beta(
    "kubelet_image_volume_mounted_succeed_total",
    "Image volumes that were mounted.",
);
const IMAGES_FAILED: Metric = Metric::beta(
    "kubelet_image_volume_mounted_errors_total",
    "Image volumes that could not be mounted.",
);

#[derive(Debug, Default)]
struct Counts {
    probes: BTreeMap<ProbeSeries, u64>,
    ends: BTreeMap<End, u64>,
}

/// What the kubelet counts, for its metrics.
#[derive(Debug)]
pub struct Figures {
    counts: Mutex<Counts>,
    pod_start: Histogram,
    pub image_volumes: ImageVolumes,
    /// How long volumes took, by kind of volume and what was done.
    pub volumes: Volumes,
}

/// Volumes that are images.
#[derive(Debug, Default)]
pub struct ImageVolumes {
    requested: Counter,
    mounted: Counter,
    failed: Counter,
}

impl ImageVolumes {
    /// A container that was to be created mounts so many images.
    pub fn asked(&self, count: u64, failed: bool) {
        self.requested.add(count);
        match failed {
            true => self.failed.add(count),
            false => self.mounted.add(count),
        }
    }
}

/// How long volumes took to be made ready.
#[derive(Debug)]
pub struct Volumes {
    operations: Family<4, Histogram>,
    whole: Family<2, Histogram>,
}

/// Seconds.
const VOLUME: [f64; 13] = [
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 25.0, 50.0, 120.0, 300.0, 600.0,
];

impl Default for Volumes {
    fn default() -> Volumes {
        const OPERATIONS: Metric = Metric::beta(
            "storage_operation_duration_seconds",
            "Seconds that an operation on a volume took, by kind of volume, operation and outcome.",
        );
        const WHOLE: Metric = Metric::beta(
            "volume_operation_total_seconds",
            "Seconds from when a volume was asked for until an operation on it had succeeded, by kind of volume and operation.",
        );
        Volumes {
            operations: Family::histograms(
                OPERATIONS,
                ["migrated", "operation_name", "status", "volume_plugin"],
                &VOLUME,
            ),
            whole: Family::histograms(WHOLE, ["operation_name", "plugin_name"], &VOLUME),
        }
    }
}

impl Volumes {
    /// An operation on a volume took so long. `plugin` is upstream's name of its kind, such as `kubernetes.io/secret`.
    pub fn took(&self, plugin: &str, operation: &str, well: bool, took: Duration) {
        let status = if well { "success" } else { "fail-unknown" };
        self.operations
            .with(["false", operation, status, plugin])
            .observe_time(took);
        if well {
            self.whole.with([operation, plugin]).observe_time(took);
        }
    }
}

impl Default for Figures {
    fn default() -> Self {
        Figures {
            counts: Mutex::default(),
            pod_start: Histogram::new(&POD_START),
            image_volumes: ImageVolumes::default(),
            volumes: Volumes::default(),
        }
    }
}

impl Figures {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a probe.
    pub fn probed(&self, series: ProbeSeries) {
        *self.lock().probes.entry(series).or_insert(0) += 1;
    }

    /// Counts the end of a container or pod.
    pub fn ended(&self, end: End) {
        *self.lock().ends.entry(end).or_insert(0) += 1;
    }

    /// How long a pod took from when the kubelet first saw it until it ran.
    pub fn pod_started(&self, took: Duration) {
        self.pod_start.observe_time(took);
    }

    /// A pod that is gone has no series any more.
    pub fn forget(&self, pod_uid: &str) {
        self.lock().probes.retain(|series, _| series.pod_uid != pod_uid);
    }

    /// Shows how probes went.
    pub fn show_probes(&self, page: &mut Page) {
        let mut samples = page.samples(&PROBES, Kind::Counter);
        for (series, count) in &self.lock().probes {
            let labels = [
                ("container", &*series.container),
                ("namespace", &series.namespace),
                ("pod", &series.pod),
                ("pod_uid", &series.pod_uid),
                ("probe_type", series.probe),
                ("result", series.result),
            ];
            samples.count(&labels, *count);
        }
    }

    /// Shows all the rest.
    pub fn show(&self, page: &mut Page) {
        let mut samples = page.samples(&ENDS, Kind::Counter);
        for ((kind, code, reason), count) in &self.lock().ends {
            let code = code.to_string();
            samples.count(
                &[("container_type", kind), ("exit_code", &code), ("reason", reason)],
                *count,
            );
        }
        page.histogram(&STARTS, &self.pod_start);
        page.counter(&IMAGES_REQUESTED, &self.image_volumes.requested);
        page.counter(&IMAGES_MOUNTED, &self.image_volumes.mounted);
        page.counter(&IMAGES_FAILED, &self.image_volumes.failed);
        self.volumes.operations.show(page);
        self.volumes.whole.show(page);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut page = Page::default();
        figures.show_probes(&mut page);
        let text = page.text();
        assert!(
            text.contains("pod_uid=\"1\",probe_type=\"Liveness\",result=\"failed\"} 2\n")
                && !text.contains("pod_uid=\"2\"")
        );
    }
}
