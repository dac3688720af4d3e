//! CSIStorageCapacity.

use serde_json::{Value, json};

use crate::kinds::columns::{BuiltinColumn, NAME, or, text_at};
use crate::kinds::rules::{dns_subdomain, immutable, label_selector};
use crate::kinds::storage::GROUP;
use crate::kinds::warnings::{deprecated_label, field, items, keys};
use crate::kinds::{Again, Asked, Check, Errors, Kind};

pub(in crate::kinds) const KIND: Kind = Kind {
    unconditional_update: false,
    metadata: Asked::on_update(Again::BOTH),
    warn: |told, new, _| warn(told, new),
    columns: COLUMNS,
    ..Kind::plain(GROUP, "csistoragecapacities", validate)
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("StorageClassName", "string", 0, |c| {
        json!(text_at(c, "/storageClassName"))
    }),
    ("Capacity", "string", 0, |c| or(c, "/capacity", "<unset>")),
];

/// Labels of nodes that a capacity's topology names.
fn warn(told: &mut Vec<String>, capacity: &Value) {
    let Some(topology) = capacity.get("nodeTopology") else {
        return;
    };
    for (i, expression) in items(topology.get("matchExpressions")).iter().enumerate() {
        let key = field(expression, "key");
        if let Some(why) = deprecated_label(key) {
            told.push(format!("nodeTopology.matchExpressions[{i}].key: {key} is {why}"));
        }
    }
    for key in keys(topology.get("matchLabels")) {
        told.extend(deprecated_label(key).map(|why| format!("nodeTopology.matchLabels.{key}: {why}")));
    }
}

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    let (topology, class, capacity) = (
        root.get("nodeTopology"),
        root.get("storageClassName"),
        root.get("capacity"),
    );
    label_selector(&mut errors, &topology);
    dns_subdomain(&mut errors, &class);
    if let Some(amount) = capacity.quantity().filter(api::quantity::Quantity::is_negative) {
        errors.push(capacity.wrong(amount.to_string(), "must be greater than or equal to 0"));
    }
    if let Some(old) = check.before() {
        immutable(&mut errors, &topology, &old.get("nodeTopology"));
        immutable(&mut errors, &class, &old.get("storageClassName"));
    }
    errors
}
