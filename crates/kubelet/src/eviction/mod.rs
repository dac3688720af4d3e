//! Eviction: pods over their own limits go, and when the node runs short of memory, disk or processes the one that
//! should go first. What is short is also a condition of the node, and new pods are not taken meanwhile.

mod limits;
mod rank;
pub mod thresholds;
mod tracker;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use files::Usage;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use self::limits::PodDisk;
use self::rank::PodUsage;
use self::thresholds::{IMMEDIATE_GRACE, Observation, Observations, Policy, Pressure, Signal, Threshold};
use self::tracker::Tracker;
use crate::cri_config::{CONTAINER_NAME, POD_UID, log_directory};
use crate::image_gc::ImageCollector;
use crate::machine;
use crate::node_context::NodeContext;
use crate::pod::PodExt;
use crate::resources::{QosClass, qos_class};
use crate::server::PodTable;
use crate::status::Verdict;

/// Upstream's `evictionMonitoringPeriod`.
const PERIOD: Duration = Duration::from_secs(10);
/// A pod's disk is walked through at most this part of the time.
const SHARE: u32 = 100;
/// The reason of evicted pods.
pub const REASON: &str = "Evicted";

/// A pod to end now.
#[derive(Debug, Clone)]
pub struct Eviction {
    pub uid: String,
    pub verdict: Verdict,
    /// Seconds that it has to end.
    pub grace: i64,
    /// Ended for the node's sake, which its `DisruptionTarget` condition says.
    pub disruption: bool,
}

/// What the node is short of, for its status and for those who want to come.
#[derive(Debug, Default)]
pub struct Pressures(RwLock<BTreeSet<Pressure>>);

impl Pressures {
    /// Whether the node is under a pressure.
    pub fn has(&self, pressure: Pressure) -> bool {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&pressure)
    }

    fn set(&self, now: BTreeSet<Pressure>) -> bool {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let changed = *known != now;
        *known = now;
        changed
    }

    /// Refuses a pod that a node in this state does not take. Upstream: `Admit` of the eviction manager.
    pub fn admit(&self, pod: &Pod) -> Result<(), Verdict> {
        let now = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        if now.is_empty() || rank::is_critical(pod) {
            return Ok(());
        }
        if now.len() == 1 && now.contains(&Pressure::Memory) {
            let tolerations = pod.spec.iter().flat_map(|s| s.tolerations.iter().flatten());
            let tolerates = tolerations.into_iter().any(|t| {
                t.key
                    .as_deref()
                    .is_none_or(|k| k.is_empty() || k == "node.kubernetes.io/memory-pressure")
                    && t.effect.as_deref().is_none_or(|e| e.is_empty() || e == "NoSchedule")
                    && (t.operator.as_deref() == Some("Exists")
                        || t.key.is_some() && t.value.as_deref().unwrap_or("").is_empty())
            });
            if qos_class(pod) != QosClass::BestEffort || tolerates {
                return Ok(());
            }
        }
        let names: Vec<&str> = now.iter().map(|p| p.as_str()).collect();
        Err(Verdict {
            reason: REASON.to_owned(),
            message: format!("The node had condition: [{}]. ", names.join(" ")),
        })
    }
}

/// The last walk through a pod's disk.
#[derive(Debug, Clone)]
struct Walk {
    at: Instant,
    took: Duration,
    disk: PodDisk,
}

/// Watches one node.
pub struct Manager {
    pub node: Arc<NodeContext>,
    pub table: PodTable,
    pub policy: Policy,
    pub thresholds: Vec<Threshold>,
    pub images: Arc<ImageCollector>,
    pub evictions: mpsc::UnboundedSender<Eviction>,
    /// The node's status has something new to say.
    pub nudge: Arc<Notify>,
}

impl std::fmt::Debug for Manager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Manager")
            .field("thresholds", &self.thresholds)
            .finish_non_exhaustive()
    }
}

