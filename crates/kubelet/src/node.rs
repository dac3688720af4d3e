//! The node in the API: registration, its status, and the Lease that says it is alive.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::object::Object;
use client::{Client, Error, Informer, Patch};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeFeatures,
    NodeRuntimeHandler, NodeRuntimeHandlerFeatures, NodeSpec, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time};
use tokio::sync::Notify;

use crate::config::KubeletConfig;
use crate::eviction::thresholds::{Pressure, Signal};
use crate::machine::Machine;
use crate::node_context::NodeContext;
use crate::runtime::RuntimeError;

/// What a node of this version says it is.
const LEASE_NAMESPACE: &str = "kube-node-lease";
const LEASE_SECONDS: i32 = 40;
/// First wait before looking again while not ready; doubles.
const RECHECK: Duration = Duration::from_millis(50);
const HEARTBEAT: Duration = Duration::from_secs(10);
/// An unchanged status is sent this often.
const REPORT: Duration = Duration::from_secs(300);
/// Upstream's `nodeStatusMaxImages`.
const MOST_IMAGES: usize = 50;
/// What this kubelet does that older ones do not and that pods may need (KEP-5328), sorted.
const DECLARED_FEATURES: [&str; 3] = [
    "InPlacePodLevelResourcesVerticalScaling",
    "InPlacePodVerticalScalingInitContainers",
    "RestartAllContainersOnContainerExits",
];

/// The pressures of a node, with the reasons of the events that tell of their end and their beginning.
const PRESSURES: [(&str, &str, &str); 3] = [
    ("MemoryPressure", "NodeHasSufficientMemory", "NodeHasInsufficientMemory"),
    ("DiskPressure", "NodeHasNoDiskPressure", "NodeHasDiskPressure"),
    ("PIDPressure", "NodeHasSufficientPID", "NodeHasInsufficientPID"),
];

/// The reporter of one node.
#[derive(Debug)]
pub struct NodeReporter {
    pub context: Arc<NodeContext>,
    pub config: KubeletConfig,
    pub machine: Machine,
    pub runtime_version: String,
    /// Told when the runtime may have come or gone.
    pub nudge: Arc<Notify>,
}

/// What there is, and what pods may have; in thousandths.
pub fn capacity(machine: &Machine, config: &KubeletConfig) -> (BTreeMap<String, i64>, BTreeMap<String, i64>) {
    let capacity: BTreeMap<String, i64> = [
        ("cpu", machine.cpus * 1000),
        ("memory", machine.memory.saturating_mul(1000)),
        ("ephemeral-storage", machine.disk.saturating_mul(1000)),
        ("pods", config.max_pods * 1000),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v))
    .chain(
        machine
            .hugepages
            .iter()
            .map(|(name, bytes)| (name.clone(), bytes.saturating_mul(1000))),
    )
    .collect();
    let mut allocatable = capacity.clone();
    if let Some(memory) = allocatable.get_mut("memory") {
        // Whoever has huge pages has them out of the memory.
        let huge: i64 = machine
            .hugepages
            .iter()
            .map(|(_, bytes)| bytes.saturating_mul(1000))
            .sum();
        *memory = (*memory - huge).max(0);
    }
    for (name, amount) in &config.reserved {
        if let Some(left) = allocatable.get_mut(name) {
            *left = (*left - amount).max(0);
        }
    }
    // What must stay free is not for pods.
    let kept = |signal, capacity: i64| {
        let amount = config.eviction.hard.get(&signal);
        amount.map_or(0, |a| a.of(capacity).saturating_mul(1000))
    };
    if let Some(memory) = allocatable.get_mut("memory") {
        *memory = (*memory - kept(Signal::MemoryAvailable, *memory / 1000)).max(0);
    }
    if let Some(disk) = allocatable.get_mut("ephemeral-storage") {
        *disk = (*disk - kept(Signal::NodefsAvailable, *disk / 1000)).max(0);
    }
    (capacity, allocatable)
}

