//! VolumeBinding and VolumeRestrictions: a pod runs where its claims' volumes can be used.

use crate::framework::{ClusterEvent, Cycle, Plugin, Refusal};
use crate::metrics::Point;
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;
use crate::storage::ClaimPlan;

/// Keeps pods to nodes that can use their volumes, and chooses volumes for claims that wait for a pod.
pub struct VolumeBinding;

const NAME: &str = "VolumeBinding";

/// What binding the pod's claims on the node takes; `None` if they cannot be bound there.
pub fn plan(snapshot: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> Option<Vec<ClaimPlan>> {
    let keys: Vec<String> = pod
        .claims
        .iter()
        .map(|name| format!("{}/{name}", pod.namespace()))
        .collect();
    snapshot.storage.plan(keys.iter().map(String::as_str), node)
}

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        NAME
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter]
    }

    fn pre_filter(&self, cycle: &mut Cycle<'_>) -> Result<(), Refusal> {
        let refuse = |why: String| Err(Refusal::unresolvable(NAME, why));
        if cycle.pod.resource_claims {
            return refuse("spec.resourceClaims are not supported by this scheduler".into());
        }
        let storage = &cycle.snapshot.storage;
        let (pod, namespace) = (&cycle.pod, cycle.pod.namespace());
        for name in &pod.claims {
            let key = format!("{namespace}/{name}");
            let made = pod.made_claims.contains(name);
            let Some(claim) = storage.claims.get(&key) else {
                return refuse(match made {
                    true => {
                        format!("waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}")
                    }
                    false => format!("persistentvolumeclaim {name:?} not found"),
                });
            };
            if let Some(volume) = &claim.lost {
                let why = format!("persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}");
                return refuse(why);
            }
            if claim.deleting {
                return refuse(format!("persistentvolumeclaim {name:?} is being deleted"));
            }
            if made && *claim.owner != *pod.uid() {
                let pod = pod.name();
                return refuse(format!(
                    "PVC {namespace}/{name} was not created for pod {namespace}/{pod} (pod is not owner)"
                ));
            }
            // One that another pod's node decides about is not this pod's to bind.
            if claim.volume.is_none() && (!storage.is_delayed(claim) || storage.assumed.contains_key(&key)) {
                return refuse("pod has unbound immediate PersistentVolumeClaims".into());
            }
        }
        Ok(())
    }

    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Refusal> {
        let storage = &cycle.snapshot.storage;
        for name in &cycle.pod.claims {
            let key = format!("{}/{name}", cycle.pod.namespace());
            let Some(claim) = storage.claims.get(&key) else {
                continue;
            };
            let Some(name_of_volume) = &claim.volume else { continue };
            let Some(volume) = storage.volumes.get(name_of_volume) else {
                let why = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
                return Err(Refusal::unresolvable(NAME, why));
            };
            if !volume.usable_on(node) {
                let why = "node(s) didn't match PersistentVolume's node affinity";
                return Err(Refusal::unresolvable(NAME, why));
            }
            let taken = |p: &PodInfo| p.namespace() == cycle.pod.namespace() && p.claims.contains(name);
            if claim.one_pod && cycle.snapshot.nodes.iter().any(|n| n.pods.iter().any(|p| taken(p))) {
                let why = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod";
                return Err(Refusal::new("VolumeRestrictions", why));
            }
        }
        if !cycle.pod.claims.is_empty() && plan(cycle.snapshot, cycle.pod, node).is_none() {
            let why = "node(s) didn't find available persistent volumes to bind";
            return Err(Refusal::unresolvable(NAME, why));
        }
        Ok(())
    }

    fn wakes(&self, pod: &PodInfo, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::StorageChanged => true,
            ClusterEvent::NodeAdded(_) => !pod.claims.is_empty(),
            ClusterEvent::NodeChanged { old, new } => old.labels() != new.facts.labels(),
            ClusterEvent::PodRemoved(gone) => gone.claims.iter().any(|c| pod.claims.contains(c)),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::tests::pod;
    use crate::storage::Claim;
    use serde_json::json;

    #[test]
    fn a_pod_waits_for_its_claims_with_upstreams_words() {
        let volume = json!({ "name": "v", "persistentVolumeClaim": { "claimName": "c" } });
        let made = json!({ "name": "v", "ephemeral": {} });
        let bound = || Claim {
            volume: Some("pv".into()),
            ..Claim::default()
        };
        let own = Claim {
            owner: "uid".into(),
            ..bound()
        };
        let leaving = Claim {
            deleting: true,
            ..bound()
        };
        let lost = Claim {
            lost: Some("pv".into()),
            ..Claim::default()
        };
        let foreign = "PVC default/p-v was not created for pod default/p (pod is not owner)";
        for (volume, name, claim, want) in [
            (&volume, "c", None, "persistentvolumeclaim \"c\" not found"),
            (&volume, "c", Some(bound()), ""),
            (
                &volume,
                "c",
                Some(leaving),
                "persistentvolumeclaim \"c\" is being deleted",
            ),
            (
                &volume,
                "c",
                Some(lost),
                "persistentvolumeclaim \"c\" bound to non-existent persistentvolume \"pv\"",
            ),
            (
                &volume,
                "c",
                Some(Claim::default()),
                "pod has unbound immediate PersistentVolumeClaims",
            ),
            (
                &made,
                "p-v",
                None,
                "waiting for ephemeral volume controller to create the persistentvolumeclaim \"p-v\"",
            ),
            (&made, "p-v", Some(bound()), foreign),
            (&made, "p-v", Some(own), ""),
        ] {
            let mut snapshot = Snapshot::default();
            let tree =
                json!({ "metadata": { "name": "p", "uid": "uid" }, "spec": { "containers": [], "volumes": [volume] } });
            let pod = pod(tree);
            let claims = claim.map(|claim| (format!("default/{name}"), claim));
            snapshot.storage.claims.extend(claims);
            let refusal = VolumeBinding.pre_filter(&mut Cycle::new(&snapshot, &pod)).err();
            let said = refusal.map(|r| r.reasons.join(", ")).unwrap_or_default();
            assert_eq!(said, want);
        }
    }
}
