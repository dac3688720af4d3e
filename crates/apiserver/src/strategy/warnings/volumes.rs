//! Warnings of volumes, their claims, classes and drivers.

use serde_json::Value;

use super::{deprecated_label, field, fraction, has, items, selector_term};

/// Sources of volumes that nothing serves any more, with the word for them.
pub(super) const GONE: [(&str, &str); 8] = [
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// The name by which a warning calls a source.
pub(super) fn shown(source: &str) -> &str {
    if source == "storageos" { "storageOS" } else { source }
}

pub(super) fn volume(told: &mut Vec<String>, volume: &Value) {
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

pub(super) fn claim(told: &mut Vec<String>, claim: &Value) {
    let key = "volume.beta.kubernetes.io/storage-class";
    if has(&claim["metadata"]["annotations"], key) {
        told.push(format!(
            "metadata.annotations[{key}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
        ));
    }
    claim_spec(told, &claim["spec"], || "spec".to_owned());
}

pub(super) fn claim_spec(told: &mut Vec<String>, spec: &Value, at: impl Fn() -> String) {
    for list in ["requests", "limits"] {
        if let Some(why) = fraction(spec["resources"].get(list), "storage") {
            told.push(format!("{}.resources.{list}[storage]: {why}", at()));
        }
    }
}

pub(super) fn class(told: &mut Vec<String>, class: &Value) {
    for (i, topology) in items(class.get("allowedTopologies")).iter().enumerate() {
        for (j, expression) in items(topology.get("matchLabelExpressions")).iter().enumerate() {
            if let Some(why) = deprecated_label(field(expression, "key")) {
                told.push(format!("allowedTopologies[{i}].matchLabelExpressions[{j}].key: {why}"));
            }
        }
    }
}

pub(super) fn driver(told: &mut Vec<String>, driver: &Value, old: Option<&Value>) {
    let requests = |driver: &Value| items(driver.pointer("/spec/tokenRequests")).to_vec();
    let asked = requests(driver);
    let new = !asked.is_empty() && old.is_none_or(|old| requests(old) != asked);
    if new && !has(&driver["spec"], "serviceAccountTokenInSecrets") {
        told.push(
            "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible \
             logging of tokens in volume attributes"
                .to_owned(),
        );
    }
}
