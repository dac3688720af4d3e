//! PersistentVolume.

pub mod validation;

use serde_json::{Value, json};

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, or, text_at};
use crate::kinds::volume::{GONE, mode_letters, phase, shown};
use crate::kinds::warnings::{field, has, items, selector_term};
use crate::kinds::{Again, Asked, Kind};
use crate::tree::text;

pub(in crate::kinds) const KIND: Kind = Kind {
    prepare_create: |object, writer| {
        object["status"] = json!({ "phase": "Pending", "lastPhaseTransitionTime": writer.now });
    },
    prepare_update: date_phase,
    metadata: Asked::on_update(Again::BOTH),
    warn: |told, new, _| warn(told, new),
    returns_deleted: true,
    columns: COLUMNS,
    ..Kind::new("", "persistentvolumes", validation::validate)
};

/// A volume notes when its phase changed.
fn date_phase(new: &mut Value, old: &Value, now: &str) {
    const SINCE: &str = "lastPhaseTransitionTime";
    let since = |volume: &Value| text(volume, &["status", SINCE]).map(str::to_owned);
    let phase = |volume: &Value| text(volume, &["status", "phase"]).unwrap_or_default().to_owned();
    let (is, was) = (since(new), since(old));
    let kept = match phase(new) == phase(old) {
        true if is.is_none() => was,
        false if is.is_none() || is == was => Some(now.to_owned()),
        _ => return,
    };
    if let Some(time) = kept {
        new["status"][SINCE] = json!(time);
    }
}

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Capacity", "string", 0, |v| or(v, "/spec/capacity/storage", "0")),
    ("Access Modes", "string", 0, |v| mode_letters(v, "/spec/accessModes")),
    ("Reclaim Policy", "string", 0, |v| {
        json!(text_at(v, "/spec/persistentVolumeReclaimPolicy"))
    }),
    ("Status", "string", 0, phase),
    ("Claim", "string", 0, |v| match v.pointer("/spec/claimRef") {
        Some(claim) => json!(format!("{}/{}", text_at(claim, "/namespace"), text_at(claim, "/name"))),
        None => json!(""),
    }),
    ("StorageClass", "string", 0, |v| {
        json!(text_at(v, "/spec/storageClassName"))
    }),
    ("VolumeAttributesClass", "string", 0, |v| {
        or(v, "/spec/volumeAttributesClassName", "<unset>")
    }),
    ("Reason", "string", 0, |v| json!(text_at(v, "/status/reason"))),
    AGE,
    ("VolumeMode", "string", 1, |v| or(v, "/spec/volumeMode", "<unset>")),
];

fn warn(told: &mut Vec<String>, volume: &Value) {
    let annotations = &volume["metadata"]["annotations"];
    for (key, why) in [
        (
            "volume.beta.kubernetes.io/storage-class",
            "deprecated since v1.8; use \"storageClassName\" attribute instead",
        ),
        (
            "volume.beta.kubernetes.io/mount-options",
            "deprecated since v1.31; use \"mountOptions\" attribute instead",
        ),
    ] {
        if has(annotations, key) {
            told.push(format!("metadata.annotations[{key}]: {why}"));
        }
    }
    let spec = &volume["spec"];
    if field(spec, "persistentVolumeReclaimPolicy") == "Recycle" {
        told.push(
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended \
             approach is to use dynamic provisioning."
                .to_owned(),
        );
    }
    let terms = spec.pointer("/nodeAffinity/required/nodeSelectorTerms");
    for (i, term) in items(terms).iter().enumerate() {
        let at = || format!("spec.nodeAffinity.required.nodeSelectorTerms[{i}]");
        selector_term(told, term, false, at);
    }
    const OF_VOLUMES: [&str; 6] = [
        "cephfs",
        "photonPersistentDisk",
        "scaleIO",
        "storageos",
        "glusterfs",
        "rbd",
    ];
    for source in OF_VOLUMES.into_iter().filter(|source| has(spec, source)) {
        let why = GONE.iter().find(|(name, _)| *name == source).map_or("", |(_, why)| why);
        told.push(format!("spec.{}: {why}", shown(source)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_notes_when_its_phase_changed_unless_its_writer_does() {
        let volume =
            |phase: &str, since: Value| json!({ "status": { "phase": phase, "lastPhaseTransitionTime": since } });
        let since = |phase: &str, since: Value| {
            let mut new = volume(phase, since);
            date_phase(&mut new, &volume("Pending", json!("before")), "now");
            new["status"]["lastPhaseTransitionTime"].take()
        };
        assert_eq!(since("Pending", Value::Null), "before");
        assert_eq!(since("Bound", Value::Null), "now");
        assert_eq!(since("Bound", json!("before")), "now");
        assert_eq!(since("Bound", json!("said")), "said");
    }
}
