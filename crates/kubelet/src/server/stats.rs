//! Figures of the node, its pods and containers: `/stats/summary` and Prometheus' texts.

use std::fmt::Write;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::PodTable;
use crate::config::KubeletConfig;
use crate::cri_config::{CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID};
use crate::lifecycle::timestamp;
use crate::machine;
use crate::node_context::NodeContext;

/// Nanoseconds of CPU and bytes of memory of a cgroup.
struct Usage {
    cpu: u64,
    memory: u64,
    working_set: u64,
    rss: u64,
}

fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(key)?.trim().parse().ok())
}

fn usage(node: &NodeContext, path: &str) -> Option<Usage> {
    let cgroups = &node.cgroups;
    if cgroups.is_v2() {
        let stat = cgroups.read(path, "memory", "memory.stat")?;
        let memory: u64 = cgroups.read(path, "memory", "memory.current")?.trim().parse().ok()?;
        let inactive = field(&stat, "inactive_file ").unwrap_or(0);
        let cpu = field(&cgroups.read(path, "cpu", "cpu.stat")?, "usage_usec ")? * 1000;
        return Some(Usage {
            cpu,
            memory,
            working_set: memory.saturating_sub(inactive),
            rss: field(&stat, "anon ").unwrap_or(0),
        });
    }
    let stat = cgroups.read(path, "memory", "memory.stat")?;
    let memory: u64 = cgroups
        .read(path, "memory", "memory.usage_in_bytes")?
        .trim()
        .parse()
        .ok()?;
    let inactive = field(&stat, "total_inactive_file ").unwrap_or(0);
    let cpu = cgroups.read(path, "cpuacct", "cpuacct.usage")?.trim().parse().ok()?;
    Some(Usage {
        cpu,
        memory,
        working_set: memory.saturating_sub(inactive),
        rss: field(&stat, "total_rss ").unwrap_or(0),
    })
}

fn time(nanoseconds: i64) -> Time {
    Time(timestamp(nanoseconds))
}

fn cpu_and_memory(u: &Usage, now: Timestamp) -> (Value, Value) {
    let cpu = json!({"time": Time(now), "usageCoreNanoSeconds": u.cpu});
    let memory =
        json!({"time": Time(now), "usageBytes": u.memory, "workingSetBytes": u.working_set, "rssBytes": u.rss});
    (cpu, memory)
}

async fn container_stats(node: &NodeContext) -> Vec<cri::v1::ContainerStats> {
    let asked = cri::v1::ListContainerStatsRequest { filter: None };
    match node.runtime.runtime.clone().list_container_stats(asked).await {
        // Those that have ended use nothing.
        Ok(answer) => answer
            .into_inner()
            .stats
            .into_iter()
            .filter(|s| s.cpu.is_some())
            .collect(),
        Err(error) => {
            tracing::debug!(%error, "no container figures");
            Vec::new()
        }
    }
}

fn file_system(path: &std::path::Path, now: Timestamp) -> Value {
    match machine::disk(path) {
        Some((total, free, inodes, inodes_free)) => json!({
            "time": Time(now), "availableBytes": free, "capacityBytes": total, "usedBytes": total.saturating_sub(free),
            "inodes": inodes, "inodesFree": inodes_free, "inodesUsed": inodes.saturating_sub(inodes_free),
        }),
        None => json!({"time": Time(now)}),
    }
}

