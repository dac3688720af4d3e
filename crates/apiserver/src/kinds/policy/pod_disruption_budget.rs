//! PodDisruptionBudget.

use api::names;
use serde_json::{Value, json};

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, count, int_or};
use crate::kinds::rules::{go_struct, int_or_percent, label_selector, non_negative, not_more_than_all, one_of_or_none};
use crate::kinds::{Asked, Check, Errors, Generation, Kind};

pub(in crate::kinds) const KIND: Kind = Kind {
    unconditional_update: false,
    generation: Generation::Counted,
    counts_sent: true,
    prepare_create: |budget, _| strip_old_label(budget),
    prepare_update: |new, old, _| {
        if new.pointer("/spec/selector") != old.pointer("/spec/selector") {
            strip_old_label(new);
        }
    },
    name: names::path_segment_errors,
    metadata: Asked::LAST,
    columns: COLUMNS,
    ..Kind::new("policy", "poddisruptionbudgets", validate)
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Min Available", "string", 0, |b| int_or(b, "/spec/minAvailable", "N/A")),
    ("Max Unavailable", "string", 0, |b| {
        int_or(b, "/spec/maxUnavailable", "N/A")
    }),
    ("Allowed Disruptions", "integer", 0, |b| {
        json!(count(b, "/status/disruptionsAllowed"))
    }),
    AGE,
];

/// The label by which an older version told selectors of nothing from selectors of everything. It means something only where it
/// stands alone.
const OLD_LABEL: &str = "pdb.kubernetes.io/deprecated-v1beta1-empty-selector-match";

fn strip_old_label(budget: &mut Value) {
    let nothing = json!({ "matchExpressions": [{ "key": OLD_LABEL, "operator": "Exists" }] });
    let selector = budget
        .pointer_mut("/spec/selector")
        .filter(|selector| **selector != nothing);
    let Some(selector) = selector.and_then(Value::as_object_mut) else {
        return;
    };
    if let Some(terms) = selector.get_mut("matchExpressions").and_then(Value::as_array_mut) {
        terms.retain(|term| term["key"] != OLD_LABEL);
        if terms.is_empty() {
            selector.remove("matchExpressions");
        }
    }
}

fn validate(check: &Check) -> Errors {
    const FIELDS: [(&str, &str, &str); 4] = [
        ("MinAvailable", "minAvailable", "null"),
        ("Selector", "selector", "null"),
        ("MaxUnavailable", "maxUnavailable", "null"),
        ("UnhealthyPodEvictionPolicy", "unhealthyPodEvictionPolicy", "null"),
    ];
    let mut errors = Errors::new();
    let root = check.root();
    if check.is_status() {
        for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
            non_negative(&mut errors, &root.at(&["status", field]));
        }
        return errors;
    }
    let spec = root.get("spec");
    let (least, most) = (spec.get("minAvailable"), spec.get("maxUnavailable"));
    if least.is_some() && most.is_some() {
        let error = spec.invalid("minAvailable and maxUnavailable cannot be both set");
        errors.push(error.shown(&go_struct(&spec, &FIELDS)));
    }
    for at in [&least, &most] {
        int_or_percent(&mut errors, at);
        not_more_than_all(&mut errors, at);
    }
    label_selector(&mut errors, &spec.get("selector"));
    let policy = spec.get("unhealthyPodEvictionPolicy");
    one_of_or_none(&mut errors, &policy, &["AlwaysAllow", "IfHealthyBudget"]);
    errors
}
