//! One step of a DaemonSet, from nodes and pods to what is to be made and deleted.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::deployment::scaled;
use crate::history::REVISION_HASH;
use crate::meta::{is_deleting, label, name};
use crate::pods::{is_available, is_ready, is_terminal, node_name, phase, seconds_to_available};
use crate::taints::{
    DISK_PRESSURE, MEMORY_PRESSURE, NETWORK_UNAVAILABLE, NOT_READY, PID_PRESSURE, UNREACHABLE, UNSCHEDULABLE, tolerates,
};

/// What every pod of a DaemonSet tolerates beside its own.
const TOLERATED: [(&str, &str); 6] = [
    (NOT_READY, "NoExecute"),
    (UNREACHABLE, "NoExecute"),
    (DISK_PRESSURE, "NoSchedule"),
    (MEMORY_PRESSURE, "NoSchedule"),
    (PID_PRESSURE, "NoSchedule"),
    (UNSCHEDULABLE, "NoSchedule"),
];
const MOST_AT_ONCE: usize = 250;

#[derive(Debug, Default)]
pub(super) struct Step {
    /// Nodes to make a pod for.
    pub create: Vec<String>,
    pub delete: Vec<Pod>,
    /// Ended pods among them: node and whether the pod failed.
    pub ended: Vec<(Pod, bool)>,
    pub status: DaemonSetStatus,
    pub requeue_seconds: Option<f64>,
}

/// The node a pod is on or meant for.
fn target(pod: &Pod) -> Option<String> {
    let bound = node_name(pod);
    if !bound.is_empty() {
        return Some(bound.to_owned());
    }
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let fields = required
        .node_selector_terms
        .iter()
        .flat_map(|t| t.match_fields.iter().flatten());
    fields
        .filter(|f| f.key == "metadata.name")
        .find_map(|f| f.values.as_ref()?.first().cloned())
}

/// The template's spec made for one node: pinned by affinity, with the tolerations of a daemon.
pub(super) fn pin(spec: &mut PodSpec, node: &str) {
    let affinity = spec.affinity.get_or_insert_with(Affinity::default);
    let of_node = affinity.node_affinity.get_or_insert_default();
    of_node.required_during_scheduling_ignored_during_execution = Some(NodeSelector {
        node_selector_terms: vec![NodeSelectorTerm {
            match_fields: Some(vec![NodeSelectorRequirement {
                key: "metadata.name".to_owned(),
                operator: "In".to_owned(),
                values: Some(vec![node.to_owned()]),
            }]),
            match_expressions: None,
        }],
    });
    add_tolerations(spec);
}

