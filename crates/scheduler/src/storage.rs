//! What the scheduler knows of claims, volumes and storage classes.

use std::collections::HashMap;

use api::object::Object;
use serde::Deserialize;

use crate::node_affinity::Term;
use crate::pod::RawNodeSelector;
use crate::resources::Interner;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The volume it is bound to.
    pub volume: Option<String>,
    pub class: Option<String>,
    pub deleting: bool,
    /// May be used by one pod at a time (`ReadWriteOncePod`).
    pub one_pod: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Where it can be used; everywhere without.
    pub terms: Option<Vec<Term>>,
}

/// Claims by `namespace/name`, volumes and classes by name.
#[derive(Debug, Default)]
pub struct Storage {
    pub claims: HashMap<String, Claim>,
    pub volumes: HashMap<String, Volume>,
    /// Whether binding waits for the first pod.
    pub classes: HashMap<String, bool>,
}

#[derive(Deserialize)]
struct RawClaim {
    spec: RawClaimSpec,
    #[serde(default)]
    status: RawPhase,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawClaimSpec {
    volume_name: Option<String>,
    storage_class_name: Option<String>,
    #[serde(default)]
    access_modes: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawPhase {
    phase: String,
}

#[derive(Deserialize)]
struct RawVolume {
    spec: RawVolumeSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawVolumeSpec {
    node_affinity: Option<RawVolumeAffinity>,
}

#[derive(Deserialize)]
struct RawVolumeAffinity {
    required: Option<RawNodeSelector>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawClass {
    volume_binding_mode: Option<String>,
}

impl Claim {
    pub fn of(object: &Object) -> Result<Claim, serde_json::Error> {
        let raw: RawClaim = object.decode()?;
        let bound = raw.status.phase == "Bound";
        Ok(Claim {
            volume: raw.spec.volume_name.filter(|v| bound && !v.is_empty()),
            class: raw.spec.storage_class_name,
            deleting: object.meta.deleting,
            one_pod: raw.spec.access_modes.iter().flatten().any(|m| m == "ReadWriteOncePod"),
        })
    }
}

impl Volume {
    pub fn of(object: &Object, interner: &mut Interner) -> Result<Volume, serde_json::Error> {
        let raw: RawVolume = object.decode()?;
        let required = raw.spec.node_affinity.and_then(|a| a.required);
        Ok(Volume {
            terms: required.map(|r| r.node_selector_terms.iter().map(|t| Term::of(t, interner)).collect()),
        })
    }
}

/// Whether a StorageClass binds claims only when a pod wants them.
pub fn waits_for_consumer(object: &Object) -> Result<bool, serde_json::Error> {
    let raw: RawClass = object.decode()?;
    Ok(raw.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"))
}
