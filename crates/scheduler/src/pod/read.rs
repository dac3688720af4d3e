//! From a pod's JSON to what the scheduler knows of it.

use std::sync::Arc;

use api::object::Object;
use api::selectors::LabelSelector;
use serde_json::Value;

use super::raw::{RawAffinityTerm, RawContainer, RawContainerStatus, RawPod, RawPodAffinity, RawSpread};
use super::{AffinityTerm, HostPort, PodAffinity, PodError, PodInfo, Spread};
use crate::label::{LabelText, keyed_hash};
use crate::node_affinity::{NodeSelector, Requirement, Term};
use crate::resources::Resources;

/// What a container without a request counts as when nodes are compared (not when they are filtered): 0.1 CPU, 200 MB.
const DEFAULT_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// A selector with the pod's own values of some keys added, as `matchLabelKeys` says.
fn selector(
    tree: Option<Value>,
    object: &Object,
    same: &[String],
    other: &[String],
) -> Result<LabelSelector, PodError> {
    let Some(mut tree) = tree.filter(|t| !t.is_null()) else {
        return Ok(LabelSelector::nothing());
    };
    let mut more = Vec::new();
    for (keys, operator) in [(same, "In"), (other, "NotIn")] {
        for key in keys {
            if let Some(value) = object.meta.label(key) {
                more.push(serde_json::json!({ "key": key, "operator": operator, "values": [value] }));
            }
        }
    }
    if !more.is_empty() {
        match &mut tree["matchExpressions"] {
            Value::Array(list) => list.extend(more),
            absent => *absent = Value::Array(more),
        }
    }
    LabelSelector::from_tree(&tree).map_err(|e| PodError::Selector(object.key(), e))
}

/// The ports of the node that a pod takes.
fn host_ports(containers: &[RawContainer], init: &[RawContainer], host_network: bool) -> Vec<HostPort> {
    let sidecars = init.iter().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let mut ports = Vec::new();
    for port in containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten()) {
        let host_port = port.host_port.filter(|p| *p > 0);
        let Some(number) = host_port.or_else(|| host_network.then_some(port.container_port)) else {
            continue;
        };
        ports.push(HostPort {
            ip: port.host_ip.clone().unwrap_or_default(),
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
            port: number,
        });
    }
    ports
}

/// Affinity to pods and, where the flag is set, anti-affinity.
fn pod_affinity_of(both: [(Option<RawPodAffinity>, bool); 2], object: &Object) -> Result<PodAffinity, PodError> {
    let mut affinity = PodAffinity::default();
    for (raw, anti) in both {
        let Some(raw) = raw else { continue };
        let (required, preferred) = if anti {
            (&mut affinity.required_anti, &mut affinity.preferred_anti)
        } else {
            (&mut affinity.required, &mut affinity.preferred)
        };
        for term in raw
            .required_during_scheduling_ignored_during_execution
            .into_iter()
            .flatten()
        {
            required.push(affinity_term(term, 0, object)?);
        }
        for term in raw
            .preferred_during_scheduling_ignored_during_execution
            .into_iter()
            .flatten()
        {
            preferred.push(affinity_term(term.pod_affinity_term, term.weight, object)?);
        }
    }
    Ok(affinity)
}

fn spread_of(constraints: Option<Vec<RawSpread>>, object: &Object) -> Result<Vec<Spread>, PodError> {
    let mut spread = Vec::new();
    for raw in constraints.into_iter().flatten() {
        spread.push(Spread {
            max_skew: raw.max_skew,
            topology: LabelText::of(&raw.topology_key),
            required: raw.when_unsatisfiable == "DoNotSchedule",
            selector: selector(
                raw.label_selector,
                object,
                raw.match_label_keys.as_deref().unwrap_or_default(),
                &[],
            )?,
            min_domains: raw.min_domains,
            honor_affinity: raw.node_affinity_policy.as_deref() != Some("Ignore"),
            honor_taints: raw.node_taints_policy.as_deref() == Some("Honor"),
        });
    }
    Ok(spread)
}

