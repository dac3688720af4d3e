//! The kubelet's figures in Prometheus' text: `/metrics`, `/metrics/resource`, `/metrics/cadvisor`, `/metrics/probes`.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use metrics::{Kind, Metric, Page};

use super::PodTable;
use super::stats::{Usage, container_stats, containers, node_cpu, sandbox_stats, usage};
use crate::config::KubeletConfig;
use crate::cri_config::{CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID};
use crate::machine;
use crate::node_context::NodeContext;
use crate::pod::PodExt;

/// Labels and their values, in the order of the labels.
type Labels = Vec<(&'static str, String)>;

fn labels(s: &cri::v1::ContainerStats) -> Option<Labels> {
    let all = &s.attributes.as_ref()?.labels;
    let of = |key: &str| all.get(key).cloned().unwrap_or_default();
    Some(vec![
        ("container", of(CONTAINER_NAME)),
        ("namespace", of(POD_NAMESPACE)),
        ("pod", of(POD_NAME)),
    ])
}

/// A value of a container, and when it was measured in milliseconds since 1970.
type Measured = Option<(f64, Option<i64>)>;

/// One line of a family: labels, value, and when it was measured in milliseconds since 1970.
type Sample = (Labels, f64, Option<i64>);

/// One family of figures.
fn family(page: &mut Page, metric: &Metric, kind: Kind, values: &[Sample]) {
    let mut samples = page.samples(metric, kind);
    for (labels, value, at) in values {
        let labels: Vec<(&str, &str)> = labels.iter().map(|(key, value)| (*key, value.as_str())).collect();
        samples.measured(&labels, *value, *at);
    }
}

#[allow(clippy::cast_precision_loss)]
fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

#[allow(clippy::cast_precision_loss)]
fn float(value: u64) -> f64 {
    value as f64
}

fn pod_labels(pod: &Pod) -> Labels {
    vec![
        ("namespace", pod.namespace().to_owned()),
        ("pod", pod.name().to_owned()),
    ]
}

fn pod_figures(node: &NodeContext, table: &PodTable) -> Vec<(Pod, Usage)> {
    let of = |pod: Pod| {
        let usage = usage(node, &node.cgroups.pod_path(&pod))?;
        Some((pod, usage))
    };
    table.active().into_iter().filter_map(of).collect()
}

fn milliseconds(nanoseconds: i64) -> Option<i64> {
    Some(nanoseconds / 1_000_000)
}

fn cpu_seconds(s: &cri::v1::ContainerStats) -> Measured {
    let cpu = s.cpu.as_ref()?;
    let used = cpu.usage_core_nano_seconds.as_ref()?;
    Some((seconds(used.value), milliseconds(cpu.timestamp)))
}

fn memory(s: &cri::v1::ContainerStats, pick: fn(&cri::v1::MemoryUsage) -> &Option<cri::v1::UInt64Value>) -> Measured {
    let memory = s.memory.as_ref()?;
    Some((float(pick(memory).as_ref()?.value), milliseconds(memory.timestamp)))
}

/// A metric and its lines.
type Row = (Metric, Kind, Vec<Sample>);

/// What containers use.
fn of_containers(stats: &[cri::v1::ContainerStats], known: &HashMap<String, cri::v1::Container>) -> [Row; 4] {
    let now = Some(Timestamp::now().as_millisecond());
    let pick = |f: &dyn Fn(&cri::v1::ContainerStats) -> Measured| -> Vec<Sample> {
        let sample = |s: &cri::v1::ContainerStats| {
            let (value, at) = f(s)?;
            Some((labels(s)?, value, at))
        };
        stats.iter().filter_map(sample).collect()
    };
    let swap = |s: &cri::v1::ContainerStats| {
        let swap = s.swap.as_ref()?;
        Some((
            float(swap.swap_usage_bytes.as_ref()?.value),
            milliseconds(swap.timestamp),
        ))
    };
    #[allow(clippy::cast_precision_loss)]
    let start = |s: &cri::v1::ContainerStats| {
        let container = known.get(&s.attributes.as_ref()?.id)?;
        Some((container.created_at as f64 / 1e9, now))
    };
    [
        (
            Metric::stable(
                "container_cpu_usage_seconds_total",
                "Cumulative cpu time consumed by the container in core-seconds",
            ),
            Kind::Counter,
            pick(&cpu_seconds),
        ),
        (
            Metric::stable(
                "container_memory_working_set_bytes",
                "Current working set of the container in bytes",
            ),
            Kind::Gauge,
            pick(&|s| memory(s, |m| &m.working_set_bytes)),
        ),
        (
            Metric::stable(
                "container_start_time_seconds",
                "Start time of the container since unix epoch in seconds",
            ),
            Kind::Gauge,
            pick(&start),
        ),
        (
            Metric::alpha(
                "container_swap_usage_bytes",
                "Current amount of the container swap usage in bytes. Reported only on non-windows systems",
            ),
            Kind::Gauge,
            pick(&swap),
        ),
    ]
}

/// What the node as a whole uses.
fn of_node() -> [Row; 3] {
    let now = Some(Timestamp::now().as_millisecond());
    let node_memory = machine::meminfo("MemTotal").unwrap_or(0) - machine::meminfo("MemAvailable").unwrap_or(0);
    let node_swap = machine::meminfo("SwapTotal").unwrap_or(0) - machine::meminfo("SwapFree").unwrap_or(0);
    let one = |value: f64| vec![(Labels::new(), value, now)];
    [
        (
            Metric::stable(
                "node_cpu_usage_seconds_total",
                "Cumulative cpu time consumed by the node in core-seconds",
            ),
            Kind::Counter,
            one(seconds(node_cpu())),
        ),
        (
            Metric::stable(
                "node_memory_working_set_bytes",
                "Current working set of the node in bytes",
            ),
            Kind::Gauge,
            one(float(node_memory.unsigned_abs())),
        ),
        (
            Metric::alpha(
                "node_swap_usage_bytes",
                "Current swap usage of the node in bytes. Reported only on non-windows systems",
            ),
            Kind::Gauge,
            one(float(node_swap.unsigned_abs())),
        ),
    ]
}

/// What pods as a whole use.
fn of_pods(pods: &[(Pod, Usage)]) -> [Row; 2] {
    let now = Some(Timestamp::now().as_millisecond());
    let of_pods = |f: fn(&Usage) -> f64| pods.iter().map(|(p, u)| (pod_labels(p), f(u), now)).collect::<Vec<_>>();
    [
        (
            Metric::stable(
                "pod_cpu_usage_seconds_total",
                "Cumulative cpu time consumed by the pod in core-seconds",
            ),
            Kind::Counter,
            of_pods(|u| seconds(u.cpu)),
        ),
        (
            Metric::stable(
                "pod_memory_working_set_bytes",
                "Current working set of the pod in bytes",
            ),
            Kind::Gauge,
            of_pods(|u| float(u.working_set)),
        ),
    ]
}

/// What the metrics server reads.
pub async fn resource_metrics(node: &NodeContext, _: &KubeletConfig, table: &PodTable) -> String {
    let stats = container_stats(node).await;
    let known = containers(node).await;
    let well = (
        Metric::stable(
            "resource_scrape_error",
            "1 if there was an error while getting container metrics, 0 otherwise",
        ),
        Kind::Gauge,
        vec![(Labels::new(), 0.0, None)],
    );
    let mut page = Page::default();
    let rows = of_containers(&stats, &known).into_iter().chain(of_node());
    for (metric, kind, values) in rows.chain(of_pods(&pod_figures(node, table))).chain([well]) {
        family(&mut page, &metric, kind, &values);
    }
    page.text()
}

/// The labels of cadvisor's figures.
struct CadvisorLabels<'a> {
    node: &'a NodeContext,
    known: &'a HashMap<String, cri::v1::Container>,
    /// The cgroups of pods, by their UIDs.
    groups: HashMap<&'a str, String>,
}

