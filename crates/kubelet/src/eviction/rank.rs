//! Who goes first when the node runs short of something, and what is said of it. Upstream: `pkg/kubelet/eviction/helpers.go`.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use super::limits::PodDisk;
use super::thresholds::{Observation, Signal};
use crate::pod::PodExt;
use crate::resources;

/// What a pod uses.
#[derive(Debug, Clone, Default)]
pub struct PodUsage {
    pub disk: PodDisk,
    /// Bytes of the working sets by the names of the containers.
    pub memory: BTreeMap<String, u64>,
    /// Bytes of the pod's working set.
    pub pod_memory: u64,
    pub processes: u64,
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A pod whose end would do more harm than the shortage.
pub fn is_critical(pod: &Pod) -> bool {
    const SYSTEM_CRITICAL: i32 = 2_000_000_000;
    let priority = pod.spec.as_ref().and_then(|s| s.priority);
    pod.is_static() || pod.is_mirror() || priority.is_some_and(|p| p >= SYSTEM_CRITICAL)
}

/// Bytes or pieces that the pod uses, and asks for, of what is short.
fn use_and_request(signal: Signal, pod: &Pod, usage: &PodUsage) -> (i64, i64) {
    match signal {
        Signal::MemoryAvailable => (
            signed(usage.pod_memory),
            resources::pod_total(pod, false, "memory") / 1000,
        ),
        Signal::NodefsAvailable | Signal::ImagefsAvailable => (
            signed(usage.disk.total(pod).bytes),
            resources::pod_total(pod, false, "ephemeral-storage") / 1000,
        ),
        Signal::NodefsInodesFree | Signal::ImagefsInodesFree => (signed(usage.disk.total(pod).inodes), 0),
        Signal::PidAvailable => (signed(usage.processes), 0),
    }
}

/// The pods in the order in which they go: who uses more than it asked for, then the least important, then who uses most
/// beyond it. Processes are nobody's request.
pub fn rank<'a>(signal: Signal, mut pods: Vec<(&'a Pod, &'a PodUsage)>) -> Vec<(&'a Pod, &'a PodUsage)> {
    pods.sort_by_key(|(pod, usage)| {
        let (used, asked) = use_and_request(signal, pod, usage);
        let modest = signal != Signal::PidAvailable && used <= asked;
        let priority = pod.spec.as_ref().and_then(|s| s.priority).unwrap_or_default();
        (modest, priority, Reverse(used - asked))
    });
    pods
}

fn quantity(signal: Signal, amount: i64) -> String {
    match signal {
        Signal::MemoryAvailable | Signal::NodefsAvailable | Signal::ImagefsAvailable => {
            resources::memory_quantity(amount).0
        }
        _ => amount.to_string(),
    }
}

/// The message of an eviction because the node is short of what a signal stands for.
pub fn message(signal: Signal, threshold: i64, seen: Observation, pod: &Pod, usage: &PodUsage) -> String {
    let resource = signal.resource();
    let mut text = format!(
        "The node was low on resource: {resource}. Threshold quantity: {}, available: {}. ",
        quantity(signal, threshold),
        quantity(signal, seen.available)
    );
    for container in pod.containers().iter().chain(pod.init_containers()) {
        let used = match signal {
            Signal::MemoryAvailable => usage.memory.get(&container.name).copied(),
            Signal::NodefsAvailable | Signal::ImagefsAvailable => {
                let layer = usage.disk.layers.get(&container.name);
                let log = usage.disk.logs.get(&container.name);
                layer.zip(log).map(|(layer, log)| layer.bytes + log.bytes)
            }
            _ => None,
        };
        let asked = resources::get(container, false, resource);
        let bytes = asked.map_or(0, resources::value);
        if let Some(used) = used.filter(|used| signed(*used) > bytes) {
            text.push_str(&format!(
                "Container {} was using {}, request is {}, has larger consumption of {resource}. ",
                container.name,
                resources::memory_quantity(signed(used)).0,
                asked.map_or("0", |q| q.0.as_str()),
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, spec: &str) -> Pod {
        serde_json::from_str(&format!(r#"{{"metadata":{{"name":"{name}"}},"spec":{spec}}}"#)).unwrap()
    }

    fn uses(mib: u64) -> PodUsage {
        PodUsage {
            pod_memory: mib << 20,
            memory: [("c".to_owned(), mib << 20)].into(),
            processes: mib,
            ..PodUsage::default()
        }
    }

    #[test]
    fn who_uses_more_than_it_asked_for_goes_first() {
        let asks = r#""containers":[{"name":"c","resources":{"requests":{"memory":"50Mi"}}}]"#;
        let pods = [
            (pod("modest", &format!("{{{asks}}}")), uses(40)),
            (pod("over", &format!("{{{asks}}}")), uses(60)),
            (pod("far-over", &format!("{{{asks}}}")), uses(90)),
            (pod("important", &format!(r#"{{"priority":1000,{asks}}}"#)), uses(900)),
        ];
        let order = |signal| -> Vec<String> {
            let ranked = rank(signal, pods.iter().map(|(p, u)| (p, u)).collect());
            ranked.into_iter().map(|(p, _)| p.name().to_owned()).collect()
        };
        assert_eq!(
            order(Signal::MemoryAvailable),
            ["far-over", "over", "important", "modest"]
        );
        assert_eq!(order(Signal::PidAvailable), ["far-over", "over", "modest", "important"]);
        assert!(is_critical(&pod("x", r#"{"priority":2000000000,"containers":[]}"#)));
    }

    #[test]
    fn an_eviction_says_what_was_short_and_who_used_it() {
        let seen = Observation {
            capacity: 1 << 33,
            available: 50 << 20,
        };
        let text = message(
            Signal::MemoryAvailable,
            100 << 20,
            seen,
            &pod("p", r#"{"containers":[{"name":"c"}]}"#),
            &uses(60),
        );
        assert_eq!(
            text,
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. Container c was using 60Mi, request is 0, has larger consumption of memory. "
        );
    }
}
