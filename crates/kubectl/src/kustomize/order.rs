//! The order that kustomize prints objects in: some kinds first, webhooks last.

use super::resource::{Id, Resource};

const FIRST: [&str; 22] = [
    "Namespace",
    "ResourceQuota",
    "StorageClass",
    "CustomResourceDefinition",
    "ServiceAccount",
    "PodSecurityPolicy",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
    "ConfigMap",
    "Secret",
    "Endpoints",
    "Service",
    "LimitRange",
    "PriorityClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Deployment",
    "StatefulSet",
    "CronJob",
    "PodDisruptionBudget",
];
const LAST: [&str; 2] = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];

/// Sorts by kind, then by what else names an object.
pub fn by_kinds(resources: &mut [Resource]) {
    resources.sort_by_cached_key(|resource| key(&resource.id()));
}

fn key(id: &Id) -> (usize, String, String) {
    let kind = id.kind.as_str();
    let first = FIRST.iter().position(|k| *k == kind);
    let last = LAST.iter().position(|k| *k == kind);
    let rank = first.or(last.map(|at| FIRST.len() + 1 + at)).unwrap_or(FIRST.len());
    let or = |text: &str, none: &str| {
        if text.is_empty() {
            none.to_owned()
        } else {
            text.to_owned()
        }
    };
    let of_kind = [or(&id.group, "~G"), or(&id.version, "~V"), or(&id.kind, "~K")].join("_");
    (rank, of_kind, [or(&id.namespace, "~X"), or(&id.name, "~N")].join("|"))
}
