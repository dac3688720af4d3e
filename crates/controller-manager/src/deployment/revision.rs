//! The annotations that `kubectl rollout history` and `undo` read, and how ReplicaSets relate to a template.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;

use super::sizes::{desired, max_surge};
use crate::meta::annotation;

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
pub(super) const HASH_LABEL: &str = "pod-template-hash";
const HISTORY_CHARACTERS: usize = 2000;

/// Annotations of a Deployment that its ReplicaSets have of their own.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];

pub(super) fn revision(set: &ReplicaSet) -> i64 {
    annotation(set, REVISION).and_then(|r| r.parse().ok()).unwrap_or(0)
}

/// The template as it was before the hash was added to its labels.
fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    let meta = template.metadata.get_or_insert_default();
    if let Some(labels) = &mut meta.labels {
        labels.remove(HASH_LABEL);
    }
    if meta.labels.as_ref().is_some_and(BTreeMap::is_empty) {
        meta.labels = None;
    }
    template
}

pub(super) fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    without_hash(a) == without_hash(b)
}

/// The ReplicaSet of the Deployment's current template; the oldest if there are several. `sets` are ordered by age.
pub(super) fn find_new(deployment: &Deployment, sets: &[ReplicaSet]) -> Option<usize> {
    let template = &deployment.spec.template;
    sets.iter().position(|set| {
        let of = set.spec.template.as_ref();
        of.is_some_and(|t| same_template(t, template))
    })
}

/// The annotations that the current ReplicaSet lacks. `exists`: it is not just being made.
pub(super) fn missing_annotations(
    deployment: &Deployment,
    set: &ReplicaSet,
    new_revision: i64,
    exists: bool,
) -> BTreeMap<String, String> {
    let mut missing = BTreeMap::new();
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&key.as_str()) && annotation(set, key) != Some(value) {
            missing.insert(key.clone(), value.clone());
        }
    }
    let old = annotation(set, REVISION);
    let old_number = old.map_or(Some(0), |o| if o.is_empty() { Some(0) } else { o.parse::<i64>().ok() });
    if let Some(old_number) = old_number.filter(|n| *n < new_revision) {
        missing.insert(REVISION.to_owned(), new_revision.to_string());
        if let Some(old) = old
            && old_number < new_revision
            && let Some(history) = with_history(annotation(set, REVISION_HISTORY).unwrap_or_default(), old)
        {
            missing.insert(REVISION_HISTORY.to_owned(), history);
        }
    }
    if !exists {
        missing.extend(replicas_annotations(deployment));
    }
    missing
}

/// The list of revisions a ReplicaSet has had, oldest dropped when it gets long.
fn with_history(history: &str, old: &str) -> Option<String> {
    if history.is_empty() {
        return Some(old.to_owned());
    }
    let mut revisions: Vec<&str> = history.split(',').collect();
    revisions.push(old);
    let length = |r: &[&str]| r.iter().map(|s| s.len() + 1).sum::<usize>().saturating_sub(1);
    let mut start = 0;
    while length(&revisions[start..]) > HISTORY_CHARACTERS && start + 1 < revisions.len() {
        start += 1;
    }
    (length(&revisions[start..]) <= HISTORY_CHARACTERS).then(|| revisions[start..].join(","))
}

/// What proportional scaling compares with later.
pub(super) fn replicas_annotations(deployment: &Deployment) -> BTreeMap<String, String> {
    let desired = desired(deployment);
    BTreeMap::from([
        (DESIRED_REPLICAS.to_owned(), desired.to_string()),
        (MAX_REPLICAS.to_owned(), (desired + max_surge(deployment)).to_string()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rolled_back_replica_set_remembers_its_revisions() {
        assert_eq!(with_history("", "3").as_deref(), Some("3"));
        assert_eq!(with_history("1,3", "5").as_deref(), Some("1,3,5"));
        let long = vec!["12345"; 400].join(",");
        let kept = with_history(&long, "7").unwrap();
        assert!(kept.len() <= HISTORY_CHARACTERS && kept.ends_with(",7"));
    }
}
