//! The status of a pod for the API: a function of its spec, its old status, what the runtime says and the probes' results.

mod conditions;
mod container;
mod patch;
mod phase;
mod resize;
mod resources;

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, HostIP, Pod, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub use self::conditions::condition;
use self::conditions::conditions;
pub use self::container::{REMOVED_TO_RESTART, RESTARTING_ALL};
use self::container::{container_status, nobody_knows};
pub use self::patch::status_patch;
use self::phase::phase;
pub use self::resize::ResizeConditions;
use crate::allocation::PodResources;
use crate::lifecycle::Probed;
use crate::pod::{Kind, PodExt};
use crate::resources::qos_class;
use crate::runtime_pod::RuntimePod;

/// Why a container is not running yet: reason and message by container name.
pub type Waiting = HashMap<String, (String, String)>;

/// The kubelet's own verdict on a pod: phase, reason, message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub reason: String,
    pub message: String,
}

/// All that the status is made of.
#[derive(Debug)]
pub struct Known<'a> {
    pub pod: &'a Pod,
    pub runtime: &'a RuntimePod,
    pub probed: &'a Probed,
    pub waiting: &'a Waiting,
    /// What its containers were last made or changed with.
    pub actuated: &'a PodResources,
    pub resize: &'a ResizeConditions,
    /// The runtime makes mounts read-only with all below them.
    pub recursive_read_only: bool,
    pub host_ips: &'a [String],
    /// As in `containerd://...`.
    pub runtime_name: &'a str,
    /// The containers have been stopped for good.
    pub terminal: bool,
    /// The pod was refused or ended by the kubelet.
    pub failed: Option<&'a Verdict>,
    /// It ends for the node's sake, with these words.
    pub disruption: Option<&'a str>,
    pub now: Timestamp,
}

/// The status of a pod, by what is known of it now and what it was.
pub fn pod_status(known: &Known) -> PodStatus {
    let pod = known.pod;
    let old = pod.status.clone().unwrap_or_default();
    let initialized = condition(&old, "Initialized").is_some_and(|c| c.status == "True");
    let old_of =
        |list: &Option<Vec<ContainerStatus>>, name: &str| list.iter().flatten().find(|c| c.name == name).cloned();
    let init: Vec<_> = pod
        .init_containers()
        .iter()
        .map(|c| container_status(known, Kind::Init, c, old_of(&old.init_container_statuses, &c.name)))
        .collect();
    let regular: Vec<_> = pod
        .containers()
        .iter()
        .map(|c| container_status(known, Kind::Regular, c, old_of(&old.container_statuses, &c.name)))
        .collect();
    let ephemeral: Vec<_> = pod
        .ephemeral_containers()
        .iter()
        .map(|c| {
            let old = old_of(&old.ephemeral_container_statuses, &c.name);
            ContainerStatus {
                // nothing probes them
                started: None,
                ..container_status(known, Kind::Ephemeral, c, old)
            }
        })
        .collect();
    let (mut init, mut regular) = (init, regular);
    if known.terminal && known.failed.is_none() {
        nobody_knows(pod, &mut init, &mut regular);
    }
    // a pod that ends before it ran has failed, but its conditions say what it waited for
    let waits = known.failed.is_none() && phase(pod, &init, &regular, false, initialized) == "Pending";
    let old_phase = old.phase.as_deref().unwrap_or("Pending");
    let mut phase = match known.failed {
        Some(_) if known.terminal => "Failed",
        _ => phase(pod, &init, &regular, known.terminal, initialized),
    };
    if matches!(old_phase, "Failed" | "Succeeded") {
        phase = if old_phase == "Failed" { "Failed" } else { "Succeeded" };
    }
    let ips: Vec<String> = if pod.host_network() {
        known.host_ips.to_vec()
    } else {
        known.runtime.sandbox().map(|s| s.ips.clone()).unwrap_or_default()
    };
    let ips = if ips.is_empty() && known.terminal {
        old.pod_ips.iter().flatten().map(|p| p.ip.clone()).collect()
    } else {
        ips
    };
    let shown = if waits && phase == "Failed" { "Pending" } else { phase };
    let conditions = conditions(known, &old, shown, &init, &regular);
    let (resources, allocated_resources) = resources::of_pod(pod);
    PodStatus {
        resources: Some(resources),
        allocated_resources,
        conditions: Some(conditions),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect()),
        host_ip: known.host_ips.first().cloned(),
        host_ips: (!known.host_ips.is_empty())
            .then(|| known.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        qos_class: Some(qos_class(pod).as_str().to_owned()),
        phase: Some(phase.to_owned()),
        reason: known.failed.map(|f| f.reason.clone()).or(old.reason.clone()),
        message: known.failed.map(|f| f.message.clone()).or(old.message.clone()),
        start_time: old.start_time.clone().or(Some(Time(known.now))),
        observed_generation: pod.metadata.generation,
        init_container_statuses: (!init.is_empty()).then_some(init),
        container_statuses: Some(regular),
        ephemeral_container_statuses: (!ephemeral.is_empty()).then_some(ephemeral),
        ..PodStatus {
            nominated_node_name: old.nominated_node_name,
            resource_claim_statuses: old.resource_claim_statuses,
            resize: old.resize,
            extended_resource_claim_status: old.extended_resource_claim_status,
            ..PodStatus::default()
        }
    }
}

#[cfg(test)]
mod tests;