fn add_tolerations(spec: &mut PodSpec) {
    let network = (spec.host_network == Some(true)).then_some((NETWORK_UNAVAILABLE, "NoSchedule"));
    let tolerations = spec.tolerations.get_or_insert_default();
    for (key, effect) in TOLERATED.into_iter().chain(network) {
        let toleration = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
}

/// Whether a pod should start on the node, and whether one that is there may stay.
fn should_run(spec: &PodSpec, node: &Node) -> (bool, bool) {
    if spec
        .node_name
        .as_deref()
        .is_some_and(|n| !n.is_empty() && n != name(node))
    {
        return (false, false);
    }
    if !crate::node_affinity::admits(spec, node) {
        return (false, false);
    }
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let untolerated = |effect: &str| {
        let of_effect = taints.iter().filter(|t| t.effect == effect);
        of_effect
            .into_iter()
            .any(|taint| !tolerations.iter().any(|t| tolerates(t, taint)))
    };
    let evicted = untolerated("NoExecute");
    (!evicted && !untolerated("NoSchedule"), !evicted)
}

struct Limits {
    unavailable: usize,
    surge: usize,
    rolling: bool,
}

fn limits(set: &DaemonSet, desired: usize) -> Limits {
    let strategy = set.spec.update_strategy.clone().unwrap_or_default();
    let rolling = strategy.rolling_update.unwrap_or_default();
    let total = i32::try_from(desired).unwrap_or(i32::MAX);
    let number = |v: Option<IntOrString>, default: i32| {
        let n = scaled(&v.unwrap_or(IntOrString::Int(default)), total, true).unwrap_or(0);
        usize::try_from(n).unwrap_or(0)
    };
    let surge = number(rolling.max_surge, 0);
    let unavailable = number(rolling.max_unavailable, 1);
    Limits {
        unavailable: if surge == 0 { unavailable.max(1) } else { unavailable },
        surge,
        rolling: strategy.type_.as_deref().unwrap_or("RollingUpdate") == "RollingUpdate",
    }
}

/// `hash` is of the current revision. `may_act`: the cache shows all pods made and deleted before.
pub(super) fn step(set: &DaemonSet, nodes: &[Node], pods: &[Pod], hash: &str, may_act: bool, now: Timestamp) -> Step {
    let spec = &set.spec;
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let mut pod_spec = spec.template.spec.clone().unwrap_or_default();
    add_tolerations(&mut pod_spec);
    let mut by_node: BTreeMap<String, Vec<&Pod>> = BTreeMap::new();
    for pod in pods.iter().filter(|p| !(is_deleting(*p) && is_terminal(p))) {
        if let Some(node) = target(pod) {
            by_node.entry(node).or_default().push(pod);
        }
    }
    let judged: HashMap<&str, (bool, bool)> = nodes.iter().map(|n| (name(n), should_run(&pod_spec, n))).collect();
    let desired = judged.values().filter(|(run, _)| *run).count();
    let limits = limits(set, desired);
    let mut step = Step::default();
    if may_act && !is_deleting(set) {
        manage(&mut step, &judged, &by_node, &limits, hash, min_ready, now);
        if limits.rolling {
            let settled = step.create.is_empty() && step.delete.is_empty();
            roll(&mut step, &judged, &by_node, &limits, hash, min_ready, now, settled);
        }
        step.create.truncate(MOST_AT_ONCE);
        step.delete.truncate(MOST_AT_ONCE);
    }
    step.status = status(set, &judged, &by_node, hash, min_ready, now);
    step.requeue_seconds = pods
        .iter()
        .filter_map(|p| seconds_to_available(p, min_ready, now))
        .filter(|s| *s > 0.0)
        .min_by(f64::total_cmp);
    step
}

/// Bound before unbound, older before younger.
fn by_age(pods: &mut [&Pod]) {
    pods.sort_by_key(|p| {
        let created = p.metadata.creation_timestamp.as_ref().map(|t| t.0);
        (node_name(p).is_empty(), created, name(*p).to_owned())
    });
}

fn is_new(pod: &Pod, hash: &str) -> bool {
    label(pod, REVISION_HASH) == Some(hash)
}

/// One pod on each node that should have one; none elsewhere.
fn manage(
    step: &mut Step,
    judged: &HashMap<&str, (bool, bool)>,
    by_node: &BTreeMap<String, Vec<&Pod>>,
    limits: &Limits,
    hash: &str,
    min_ready: i32,
    now: Timestamp,
) {
    let mut nodes: Vec<&&str> = judged.keys().collect();
    nodes.sort();
    for node in nodes {
        let (run, stay) = judged[*node];
        let pods = by_node.get(*node).map(Vec::as_slice).unwrap_or_default();
        if run && pods.is_empty() {
            step.create.push((**node).to_owned());
            continue;
        }
        if !stay {
            step.delete
                .extend(pods.iter().filter(|p| !is_deleting(**p)).map(|p| (*p).clone()));
            continue;
        }
        let mut running: Vec<&Pod> = Vec::new();
        for pod in pods.iter().filter(|p| !is_deleting(**p)) {
            match phase(pod) {
                "Failed" => step.ended.push(((*pod).clone(), true)),
                "Succeeded" => step.ended.push(((*pod).clone(), false)),
                _ => running.push(pod),
            }
        }
        by_age(&mut running);
        if limits.surge > 0 {
            if running.is_empty() && run {
                // the next pod does not wait for one that is going
                step.create.push((**node).to_owned());
            }
            // An old and a new pod may be there together until the new one is available.
            let (new, old): (Vec<&Pod>, Vec<&Pod>) = running.into_iter().partition(|p| is_new(p, hash));
            step.delete.extend(new.iter().skip(1).map(|p| (*p).clone()));
            // nor has an old one to stay that serves nobody
            let replaced = match (new.first(), old.first()) {
                (Some(new), Some(old)) => !is_ready(old) || is_available(new, min_ready, now),
                _ => false,
            };
            step.delete
                .extend(old.iter().skip(usize::from(!replaced)).map(|p| (*p).clone()));
        } else {
            step.delete.extend(running.iter().skip(1).map(|p| (*p).clone()));
        }
    }
    // Pods meant for nodes that are gone will never be bound; bound ones are the pod garbage collector's.
    let stranded = by_node.iter().filter(|(node, _)| !judged.contains_key(node.as_str()));
    let unbound = stranded
        .flat_map(|(_, pods)| pods)
        .filter(|p| node_name(p).is_empty() && !is_deleting(**p));
    step.delete.extend(unbound.map(|p| (*p).clone()));
    step.delete.extend(step.ended.iter().map(|(p, _)| p.clone()));
}

/// Replaces pods of older revisions as far as availability, or the surge, allows.
fn roll(
    step: &mut Step,
    judged: &HashMap<&str, (bool, bool)>,
    by_node: &BTreeMap<String, Vec<&Pod>>,
    limits: &Limits,
    hash: &str,
    min_ready: i32,
    now: Timestamp,
    settled: bool,
) {
    let (mut unavailable, mut surging) = (0, 0);
    let mut free: Vec<(&str, &Pod)> = Vec::new();
    let mut candidates: Vec<(&str, &Pod)> = Vec::new();
    let mut nodes: Vec<&str> = judged.iter().filter(|(_, (run, _))| *run).map(|(n, _)| *n).collect();
    nodes.sort_unstable();
    for node in nodes {
        let pods = by_node.get(node).map(Vec::as_slice).unwrap_or_default();
        let alive = || pods.iter().filter(|p| !is_deleting(**p));
        let new = alive().find(|p| is_new(p, hash));
        let old = alive().find(|p| !is_new(p, hash));
        let available = |p: &Pod| is_available(p, min_ready, now);
        match (new, old) {
            (Some(new), None) if available(new) => {}
            (Some(_), Some(_)) => surging += 1,
            (None, None) | (Some(_), None) => unavailable += 1,
            (None, Some(old)) if available(old) => candidates.push((node, old)),
            (None, Some(old)) => {
                unavailable += 1;
                free.push((node, old));
            }
        }
    }
    if limits.surge > 0 {
        let room = limits.surge.saturating_sub(surging);
        let chosen = free.into_iter().chain(candidates.into_iter().take(room));
        if settled {
            step.create.extend(chosen.map(|(node, _)| node.to_owned()));
        }
        return;
    }
    let room = limits.unavailable.saturating_sub(unavailable);
    let chosen = free.into_iter().chain(candidates.into_iter().take(room));
    let known: Vec<Option<String>> = step.delete.iter().map(|p| p.metadata.uid.clone()).collect();
    step.delete.extend(
        chosen
            .filter(|(_, p)| !known.contains(&p.metadata.uid))
            .map(|(_, p)| p.clone()),
    );
}

fn status(
    set: &DaemonSet,
    judged: &HashMap<&str, (bool, bool)>,
    by_node: &BTreeMap<String, Vec<&Pod>>,
    hash: &str,
    min_ready: i32,
    now: Timestamp,
) -> DaemonSetStatus {
    let old = set.status.clone().unwrap_or_default();
    let (mut desired, mut current, mut misplaced, mut ready, mut available, mut updated) = (0, 0, 0, 0, 0, 0);
    for (node, (run, _)) in judged {
        let pods = by_node.get(*node).map(Vec::as_slice).unwrap_or_default();
        if !run {
            misplaced += i32::from(!pods.is_empty());
            continue;
        }
        desired += 1;
        // the oldest pod speaks for the node
        let mut pods = pods.to_vec();
        by_age(&mut pods);
        let Some(pod) = pods.first() else { continue };
        current += 1;
        ready += i32::from(is_ready(pod));
        available += i32::from(is_available(pod, min_ready, now));
        updated += i32::from(is_new(pod, hash));
    }
    let some = |n: i32| (n != 0).then_some(n);
    DaemonSetStatus {
        observed_generation: set.metadata.generation,
        desired_number_scheduled: desired,
        current_number_scheduled: current,
        number_misscheduled: misplaced,
        number_ready: ready,
        number_available: some(available),
        number_unavailable: some(desired - available),
        updated_number_scheduled: some(updated),
        collision_count: old.collision_count,
        conditions: old.conditions,
    }
}