impl Manager {
    /// Looks every ten seconds until dropped.
    pub async fn run(self) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut tracker = Tracker::default();
        let mut walks: HashMap<String, Walk> = HashMap::new();
        loop {
            ticks.tick().await;
            let seen = self.observe().await;
            let now = Instant::now();
            let due = tracker.look(&self.thresholds, &seen, now);
            if self.node.pressures.set(tracker.pressures(self.policy.transition, now)) {
                self.nudge.notify_one();
            }
            let mut pods = self.table.active();
            pods.retain(|p| p.status.as_ref().is_some_and(|s| s.container_statuses.is_some()));
            walks.retain(|uid, _| pods.iter().any(|p| p.uid() == uid));
            if self.enforce_limits(&pods, &mut walks).await {
                continue;
            }
            if let Some(threshold) = due.first() {
                self.win_back(threshold, &seen, &pods).await;
            }
        }
    }

    async fn observe(&self) -> Observations {
        let mut seen = Observations::new();
        let (total, available) = (machine::meminfo("MemTotal"), machine::meminfo("MemAvailable"));
        if let (Some(capacity), Some(available)) = (total, available) {
            seen.insert(Signal::MemoryAvailable, Observation { capacity, available });
        }
        let images = self.images.file_system().await;
        let images = images
            .inspect_err(|error| tracing::debug!(%error, "file system of images"))
            .ok();
        let root = self.node.root_dir.clone();
        for (path, space, inodes) in [
            (Some(root), Signal::NodefsAvailable, Signal::NodefsInodesFree),
            (images, Signal::ImagefsAvailable, Signal::ImagefsInodesFree),
        ] {
            let Some((total, free, files, files_free)) = path.and_then(|p| machine::disk(&p)) else {
                continue;
            };
            let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
            let observation = |capacity, available| Observation {
                capacity: signed(capacity),
                available: signed(available),
            };
            seen.insert(space, observation(total, free));
            // Some file systems have as many as there is room for, and say so by a count of nothing.
            if files > 0 {
                seen.insert(inodes, observation(files, files_free));
            }
        }
        if let Some((running, capacity)) = machine::pids() {
            let available = (capacity - running).max(0);
            seen.insert(Signal::PidAvailable, Observation { capacity, available });
        }
        seen
    }

    /// Ends pods that are over a limit of their own. Whether there were any.
    async fn enforce_limits(&self, pods: &[Pod], walks: &mut HashMap<String, Walk>) -> bool {
        let mut any = false;
        for pod in pods.iter().filter(|p| limits::has_limits(p) && !rank::is_critical(p)) {
            let fresh = walks.get(pod.uid()).filter(|w| w.at.elapsed() < w.took * SHARE);
            let disk = match fresh {
                Some(walk) => walk.disk.clone(),
                None => {
                    let begun = Instant::now();
                    let disk = self.disk_of(pod).await;
                    let walk = Walk {
                        at: Instant::now(),
                        took: begun.elapsed(),
                        disk: disk.clone(),
                    };
                    walks.insert(pod.uid().to_owned(), walk);
                    disk
                }
            };
            if let Some(message) = limits::over_limit(pod, &disk) {
                self.evict(pod, message, IMMEDIATE_GRACE, false);
                any = true;
            }
        }
        any
    }

    fn evict(&self, pod: &Pod, message: String, grace: i64, disruption: bool) {
        self.node.recorder.warning(&pod.reference(), REASON, message.clone());
        let eviction = Eviction {
            uid: pod.uid().to_owned(),
            verdict: Verdict {
                reason: REASON.to_owned(),
                message,
            },
            grace,
            disruption,
        };
        if self.evictions.send(eviction).is_err() {
            tracing::debug!("the kubelet ends; nobody is evicted");
        }
    }

    /// What the pod has on the disk: its emptyDirs and logs by a walk, its layers by what the runtime says.
    async fn disk_of(&self, pod: &Pod) -> PodDisk {
        let stats = self
            .node
            .runtime
            .container_stats(Some(pod.uid()))
            .await
            .unwrap_or_default();
        let mut disk = self.walked(pod).await;
        disk.layers = layers(&stats);
        disk
    }

    async fn walked(&self, pod: &Pod) -> PodDisk {
        let logs = PathBuf::from(log_directory(pod, &self.node.settings));
        let volumes = self.node.pod_dir(pod.uid()).join("volumes/kubernetes.io~empty-dir");
        let dirs = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
        let names: Vec<String> = dirs.filter(|v| v.empty_dir.is_some()).map(|v| v.name.clone()).collect();
        let containers: Vec<String> = pod.every_container().into_iter().map(|(_, c)| c.name).collect();
        let walked = tokio::task::spawn_blocking(move || PodDisk {
            volumes: names
                .into_iter()
                .map(|n| (n.clone(), usage(&volumes.join(n))))
                .collect(),
            logs: containers
                .into_iter()
                .map(|n| (n.clone(), usage(&logs.join(n))))
                .collect(),
            layers: BTreeMap::new(),
        });
        walked.await.unwrap_or_default()
    }

    /// The node is short of something: what nobody uses goes, and where that does not help one pod.
    async fn win_back(&self, threshold: &Threshold, seen: &Observations, pods: &[Pod]) {
        let signal = threshold.signal;
        let text = format!("Attempting to reclaim {}", signal.resource());
        self.node
            .recorder
            .warning(&self.node.reference(), "EvictionThresholdMet", text);
        if signal.pressure() == Pressure::Disk {
            if let Err(error) = self.images.collect_unused().await {
                tracing::warn!(%error, "images that nobody uses");
            }
            let left = self.observe().await;
            if !self.thresholds.iter().any(|threshold| threshold.met(&left, true)) {
                return;
            }
        }
        let Some(seen) = seen.get(&signal) else {
            return;
        };
        let stats = self.node.runtime.container_stats(None).await.unwrap_or_default();
        let mut used = Vec::with_capacity(pods.len());
        for pod in pods {
            used.push(self.usage_of(pod, &stats, signal.pressure() == Pressure::Disk).await);
        }
        let candidates = pods
            .iter()
            .zip(&used)
            .filter(|(p, _)| !rank::is_critical(p) && !p.deleting());
        let ranked = rank::rank(signal, candidates.collect());
        let amount = threshold.amount.of(seen.capacity);
        match ranked.first() {
            Some((pod, usage)) => {
                let message = rank::message(signal, amount, *seen, pod, usage);
                self.evict(
                    pod,
                    message,
                    threshold.pod_grace(&self.policy, pod.grace_period()),
                    true,
                );
            }
            None => tracing::warn!(
                resource = signal.resource(),
                ?signal,
                available = seen.available,
                capacity = seen.capacity,
                threshold = amount,
                "the node is short, and there is no pod to evict"
            ),
        }
    }

    async fn usage_of(&self, pod: &Pod, stats: &[cri::v1::ContainerStats], walk: bool) -> PodUsage {
        let own: Vec<cri::v1::ContainerStats> = stats
            .iter()
            .filter(|s| label(s, POD_UID) == Some(pod.uid()))
            .cloned()
            .collect();
        let memory: BTreeMap<String, u64> = own
            .iter()
            .filter_map(|s| {
                let set = s.memory.as_ref()?.working_set_bytes.as_ref()?.value;
                Some((label(s, CONTAINER_NAME)?.to_owned(), set))
            })
            .collect();
        let mut disk = if walk {
            self.walked(pod).await
        } else {
            PodDisk::default()
        };
        disk.layers = layers(&own);
        let group = self.node.cgroups.pod_path(pod);
        PodUsage {
            disk,
            pod_memory: memory.values().sum(),
            memory,
            processes: self.node.cgroups.processes(&group),
        }
    }
}