pub async fn summary(node: &NodeContext, config: &KubeletConfig, table: &PodTable) -> Value {
    let now = Timestamp::now();
    let stats = container_stats(node).await;
    let mut pods = Vec::new();
    for pod in table.active() {
        use crate::pod::PodExt;
        let mut containers = Vec::new();
        for s in &stats {
            let Some(attributes) = &s.attributes else { continue };
            if attributes.labels.get(POD_UID).map(String::as_str) != Some(pod.uid()) {
                continue;
            }
            let cpu = s.cpu.as_ref().map(|c| {
                json!({"time": time(c.timestamp), "usageCoreNanoSeconds": c.usage_core_nano_seconds.as_ref().map(|v| v.value), "usageNanoCores": c.usage_nano_cores.as_ref().map(|v| v.value)})
            });
            let memory = s.memory.as_ref().map(|m| {
                json!({"time": time(m.timestamp), "workingSetBytes": m.working_set_bytes.as_ref().map(|v| v.value), "usageBytes": m.usage_bytes.as_ref().map(|v| v.value),
                    "rssBytes": m.rss_bytes.as_ref().map(|v| v.value), "pageFaults": m.page_faults.as_ref().map(|v| v.value), "majorPageFaults": m.major_page_faults.as_ref().map(|v| v.value)})
            });
            let rootfs = s.writable_layer.as_ref().map(|w| json!({"time": time(w.timestamp), "usedBytes": w.used_bytes.as_ref().map(|v| v.value), "inodesUsed": w.inodes_used.as_ref().map(|v| v.value)}));
            containers.push(json!({"name": attributes.labels.get(CONTAINER_NAME), "startTime": pod.status.as_ref().and_then(|s| s.start_time.clone()), "cpu": cpu, "memory": memory, "rootfs": rootfs}));
        }
        let figures = usage(node, &node.cgroups.pod_path(&pod)).map(|u| cpu_and_memory(&u, now));
        let (cpu, memory) = figures.unwrap_or((Value::Null, Value::Null));
        let mut entry = json!({
            "podRef": {"name": pod.name(), "namespace": pod.namespace(), "uid": pod.uid()},
            "startTime": pod.status.as_ref().and_then(|s| s.start_time.clone()),
            "containers": containers, "cpu": cpu, "memory": memory,
        });
        strip_nulls(&mut entry);
        pods.push(entry);
    }
    let total = machine::meminfo("MemTotal").unwrap_or(0);
    let available = machine::meminfo("MemAvailable").unwrap_or(0);
    json!({
        "node": {
            "nodeName": config.node_name,
            "startTime": Time(boot_time().unwrap_or(now)),
            "cpu": {"time": Time(now), "usageCoreNanoSeconds": node_cpu()},
            "memory": {"time": Time(now), "availableBytes": available, "usageBytes": total - machine::meminfo("MemFree").unwrap_or(0), "workingSetBytes": total - available},
            "fs": file_system(&config.root_dir, now),
            "runtime": {"imageFs": file_system(&config.root_dir, now)},
        },
        "pods": pods,
    })
}

fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(strip_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}

/// Nanoseconds all processors have worked. /proc/stat counts hundredths of seconds.
fn node_cpu() -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<u64> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|f| f.parse().ok())
        .collect();
    let idle: u64 = fields.iter().skip(3).take(2).sum();
    (fields.iter().take(8).sum::<u64>() - idle) * 10_000_000
}

fn boot_time() -> Option<Timestamp> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    Timestamp::from_second(i64::try_from(field(&text, "btime ")?).ok()?).ok()
}

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

