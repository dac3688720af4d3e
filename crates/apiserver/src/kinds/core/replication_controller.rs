//! ReplicationController. It leaves its pods behind when nothing else is said.

use api::names;

use crate::kinds::apps::replica_set;
use crate::kinds::columns::{AGE, BuiltinColumn, NAME, label_pairs};
use crate::kinds::rules::non_negative;
use crate::kinds::warnings::{changed, named};
use crate::kinds::workload::{CURRENT, DESIRED, IMAGES, NAMES, READY, mismatch, runs_for_ever, template};
use crate::kinds::{Check, Cursor, Errors, Generation, Kind, pod_template, workload};

pub(in crate::kinds) const KIND: Kind = Kind {
    generation: Generation::Counted,
    pod_spec: workload::POD_SPEC,
    name: names::long_name_errors,
    checks_generate_name: false,
    warn: |told, new, old| {
        named(told, new, old);
        // upstream looks at the template that was before
        template(told, old.unwrap_or(new), changed(new, old));
    },
    place: Some("controllers"),
    orphan_by_default: true,
    columns: COLUMNS,
    ..Kind::new("", "replicationcontrollers", validate)
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    DESIRED,
    CURRENT,
    READY,
    AGE,
    NAMES,
    IMAGES,
    ("Selector", "string", 1, |t| label_pairs(t, "/spec/selector")),
];

/// The domain of annotations that say what could not be said in this version.
const UNCONVERTED: &str = "non-convertible.kubernetes.io";

fn validate(check: &Check) -> Errors {
    if check.is_status() {
        return replica_set::validate(check);
    }
    let mut errors = Errors::new();
    let spec = check.root().get("spec");
    non_negative(&mut errors, &spec.get("minReadySeconds"));
    let selector = spec.get("selector");
    let wanted = selector.map().filter(|m| !m.is_empty());
    if wanted.is_none() {
        errors.push(selector.required(""));
    }
    let replicas = spec.get("replicas");
    if replicas.is_some() {
        non_negative(&mut errors, &replicas);
    } else {
        errors.push(replicas.required(""));
    }
    let template = spec.get("template");
    if !template.is_some() {
        errors.push(template.required(""));
        return errors;
    }
    let labels = template.at(&["metadata", "labels"]);
    if wanted.is_some_and(|w| w.iter().any(|(key, value)| labels.value.get(key) != Some(value))) {
        mismatch(&mut errors, &labels);
    }
    pod_template::template(&mut errors, &template);
    runs_for_ever(&mut errors, &template.get("spec"), "ReplicationController");
    if let Some(old) = check.before() {
        unconverted(&mut errors, &selector, &old);
    }
    errors
}

/// A controller that was made of one with a selector that it cannot have does not get another one.
fn unconverted(errors: &mut Errors, selector: &Cursor, old: &Cursor) {
    for (key, value) in old.at(&["metadata", "annotations"]).entries() {
        let Some((_, field)) = key.split_once('/').filter(|(_, field)| !field.contains('/')) else {
            continue;
        };
        if !key.starts_with(UNCONVERTED) {
            continue;
        }
        if !field.contains("selector") {
            let mut error = value.named(field).not_found(value.text());
            error.detail = "unknown non-convertible field".into();
            errors.push(error);
        } else if selector.value != old.at(&["spec", "selector"]).value {
            errors.push(selector.invalid("cannot update non-convertible selector"));
        }
    }
}
