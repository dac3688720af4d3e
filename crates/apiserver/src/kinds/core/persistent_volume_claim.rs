//! PersistentVolumeClaim. The source of a volume's first content is said in two fields that must agree: KEP-1495.

use api::field::FieldError;
use api::quantity::Quantity;
use serde_json::{Value, json};

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, or, text_at};
use crate::kinds::rules::{
    dns_label, dns_subdomain, immutable, is_native_resource, label_selector, one_of_or_none, require, resource_quantity,
};
use crate::kinds::volume::{VOLUME_MODES, access_modes, known_modes, mode_letters, phase, positive_quantity};
use crate::kinds::warnings::{fraction, has};
use crate::kinds::{Again, Asked, Check, Cursor, Errors, Kind};
use crate::tree::{keep, text};

pub(in crate::kinds) const KIND: Kind = Kind {
    prepare_create: |claim, _| sources(claim, None),
    prepare_update: |new, old, _| sources(new, Some(old)),
    metadata: Asked::on_update(Again::BOTH),
    warn: |told, new, _| warn(told, new),
    returns_deleted: true,
    columns: COLUMNS,
    ..Kind::new("", "persistentvolumeclaims", validate)
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Status", "string", 0, phase),
    ("Volume", "string", 0, |c| json!(text_at(c, "/spec/volumeName"))),
    ("Capacity", "string", 0, |c| match text_at(c, "/spec/volumeName") {
        "" => json!(""),
        _ => or(c, "/status/capacity/storage", "0"),
    }),
    ("Access Modes", "string", 0, |c| match text_at(c, "/spec/volumeName") {
        "" => json!(""),
        _ => mode_letters(c, "/status/accessModes"),
    }),
    ("StorageClass", "string", 0, |c| {
        json!(text_at(c, "/spec/storageClassName"))
    }),
    ("VolumeAttributesClass", "string", 0, |c| {
        or(c, "/spec/volumeAttributesClassName", "<unset>")
    }),
    AGE,
    ("VolumeMode", "string", 1, |c| or(c, "/spec/volumeMode", "<unset>")),
];

fn warn(told: &mut Vec<String>, claim: &Value) {
    let key = "volume.beta.kubernetes.io/storage-class";
    if has(&claim["metadata"]["annotations"], key) {
        told.push(format!(
            "metadata.annotations[{key}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
        ));
    }
    warn_of_spec(told, &claim["spec"], || "spec".to_owned());
}

/// Warns of a claim that asks for a part of a byte; `at` is the path of its spec. For templates of claims too.
pub fn warn_of_spec(told: &mut Vec<String>, spec: &Value, at: impl Fn() -> String) {
    for list in ["requests", "limits"] {
        if let Some(why) = fraction(spec["resources"].get(list), "storage") {
            told.push(format!("{}.resources.{list}[storage]: {why}", at()));
        }
    }
}

/// Where a claim said its class before there was a field.
const CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// A claim's spec, alone or in a template.
pub fn spec(errors: &mut Errors, spec: &Cursor) {
    access_modes(errors, spec, "at least 1 access mode is required");
    label_selector(errors, &spec.get("selector"));
    known_modes(errors, spec);
    let wanted = spec.at(&["resources", "requests", "storage"]);
    let wanted = wanted.named(format!("{}.resources[storage]", spec.path));
    if !wanted.is_some() {
        errors.push(wanted.required(""));
    } else if positive_quantity(errors, &wanted) {
        resource_quantity(errors, &wanted, "storage");
    }
    let class = spec.get("storageClassName");
    if !class.text().is_empty() {
        dns_subdomain(errors, &class);
    }
    one_of_or_none(errors, &spec.get("volumeMode"), &VOLUME_MODES);
    let (source, reference) = (spec.get("dataSource"), spec.get("dataSourceRef"));
    for at in [&source, &reference] {
        if at.is_some() {
            data_source(errors, at);
        }
    }
    if !reference.get("namespace").text().is_empty() {
        dns_label(errors, &reference.get("namespace"));
        if source.is_some() {
            errors.push(spec.wrong(
                json!({}),
                "may not be specified when dataSourceRef.namespace is specified",
            ));
        }
    } else if source.is_some() && reference.is_some() {
        let same = |field: &'static str| source.get(field).value == reference.get(field).value;
        if !["apiGroup", "kind", "name"].into_iter().all(same) {
            // upstream shows the place as a struct without members
            errors.push(spec.wrong(json!({}), "must match dataSourceRef"));
        }
    }
    let class = spec.get("volumeAttributesClassName");
    if !class.text().is_empty() {
        dns_subdomain(errors, &class);
    }
}