impl CadvisorLabels<'_> {
    /// The group, image and name (its id) of a container, with the pod's names.
    fn of_container(&self, s: &cri::v1::ContainerStats) -> Option<Labels> {
        let attributes = s.attributes.as_ref()?;
        let all = &attributes.labels;
        let of = |key: &str| all.get(key).cloned().unwrap_or_default();
        let group = self.groups.get(all.get(POD_UID)?.as_str())?;
        let image = self
            .known
            .get(&attributes.id)
            .and_then(|c| c.image.as_ref())
            .map_or("", |i| {
                if i.user_specified_image.is_empty() {
                    &i.image
                } else {
                    &i.user_specified_image
                }
            });
        Some(vec![
            ("container", of(CONTAINER_NAME)),
            ("id", format!("{group}/{}", attributes.id)),
            ("image", image.to_owned()),
            ("name", attributes.id.clone()),
            ("namespace", of(POD_NAMESPACE)),
            ("pod", of(POD_NAME)),
        ])
    }

    /// Those of a pod as a whole, with its network's interface where that is asked for.
    fn of_pod(&self, pod: &Pod, interface: Option<&str>, name: &str) -> Labels {
        let mut labels = vec![
            ("container", String::new()),
            ("id", self.node.cgroups.pod_path(pod)),
            ("image", String::new()),
        ];
        labels.extend(interface.map(|interface| ("interface", interface.to_owned())));
        labels.push(("name", name.to_owned()));
        labels.extend(pod_labels(pod));
        labels
    }
}