impl PodInfo {
    /// Reads what matters out of a pod's JSON.
    ///
    /// # Errors
    /// When the object is no pod, or holds a selector that the API server would not have let in.
    pub fn of(object: &Arc<Object>) -> Result<PodInfo, PodError> {
        let raw: RawPod = object.decode().map_err(|e| PodError::Decode(object.key(), e))?;
        let spec = raw.spec;
        let statuses = raw.status.container_statuses.unwrap_or_default();
        let init = spec.init_containers.unwrap_or_default();
        let (mut requests, mut nonzero) = sum_requests(&spec.containers, &init, &statuses);
        if let Some(whole) = spec.resources.and_then(|r| r.requests) {
            // what is requested for the whole pod replaces the sum of its containers
            let whole_requests = Resources::of(&whole);
            if whole.contains_key("cpu") {
                requests.cpu = whole_requests.cpu;
                nonzero.0 = whole_requests.cpu;
            }
            if whole.contains_key("memory") {
                requests.memory = whole_requests.memory;
                nonzero.1 = whole_requests.memory;
            }
        }
        if let Some(overhead) = spec.overhead {
            let overhead = Resources::of(&overhead);
            nonzero.0 = nonzero.0.saturating_add(overhead.cpu);
            nonzero.1 = nonzero.1.saturating_add(overhead.memory);
            requests.add(&overhead);
        }
        let ports = host_ports(&spec.containers, &init, spec.host_network.unwrap_or(false));
        let affinity = spec.affinity;
        let (node_affinity, pod_affinity, pod_anti_affinity) = match affinity {
            Some(a) => (a.node_affinity, a.pod_affinity, a.pod_anti_affinity),
            None => (None, None, None),
        };
        let (required_nodes, preferred_nodes) = match node_affinity {
            Some(a) => (
                a.required_during_scheduling_ignored_during_execution,
                a.preferred_during_scheduling_ignored_during_execution
                    .unwrap_or_default(),
            ),
            None => (None, Vec::new()),
        };
        let labels = spec.node_selector.unwrap_or_default();
        let node_selector = NodeSelector {
            labels: labels.iter().map(|(k, v)| Requirement::equals(k, v)).collect(),
            terms: required_nodes.map(|r| r.node_selector_terms.iter().map(Term::of).collect()),
        };
        let affinity = pod_affinity_of([(pod_affinity, false), (pod_anti_affinity, true)], object)?;
        let spread = spread_of(spec.topology_spread_constraints, object)?;
        let volumes = spec.volumes.unwrap_or_default();
        let (mut claims, mut made_claims) = (Vec::new(), Vec::new());
        for volume in &volumes {
            if let Some(claim) = &volume.persistent_volume_claim {
                claims.push(claim.claim_name.clone());
            } else if volume.ephemeral.is_some() {
                let name = format!("{}-{}", object.meta.name, volume.name);
                claims.push(name.clone());
                made_claims.push(name);
            }
        }
        let images = spec.containers.iter().chain(&init).filter_map(|c| c.image.as_deref());
        let volume_images = volumes.iter().filter_map(|v| v.image.as_ref()?.reference.as_deref());
        let mut info = PodInfo {
            key: object.key().into(),
            node_name: spec.node_name,
            scheduler_name: spec.scheduler_name,
            priority: spec.priority.unwrap_or(0),
            started: raw.status.start_time,
            gates: spec.scheduling_gates.into_iter().flatten().map(|g| g.name).collect(),
            requests,
            nonzero,
            ports,
            node_selector,
            preferred_nodes: preferred_nodes
                .iter()
                .map(|p| (p.weight, Term::of(&p.preference)))
                .collect(),
            tolerations: spec.tolerations.unwrap_or_default(),
            affinity,
            spread,
            images: images
                .chain(volume_images)
                .map(crate::plugins::image_locality::normalized)
                .collect(),
            containers: spec.containers.len() + init.len(),
            claims,
            made_claims,
            resource_claims: spec.resource_claims.is_some_and(|c| !c.is_empty()),
            never_preempts: spec.preemption_policy.as_deref() == Some("Never"),
            nominated_node: raw.status.nominated_node_name,
            shape: 0,
            object: object.clone(),
        };
        info.shape = info.compute_shape();
        Ok(info)
    }

