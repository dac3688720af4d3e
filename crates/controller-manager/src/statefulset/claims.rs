//! Who owns a StatefulSet's claims: the set or a pod that is scaled away, as the retention policy says.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::pods::{claim_names, ordinal};
use super::step::ordinals;
use crate::meta::{controller_reference, name, uid};

/// A claim by its name, as the cache has it.
pub(super) type Claims<'a> = &'a dyn Fn(&str) -> Option<PersistentVolumeClaim>;

/// Whether claims are deleted with the set, and when it is scaled down.
pub(super) fn claims_go(set: &StatefulSet) -> (bool, bool) {
    let policy = set.spec.persistent_volume_claim_retention_policy.clone();
    let policy = policy.unwrap_or_default();
    let delete = |p: Option<String>| p.as_deref() == Some("Delete");
    (delete(policy.when_deleted), delete(policy.when_scaled))
}

fn pod_reference(pod: &Pod) -> OwnerReference {
    OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: name(pod).to_owned(),
        uid: uid(pod).to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The reference names the owner, be it this one or an earlier one of the same name.
fn names(reference: &OwnerReference, owner: &OwnerReference) -> bool {
    (&reference.api_version, &reference.kind, &reference.name) == (&owner.api_version, &owner.kind, &owner.name)
}

fn is_stale(owners: &[OwnerReference], owner: &OwnerReference) -> bool {
    owners
        .iter()
        .find(|o| names(o, owner))
        .is_some_and(|o| o.uid != owner.uid)
}

fn has(owners: &[OwnerReference], owner: &OwnerReference) -> bool {
    owners.iter().any(|o| o.uid == owner.uid)
}

/// How a claim's owners stand to the policy.
#[derive(Debug, PartialEq)]
pub(super) enum Owners {
    Right,
    /// These are to be written; `conflicting` if another controller has the claim, so that the policy cannot be followed.
    Wrong {
        owners: Vec<OwnerReference>,
        conflicting: bool,
    },
}

/// What the policy wants of the owners of a claim of a pod.
pub(super) fn owners(set: &StatefulSet, pod: &Pod, claim: &PersistentVolumeClaim) -> Owners {
    let have = claim.metadata.owner_references.as_deref().unwrap_or_default();
    let (with_set, with_scale) = claims_go(set);
    let (of_set, of_pod) = (controller_reference(set), pod_reference(pod));
    // earlier ones of these names: the garbage collector's business
    if is_stale(have, &of_set) || is_stale(have, &of_pod) {
        return Owners::Right;
    }
    let ours = |o: &OwnerReference| names(o, &of_set) || names(o, &of_pod);
    let foreign = have.iter().any(|o| !ours(o) && o.controller == Some(true));
    let conflicting = (with_set || with_scale) && foreign;
    let (has_set, has_pod) = (has(have, &of_set), has(have, &of_pod));
    let scaled_away = !ordinal(set, pod).is_some_and(|at| ordinals(set).contains(&at));
    let wants_pod = with_scale && scaled_away;
    let wants_set = with_set && !wants_pod;
    let right = if conflicting {
        !has_set && !has_pod
    } else {
        let controls = |o: &OwnerReference| o.controller == Some(true);
        let all_control = have
            .iter()
            .filter(|o| o.uid == of_set.uid || o.uid == of_pod.uid)
            .all(controls);
        all_control && has_set == wants_set && has_pod == wants_pod
    };
    if right {
        return Owners::Right;
    }
    let mut owners: Vec<OwnerReference> = have.iter().filter(|o| !ours(o)).cloned().collect();
    if !conflicting {
        owners.extend(wants_set.then_some(of_set));
        owners.extend(wants_pod.then_some(of_pod));
    }
    Owners::Wrong { owners, conflicting }
}

/// Whether all claims of a pod that there are have the owners that the policy wants.
pub(super) fn are_right(set: &StatefulSet, pod: &Pod, claims: Claims<'_>) -> bool {
    claim_names(set, pod)
        .iter()
        .filter_map(|name| claims(name))
        .all(|claim| owners(set, pod, &claim) == Owners::Right)
}

/// A claim of a pod that is gone and takes it along: the next pod waits for a new one.
pub(super) fn are_stale(set: &StatefulSet, pod: &Pod, claims: Claims<'_>) -> bool {
    claims_go(set).1
        && claim_names(set, pod)
            .iter()
            .filter_map(|name| claims(name))
            .any(|claim| {
                let have = claim.metadata.owner_references.as_deref().unwrap_or_default();
                is_stale(have, &pod_reference(pod))
            })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn set(policy: &Value) -> StatefulSet {
        serde_json::from_value(json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "uid": "su"},
            "spec": {"replicas": 1, "selector": {}, "serviceName": "db", "template": {}, "persistentVolumeClaimRetentionPolicy": policy,
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]}}))
        .unwrap()
    }

    fn pod(ordinal: i32) -> Pod {
        serde_json::from_value(
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("db-{ordinal}"), "uid": "pu"}}),
        )
        .unwrap()
    }

    fn claim(owners: &Value) -> PersistentVolumeClaim {
        serde_json::from_value(
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data-db-0", "ownerReferences": owners}}),
        )
        .unwrap()
    }

    fn wanted(policy: &Value, ordinal: i32, have: &Value) -> Option<Vec<String>> {
        match owners(&set(policy), &pod(ordinal), &claim(have)) {
            Owners::Right => None,
            Owners::Wrong { owners, .. } => Some(owners.into_iter().map(|o| o.uid).collect()),
        }
    }

    #[test]
    fn a_claim_is_owned_as_the_retention_policy_says() {
        let owner = |kind: &str, name: &str, uid: &str| json!({"apiVersion": if kind == "Pod" { "v1" } else { "apps/v1" }, "kind": kind, "name": name, "uid": uid, "controller": true});
        let (none, of_set) = (json!([]), json!([owner("StatefulSet", "db", "su")]));
        let (deleted, scaled) = (json!({"whenDeleted": "Delete"}), json!({"whenScaled": "Delete"}));
        let both = json!({"whenDeleted": "Delete", "whenScaled": "Delete"});
        let list = |uids: &[&str]| Some(uids.iter().map(|u| (*u).to_owned()).collect::<Vec<_>>());
        assert_eq!(wanted(&json!({}), 0, &none), None);
        assert_eq!(wanted(&json!({}), 0, &of_set), list(&[]));
        assert_eq!(wanted(&deleted, 0, &none), list(&["su"]));
        assert_eq!(wanted(&deleted, 0, &of_set), None);
        assert_eq!(wanted(&scaled, 0, &none), None);
        assert_eq!(wanted(&scaled, 1, &none), list(&["pu"]));
        assert_eq!(wanted(&both, 0, &none), list(&["su"]));
        assert_eq!(wanted(&both, 1, &of_set), list(&["pu"]));
        // not touched: of an earlier set; given up: another controller's
        assert_eq!(wanted(&both, 0, &json!([owner("StatefulSet", "db", "old")])), None);
        assert_eq!(wanted(&both, 0, &json!([owner("Foo", "x", "xu")])), None);
        let shared = json!([owner("Foo", "x", "xu"), owner("StatefulSet", "db", "su")]);
        assert_eq!(wanted(&both, 0, &shared), list(&["xu"]));
    }

    #[test]
    fn a_claim_that_goes_with_an_earlier_pod_is_waited_for() {
        let of_pod = claim(&json!([{"apiVersion": "v1", "kind": "Pod", "name": "db-0", "uid": "earlier"}]));
        let known = |_: &str| Some(of_pod.clone());
        assert!(are_stale(&set(&json!({"whenScaled": "Delete"})), &pod(0), &known));
        assert!(!are_stale(&set(&json!({"whenDeleted": "Delete"})), &pod(0), &known));
    }
}