fn quantities(amounts: &BTreeMap<String, i64>) -> BTreeMap<String, Quantity> {
    let text = |name: &str, milli: i64| match name {
        "cpu" if milli % 1000 != 0 => format!("{milli}m"),
        "memory" if milli > 0 => format!("{}Ki", milli / 1000 / 1024),
        name if name.starts_with("hugepages-") => crate::resources::memory_quantity(milli / 1000).0,
        _ => (milli / 1000).to_string(),
    };
    amounts
        .iter()
        .map(|(name, milli)| (name.clone(), Quantity(text(name, *milli))))
        .collect()
}

/// The reasons of the events that a new status is worth: pressures also when nothing was known before, readiness when it changes.
fn news(old: Option<&NodeStatus>, new: &NodeStatus) -> Vec<&'static str> {
    let mut news = Vec::new();
    for (pressure, gone, come) in PRESSURES {
        let now = is_true(new, pressure);
        if old.map(|old| is_true(old, pressure)) != Some(now) {
            news.push(if now { come } else { gone });
        }
    }
    match (old.map(is_ready), is_ready(new)) {
        (Some(false) | None, true) => news.push("NodeReady"),
        (Some(true), false) => news.push("NodeNotReady"),
        // a node that begins is not ready yet, as all are
        (Some(false) | None, false) | (Some(true), true) => {}
    }
    news
}

fn is_true(status: &NodeStatus, condition: &str) -> bool {
    let mut conditions = status.conditions.iter().flatten();
    conditions.any(|c| c.type_ == condition && c.status == "True")
}

fn is_ready(status: &NodeStatus) -> bool {
    is_true(status, "Ready")
}

impl NodeReporter {
    fn labels(&self) -> BTreeMap<String, String> {
        let arch = self.machine.architecture.to_owned();
        let mut labels: BTreeMap<String, String> = [
            ("kubernetes.io/hostname", self.config.node_name.clone()),
            ("kubernetes.io/os", "linux".to_owned()),
            ("kubernetes.io/arch", arch.clone()),
            ("beta.kubernetes.io/os", "linux".to_owned()),
            ("beta.kubernetes.io/arch", arch),
        ]
        .into_iter()
        .map(|(k, v)| (k.to_owned(), v))
        .collect();
        labels.extend(self.config.node_labels.clone());
        labels
    }

    /// Reports until dropped: the Lease every ten seconds, the status when it changed.
    pub async fn run(self) {
        let mut last: Option<NodeStatus> = None;
        let mut sent = tokio::time::Instant::now();
        let mut uid = None;
        let mut ticks = tokio::time::interval(HEARTBEAT);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut retry = Duration::from_millis(200);
        // a node that is not ready yet looks again soon: what is missing may come any moment
        let mut recheck = RECHECK;
        let own = format!("metadata.name={}", self.config.node_name);
        let own = Informer::start(&self.context.client, Client::collection::<Node>("").fields(own), vec![]);
        let mut changes = own.subscribe();
        loop {
            if uid.is_none() {
                match self.register().await {
                    Ok(node) => uid = node.metadata.uid,
                    Err(error) => {
                        tracing::warn!(node = self.config.node_name, %error, "node not registered; trying again");
                        tokio::time::sleep(retry).await;
                        retry = (retry * 2).min(Duration::from_secs(7));
                        continue;
                    }
                }
                self.context
                    .recorder
                    .normal(&self.context.reference(), "Starting", "Starting kubelet.");
            }
            tokio::select! {
                _ = ticks.tick() => {
                    if let Err(error) = self.renew_lease(uid.as_deref()).await {
                        tracing::warn!(%error, "node lease not renewed");
                    }
                }
                () = self.nudge.notified() => {}
                Some(change) = changes.recv() => match (change.new, &mut last) {
                    // the node controller says that a node is Unknown which it has not heard of
                    (Some(stored), Some(last)) => match overwritten(&stored, last) {
                        Some(conditions) => last.conditions = Some(conditions),
                        None => continue,
                    },
                    _ => continue,
                },
                () = tokio::time::sleep(recheck), if !last.as_ref().is_some_and(is_ready) => {
                    recheck = (recheck * 2).min(HEARTBEAT);
                }
            }
            let status = self.status(last.as_ref()).await;
            let changed = last.as_ref().is_none_or(|l| !same(l, &status));
            if !changed && sent.elapsed() < REPORT {
                continue;
            }
            match self.send(&status).await {
                Ok(()) => {
                    self.tell(last.as_ref(), &status);
                    last = Some(status);
                    sent = tokio::time::Instant::now();
                }
                Err(error) if error.is_not_found() => uid = None,
                Err(error) => tracing::warn!(%error, "node status not sent"),
            }
        }
    }