fn data_source(errors: &mut Errors, at: &Cursor) {
    require(errors, &at.get("name"));
    require(errors, &at.get("kind"));
    let (group, kind) = (at.get("apiGroup"), at.get("kind"));
    if group.text().is_empty() {
        if kind.text() != "PersistentVolumeClaim" {
            let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.push(at.wrong(kind.text(), why));
        }
    } else {
        dns_subdomain(errors, &group);
    }
}

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    if check.is_status() {
        claim_status(&mut errors, &root.get("status"));
        return errors;
    }
    spec(&mut errors, &root.get("spec"));
    if let Some(old) = check.before() {
        claim_update(&mut errors, &root, &old);
    }
    errors
}

fn claim_status(errors: &mut Errors, status: &Cursor) {
    const STATUSES: [&str; 5] = [
        "ControllerResizeInProgress",
        "ControllerResizeInfeasible",
        "NodeResizeInProgress",
        "NodeResizeInfeasible",
        "NodeResizePending",
    ];
    for (_, amount) in status.get("capacity").entries() {
        basic(errors, &amount);
    }
    for (name, resize) in status.get("allocatedResourceStatuses").entries() {
        let at = status.get("allocatedResourceStatuses");
        if is_native_resource(name) && name != "storage" {
            errors.push(FieldError::not_supported(&at.path, json!(name), &["storage"]));
        }
        if !STATUSES.contains(&resize.text()) {
            errors.push(FieldError::not_supported(&at.path, json!(name), &STATUSES));
        }
    }
    for (name, amount) in status.get("allocatedResources").entries() {
        if is_native_resource(name) && name != "storage" {
            let at = status.get("allocatedResources");
            errors.push(FieldError::not_supported(&at.path, json!(name), &["storage"]));
        }
        basic(errors, &amount);
    }
}

/// Checks that a quantity is not negative.
pub fn basic(errors: &mut Errors, at: &Cursor) {
    if let Some(q) = at.quantity().filter(api::quantity::Quantity::is_negative) {
        errors.push(at.wrong(q.value(), "must be a valid resource quantity"));
    }
}

fn claim_update(errors: &mut Errors, root: &Cursor, old: &Cursor) {
    let (spec, before) = (root.get("spec"), old.get("spec"));
    let mut munged = spec.value.clone();
    if before.get("volumeName").text().is_empty() {
        keep(&mut munged, before.value, "volumeName");
    }
    let class = |at: &Cursor| at.get("storageClassName").value.as_str().map(str::to_owned);
    let annotation = |at: &Cursor| {
        at.at(&["metadata", "annotations", CLASS])
            .value
            .as_str()
            .map(str::to_owned)
    };
    let (was, now) = (annotation(old), annotation(root));
    // a claim without a class may get one once: of old the annotation said it
    let fits = class(&before).is_none() && class(&spec).is_some();
    let upgraded = fits && was.is_some() && class(&spec) == was && (now.is_none() || now == was);
    if !upgraded && now != was {
        let at = spec.named(format!("metadata.annotations.{CLASS}"));
        errors.push(at.wrong(now.unwrap_or_default(), "field is immutable"));
    }
    if fits && (was.is_none() || class(&spec) == was) {
        keep(&mut munged, before.value, "storageClassName");
    }
    if root.at(&["status", "phase"]).text() == "Bound" {
        if let (Some(to), Some(from)) = (
            munged.pointer_mut("/resources/requests"),
            before.value.pointer("/resources/requests"),
        ) {
            keep(to, from, "storage");
        }
        keep(&mut munged, before.value, "volumeAttributesClassName");
    }
    if munged != *before.value {
        let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound \
                   claims";
        errors.push(spec.forbidden(why));
    }
    let way = ["resources", "requests", "storage"];
    let size = spec.at(&way);
    // what is not said is nothing
    let amount = |at: Cursor| at.quantity().unwrap_or(Quantity::ZERO);
    let (now, then) = (amount(spec.at(&way)), amount(before.at(&way)));
    if now < then && now <= amount(old.at(&["status", "capacity", "storage"])) {
        errors.push(size.forbidden("field can not be less than status.capacity"));
    }
    let mode = spec.get("volumeMode");
    immutable(errors, &mode.named("volumeMode"), &before.get("volumeMode"));
    let class = spec.get("volumeAttributesClassName");
    if class.value != before.get("volumeAttributesClassName").value
        && old.at(&["status", "currentVolumeAttributesClassName"]).is_some()
        && class.text().is_empty()
    {
        let what = if class.is_some() { "empty string" } else { "nil" };
        let why = format!("update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil");
        errors.push(class.forbidden(why));
    }
}

