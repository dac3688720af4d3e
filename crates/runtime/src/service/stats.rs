//! What containers and sandboxes use: processor, memory, processes, network, the writable layer.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cri::v1;

use super::Runtime;
use super::container::Container;
use super::error::Result;
use super::sandbox::Sandbox;
use crate::cgroup::Usage;
use crate::sys;

/// So long a walk through a writable layer counts at least.
const SHORTEST_LIFE: Duration = Duration::from_secs(5);

/// Processor time between two looks.
#[derive(Debug, Default)]
pub struct Meter(Mutex<Option<(i64, u64)>>);

impl Meter {
    /// Billionths of a core since the last look; nothing the first time. Both in nanoseconds.
    fn nano_cores(&self, now: i64, cpu: u64) -> Option<u64> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (then, used) = last.replace((now, cpu))?;
        let elapsed = u64::try_from(now - then).ok().filter(|e| *e > 0)?;
        let nanos = u128::from(cpu.saturating_sub(used)) * 1_000_000_000 / u128::from(elapsed);
        u64::try_from(nanos).ok()
    }
}

fn value(value: u64) -> Option<v1::UInt64Value> {
    Some(v1::UInt64Value { value })
}

fn cpu(usage: &Usage, timestamp: i64, nano_cores: Option<u64>) -> v1::CpuUsage {
    v1::CpuUsage {
        timestamp,
        usage_core_nano_seconds: value(usage.cpu),
        usage_nano_cores: nano_cores.and_then(value),
        psi: None,
    }
}

fn memory(usage: &Usage, timestamp: i64) -> v1::MemoryUsage {
    v1::MemoryUsage {
        timestamp,
        working_set_bytes: value(usage.working_set),
        available_bytes: value(usage.memory_limit.map_or(0, |l| l.saturating_sub(usage.working_set))),
        usage_bytes: value(usage.memory),
        rss_bytes: value(usage.rss),
        page_faults: value(usage.page_faults),
        major_page_faults: value(usage.major_page_faults),
        psi: None,
    }
}

/// What the last walk through a writable layer found.
#[derive(Debug, Clone, Copy)]
struct Walk {
    at: Instant,
    took: Duration,
    bytes: u64,
    inodes: u64,
}

/// The use of a container's writable layer, walked through at most a hundredth of the time.
#[derive(Debug, Default)]
pub struct Layer(Mutex<Option<Walk>>);

impl Layer {
    fn known(&self, now: Instant) -> Option<Walk> {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.filter(|walk| now.duration_since(walk.at) < (walk.took * 100).max(SHORTEST_LIFE))
    }

    async fn usage(&self, upper: PathBuf) -> (u64, u64) {
        let begun = Instant::now();
        if let Some(walk) = self.known(begun) {
            return (walk.bytes, walk.inodes);
        }
        let walked = tokio::task::spawn_blocking(move || files::usage(&upper)).await;
        // A walk that did not end says nothing.
        let files::Usage { bytes, inodes } = match walked {
            Ok(Ok(usage)) => usage,
            _ => files::Usage::default(),
        };
        let at = Instant::now();
        let walk = Walk {
            at,
            took: at - begun,
            bytes,
            inodes,
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(walk);
        (bytes, inodes)
    }
}

async fn writable_layer(runtime: &Runtime, container: &Container) -> v1::FilesystemUsage {
    let (bytes, inodes) = container.layer.usage(container.dir.join("upper")).await;
    v1::FilesystemUsage {
        timestamp: sys::now(),
        fs_id: Some(v1::FilesystemIdentifier {
            mountpoint: runtime.config.root.join("containers").to_string_lossy().into_owned(),
        }),
        used_bytes: value(bytes),
        inodes_used: value(inodes),
    }
}

pub(crate) async fn container(runtime: &Runtime, container: &Container) -> v1::ContainerStats {
    let record = container.record();
    let config = record.config();
    let mut stats = v1::ContainerStats {
        attributes: Some(v1::ContainerAttributes {
            id: record.id.clone(),
            metadata: config.metadata,
            labels: config.labels,
            annotations: config.annotations,
        }),
        writable_layer: Some(writable_layer(runtime, container).await),
        ..Default::default()
    };
    if record.running() {
        let usage = runtime.hierarchy.usage(&record.cgroup);
        let now = sys::now();
        stats.cpu = Some(cpu(&usage, now, container.meter.nano_cores(now, usage.cpu)));
        stats.memory = Some(memory(&usage, now));
        stats.swap = Some(v1::SwapUsage {
            timestamp: now,
            swap_available_bytes: None,
            swap_usage_bytes: value(usage.swap),
        });
    }
    stats
}

/// Counters of proc_net_dev(5) by interface: received bytes and errors, sent bytes and errors.
fn interfaces(text: &str) -> Vec<v1::NetworkInterfaceUsage> {
    let one = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let fields: Vec<u64> = rest.split_whitespace().filter_map(|f| f.parse().ok()).collect();
        (fields.len() >= 11).then(|| v1::NetworkInterfaceUsage {
            name: name.trim().to_owned(),
            rx_bytes: value(fields[0]),
            rx_errors: value(fields[2]),
            tx_bytes: value(fields[8]),
            tx_errors: value(fields[10]),
        })
    };
    let mut all: Vec<_> = text.lines().filter_map(one).collect();
    all.retain(|i| i.name != "lo");
    all
}

