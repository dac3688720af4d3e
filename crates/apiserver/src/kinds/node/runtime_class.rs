//! RuntimeClass.

use std::collections::BTreeSet;

use serde_json::json;

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, text_at};
use crate::kinds::pod_template::{placement, resources};
use crate::kinds::rules::{dns_label, immutable, labels, require};
use crate::kinds::warnings::{deprecated_label, keys};
use crate::kinds::{Again, Asked, Check, Errors, Kind};

pub(in crate::kinds) const KIND: Kind = Kind {
    unconditional_update: false,
    metadata: Asked::on_update(Again::BOTH_OF_ANY).of_any_finalizers(),
    warn: |told, new, _| {
        for key in keys(new.pointer("/scheduling/nodeSelector")) {
            told.extend(deprecated_label(key).map(|why| format!("scheduling.nodeSelector: {why}")));
        }
    },
    columns: COLUMNS,
    ..Kind::plain("node.k8s.io", "runtimeclasses", validate)
};

const COLUMNS: &[BuiltinColumn] = &[NAME, ("Handler", "string", 0, |c| json!(text_at(c, "/handler"))), AGE];

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    let handler = root.get("handler");
    if let Some(old) = check.before() {
        immutable(&mut errors, &handler, &old.get("handler"));
    }
    if require(&mut errors, &handler) {
        dns_label(&mut errors, &handler);
    }
    let overhead = root.get("overhead");
    resources::overhead(&mut errors, &overhead, &overhead.get("podFixed"));
    let scheduling = root.get("scheduling");
    labels(&mut errors, &scheduling.get("nodeSelector"));
    let tolerations = scheduling.get("tolerations");
    placement::tolerations(&mut errors, &tolerations);
    let mut seen = BTreeSet::new();
    for toleration in tolerations.items() {
        let key = ["key", "operator", "value", "effect"].map(|field| toleration.get(field).text());
        if !seen.insert(key) {
            errors.push(toleration.duplicate(toleration.value.clone()));
        }
    }
    errors
}
