//! The kubelet's figures in Prometheus' text: `/metrics`, `/metrics/resource`, `/metrics/cadvisor`, `/metrics/probes`.

use std::collections::HashMap;
use std::fmt::Write;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::PodTable;
use super::stats::{Usage, container_stats, containers, node_cpu, sandbox_stats, usage};
use crate::config::KubeletConfig;
use crate::cri_config::{CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID};
use crate::figures::{End, ProbeSeries};
use crate::machine;
use crate::node_context::NodeContext;
use crate::pod::PodExt;

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn labels(s: &cri::v1::ContainerStats) -> Option<String> {
    let all = &s.attributes.as_ref()?.labels;
    let of = |key: &str| all.get(key).map(|v| escape(v)).unwrap_or_default();
    Some(format!(
        r#"container="{}",namespace="{}",pod="{}""#,
        of(CONTAINER_NAME),
        of(POD_NAMESPACE),
        of(POD_NAME)
    ))
}

/// A value of a container, and when it was measured in milliseconds since 1970.
type Measured = Option<(f64, Option<i64>)>;

/// One line of a family: labels, value, and when it was measured in milliseconds since 1970.
type Sample = (String, f64, Option<i64>);

/// One family of figures in Prometheus' text.
fn family(out: &mut String, name: &str, kind: &str, help: &str, values: &[Sample]) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value, at) in values {
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{labels}}}")
        };
        let _ = match at {
            Some(at) => writeln!(out, "{name}{labels} {value} {at}"),
            None => writeln!(out, "{name}{labels} {value}"),
        };
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

