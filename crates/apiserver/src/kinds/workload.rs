//! Rules, warnings and columns that the kinds share that make pods of a template.

use api::selectors::LabelSelector;
use serde_json::{Value, json};

use crate::kinds::columns::{BuiltinColumn, container_images, container_names, count, selector_text};
use crate::kinds::kind::Path;
use crate::kinds::pod_template::warnings;
use crate::kinds::rules::{label_selector, non_negative};
use crate::kinds::warnings::{changed, named};
use crate::kinds::{Check, Cursor, Errors, pod_template};

/// The way to the specification of pods.
pub const POD_SPEC: Path = &["spec", "template", "spec"];

/// Warns of a workload whose pods bear its name.
pub fn warn(told: &mut Vec<String>, new: &Value, old: Option<&Value>) {
    named(told, new, old);
    template(told, new, changed(new, old));
}

const CONTAINERS: &str = "/spec/template/spec/containers";

/// The names of the containers of the template.
pub const NAMES: BuiltinColumn = ("Containers", "string", 1, |t| container_names(t, CONTAINERS));

/// The images of the containers of the template.
pub const IMAGES: BuiltinColumn = ("Images", "string", 1, |t| container_images(t, CONTAINERS));

/// The label selector.
pub const SELECTOR: BuiltinColumn = ("Selector", "string", 1, |t| {
    selector_text(t, "/spec/selector", "<none>")
});

/// The number of pods asked for.
pub const DESIRED: BuiltinColumn = ("Desired", "integer", 0, |r| json!(count(r, "/spec/replicas")));

/// The number of pods there are.
pub const CURRENT: BuiltinColumn = ("Current", "integer", 0, |r| json!(count(r, "/status/replicas")));

/// The number of pods that are ready.
pub const READY: BuiltinColumn = ("Ready", "integer", 0, |r| json!(count(r, "/status/readyReplicas")));

/// The number of pods that are ready, of those asked for.
pub fn ready_of_desired(set: &Value) -> Value {
    json!(format!(
        "{}/{}",
        count(set, "/status/readyReplicas"),
        count(set, "/spec/replicas")
    ))
}

/// Warns of the template of a workload, when it is new.
pub fn template(told: &mut Vec<String>, object: &Value, changed: bool) {
    if changed {
        warnings::pod(told, &object["spec"]["template"], "spec.template");
    }
}

/// The fields of a rolling update as Go shows them.
pub const ROLLING: [(&str, &str, &str); 2] = [("MaxUnavailable", "maxUnavailable", "0"), ("MaxSurge", "maxSurge", "0")];

/// Refuses negative numbers in these fields.
pub fn all_non_negative(errors: &mut Errors, at: &Cursor, fields: &[&'static str]) {
    for field in fields {
        non_negative(errors, &at.get(field));
    }
}

/// Whether the selector, if it can be read, takes pods of the template.
pub fn selects(selector: &Cursor, labels: &Cursor) -> bool {
    if !selector.is_some() {
        return false;
    }
    LabelSelector::from_tree(selector.value)
        .is_ok_and(|s| s.matches(|key| labels.value.get(key).and_then(Value::as_str)))
}

/// Whether a label selector has no terms.
pub fn is_empty(selector: &Cursor) -> bool {
    selector.get("matchLabels").map().is_none_or(|m| m.is_empty()) && selector.get("matchExpressions").list().is_empty()
}

/// Whether a label selector can be parsed.
pub fn readable(selector: &Cursor) -> bool {
    !selector.is_some() || LabelSelector::from_tree(selector.value).is_ok()
}

/// Refuses labels that the selector does not match.
pub fn mismatch(errors: &mut Errors, labels: &Cursor) {
    errors.push(labels.invalid("`selector` does not match template `labels`"));
}

/// What a template of pods that are to run for ever must keep to.
pub fn runs_for_ever(errors: &mut Errors, spec: &Cursor, kind: &str) {
    let policy = spec.get("restartPolicy");
    if policy.text() != "Always" {
        errors.push(policy.not_supported(&["Always"]));
    }
    let deadline = spec.get("activeDeadlineSeconds");
    if deadline.is_some() {
        errors.push(deadline.forbidden(format!("activeDeadlineSeconds in {kind} is not Supported")));
    }
}

/// A selector that must be there and select something; `owner` is the kind that an error names.
pub fn required_selector(errors: &mut Errors, selector: &Cursor, owner: &str) {
    if !selector.is_some() {
        errors.push(selector.required(""));
        return;
    }
    label_selector(errors, selector);
    if is_empty(selector) {
        errors.push(selector.invalid(format!("empty selector is invalid for {owner}")));
    }
}

/// The selector and the template of a Deployment or ReplicaSet.
pub fn selector_and_template(errors: &mut Errors, spec: &Cursor) {
    let selector = spec.get("selector");
    required_selector(errors, &selector, "deployment");
    if !readable(&selector) {
        errors.push(selector.invalid("invalid label selector"));
        return;
    }
    let template = spec.get("template");
    let labels = template.at(&["metadata", "labels"]);
    // a selector that is missing takes nothing, an empty one is refused already
    let empty = selector.is_some() && is_empty(&selector);
    if !empty && !selects(&selector, &labels) {
        mismatch(errors, &labels);
    }
    pod_template::template(errors, &template);
    runs_for_ever(errors, &template.get("spec"), "ReplicaSet");
}

/// Replicas of a kind cannot be more than there are.
pub fn counted(errors: &mut Errors, status: &Cursor, fields: &[&'static str], ready_name: &str) {
    let count = |field: &'static str| status.get(field).int().unwrap_or(0);
    for field in fields {
        if count(field) > count("replicas") {
            errors.push(status.get(field).invalid("cannot be greater than status.replicas"));
        }
    }
    if count("availableReplicas") > count("readyReplicas") {
        let at = status.get("availableReplicas");
        errors.push(at.invalid(format!("cannot be greater than {ready_name}")));
    }
}

/// Refuses a collision count that goes down.
pub fn not_decremented(errors: &mut Errors, check: &Check) {
    let count = |root: Option<Cursor>| root.and_then(|r| r.at(&["status", "collisionCount"]).int());
    let (now, before) = (count(Some(check.root())), count(check.before()));
    if before.is_some_and(|b| now.is_none_or(|n| n < b)) {
        let at = check.root().at(&["status", "collisionCount"]);
        errors.push(at.wrong(now.unwrap_or(0), "cannot be decremented"));
    }
}
