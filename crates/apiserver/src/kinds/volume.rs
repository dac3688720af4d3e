//! Rules, warnings and columns that volumes, their claims and drivers share.

use api::field::FieldError;
use serde_json::{Value, json};

use crate::kinds::columns::{list_at, text_at};
use crate::kinds::rules::{problems, require};
use crate::kinds::{Cursor, Errors};

/// The cell of the phase; what is being deleted is terminating.
pub fn phase(tree: &Value) -> Value {
    match text_at(tree, "/metadata/deletionTimestamp") {
        "" => json!(text_at(tree, "/status/phase")),
        _ => json!("Terminating"),
    }
}

/// The cell of the access modes at a JSON pointer, in letters.
pub fn mode_letters(tree: &Value, path: &str) -> Value {
    let has = |mode: &str| list_at(tree, path).any(|m| m == mode);
    let known = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let all: Vec<&str> = known
        .into_iter()
        .filter(|(mode, _)| has(mode))
        .map(|(_, short)| short)
        .collect();
    json!(all.join(","))
}

/// Sources of volumes that nothing serves any more, with the word for them.
pub const GONE: [(&str, &str); 8] = [
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
pub fn shown(source: &str) -> &str {
    if source == "storageos" { "storageOS" } else { source }
}

const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// The modes of a volume, in order.
pub const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];

/// The name of a CSI driver.
pub fn driver_name(errors: &mut Errors, at: &Cursor) {
    if !require(errors, at) {
        return;
    }
    if at.text().len() > 63 {
        errors.push(FieldError::too_long(&at.path, 63));
    }
    problems(
        errors,
        at,
        api::names::dns1123_subdomain_errors(&at.text().to_lowercase()),
    );
}

/// Refuses a specification without access modes or with unknown ones.
pub fn access_modes(errors: &mut Errors, spec: &Cursor, missing: &str) {
    let list = spec.get("accessModes");
    if list.list().is_empty() {
        errors.push(list.required(missing));
    }
}

/// Refuses unknown access modes, and the mode of a single pod beside others.
pub fn known_modes(errors: &mut Errors, spec: &Cursor) {
    let list = spec.get("accessModes");
    for mode in list.items().filter(|m| !MODES.contains(&m.text())) {
        errors.push(mode.named(&list.path).not_supported(&MODES));
    }
    let single = list.list().iter().any(|m| m == "ReadWriteOncePod");
    let other = list
        .list()
        .iter()
        .any(|m| m != "ReadWriteOncePod" && MODES.iter().any(|k| m == k));
    if single && other {
        errors.push(list.forbidden("may not use ReadWriteOncePod with other access modes"));
    }
}

/// Refuses an amount that is not above zero; returns whether it is fine.
pub fn positive_quantity(errors: &mut Errors, at: &Cursor) -> bool {
    match at.quantity() {
        Some(q) if q.is_negative() || q.is_zero() => {
            errors.push(at.wrong(q.to_string(), "must be greater than zero"));
            false
        }
        _ => true,
    }
}
