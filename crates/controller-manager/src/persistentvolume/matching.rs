//! Which volume suits a claim. Upstream: `FindMatchingVolume` of `component-helpers/storage/volume`.

use std::collections::BTreeSet;

use api::object::Object;
use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use crate::Error;
use crate::error::decode;
use crate::meta::{is_deleting, key_of, name, namespace, selector, uid};

/// What the class of a claim or volume was before there was a field for it.
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// The empty name for none.
pub(super) fn class_of_claim(claim: &PersistentVolumeClaim) -> &str {
    crate::meta::annotation(claim, BETA_CLASS)
        .or_else(|| claim.spec.as_ref()?.storage_class_name.as_deref())
        .unwrap_or_default()
}

pub(super) fn has_class(claim: &PersistentVolumeClaim) -> bool {
    crate::meta::annotation(claim, BETA_CLASS).is_some()
        || claim.spec.as_ref().is_some_and(|s| s.storage_class_name.is_some())
}

fn class_of_volume(volume: &PersistentVolume) -> &str {
    crate::meta::annotation(volume, BETA_CLASS)
        .or_else(|| volume.spec.as_ref()?.storage_class_name.as_deref())
        .unwrap_or_default()
}

fn attributes_of_claim(claim: &PersistentVolumeClaim) -> &str {
    let spec = claim.spec.as_ref();
    spec.and_then(|s| s.volume_attributes_class_name.as_deref())
        .unwrap_or_default()
}

fn attributes_of_volume(volume: &PersistentVolume) -> &str {
    let spec = volume.spec.as_ref();
    spec.and_then(|s| s.volume_attributes_class_name.as_deref())
        .unwrap_or_default()
}

fn size_of(volume: &PersistentVolume) -> Option<Quantity> {
    volume.spec.as_ref()?.capacity.as_ref()?.get("storage")?.0.parse().ok()
}

fn requested(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    let resources = claim.spec.as_ref()?.resources.as_ref()?;
    resources.requests.as_ref()?.get("storage")?.0.parse().ok()
}

fn is_large_enough(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    match (size_of(volume), requested(claim)) {
        (_, None) => true,
        (Some(size), Some(request)) => size >= request,
        (None, Some(request)) => request.is_zero(),
    }
}

pub(super) fn modes_differ(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let of_volume = volume.spec.as_ref().and_then(|s| s.volume_mode.as_deref());
    let of_claim = claim.spec.as_ref().and_then(|s| s.volume_mode.as_deref());
    of_volume.unwrap_or("Filesystem") != of_claim.unwrap_or("Filesystem")
}

fn access_modes(volume: &PersistentVolume) -> BTreeSet<&str> {
    let modes = volume.spec.iter().flat_map(|s| s.access_modes.iter().flatten());
    modes.map(String::as_str).collect()
}

fn can_be_accessed(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let has = access_modes(volume);
    let mut wanted = claim.spec.iter().flat_map(|s| s.access_modes.iter().flatten());
    wanted.all(|m| has.contains(m.as_str()))
}

/// Who can have the volume: the claim that it names, or else all that are of its class. A class's name has no slash in it.
pub(crate) fn takers(volume: &Object) -> Vec<String> {
    let Ok(volume) = decode::<PersistentVolume>(volume) else {
        return Vec::new();
    };
    vec![owner_of(&volume).unwrap_or_else(|| class_of_volume(&volume).to_owned())]
}

/// The key of the claim that the volume names.
pub(super) fn owner_of(volume: &PersistentVolume) -> Option<String> {
    let owner = volume.spec.as_ref()?.claim_ref.as_ref()?;
    let part = |field: &Option<String>| field.clone().unwrap_or_default();
    Some(format!("{}/{}", part(&owner.namespace), part(&owner.name)))
}

/// Whether the volume names the claim: by its name before it was bound, by its uid too since.
pub(super) fn names_claim(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let reference = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    reference.is_some_and(|r| {
        let at = |field: &Option<String>, value: &str| field.as_deref().unwrap_or_default() == value;
        at(&r.name, name(claim)) && at(&r.namespace, namespace(claim)) && (at(&r.uid, "") || at(&r.uid, uid(claim)))
    })
}

/// Why a claim cannot have the volume it asks for by name.
pub(super) fn mismatch(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<String> {
    let why = if is_deleting(volume) {
        return Some(format!("the volume is marked for deletion {:?}", name(volume)));
    } else if !is_large_enough(volume, claim) {
        "requested PV is too small"
    } else if class_of_volume(volume) != class_of_claim(claim) {
        "storageClassName does not match"
    } else if attributes_of_volume(volume) != attributes_of_claim(claim) {
        "volumeAttributesClassName does not match"
    } else if modes_differ(volume, claim) {
        "incompatible volumeMode"
    } else if !can_be_accessed(volume, claim) {
        "incompatible accessMode"
    } else {
        return None;
    };
    Some(why.to_owned())
}

/// The smallest of the volumes with the fewest access modes that suits; before all others one that names the claim, and
/// with `delayed` only such a one.
pub(super) fn best_match<'a>(
    claim: &PersistentVolumeClaim,
    volumes: &'a [PersistentVolume],
    delayed: bool,
) -> Result<Option<&'a PersistentVolume>, Error> {
    let wanted = claim.spec.as_ref().and_then(|s| s.selector.as_ref());
    let wanted = wanted.map(|s| selector(&key_of(claim), s)).transpose()?;
    let suits = |volume: &&PersistentVolume| {
        can_be_accessed(volume, claim)
            && is_large_enough(volume, claim)
            && !modes_differ(volume, claim)
            && attributes_of_volume(volume) == attributes_of_claim(claim)
            && !is_deleting(*volume)
    };
    let all: Vec<&PersistentVolume> = volumes.iter().filter(suits).collect();
    if let Some(named) = all.iter().find(|v| names_claim(v, claim)) {
        return Ok(Some(named));
    }
    if delayed {
        return Ok(None);
    }
    let is_free = |volume: &&PersistentVolume| {
        volume.spec.as_ref().is_some_and(|s| s.claim_ref.is_none())
            && volume.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Available")
            && wanted
                .as_ref()
                .is_none_or(|w| w.matches(|key| crate::meta::label(*volume, key)))
            && class_of_volume(volume) == class_of_claim(claim)
    };
    let free = all.into_iter().filter(is_free);
    Ok(free.min_by_key(|v| (access_modes(v).len(), size_of(v))))
}
