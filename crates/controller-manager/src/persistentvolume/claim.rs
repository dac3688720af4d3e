//! What to do about a claim: a function of the claim, the volumes and the classes. Upstream: `syncClaim`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::matching::{best_match, class_of_claim, has_class, mismatch, names_claim, owner_of};
use super::{BIND_COMPLETED, BOUND_BY_CONTROLLER, SELECTED_NODE};
use crate::Error;
use crate::meta::{annotation, key_of, name, uid};

/// What a StorageClass says of binding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Class {
    pub provisioner: String,
    /// Binding waits for the first pod.
    pub waits: bool,
}

/// What is known beside the claim.
#[derive(Debug, Default)]
pub(super) struct View {
    pub volumes: Vec<PersistentVolume>,
    pub classes: BTreeMap<String, Class>,
    /// For claims that name none.
    pub default_class: Option<String>,
    /// Pods without a node that use the claim.
    pub waiting_pods: Vec<String>,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reason {
    pub warning: bool,
    pub reason: &'static str,
    pub message: String,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum ClaimStep {
    /// The two become one, or what is missing of that is done.
    Bind(Box<PersistentVolume>),
    /// It named no class, and there is a default one now.
    UseClass(String),
    /// It is Pending.
    Wait(Option<Reason>),
    /// The class's own provisioner is to make a volume.
    Provision(String),
    /// Nobody can make its volume.
    CannotProvision(Reason),
    /// Its volume is gone.
    Lost(Reason),
    /// It was bound to a volume that is another claim's.
    Misbound { reason: Reason, owner: String },
}

fn reason(warning: bool, reason: &'static str, message: impl Into<String>) -> Reason {
    Reason {
        warning,
        reason,
        message: message.into(),
    }
}

pub(super) fn next_step(claim: &PersistentVolumeClaim, view: &View) -> Result<ClaimStep, Error> {
    let wanted = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref());
    let wanted = wanted.filter(|v| !v.is_empty());
    let volume = wanted.and_then(|w| view.volumes.iter().find(|v| name(*v) == w));
    if annotation(claim, BIND_COMPLETED).is_some() {
        return Ok(bound(claim, wanted, volume));
    }
    match (wanted, volume) {
        (None, _) => unbound(claim, view),
        (Some(_), None) => Ok(ClaimStep::Wait(None)),
        (Some(wanted), Some(volume)) => Ok(asked_by_name(claim, wanted, volume)),
    }
}

/// One that was bound once. Upstream: `syncBoundClaim`.
fn bound(claim: &PersistentVolumeClaim, wanted: Option<&str>, volume: Option<&PersistentVolume>) -> ClaimStep {
    let lost = |what: &'static str, why: &str| ClaimStep::Lost(reason(true, what, why));
    if wanted.is_none() {
        let why = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
        return lost("ClaimLost", why);
    }
    let Some(volume) = volume else {
        return lost(
            "ClaimLost",
            "Bound claim has lost its PersistentVolume. Data on the volume is lost!",
        );
    };
    match volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()) {
        Some(owner) if owner.uid.as_deref() != Some(uid(claim)) => lost(
            "ClaimMisbound",
            "Two claims are bound to the same volume, this one is bound incorrectly",
        ),
        _ => ClaimStep::Bind(Box::new(volume.clone())),
    }
}

fn asked_by_name(claim: &PersistentVolumeClaim, wanted: &str, volume: &PersistentVolume) -> ClaimStep {
    let Some(owner) = owner_of(volume) else {
        return match mismatch(volume, claim) {
            None => ClaimStep::Bind(Box::new(volume.clone())),
            Some(why) => {
                let message = format!("Cannot bind to requested volume {wanted:?}: {why}");
                ClaimStep::Wait(Some(reason(true, "VolumeMismatch", message)))
            }
        };
    };
    if names_claim(volume, claim) {
        return ClaimStep::Bind(Box::new(volume.clone()));
    }
    let message = format!("volume {wanted:?} already bound to a different claim.");
    let reason = reason(true, "FailedBinding", message);
    if annotation(claim, BOUND_BY_CONTROLLER).is_none() {
        return ClaimStep::Wait(Some(reason));
    }
    ClaimStep::Misbound { reason, owner }
}

/// One that takes what suits it. Upstream: `syncUnboundClaim`.
fn unbound(claim: &PersistentVolumeClaim, view: &View) -> Result<ClaimStep, Error> {
    let class_name = class_of_claim(claim);
    let class = view.classes.get(class_name);
    let delayed = class.is_some_and(|c| c.waits) && annotation(claim, SELECTED_NODE).is_none();
    if let Some(volume) = best_match(claim, &view.volumes, delayed)? {
        return Ok(ClaimStep::Bind(Box::new(volume.clone())));
    }
    if let Some(default) = view.default_class.as_ref().filter(|_| !has_class(claim)) {
        return Ok(ClaimStep::UseClass(default.clone()));
    }
    if delayed {
        let (what, message) = match view.waiting_pods.as_slice() {
            [] => (
                "WaitForFirstConsumer",
                "waiting for first consumer to be created before binding".to_owned(),
            ),
            [one] => ("WaitForPodScheduled", format!("waiting for pod {one} to be scheduled")),
            several => {
                let all = several.join(",");
                ("WaitForPodScheduled", format!("waiting for pods {all} to be scheduled"))
            }
        };
        return Ok(ClaimStep::Wait(Some(reason(false, what, message))));
    }
    if class_name.is_empty() {
        let message = "no persistent volumes available for this claim and no storage class is set";
        return Ok(ClaimStep::Wait(Some(reason(false, "FailedBinding", message))));
    }
    let cannot = |message| Ok(ClaimStep::CannotProvision(reason(true, "ProvisioningFailed", message)));
    match class {
        None => cannot(format!("storageclass.storage.k8s.io {class_name:?} not found")),
        Some(class) if class.provisioner.starts_with("kubernetes.io/") => {
            cannot(format!("no volume plugin matched name: {}", class.provisioner))
        }
        Some(class) => Ok(ClaimStep::Provision(class.provisioner.clone())),
    }
}

/// The error of a claim that was bound to another's volume.
pub(super) fn misbound(claim: &PersistentVolumeClaim, owner: &str) -> Error {
    let wanted = claim
        .spec
        .as_ref()
        .and_then(|s| s.volume_name.as_deref())
        .unwrap_or_default();
    Error::State(format!(
        "invalid binding of claim {:?} to volume {wanted:?}: volume already claimed by {owner:?}",
        key_of(claim)
    ))
}
