//! VolumeBinding and VolumeRestrictions: a pod runs where its claims' volumes can be used.

use crate::framework::{ClusterEvent, Cycle, Plugin, Refusal};
use crate::node::NodeInfo;
use crate::pod::PodInfo;

pub struct VolumeBinding;

const NAME: &str = "VolumeBinding";

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pre_filter(&self, cycle: &mut Cycle<'_>) -> Result<(), Refusal> {
        let refuse = |why: String| Err(Refusal::unresolvable(NAME, why));
        if cycle.pod.resource_claims {
            return refuse("spec.resourceClaims are not supported by this scheduler".into());
        }
        let storage = &cycle.snapshot.storage;
        for name in &cycle.pod.claims {
            let Some(claim) = storage.claims.get(&format!("{}/{name}", cycle.pod.namespace())) else {
                return refuse(format!("persistentvolumeclaim {name:?} not found"));
            };
            if claim.deleting {
                return refuse(format!("persistentvolumeclaim {name:?} is being deleted"));
            }
            if claim.volume.is_none() {
                let waits = claim.class.as_ref().and_then(|c| storage.classes.get(c)).copied();
                return refuse(if waits == Some(true) {
                    // binding on demand needs a provisioner to be told of the node
                    "pod has unbound PersistentVolumeClaims, and binding them for the first consumer is not supported"
                        .into()
                } else {
                    "pod has unbound immediate PersistentVolumeClaims".into()
                });
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
            let volume = claim.volume.as_ref().and_then(|v| storage.volumes.get(v));
            let Some(volume) = volume else {
                let why = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
                return Err(Refusal::unresolvable(NAME, why));
            };
            if volume
                .terms
                .as_ref()
                .is_some_and(|t| !t.iter().any(|t| t.matches(node)))
            {
                let why = "node(s) didn't match PersistentVolume's node affinity";
                return Err(Refusal::unresolvable(NAME, why));
            }
            let taken = |p: &PodInfo| p.namespace() == cycle.pod.namespace() && p.claims.contains(name);
            if claim.one_pod && cycle.snapshot.nodes.iter().any(|n| n.pods.iter().any(|p| taken(p))) {
                let why = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod";
                return Err(Refusal::new("VolumeRestrictions", why));
            }
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