/// What pods sent and received.
fn of_networks(
    labels: &CadvisorLabels<'_>,
    pods: &[(Pod, Usage)],
    sandboxes: &HashMap<String, cri::v1::PodSandboxStats>,
) -> [Row; 4] {
    let read = |f: fn(&cri::v1::NetworkInterfaceUsage) -> &Option<cri::v1::UInt64Value>| -> Vec<Sample> {
        let mut samples = Vec::new();
        for (pod, _) in pods {
            let Some(stats) = sandboxes.get(pod.uid()) else {
                continue;
            };
            let Some(usage) = stats.linux.as_ref().and_then(|l| l.network.as_ref()) else {
                continue;
            };
            let name = stats.attributes.as_ref().map_or("", |a| a.id.as_str());
            for i in usage.default_interface.iter().chain(&usage.interfaces) {
                let Some(value) = f(i) else { continue };
                let labels = labels.of_pod(pod, Some(&i.name), name);
                samples.push((labels, float(value.value), milliseconds(usage.timestamp)));
            }
        }
        samples
    };
    [
        (
            Metric::foreign(
                "container_network_receive_bytes_total",
                "Cumulative count of bytes received",
            ),
            Kind::Counter,
            read(|i| &i.rx_bytes),
        ),
        (
            Metric::foreign(
                "container_network_receive_errors_total",
                "Cumulative count of errors encountered while receiving",
            ),
            Kind::Counter,
            read(|i| &i.rx_errors),
        ),
        (
            Metric::foreign(
                "container_network_transmit_bytes_total",
                "Cumulative count of bytes transmitted",
            ),
            Kind::Counter,
            read(|i| &i.tx_bytes),
        ),
        (
            Metric::foreign(
                "container_network_transmit_errors_total",
                "Cumulative count of errors encountered while transmitting",
            ),
            Kind::Counter,
            read(|i| &i.tx_errors),
        ),
    ]
}