    fn compute_shape(&self) -> u64 {
        keyed_hash(&(
            &self.node_name,
            &self.requests,
            &self.nonzero,
            &self.ports,
            &self.node_selector,
            &self.preferred_nodes,
            &self.tolerations,
            &self.images,
        ))
    }
}

fn affinity_term(raw: RawAffinityTerm, weight: i64, object: &Object) -> Result<AffinityTerm, PodError> {
    let namespace_selector = raw
        .namespace_selector
        .map(|tree| LabelSelector::from_tree(&tree).map_err(|e| PodError::Selector(object.key(), e)))
        .transpose()?;
    let mut namespaces = raw.namespaces.unwrap_or_default();
    if namespaces.is_empty() && namespace_selector.is_none() {
        namespaces.push(object.meta.namespace.to_string());
    }
    Ok(AffinityTerm {
        selector: selector(
            raw.label_selector,
            object,
            raw.match_label_keys.as_deref().unwrap_or_default(),
            raw.mismatch_label_keys.as_deref().unwrap_or_default(),
        )?,
        namespaces,
        namespace_selector,
        topology: LabelText::of(&raw.topology_key),
        weight,
    })
}

/// The pod's effective request: the containers and sidecars together, or the largest init container while it runs.
fn sum_requests(
    containers: &[RawContainer],
    init: &[RawContainer],
    statuses: &[RawContainerStatus],
) -> (Resources, (i64, i64)) {
    let of = |container: &RawContainer| -> (Resources, (i64, i64)) {
        let list = container.resources.as_ref().and_then(|r| r.requests.as_ref());
        let mut requests = list.map(Resources::of).unwrap_or_default();
        // while a resize is under way the larger of wish and reality counts
        for status in statuses.iter().filter(|s| s.name == container.name) {
            let actual = status.resources.as_ref().and_then(|r| r.requests.as_ref());
            for held in [status.allocated_resources.as_ref(), actual].into_iter().flatten() {
                requests.max(&Resources::of(held));
            }
        }
        let asked = |name: &str| list.is_some_and(|l| l.contains_key(name));
        let cpu = if asked("cpu") { requests.cpu } else { DEFAULT_CPU };
        let memory = if asked("memory") {
            requests.memory
        } else {
            DEFAULT_MEMORY
        };
        (requests, (cpu, memory))
    };
    let mut total = Resources::default();
    let mut nonzero = (0, 0);
    for container in containers {
        let (requests, n) = of(container);
        total.add(&requests);
        nonzero = (nonzero.0 + n.0, nonzero.1 + n.1);
    }
    let mut sidecars = Resources::default();
    let mut sidecars_nonzero = (0, 0);
    let mut peak = Resources::default();
    let mut peak_nonzero = (0, 0);
    for container in init {
        let (requests, n) = of(container);
        let mut now = sidecars.clone();
        now.add(&requests);
        peak.max(&now);
        let with = (sidecars_nonzero.0 + n.0, sidecars_nonzero.1 + n.1);
        peak_nonzero = (peak_nonzero.0.max(with.0), peak_nonzero.1.max(with.1));
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars = now;
            sidecars_nonzero = with;
        }
    }
    total.add(&sidecars);
    total.max(&peak);
    let nonzero = (nonzero.0 + sidecars_nonzero.0, nonzero.1 + sidecars_nonzero.1);
    (total, (nonzero.0.max(peak_nonzero.0), nonzero.1.max(peak_nonzero.1)))
}
