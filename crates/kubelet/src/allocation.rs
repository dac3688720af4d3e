//! The resources a node gave to a pod: the last ones asked for that it had room for. Kept on disk, so that a kubelet that
//! starts again does not take a wish for what was given.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::{Deserialize, Serialize};

use crate::pod::PodExt;
use crate::resources::parse_milli;
use crate::status::Verdict;

/// In the pod's directory: what the node gave.
pub const ALLOCATED: &str = "allocated";
/// In the pod's directory: what its containers were last made or changed with.
pub const ACTUATED: &str = "actuated";

/// The resources of a pod, and of its containers by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PodResources {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<ResourceRequirements>,
    #[serde(default)]
    pub containers: BTreeMap<String, ResourceRequirements>,
}

/// What became of the resources a pod asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Wish {
    /// It has been given them before.
    Met,
    /// They were given to it just now, and its containers are to follow.
    Granted,
    /// It keeps what it was given: for now (`Deferred`), or as long as it asks for this (`Infeasible`).
    Refused { verdict: Verdict, asked: PodResources },
}

impl PodResources {
    /// What the pod asks for.
    pub fn of(pod: &Pod) -> PodResources {
        let all = pod.init_containers().iter().chain(pod.containers());
        PodResources {
            pod: pod.spec.as_ref().and_then(|s| s.resources.clone()),
            containers: all
                .map(|c| (c.name.clone(), c.resources.clone().unwrap_or_default()))
                .collect(),
        }
    }

    /// Puts these in the place of what the pod asks for. Whether it asks for something else.
    pub fn put_into(&self, pod: &mut Pod) -> bool {
        let Some(spec) = &mut pod.spec else { return false };
        let mut other = false;
        if !same(spec.resources.as_ref(), self.pod.as_ref()) {
            spec.resources.clone_from(&self.pod);
            other = true;
        }
        let init = spec.init_containers.iter_mut().flatten();
        for container in init.chain(&mut spec.containers) {
            if let Some(given) = self.containers.get(&container.name)
                && !same(container.resources.as_ref(), Some(given))
            {
                container.resources = Some(given.clone());
                other = true;
            }
        }
        other
    }

    /// `None` where there is no file, or one that a power loss cut short.
    pub fn load(path: &Path) -> Option<PodResources> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Replaces the file: whoever reads it finds the old or the new one.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        files::replace_own(path, &serde_json::to_vec(self)?)
    }
}

/// Whether both are the same amounts, in whatever notation.
pub fn same(a: Option<&ResourceRequirements>, b: Option<&ResourceRequirements>) -> bool {
    let (a, b) = (a.cloned().unwrap_or_default(), b.cloned().unwrap_or_default());
    amounts(&a.requests) == amounts(&b.requests) && amounts(&a.limits) == amounts(&b.limits)
}

fn amounts(list: &Option<BTreeMap<String, Quantity>>) -> BTreeMap<&str, Option<i64>> {
    let all = list.iter().flatten();
    all.map(|(name, q)| (name.as_str(), parse_milli(&q.0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(cpu: &str) -> Pod {
        serde_json::from_value(serde_json::json!({"spec": {"containers": [
            {"name": "a", "resources": {"requests": {"cpu": cpu}}}, {"name": "b"}
        ]}}))
        .unwrap()
    }

    #[test]
    fn what_was_given_takes_the_place_of_what_is_asked_for() {
        let given = PodResources::of(&pod("1"));
        let mut asks = pod("1000m");
        assert!(!given.put_into(&mut asks), "the same amount");
        assert_eq!(asks, pod("1000m"));
        let mut asks = pod("2");
        assert!(given.put_into(&mut asks));
        assert_eq!(asks, pod("1"));
    }

    #[test]
    fn what_was_given_is_read_again_and_a_torn_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pod").join(ALLOCATED);
        assert_eq!(PodResources::load(&path), None);
        let given = PodResources::of(&pod("1"));
        given.save(&path).unwrap();
        assert_eq!(PodResources::load(&path), Some(given));
        fs::write(&path, "{\"contain").unwrap();
        assert_eq!(PodResources::load(&path), None);
    }
}
