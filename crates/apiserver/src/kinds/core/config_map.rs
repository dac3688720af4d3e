//! ConfigMap.

use api::field::FieldError;
use serde_json::json;

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, length};
use crate::kinds::core::data::{LIMIT, decoded_length, frozen, key};
use crate::kinds::{Again, Asked, Check, Errors, Kind};

pub(in crate::kinds) const KIND: Kind = Kind {
    metadata: Asked::on_update(Again::BOTH),
    columns: COLUMNS,
    reads: Some(READS),
    ..Kind::plain("", "configmaps", validate)
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Data", "string", 0, |m| {
        let size = |path: &str| length(m, path).as_u64().unwrap_or(0);
        json!(size("/data") + size("/binaryData"))
    }),
    AGE,
];

const READS: &[&str] = &["metadata/name", "metadata/creationTimestamp", "data/*", "binaryData/*"];

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    frozen(&mut errors, check, &["data", "binaryData"]);
    let root = check.root();
    let (data, binary) = (root.get("data"), root.get("binaryData"));
    let mut size = 0;
    for (name, value) in data.entries() {
        key(&mut errors, name, &value);
        if binary.get(name).is_some() {
            errors.push(value.wrong(name, "duplicate of key present in binaryData"));
        }
        size += value.text().len();
    }
    for (name, value) in binary.entries() {
        key(&mut errors, name, &value);
        size += decoded_length(value.text());
    }
    if size > LIMIT {
        errors.push(FieldError::too_long("[]", LIMIT));
    }
    errors
}
