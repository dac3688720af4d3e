//! Figures of the node, its pods and containers: `/stats/summary`.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::PodTable;
use crate::config::KubeletConfig;
use crate::cri_config::{CONTAINER_NAME, POD_UID};
use crate::lifecycle::timestamp;
use crate::machine;
use crate::node_context::NodeContext;
use crate::pod::PodExt;

/// Nanoseconds of CPU and bytes of memory of a cgroup.
pub(super) struct Usage {
    pub cpu: u64,
    pub memory: u64,
    pub working_set: u64,
    pub rss: u64,
}

fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(key)?.trim().parse().ok())
}

pub(super) fn usage(node: &NodeContext, path: &str) -> Option<Usage> {
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

pub(super) async fn container_stats(node: &NodeContext) -> Vec<cri::v1::ContainerStats> {
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

/// Figures of the pods' sandboxes, by the pods' uids.
pub(super) async fn sandbox_stats(node: &NodeContext) -> HashMap<String, cri::v1::PodSandboxStats> {
    let asked = cri::v1::ListPodSandboxStatsRequest { filter: None };
    match node.runtime.runtime.clone().list_pod_sandbox_stats(asked).await {
        Ok(answer) => answer
            .into_inner()
            .stats
            .into_iter()
            .filter_map(|s| Some((s.attributes.as_ref()?.labels.get(POD_UID)?.clone(), s)))
            .collect(),
        Err(error) => {
            tracing::debug!(%error, "no sandbox figures");
            HashMap::new()
        }
    }
}

fn interface(i: &cri::v1::NetworkInterfaceUsage) -> Value {
    let value = |v: &Option<cri::v1::UInt64Value>| v.as_ref().map(|v| v.value);
    json!({"name": i.name, "rxBytes": value(&i.rx_bytes), "rxErrors": value(&i.rx_errors),
        "txBytes": value(&i.tx_bytes), "txErrors": value(&i.tx_errors)})
}

/// The default interface's figures beside those of all.
fn network(
    default: Option<&cri::v1::NetworkInterfaceUsage>,
    all: &[&cri::v1::NetworkInterfaceUsage],
    at: &Time,
) -> Value {
    let mut entry = default.map_or_else(|| json!({}), interface);
    entry["time"] = json!(at);
    entry["interfaces"] = all.iter().map(|i| interface(i)).collect();
    entry
}

fn pod_network(stats: &cri::v1::PodSandboxStats) -> Option<Value> {
    let usage = stats.linux.as_ref()?.network.as_ref()?;
    let default = usage.default_interface.as_ref();
    let all: Vec<_> = default.into_iter().chain(&usage.interfaces).collect();
    Some(network(default, &all, &time(usage.timestamp)))
}

/// Counters of proc_net_dev(5) of the node itself.
fn node_network(now: Timestamp) -> Value {
    let text = std::fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let one = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let fields: Vec<u64> = rest.split_whitespace().filter_map(|f| f.parse().ok()).collect();
        let value = |n: usize| fields.get(n).map(|value| cri::v1::UInt64Value { value: *value });
        (name.trim() != "lo" && fields.len() > 10).then(|| cri::v1::NetworkInterfaceUsage {
            name: name.trim().to_owned(),
            rx_bytes: value(0),
            rx_errors: value(2),
            tx_bytes: value(8),
            tx_errors: value(10),
        })
    };
    let found: Vec<_> = text.lines().filter_map(one).collect();
    let default = found.iter().find(|i| i.name == "eth0").or(found.first());
    network(default, &found.iter().collect::<Vec<_>>(), &Time(now))
}

/// The answer to `/stats/summary`: what the node, its pods and their containers use.
pub async fn summary(node: &NodeContext, config: &KubeletConfig, table: &PodTable) -> Value {
    let now = Timestamp::now();
    let stats = container_stats(node).await;
    let sandboxes = sandbox_stats(node).await;
    let started: HashMap<String, Time> = containers(node)
        .await
        .into_iter()
        .map(|(id, c)| (id, time(c.created_at)))
        .collect();
    let mut pods = Vec::new();
    for pod in table.active() {
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
            containers.push(json!({"name": attributes.labels.get(CONTAINER_NAME), "startTime": started.get(&attributes.id), "cpu": cpu, "memory": memory, "rootfs": rootfs}));
        }
        let figures = usage(node, &node.cgroups.pod_path(&pod)).map(|u| cpu_and_memory(&u, now));
        let (cpu, memory) = figures.unwrap_or((Value::Null, Value::Null));
        let mut entry = json!({
            "podRef": {"name": pod.name(), "namespace": pod.namespace(), "uid": pod.uid()},
            "startTime": pod.status.as_ref().and_then(|s| s.start_time.clone()),
            "containers": containers, "cpu": cpu, "memory": memory,
            "network": sandboxes.get(pod.uid()).and_then(pod_network),
            "process_stats": {"process_count": node.cgroups.processes(&node.cgroups.pod_path(&pod))},
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
            "network": node_network(now),
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
pub(super) fn node_cpu() -> u64 {
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

/// The runtime's containers by their ids.
pub(super) async fn containers(node: &NodeContext) -> HashMap<String, cri::v1::Container> {
    match node.runtime.list_containers(None).await {
        Ok(list) => list.into_iter().map(|c| (c.id.clone(), c)).collect(),
        Err(error) => {
            tracing::debug!(%error, "no containers");
            HashMap::new()
        }
    }
}
