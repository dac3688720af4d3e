//! PodDisruptionBudget.

use api::names;
use serde_json::json;

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, count, int_or};
use crate::kinds::rules::{go_struct, int_or_percent, label_selector, non_negative, not_more_than_all, one_of_or_none};
use crate::kinds::{Asked, Check, Errors, Generation, Kind};

pub(in crate::kinds) const KIND: Kind = Kind {
    unconditional_update: false,
    generation: Generation::Counted,
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