    fn tell(&self, old: Option<&NodeStatus>, new: &NodeStatus) {
        for reason in news(old, new) {
            let text = format!("Node {} status is now: {reason}", self.config.node_name);
            self.context.recorder.normal(&self.context.reference(), reason, text);
        }
    }

    async fn register(&self) -> Result<Node, Error> {
        let client = &self.context.client;
        let node = Node {
            metadata: ObjectMeta {
                name: Some(self.config.node_name.clone()),
                labels: Some(self.labels()),
                annotations: Some(
                    [(
                        "volumes.kubernetes.io/controller-managed-attach-detach".to_owned(),
                        "true".to_owned(),
                    )]
                    .into(),
                ),
                ..ObjectMeta::default()
            },
            spec: Some(NodeSpec {
                taints: (!self.config.register_taints.is_empty()).then(|| self.config.register_taints.clone()),
                ..NodeSpec::default()
            }),
            status: Some(self.status(None).await),
        };
        match client.create(&node).await {
            Err(error) if error.is_already_exists() => {
                let patch = serde_json::json!({"metadata": {"labels": self.labels()}});
                client
                    .patch::<Node>("", &self.config.node_name, &Patch::Strategic(patch))
                    .await
            }
            other => other,
        }
    }

    async fn send(&self, status: &NodeStatus) -> Result<(), Error> {
        let name = &self.config.node_name;
        let mut value = serde_json::to_value(status).map_err(|source| Error::Encode {
            what: "node status",
            source,
        })?;
        if let Some(list) = value["addresses"].as_array_mut() {
            list.insert(0, serde_json::json!({"$patch": "replace"}));
        }
        let patch = Patch::Strategic(serde_json::json!({"status": value}));
        self.context.client.patch_status::<Node>("", name, &patch).await?;
        Ok(())
    }

