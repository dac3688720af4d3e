//! What to do about a volume: a function of the volume and the claim it names. Upstream: `syncVolume`.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::PROVISIONED_BY;
use super::matching::modes_differ;
use crate::meta::{annotation, name};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VolumeStep {
    /// Nobody has it; it may name the claim it is kept for.
    Available,
    Bound,
    /// Its claim is gone: the reclaim policy says what becomes of it.
    Reclaim,
    /// Its claim has yet to take it.
    AskClaim,
    /// It can never be its claim's.
    ModesDiffer,
    /// Its claim has taken another one.
    Unbind,
}

/// `claim` is the one with the uid that the volume names, if that is there.
pub(super) fn next_step(volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>) -> VolumeStep {
    let spec = volume.spec.as_ref();
    let reference = spec.and_then(|s| s.claim_ref.as_ref());
    if reference.is_none_or(|r| r.uid.as_deref().unwrap_or_default().is_empty()) {
        return VolumeStep::Available;
    }
    let Some(claim) = claim else {
        return VolumeStep::Reclaim;
    };
    let taken = claim
        .spec
        .as_ref()
        .and_then(|s| s.volume_name.as_deref())
        .unwrap_or_default();
    if taken.is_empty() {
        return if modes_differ(volume, claim) {
            VolumeStep::ModesDiffer
        } else {
            VolumeStep::AskClaim
        };
    }
    if taken == name(volume) {
        return VolumeStep::Bound;
    }
    let deletes = spec.and_then(|s| s.persistent_volume_reclaim_policy.as_deref()) == Some("Delete");
    if deletes && annotation(volume, PROVISIONED_BY).is_some() {
        // It was made for the claim, which has found another one meanwhile.
        return VolumeStep::Reclaim;
    }
    VolumeStep::Unbind
}

/// How a released volume is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deletion {
    /// Whoever made it does it.
    External,
    /// A directory on this machine.
    Directory(String),
    Impossible(String),
}

/// Upstream: `findDeletablePlugin`, and the deleter of hostPath volumes.
pub(super) fn deletion(volume: &PersistentVolume) -> Deletion {
    let made_by = annotation(volume, PROVISIONED_BY).unwrap_or_default();
    if !made_by.is_empty() && !made_by.starts_with("kubernetes.io/") {
        return Deletion::External;
    }
    let host_path = volume.spec.as_ref().and_then(|s| s.host_path.as_ref());
    let Some(host_path) = host_path else {
        return Deletion::Impossible(format!(
            "error getting deleter volume plugin for volume {:?}: no deletable volume plugin matched",
            name(volume)
        ));
    };
    let path = &host_path.path;
    let below_tmp = path.strip_prefix("/tmp/").is_some_and(|rest| !rest.is_empty());
    if below_tmp && !path.split('/').any(|part| part == "..") {
        Deletion::Directory(path.clone())
    } else {
        Deletion::Impossible(format!(
            "host_path deleter only supports /tmp/.+ but received provided {path}"
        ))
    }
}