fn is_set(claim: &Value, field: &str) -> bool {
    claim
        .get("spec")
        .and_then(|s| s.get(field))
        .is_some_and(|v| !v.is_null())
}

fn sources(claim: &mut Value, old: Option<&Value>) {
    let same = |field: &str| old.is_some_and(|old| old["spec"].get(field) == claim["spec"].get(field));
    if same("dataSource") && same("dataSourceRef") {
        return;
    }
    let (was_set, was_referred) = match old {
        Some(old) => (is_set(old, "dataSource"), is_set(old, "dataSourceRef")),
        None => (false, false),
    };
    let Some(spec) = claim.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    let set = |spec: &serde_json::Map<String, Value>, field: &str| spec.get(field).filter(|v| !v.is_null()).cloned();
    let mut reference = set(spec, "dataSourceRef");
    // sources in other namespaces are off by default upstream, and dropped
    let elsewhere = |reference: &Value| text(reference, &["namespace"]).is_some_and(|n| !n.is_empty());
    if !was_referred && reference.as_ref().is_some_and(elsewhere) {
        reference = None;
    }
    let mut source = set(spec, "dataSource");
    // of old only claims and snapshots counted; anything else was as if it were not there
    if !was_set && !was_referred && reference.is_none() {
        source = source.filter(|source| {
            let group = text(source, &["apiGroup"]).unwrap_or_default();
            let kind = text(source, &["kind"]).unwrap_or_default();
            matches!(
                (group, kind),
                ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
            )
        });
    }
    match (&source, &reference) {
        (Some(one), None) => reference = Some(one.clone()),
        (None, Some(one)) if !elsewhere(one) => source = Some(one.clone()),
        _ => {}
    }
    for (field, value) in [("dataSource", source), ("dataSourceRef", reference)] {
        match value {
            Some(value) => spec.insert(field.into(), value),
            None => spec.remove(field),
        };
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn both(spec: Value) -> (Value, Value) {
        let mut claim = json!({ "spec": spec });
        sources(&mut claim, None);
        (
            claim["spec"]["dataSource"].take(),
            claim["spec"]["dataSourceRef"].take(),
        )
    }

    #[test]
    fn each_of_the_two_sources_is_copied_to_the_other_and_old_ones_of_other_kinds_are_dropped() {
        let claim = json!({ "kind": "PersistentVolumeClaim", "name": "x" });
        assert_eq!(both(json!({ "dataSource": claim })), (claim.clone(), claim.clone()));
        let filler = json!({ "apiGroup": "pop.example.com", "kind": "Filler", "name": "x" });
        assert_eq!(both(json!({ "dataSourceRef": filler })), (filler.clone(), filler));
        let pod = json!({ "kind": "Pod", "name": "x" });
        assert_eq!(both(json!({ "dataSource": pod })), (Value::Null, Value::Null));
        let elsewhere = json!({ "kind": "PersistentVolumeClaim", "name": "x", "namespace": "n" });
        assert_eq!(both(json!({ "dataSourceRef": elsewhere })), (Value::Null, Value::Null));
    }
}