/// The figures of cadvisor that dashboards read most, with its labels.
pub async fn cadvisor_metrics(node: &NodeContext, _: &KubeletConfig, table: &PodTable) -> String {
    let stats = container_stats(node).await;
    let known = containers(node).await;
    let sandboxes = sandbox_stats(node).await;
    let now = Some(Timestamp::now().as_millisecond());
    let pods = pod_figures(node, table);
    let labels = CadvisorLabels {
        node,
        known: &known,
        groups: pods.iter().map(|(p, ..)| (p.uid(), node.cgroups.pod_path(p))).collect(),
    };
    let pick = |f: &dyn Fn(&cri::v1::ContainerStats) -> Measured| -> Vec<Sample> {
        let sample = |s: &cri::v1::ContainerStats| {
            let (value, at) = f(s)?;
            Some((labels.of_container(s)?, value, at))
        };
        stats.iter().filter_map(sample).collect()
    };
    let (mut cpu, mut working) = (pick(&cpu_seconds), pick(&|s| memory(s, |m| &m.working_set_bytes)));
    for (pod, u) in &pods {
        let of_pod = labels.of_pod(pod, None, "");
        cpu.push((of_pod.clone(), seconds(u.cpu), now));
        working.push((of_pod, float(u.working_set), now));
    }
    let disk = |s: &cri::v1::ContainerStats| {
        let layer = s.writable_layer.as_ref()?;
        Some((float(layer.used_bytes.as_ref()?.value), milliseconds(layer.timestamp)))
    };
    let total = machine::meminfo("MemTotal").unwrap_or(0).unsigned_abs();
    let mut page = Page::default();
    let rows = [
        (
            Metric::foreign(
                "container_cpu_usage_seconds_total",
                "Cumulative cpu time consumed in seconds.",
            ),
            Kind::Counter,
            cpu,
        ),
        (
            Metric::foreign("container_memory_working_set_bytes", "Current working set in bytes."),
            Kind::Gauge,
            working,
        ),
        (
            Metric::foreign("container_memory_rss", "Size of RSS in bytes."),
            Kind::Gauge,
            pick(&|s| memory(s, |m| &m.rss_bytes)),
        ),
        (
            Metric::foreign(
                "container_memory_usage_bytes",
                "Current memory usage in bytes, including all memory regardless of when it was accessed",
            ),
            Kind::Gauge,
            pick(&|s| memory(s, |m| &m.usage_bytes)),
        ),
        (
            Metric::foreign(
                "container_fs_usage_bytes",
                "Number of bytes that are consumed by the container on this filesystem.",
            ),
            Kind::Gauge,
            pick(&disk),
        ),
        (
            Metric::foreign("machine_memory_bytes", "Amount of memory installed on the machine."),
            Kind::Gauge,
            vec![(Labels::new(), float(total), None)],
        ),
    ];
    for (metric, kind, values) in rows.into_iter().chain(of_networks(&labels, &pods, &sandboxes)) {
        family(&mut page, &metric, kind, &values);
    }
    page.text()
}

/// How the probes of the node's containers went.
pub fn probe_metrics(node: &NodeContext) -> String {
    let mut page = Page::default();
    node.figures.show_probes(&mut page);
    page.text()
}

/// The kubelet's own.
pub fn own_metrics(node: &NodeContext, table: &PodTable) -> String {
    const RUNNING: Metric = Metric::alpha("kubelet_running_pods", "Number of pods that have a running pod sandbox");
    const DESIRED: Metric = Metric::alpha(
        "kubelet_desired_pods",
        "The number of pods the kubelet is being instructed to run.",
    );
    let mut page = Page::default();
    api::features::show(&mut page);
    api::version::show(&mut page, api::version::VERSION);
    metrics::process::show(&mut page);
    let phase = |p: &Pod| p.status.as_ref().and_then(|s| s.phase.clone());
    let active = table.active();
    let running = active.iter().filter(|p| phase(p).as_deref() == Some("Running")).count();
    page.number(&RUNNING, float(running as u64));
    page.samples(&DESIRED, Kind::Gauge)
        .number(&[("static", "")], float(active.len() as u64));
    node.figures.show(&mut page);
    page.count_metrics();
    page.text()
}
