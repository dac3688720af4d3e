//! What binding writes: into the volume, into the claim, and into its status. Each is `None` if that is there already.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::matching::names_claim;
use super::{BIND_COMPLETED, BOUND_BY_CONTROLLER};
use crate::meta::{annotation, name, reference, uid};

fn annotate(annotations: &mut Option<BTreeMap<String, String>>, key: &str) {
    annotations
        .get_or_insert_default()
        .insert(key.to_owned(), "yes".to_owned());
}

/// The volume with a reference to the claim.
pub(super) fn volume_to_claim(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<PersistentVolume> {
    let old = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    let named = names_claim(volume, claim);
    let complete = named && old.is_some_and(|r| r.uid.as_deref() == Some(uid(claim)));
    if complete {
        return None;
    }
    let mut new = volume.clone();
    new.spec.get_or_insert_default().claim_ref = Some(reference(claim));
    if !named {
        annotate(&mut new.metadata.annotations, BOUND_BY_CONTROLLER);
    }
    Some(new)
}

/// The claim with the volume's name.
pub(super) fn claim_to_volume(
    claim: &PersistentVolumeClaim,
    volume: &PersistentVolume,
) -> Option<PersistentVolumeClaim> {
    let mut new = claim.clone();
    let spec = new.spec.get_or_insert_default();
    if spec.volume_name.as_deref() != Some(name(volume)) {
        spec.volume_name = Some(name(volume).to_owned());
        annotate(&mut new.metadata.annotations, BOUND_BY_CONTROLLER);
    }
    if annotation(&new, BIND_COMPLETED).is_none() {
        annotate(&mut new.metadata.annotations, BIND_COMPLETED);
    }
    (new != *claim).then_some(new)
}

/// The claim in this phase, with what its volume gives it.
pub(super) fn claim_status(
    claim: &PersistentVolumeClaim,
    phase: &str,
    volume: Option<&PersistentVolume>,
) -> Option<PersistentVolumeClaim> {
    let mut new = claim.clone();
    let status = new.status.get_or_insert_default();
    let before = status.phase.clone().unwrap_or_default();
    status.phase = Some(phase.to_owned());
    match volume.and_then(|v| v.spec.as_ref()) {
        None => {
            status.access_modes = None;
            status.capacity = None;
            status.current_volume_attributes_class_name = None;
        }
        Some(spec) => {
            status.access_modes.clone_from(&spec.access_modes);
            // A bound claim's capacity is the business of who resizes it.
            if before != phase {
                status.capacity.clone_from(&spec.capacity);
            }
            if before == "Pending" && phase == "Bound" {
                status
                    .current_volume_attributes_class_name
                    .clone_from(&spec.volume_attributes_class_name);
            }
        }
    }
    (new.status != claim.status).then_some(new)
}

/// The volume without its claim; one that was kept for the claim still is.
pub(super) fn unbound(volume: &PersistentVolume) -> PersistentVolume {
    let mut new = volume.clone();
    let spec = new.spec.get_or_insert_default();
    if annotation(volume, BOUND_BY_CONTROLLER).is_some() {
        spec.claim_ref = None;
        if let Some(annotations) = &mut new.metadata.annotations {
            annotations.remove(BOUND_BY_CONTROLLER);
        }
    } else if let Some(claim) = &mut spec.claim_ref {
        claim.uid = None;
    }
    new
}

/// The volume in this phase.
pub(super) fn volume_phase(volume: &PersistentVolume, phase: &str, message: &str) -> Option<PersistentVolume> {
    let old = volume.status.as_ref().and_then(|s| s.phase.as_deref());
    if old == Some(phase) {
        return None;
    }
    let mut new = volume.clone();
    let status = new.status.get_or_insert_default();
    status.phase = Some(phase.to_owned());
    status.message = (!message.is_empty()).then(|| message.to_owned());
    Some(new)
}