pub(crate) async fn sandbox(runtime: &Runtime, sandbox: &Sandbox) -> Result<v1::PodSandboxStats> {
    let config = sandbox.config();
    let own_network = super::sandbox::has_own_network(&config);
    let group = config.linux.map(|l| l.cgroup_parent).unwrap_or_default();
    let usage = if group.is_empty() {
        Usage::default()
    } else {
        runtime.hierarchy.usage(&group)
    };
    let now = sys::now();
    let containers = runtime.containers_of(&sandbox.id);
    let pid = containers.iter().map(|c| c.with(|r| r.pid)).find(|pid| *pid > 0);
    // A process that ended meanwhile has no counters.
    let text = pid
        .filter(|_| own_network)
        .and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/net/dev")).ok());
    let found = interfaces(&text.unwrap_or_default());
    let default = found.iter().find(|i| i.name == "eth0").cloned();
    let mut stats = Vec::new();
    for one in containers.iter().filter(|c| c.is_running()) {
        stats.push(container(runtime, one).await);
    }
    Ok(v1::PodSandboxStats {
        attributes: Some(v1::PodSandboxAttributes {
            id: sandbox.id.clone(),
            metadata: config.metadata,
            labels: config.labels,
            annotations: config.annotations,
        }),
        linux: Some(v1::LinuxPodSandboxStats {
            cpu: Some(cpu(&usage, now, sandbox.meter.nano_cores(now, usage.cpu))),
            memory: Some(memory(&usage, now)),
            network: own_network.then(|| v1::NetworkUsage {
                timestamp: now,
                interfaces: found.into_iter().filter(|i| default.as_ref() != Some(i)).collect(),
                default_interface: default,
            }),
            process: Some(v1::ProcessUsage {
                timestamp: now,
                process_count: value(usage.processes),
            }),
            containers: stats,
            io: None,
        }),
        windows: None,
    })
}

/// ImageFsInfo: the sum the store keeps, and what the containers' layers hold.
pub fn image_filesystem(runtime: &Runtime) -> v1::ImageFsInfoResponse {
    let (bytes, inodes) = runtime.images.usage();
    let of = |name: &str, bytes, inodes| v1::FilesystemUsage {
        timestamp: sys::now(),
        fs_id: Some(v1::FilesystemIdentifier {
            mountpoint: runtime.config.root.join(name).to_string_lossy().into_owned(),
        }),
        used_bytes: value(bytes),
        inodes_used: value(inodes),
    };
    let images = of("images", bytes, inodes);
    v1::ImageFsInfoResponse {
        image_filesystems: vec![images.clone()],
        container_filesystems: vec![images],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_needs_two_looks() {
        let meter = Meter::default();
        assert_eq!(meter.nano_cores(1_000_000_000, 500), None);
        assert_eq!(meter.nano_cores(3_000_000_000, 1_000_000_500), Some(500_000_000));
    }

    #[tokio::test]
    async fn a_layer_is_not_walked_through_again_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let layer = Layer::default();
        assert_eq!(layer.usage(dir.path().to_owned()).await.1, 1);
        std::fs::write(dir.path().join("x"), "x").unwrap();
        assert_eq!(layer.usage(dir.path().to_owned()).await.1, 1);
        assert!(layer.known(Instant::now() + SHORTEST_LIFE * 200).is_none());
    }

    #[test]
    fn interface_counters_are_read_without_the_loopback() {
        let text = "Inter-|   Receive    |  Transmit\n face |bytes packets errs drop\n    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n  eth0:100 2 3 4 5 6 7 8 200 10 11 12 13 14 15 16\n";
        let found = interfaces(text);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (
                found[0].name.as_str(),
                found[0].rx_bytes,
                found[0].rx_errors,
                found[0].tx_bytes,
                found[0].tx_errors
            ),
            ("eth0", value(100), value(3), value(200), value(11))
        );
    }
}