    async fn renew_lease(&self, uid: Option<&str>) -> Result<(), Error> {
        let name = &self.config.node_name;
        let client = &self.context.client;
        let now = Some(MicroTime(Timestamp::now()));
        let patch = Patch::Merge(
            serde_json::json!({"spec": {"renewTime": now, "holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS}}),
        );
        match client.patch::<Lease>(LEASE_NAMESPACE, name, &patch).await {
            Err(error) if error.is_not_found() => {}
            other => return other.map(|_| ()),
        }
        let owner = uid.map(|uid| {
            vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Node".to_owned(),
                name: name.clone(),
                uid: uid.to_owned(),
                ..OwnerReference::default()
            }]
        });
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(LEASE_NAMESPACE.to_owned()),
                owner_references: owner,
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(name.clone()),
                lease_duration_seconds: Some(LEASE_SECONDS),
                renew_time: now,
                ..LeaseSpec::default()
            }),
        };
        client.create(&lease).await.map(|_| ())
    }

    async fn status(&self, last: Option<&NodeStatus>) -> NodeStatus {
        let runtime = self.context.runtime.status().await;
        if let Ok(status) = &runtime {
            self.context.learn_handlers(status);
        }
        let conditions = self.conditions(last, problem(&runtime));
        let (capacity, allocatable) = capacity(&self.machine, &self.config);
        let address = |type_: &str, address: String| NodeAddress {
            type_: type_.to_owned(),
            address,
        };
        let external = self.config.node_external_ips.iter();
        let ips = self.context.host_ips.iter().map(|ip| address("InternalIP", ip.clone()));
        let ips = ips.chain(external.map(|ip| address("ExternalIP", ip.to_string())));
        let runtime = runtime.ok();
        let handlers = runtime
            .iter()
            .flat_map(|r| &r.runtime_handlers)
            .map(|h| NodeRuntimeHandler {
                name: Some(h.name.clone()),
                features: h.features.as_ref().map(|f| NodeRuntimeHandlerFeatures {
                    recursive_read_only_mounts: Some(f.recursive_read_only_mounts),
                    user_namespaces: Some(f.user_namespaces),
                }),
            });
        let handlers: Vec<_> = handlers.collect();
        NodeStatus {
            addresses: Some(
                ips.chain([address("Hostname", self.config.node_name.clone())])
                    .collect(),
            ),
            capacity: Some(quantities(&capacity)),
            allocatable: Some(quantities(&allocatable)),
            conditions: Some(conditions),
            declared_features: Some(DECLARED_FEATURES.map(str::to_owned).to_vec()),
            daemon_endpoints: Some(NodeDaemonEndpoints {
                kubelet_endpoint: Some(DaemonEndpoint {
                    port: i32::from(self.config.port),
                }),
            }),
            features: runtime
                .as_ref()
                .and_then(|r| r.features.as_ref())
                .map(|f| NodeFeatures {
                    supplemental_groups_policy: Some(f.supplemental_groups_policy),
                }),
            runtime_handlers: (!handlers.is_empty()).then_some(handlers),
            images: Some(self.images().await),
            node_info: Some(NodeSystemInfo {
                architecture: self.machine.architecture.to_owned(),
                boot_id: self.machine.boot_id.clone(),
                container_runtime_version: self.runtime_version.clone(),
                kernel_version: self.machine.kernel.clone(),
                kube_proxy_version: String::new(),
                kubelet_version: api::version::VERSION.to_owned(),
                machine_id: self.machine.machine_id.clone(),
                operating_system: "linux".to_owned(),
                os_image: self.machine.os_image.clone(),
                system_uuid: self.machine.system_uuid.clone(),
                swap: None,
                running_in_user_namespace: Some(self.machine.in_user_namespace),
            }),
            ..NodeStatus::default()
        }
    }

    /// The node's conditions. `problem` is why it is not ready.
    fn conditions(&self, last: Option<&NodeStatus>, problem: Option<String>) -> Vec<NodeCondition> {
        let now = Timestamp::now();
        let pressures = &self.context.pressures;
        let condition = |type_: &str, on: bool, reasons: (&str, &str), message: String| {
            let status = if on { "True" } else { "False" };
            let before = last.and_then(|l| {
                l.conditions
                    .iter()
                    .flatten()
                    .find(|c| c.type_ == type_ && c.status == status)
            });
            NodeCondition {
                type_: type_.to_owned(),
                status: status.to_owned(),
                reason: Some(if on { reasons.0 } else { reasons.1 }.to_owned()),
                message: Some(message),
                last_heartbeat_time: Some(Time(now)),
                last_transition_time: before.and_then(|c| c.last_transition_time.clone()).or(Some(Time(now))),
            }
        };
        let pressure = |type_: &str, on: bool, reasons: (&str, &str), what: &str| {
            let text = if on {
                format!("kubelet has {what}")
            } else {
                format!(
                    "kubelet has {}",
                    what.replace("insufficient", "sufficient")
                        .replace("disk pressure", "no disk pressure")
                )
            };
            condition(type_, on, reasons, text)
        };
        vec![
            pressure(
                "MemoryPressure",
                pressures.has(Pressure::Memory),
                ("KubeletHasInsufficientMemory", "KubeletHasSufficientMemory"),
                "insufficient memory available",
            ),
            pressure(
                "DiskPressure",
                pressures.has(Pressure::Disk),
                ("KubeletHasDiskPressure", "KubeletHasNoDiskPressure"),
                "disk pressure",
            ),
            pressure(
                "PIDPressure",
                pressures.has(Pressure::Pid),
                ("KubeletHasInsufficientPID", "KubeletHasSufficientPID"),
                "insufficient PID available",
            ),
            condition(
                "Ready",
                problem.is_none(),
                ("KubeletReady", "KubeletNotReady"),
                problem.unwrap_or_else(|| "kubelet is posting ready status".to_owned()),
            ),
        ]
    }

    async fn images(&self) -> Vec<ContainerImage> {
        let mut images = self.context.runtime.list_images().await.unwrap_or_default();
        images.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
        images.truncate(MOST_IMAGES);
        let of = |i: cri::v1::Image| ContainerImage {
            names: Some(i.repo_digests.into_iter().chain(i.repo_tags).collect()),
            size_bytes: i64::try_from(i.size).ok(),
        };
        images.into_iter().map(of).collect()
    }
}