fn usage(dir: &Path) -> Usage {
    files::usage(dir).unwrap_or_else(|error| {
        tracing::debug!(dir = %dir.display(), %error, "not measured");
        Usage::default()
    })
}

fn label<'a>(stats: &'a cri::v1::ContainerStats, key: &str) -> Option<&'a str> {
    stats.attributes.as_ref()?.labels.get(key).map(String::as_str)
}

fn layers(stats: &[cri::v1::ContainerStats]) -> BTreeMap<String, Usage> {
    let of = |s: &cri::v1::ContainerStats| {
        let layer = s.writable_layer.as_ref()?;
        let value = |v: &Option<cri::v1::UInt64Value>| v.as_ref().map_or(0, |v| v.value);
        let usage = Usage {
            bytes: value(&layer.used_bytes),
            inodes: value(&layer.inodes_used),
        };
        Some((label(s, CONTAINER_NAME)?.to_owned(), usage))
    };
    stats.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_in_need_takes_only_those_it_can_bear() {
        let pod = |spec: &str| -> Pod { serde_json::from_str(&format!(r#"{{"spec":{spec}}}"#)).unwrap() };
        let best_effort = pod(r#"{"containers":[{"name":"a"}]}"#);
        let burstable = pod(r#"{"containers":[{"name":"a","resources":{"requests":{"cpu":"1m"}}}]}"#);
        let tolerant = pod(
            r#"{"containers":[{"name":"a"}],"tolerations":[{"key":"node.kubernetes.io/memory-pressure","operator":"Exists"}]}"#,
        );
        let critical = pod(r#"{"priority":2000001000,"containers":[{"name":"a"}]}"#);
        let pressures = Pressures::default();
        assert!(pressures.admit(&best_effort).is_ok());
        assert!(pressures.set([Pressure::Memory].into()));
        assert_eq!(
            pressures.admit(&best_effort).unwrap_err().message,
            "The node had condition: [MemoryPressure]. "
        );
        assert!(pressures.admit(&burstable).is_ok() && pressures.admit(&tolerant).is_ok());
        assert!(pressures.set([Pressure::Memory, Pressure::Disk].into()));
        assert!(pressures.admit(&burstable).is_err() && pressures.admit(&tolerant).is_err());
        assert!(pressures.admit(&critical).is_ok());
        assert!(!pressures.set([Pressure::Memory, Pressure::Disk].into()), "nothing new");
    }
}