/// One family of figures in Prometheus' text.
fn family(out: &mut String, name: &str, kind: &str, help: &str, values: &[(String, f64)]) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in values {
        let _ = if labels.is_empty() {
            writeln!(out, "{name} {value}")
        } else {
            writeln!(out, "{name}{{{labels}}} {value}")
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

fn pod_figures(node: &NodeContext, table: &PodTable) -> Vec<(String, Usage)> {
    use crate::pod::PodExt;
    let of = |pod: &k8s_openapi::api::core::v1::Pod| {
        let labels = format!(
            r#"namespace="{}",pod="{}""#,
            escape(pod.namespace()),
            escape(pod.name())
        );
        usage(node, &node.cgroups.pod_path(pod)).map(|u| (labels, u))
    };
    table.active().iter().filter_map(of).collect()
}

/// What the metrics server reads.
pub async fn resource_metrics(node: &NodeContext, _: &KubeletConfig, table: &PodTable) -> String {
    let stats = container_stats(node).await;
    let pick = |f: &dyn Fn(&cri::v1::ContainerStats) -> Option<f64>| -> Vec<(String, f64)> {
        stats.iter().filter_map(|s| Some((labels(s)?, f(s)?))).collect()
    };
    let cpu = pick(&|s| {
        s.cpu
            .as_ref()?
            .usage_core_nano_seconds
            .as_ref()
            .map(|v| seconds(v.value))
    });
    let memory = pick(&|s| s.memory.as_ref()?.working_set_bytes.as_ref().map(|v| float(v.value)));
    let pods = pod_figures(node, table);
    let mut out = String::new();
    family(
        &mut out,
        "container_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
        &cpu,
    );
    family(
        &mut out,
        "container_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the container in bytes",
        &memory,
    );
    let node_memory = machine::meminfo("MemTotal").unwrap_or(0) - machine::meminfo("MemAvailable").unwrap_or(0);
    family(
        &mut out,
        "node_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
        &[(String::new(), seconds(node_cpu()))],
    );
    family(
        &mut out,
        "node_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the node in bytes",
        &[(String::new(), float(node_memory.unsigned_abs()))],
    );
    let values = |f: fn(&Usage) -> f64| pods.iter().map(|(l, u)| (l.clone(), f(u))).collect::<Vec<_>>();
    family(
        &mut out,
        "pod_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
        &values(|u| seconds(u.cpu)),
    );
    family(
        &mut out,
        "pod_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the pod in bytes",
        &values(|u| float(u.working_set)),
    );
    family(
        &mut out,
        "resource_scrape_error",
        "gauge",
        "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise",
        &[(String::new(), 0.0)],
    );
    out
}

/// The figures of cadvisor that dashboards read most.
pub async fn cadvisor_metrics(node: &NodeContext, _: &KubeletConfig, table: &PodTable) -> String {
    let stats = container_stats(node).await;
    let mut out = String::new();
    let pick = |f: &dyn Fn(&cri::v1::ContainerStats) -> Option<f64>| -> Vec<(String, f64)> {
        stats.iter().filter_map(|s| Some((labels(s)?, f(s)?))).collect()
    };
    let mut cpu = pick(&|s| {
        s.cpu
            .as_ref()?
            .usage_core_nano_seconds
            .as_ref()
            .map(|v| seconds(v.value))
    });
    let mut working = pick(&|s| s.memory.as_ref()?.working_set_bytes.as_ref().map(|v| float(v.value)));
    for (labels, u) in pod_figures(node, table) {
        let labels = format!(r#"container="",{labels}"#);
        cpu.push((labels.clone(), seconds(u.cpu)));
        working.push((labels, float(u.working_set)));
    }
    let rss = pick(&|s| s.memory.as_ref()?.rss_bytes.as_ref().map(|v| float(v.value)));
    let usage = pick(&|s| s.memory.as_ref()?.usage_bytes.as_ref().map(|v| float(v.value)));
    let disk = pick(&|s| s.writable_layer.as_ref()?.used_bytes.as_ref().map(|v| float(v.value)));
    family(
        &mut out,
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed in seconds.",
        &cpu,
    );
    family(
        &mut out,
        "container_memory_working_set_bytes",
        "gauge",
        "Current working set in bytes.",
        &working,
    );
    family(&mut out, "container_memory_rss", "gauge", "Size of RSS in bytes.", &rss);
    family(
        &mut out,
        "container_memory_usage_bytes",
        "gauge",
        "Current memory usage in bytes.",
        &usage,
    );
    family(
        &mut out,
        "container_fs_usage_bytes",
        "gauge",
        "Number of bytes that are consumed by the container on this filesystem.",
        &disk,
    );
    let memory = machine::meminfo("MemTotal").unwrap_or(0).unsigned_abs();
    family(
        &mut out,
        "machine_memory_bytes",
        "gauge",
        "Amount of memory installed on the machine.",
        &[(String::new(), float(memory))],
    );
    out
}

/// The kubelet's own.
pub fn own_metrics(table: &PodTable) -> String {
    let mut out = String::new();
    let phase = |p: &k8s_openapi::api::core::v1::Pod| p.status.as_ref().and_then(|s| s.phase.clone());
    let active = table.active();
    let running = active.iter().filter(|p| phase(p).as_deref() == Some("Running")).count();
    family(
        &mut out,
        "kubelet_running_pods",
        "gauge",
        "[BETA] Number of pods that have a running pod sandbox",
        &[(String::new(), float(running as u64))],
    );
    family(
        &mut out,
        "kubelet_desired_pods",
        "gauge",
        "[ALPHA] The number of pods the kubelet is being instructed to run.",
        &[("static=\"\"".to_owned(), float(active.len() as u64))],
    );
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
        &[(String::new(), float(pages * 4096))],
    );
    out
}