/// Why the runtime keeps the node from being ready.
fn problem(runtime: &Result<cri::v1::StatusResponse, RuntimeError>) -> Option<String> {
    match runtime {
        Err(error) => Some(format!("container runtime is down: {error}")),
        Ok(status) => status
            .status
            .iter()
            .flat_map(|s| &s.conditions)
            .find(|c| !c.status && matches!(c.r#type.as_str(), "RuntimeReady" | "NetworkReady"))
            .map(|c| {
                let what = if c.r#type == "NetworkReady" {
                    "container runtime network"
                } else {
                    "container runtime"
                };
                format!(
                    "{what} not ready: {}=false reason:{} message:{}",
                    c.r#type, c.reason, c.message
                )
            }),
    }
}

/// The conditions of the stored node, if somebody gave one of ours another value.
fn overwritten(stored: &Object, last: &NodeStatus) -> Option<Vec<NodeCondition>> {
    let node: Node = stored
        .decode()
        .inspect_err(|error| tracing::warn!(%error, "the node's own object"))
        .ok()?;
    let stored = node.status.and_then(|s| s.conditions).unwrap_or_default();
    let differs = |ours: &NodeCondition| {
        let there = stored.iter().find(|c| c.type_ == ours.type_);
        there.is_none_or(|there| there.status != ours.status)
    };
    last.conditions.iter().flatten().any(differs).then_some(stored)
}

/// Equal but for the heartbeats.
fn same(a: &NodeStatus, b: &NodeStatus) -> bool {
    let still = |s: &NodeStatus| {
        let mut s = s.clone();
        for condition in s.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        s
    };
    still(a) == still(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_status_is_told_as_far_as_it_is_news() {
        let status = |ready: &str, memory: &str| -> NodeStatus {
            let condition = |kind: &str, status: &str| serde_json::json!({ "type": kind, "status": status });
            let conditions = [condition("MemoryPressure", memory), condition("Ready", ready)];
            serde_json::from_value(serde_json::json!({ "conditions": conditions })).unwrap()
        };
        let (begins, ready) = (status("False", "False"), status("True", "False"));
        let pressures = [
            "NodeHasSufficientMemory",
            "NodeHasNoDiskPressure",
            "NodeHasSufficientPID",
        ];
        assert_eq!(news(None, &begins), pressures);
        assert_eq!(news(None, &ready), [&pressures[..], &["NodeReady"]].concat());
        assert_eq!(news(Some(&begins), &ready), ["NodeReady"]);
        assert_eq!(news(Some(&ready), &ready), [""; 0]);
        assert_eq!(
            news(Some(&ready), &status("True", "True")),
            ["NodeHasInsufficientMemory"]
        );
        assert_eq!(news(Some(&ready), &begins), ["NodeNotReady"]);
    }
}
