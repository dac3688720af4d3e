//! Pods that use more of the node's disk than they may: by a volume's size limit, by the limits of their containers.

use std::collections::BTreeMap;

use files::Usage;
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::pod::{PodExt, is_sidecar};
use crate::resources;

/// What a pod has on the node's disk.
#[derive(Debug, Clone, Default)]
pub struct PodDisk {
    /// Of its emptyDirs by the names of the volumes, also those in memory.
    pub volumes: BTreeMap<String, Usage>,
    /// Writable layers by the names of the containers.
    pub layers: BTreeMap<String, Usage>,
    /// Logs by the names of the containers.
    pub logs: BTreeMap<String, Usage>,
}

impl PodDisk {
    /// What counts as the pod's ephemeral storage.
    pub fn total(&self, pod: &Pod) -> Usage {
        let volumes = self.volumes.iter().filter(|(name, _)| on_disk(pod, name));
        let all = volumes
            .map(|(_, u)| *u)
            .chain(self.layers.values().chain(self.logs.values()).copied());
        all.fold(Usage::default(), |a, b| a + b)
    }
}

fn empty_dirs(pod: &Pod) -> impl Iterator<Item = (&str, &str, Option<&Quantity>)> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes.filter_map(|v| {
        let source = v.empty_dir.as_ref()?;
        let medium = source.medium.as_deref().unwrap_or_default();
        Some((v.name.as_str(), medium, source.size_limit.as_ref()))
    })
}

fn on_disk(pod: &Pod, volume: &str) -> bool {
    empty_dirs(pod).any(|(name, medium, _)| name == volume && medium.is_empty())
}

fn storage_limit(container: &Container) -> Option<&Quantity> {
    let limits = container.resources.as_ref()?.limits.as_ref()?;
    limits.get("ephemeral-storage").filter(|q| resources::value(q) > 0)
}

/// Whether anything of the pod's has a limit, so that a look at its disk is worth its cost.
pub fn has_limits(pod: &Pod) -> bool {
    let containers = pod.init_containers().iter().chain(pod.containers());
    empty_dirs(pod).any(|(_, _, limit)| limit.is_some_and(|q| resources::value(q) > 0))
        || containers.into_iter().any(|c| storage_limit(c).is_some())
}

/// The limit of the pod as a whole, as it is written: the sum of its containers', or what one init container may use.
fn pod_limit(pod: &Pod) -> Option<(i64, String)> {
    let sidecars = pod.init_containers().iter().filter(|c| is_sidecar(c));
    let limits: Vec<&Quantity> = pod
        .containers()
        .iter()
        .chain(sidecars)
        .filter_map(storage_limit)
        .collect();
    let sum = resources::sum(limits.iter().map(|q| resources::value(q)));
    let init = pod
        .init_containers()
        .iter()
        .filter(|c| !is_sidecar(c))
        .filter_map(storage_limit);
    let largest = init.max_by_key(|q| resources::value(q));
    match (limits.as_slice(), largest) {
        (_, Some(one)) if resources::value(one) > sum => Some((resources::value(one), one.0.clone())),
        ([], _) => None,
        ([one], _) => Some((sum, one.0.clone())),
        _ => Some((sum, resources::memory_quantity(sum).0)),
    }
}

/// Why the pod is to go, if it uses more than it may. Upstream: `localStorageEviction`.
pub fn over_limit(pod: &Pod, disk: &PodDisk) -> Option<String> {
    let over = |usage: Usage, limit: i64| limit > 0 && i64::try_from(usage.bytes).unwrap_or(i64::MAX) > limit;
    for (name, _, limit) in empty_dirs(pod) {
        if let (Some(limit), Some(usage)) = (limit, disk.volumes.get(name))
            && over(*usage, resources::value(limit))
        {
            return Some(format!(
                "Usage of EmptyDir volume {name:?} exceeds the limit {:?}. ",
                limit.0
            ));
        }
    }
    if let Some((limit, text)) = pod_limit(pod)
        && over(disk.total(pod), limit)
    {
        return Some(format!(
            "Pod ephemeral local storage usage exceeds the total limit of containers {text}. "
        ));
    }
    for container in pod.containers() {
        let of = |list: &BTreeMap<String, Usage>| list.get(&container.name).copied().unwrap_or_default();
        if let Some(limit) = storage_limit(container)
            && over(of(&disk.layers) + of(&disk.logs), resources::value(limit))
        {
            return Some(format!(
                "Container {} exceeded its local ephemeral storage limit {:?}. ",
                container.name, limit.0
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: &str) -> Pod {
        serde_json::from_str(&format!(r#"{{"spec":{spec}}}"#)).unwrap()
    }

    fn uses(name: &str, mib: u64) -> BTreeMap<String, Usage> {
        [(
            name.to_owned(),
            Usage {
                bytes: mib << 20,
                inodes: 1,
            },
        )]
        .into()
    }

    #[test]
    fn a_pod_over_a_limit_is_told_which() {
        let volume = pod(r#"{"containers":[{"name":"c"}],"volumes":[{"name":"e","emptyDir":{"sizeLimit":"5Mi"}}]}"#);
        let with = |mib| PodDisk {
            volumes: uses("e", mib),
            ..PodDisk::default()
        };
        assert_eq!(over_limit(&volume, &with(5)), None);
        assert_eq!(
            over_limit(&volume, &with(6)).as_deref(),
            Some("Usage of EmptyDir volume \"e\" exceeds the limit \"5Mi\". ")
        );
        let limited = r#"{"name":"c","resources":{"limits":{"ephemeral-storage":"5M"}}}"#;
        let one = pod(&format!(r#"{{"containers":[{limited}]}}"#));
        let layers = PodDisk {
            layers: uses("c", 3),
            logs: uses("c", 3),
            ..PodDisk::default()
        };
        assert_eq!(
            over_limit(&one, &layers).as_deref(),
            Some("Pod ephemeral local storage usage exceeds the total limit of containers 5M. ")
        );
        // Two that may have 10 MB together: one has more than its own 5.
        let two = pod(&format!(
            r#"{{"containers":[{limited},{}]}}"#,
            limited.replace("\"c\"", "\"d\"")
        ));
        assert_eq!(
            over_limit(&two, &layers).as_deref(),
            Some("Container c exceeded its local ephemeral storage limit \"5M\". ")
        );
        assert!(has_limits(&volume) && has_limits(&one) && !has_limits(&pod(r#"{"containers":[{"name":"c"}]}"#)));
    }

    #[test]
    fn a_volume_in_memory_is_not_of_the_disk() {
        let memory = pod(r#"{"containers":[],"volumes":[{"name":"e","emptyDir":{"medium":"Memory"}}]}"#);
        let disk = PodDisk {
            volumes: uses("e", 6),
            ..PodDisk::default()
        };
        assert_eq!(disk.total(&memory), Usage::default());
    }
}