fn pod_figures(node: &NodeContext, table: &PodTable) -> Vec<(Pod, String, Usage)> {
    let of = |pod: Pod| {
        let labels = format!(
            r#"namespace="{}",pod="{}""#,
            escape(pod.namespace()),
            escape(pod.name())
        );
        let usage = usage(node, &node.cgroups.pod_path(&pod))?;
        Some((pod, labels, usage))
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

/// What the metrics server reads.
pub async fn resource_metrics(node: &NodeContext, _: &KubeletConfig, table: &PodTable) -> String {
    let stats = container_stats(node).await;
    let known = containers(node).await;
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
    let pods = pod_figures(node, table);
    let of_pods = |f: fn(&Usage) -> f64| pods.iter().map(|(_, l, u)| (l.clone(), f(u), now)).collect::<Vec<_>>();
    let node_memory = machine::meminfo("MemTotal").unwrap_or(0) - machine::meminfo("MemAvailable").unwrap_or(0);
    let node_swap = machine::meminfo("SwapTotal").unwrap_or(0) - machine::meminfo("SwapFree").unwrap_or(0);
    let one = |value: f64| vec![(String::new(), value, now)];
    let mut out = String::new();
    for (name, kind, help, values) in [
        (
            "container_cpu_usage_seconds_total",
            "counter",
            "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
            pick(&cpu_seconds),
        ),
        (
            "container_memory_working_set_bytes",
            "gauge",
            "[STABLE] Current working set of the container in bytes",
            pick(&|s| memory(s, |m| &m.working_set_bytes)),
        ),
        (
            "container_start_time_seconds",
            "gauge",
            "[STABLE] Start time of the container since unix epoch in seconds",
            pick(&start),
        ),
        (
            "container_swap_usage_bytes",
            "gauge",
            "[ALPHA] Current amount of the container swap usage in bytes. Reported only on non-windows systems",
            pick(&swap),
        ),
        (
            "node_cpu_usage_seconds_total",
            "counter",
            "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
            one(seconds(node_cpu())),
        ),
        (
            "node_memory_working_set_bytes",
            "gauge",
            "[STABLE] Current working set of the node in bytes",
            one(float(node_memory.unsigned_abs())),
        ),
        (
            "node_swap_usage_bytes",
            "gauge",
            "[ALPHA] Current swap usage of the node in bytes. Reported only on non-windows systems",
            one(float(node_swap.unsigned_abs())),
        ),
        (
            "pod_cpu_usage_seconds_total",
            "counter",
            "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
            of_pods(|u| seconds(u.cpu)),
        ),
        (
            "pod_memory_working_set_bytes",
            "gauge",
            "[STABLE] Current working set of the pod in bytes",
            of_pods(|u| float(u.working_set)),
        ),
        (
            "resource_scrape_error",
            "gauge",
            "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise",
            vec![(String::new(), 0.0, None)],
        ),
    ] {
        family(&mut out, name, kind, help, &values);
    }
    out
}

/// The figures of cadvisor that dashboards read most, with its labels.
pub async fn cadvisor_metrics(node: &NodeContext, _: &KubeletConfig, table: &PodTable) -> String {
    let stats = container_stats(node).await;
    let known = containers(node).await;
    let sandboxes = sandbox_stats(node).await;
    let now = Some(Timestamp::now().as_millisecond());
    let pods = pod_figures(node, table);
    let groups: HashMap<&str, String> = pods.iter().map(|(p, ..)| (p.uid(), node.cgroups.pod_path(p))).collect();
    // The group, image and name (its id) of a container, with the pod's names.
    let full = |s: &cri::v1::ContainerStats| -> Option<String> {
        let attributes = s.attributes.as_ref()?;
        let all = &attributes.labels;
        let of = |key: &str| all.get(key).map(|v| escape(v)).unwrap_or_default();
        let group = groups.get(all.get(POD_UID)?.as_str())?;
        let image = known
            .get(&attributes.id)
            .and_then(|c| c.image.as_ref())
            .map_or("", |i| {
                if i.user_specified_image.is_empty() {
                    &i.image
                } else {
                    &i.user_specified_image
                }
            });
        Some(format!(
            r#"container="{}",id="{}/{}",image="{}",name="{}",namespace="{}",pod="{}""#,
            of(CONTAINER_NAME),
            escape(group),
            attributes.id,
            escape(image),
            attributes.id,
            of(POD_NAMESPACE),
            of(POD_NAME)
        ))
    };
    let pick = |f: &dyn Fn(&cri::v1::ContainerStats) -> Measured| -> Vec<Sample> {
        let sample = |s: &cri::v1::ContainerStats| {
            let (value, at) = f(s)?;
            Some((full(s)?, value, at))
        };
        stats.iter().filter_map(sample).collect()
    };
    let (mut cpu, mut working) = (pick(&cpu_seconds), pick(&|s| memory(s, |m| &m.working_set_bytes)));
    for (pod, labels, u) in &pods {
        let id = escape(&node.cgroups.pod_path(pod));
        let labels = format!(r#"container="",id="{id}",image="",name="",{labels}"#);
        cpu.push((labels.clone(), seconds(u.cpu), now));
        working.push((labels, float(u.working_set), now));
    }
    let disk = |s: &cri::v1::ContainerStats| {
        let layer = s.writable_layer.as_ref()?;
        Some((float(layer.used_bytes.as_ref()?.value), milliseconds(layer.timestamp)))
    };
    let network = |f: fn(&cri::v1::NetworkInterfaceUsage) -> &Option<cri::v1::UInt64Value>| -> Vec<Sample> {
        let mut samples = Vec::new();
        for (pod, labels, _) in &pods {
            let Some(stats) = sandboxes.get(pod.uid()) else {
                continue;
            };
            let Some(usage) = stats.linux.as_ref().and_then(|l| l.network.as_ref()) else {
                continue;
            };
            let (id, name) = (
                escape(&node.cgroups.pod_path(pod)),
                stats.attributes.as_ref().map_or("", |a| a.id.as_str()),
            );
            for i in usage.default_interface.iter().chain(&usage.interfaces) {
                let Some(value) = f(i) else { continue };
                let labels = format!(
                    r#"container="",id="{id}",image="",interface="{}",name="{name}",{labels}"#,
                    escape(&i.name)
                );
                samples.push((labels, float(value.value), milliseconds(usage.timestamp)));
            }
        }
        samples
    };
    let total = machine::meminfo("MemTotal").unwrap_or(0).unsigned_abs();
    let mut out = String::new();
    for (name, kind, help, values) in [
        (
            "container_cpu_usage_seconds_total",
            "counter",
            "Cumulative cpu time consumed in seconds.",
            cpu,
        ),
        (
            "container_memory_working_set_bytes",
            "gauge",
            "Current working set in bytes.",
            working,
        ),
        (
            "container_memory_rss",
            "gauge",
            "Size of RSS in bytes.",
            pick(&|s| memory(s, |m| &m.rss_bytes)),
        ),
        (
            "container_memory_usage_bytes",
            "gauge",
            "Current memory usage in bytes, including all memory regardless of when it was accessed",
            pick(&|s| memory(s, |m| &m.usage_bytes)),
        ),
        (
            "container_fs_usage_bytes",
            "gauge",
            "Number of bytes that are consumed by the container on this filesystem.",
            pick(&disk),
        ),
        (
            "container_network_receive_bytes_total",
            "counter",
            "Cumulative count of bytes received",
            network(|i| &i.rx_bytes),
        ),
        (
            "container_network_receive_errors_total",
            "counter",
            "Cumulative count of errors encountered while receiving",
            network(|i| &i.rx_errors),
        ),
        (
            "container_network_transmit_bytes_total",
            "counter",
            "Cumulative count of bytes transmitted",
            network(|i| &i.tx_bytes),
        ),
        (
            "container_network_transmit_errors_total",
            "counter",
            "Cumulative count of errors encountered while transmitting",
            network(|i| &i.tx_errors),
        ),
        (
            "machine_memory_bytes",
            "gauge",
            "Amount of memory installed on the machine.",
            vec![(String::new(), float(total), None)],
        ),
    ] {
        family(&mut out, name, kind, help, &values);
    }
    out
}

/// How the probes of the node's containers went.
pub fn probe_metrics(node: &NodeContext) -> String {
    let sample = |(s, count): (ProbeSeries, u64)| {
        let labels = format!(
            r#"container="{}",namespace="{}",pod="{}",pod_uid="{}",probe_type="{}",result="{}""#,
            escape(&s.container),
            escape(&s.namespace),
            escape(&s.pod),
            escape(&s.pod_uid),
            s.probe,
            s.result
        );
        (labels, float(count), None)
    };
    let mut out = String::new();
    let values: Vec<Sample> = node.figures.probes().into_iter().map(sample).collect();
    family(
        &mut out,
        "prober_probe_total",
        "counter",
        "[BETA] Cumulative number of a liveness, readiness or startup probe for a container by result.",
        &values,
    );
    out
}

/// The kubelet's own.
pub fn own_metrics(node: &NodeContext, table: &PodTable) -> String {
    let mut out = String::new();
    let phase = |p: &Pod| p.status.as_ref().and_then(|s| s.phase.clone());
    let active = table.active();
    let running = active.iter().filter(|p| phase(p).as_deref() == Some("Running")).count();
    family(
        &mut out,
        "kubelet_running_pods",
        "gauge",
        "[BETA] Number of pods that have a running pod sandbox",
        &[(String::new(), float(running as u64), None)],
    );
    family(
        &mut out,
        "kubelet_desired_pods",
        "gauge",
        "[ALPHA] The number of pods the kubelet is being instructed to run.",
        &[("static=\"\"".to_owned(), float(active.len() as u64), None)],
    );
    let end = |((kind, code, reason), count): (End, u64)| {
        let reason = escape(&reason);
        let labels = format!(r#"container_type="{kind}",exit_code="{code}",reason="{reason}""#);
        (labels, float(count), None)
    };
    let ends: Vec<Sample> = node.figures.ends().into_iter().map(end).collect();
    family(
        &mut out,
        "kubelet_terminated_containers_total",
        "counter",
        "[ALPHA] Cumulative number of container terminations.",
        &ends,
    );
    let name = "kubelet_pod_start_duration_seconds";
    let help = "[ALPHA] Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run";
    family(&mut out, name, "histogram", help, &[]);
    out.push_str(&node.figures.pod_start().text(name));
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm
        .split_whitespace()
        .nth(1)
        .and_then(|p| p.parse().ok())
        .unwrap_or(0);
    family(
        &mut out,
        "process_resident_memory_bytes",
        "gauge",
        "Resident memory size in bytes.",
        &[(String::new(), float(pages * 4096), None)],
    );
    out
}
