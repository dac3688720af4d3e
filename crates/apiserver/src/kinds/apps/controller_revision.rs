//! ControllerRevision.

use serde_json::{Value, json};

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, count, flag, list_at, text_at};
use crate::kinds::rules::{immutable, non_negative};
use crate::kinds::{Again, Asked, Check, Errors, Kind};

pub(in crate::kinds) const KIND: Kind = Kind {
    metadata: Asked::on_update(Again::BOTH),
    columns: COLUMNS,
    ..Kind::plain("apps", "controllerrevisions", validate)
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Controller", "string", 0, controller),
    ("Revision", "string", 0, |r| json!(count(r, "/revision"))),
    AGE,
];

fn controller(revision: &Value) -> Value {
    let Some(owner) = list_at(revision, "/metadata/ownerReferences").find(|o| flag(o, "/controller")) else {
        return json!("<none>");
    };
    let group = text_at(owner, "/apiVersion")
        .split_once('/')
        .map(|(g, _)| format!(".{g}"))
        .unwrap_or_default();
    json!(format!(
        "{}{group}/{}",
        text_at(owner, "/kind").to_lowercase(),
        text_at(owner, "/name")
    ))
}

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    non_negative(&mut errors, &root.get("revision"));
    let data = root.get("data");
    match check.before() {
        Some(old) => immutable(&mut errors, &data, &old.get("data")),
        None if !data.is_some() => errors.push(data.required("data is mandatory")),
        None if data.map().is_none() => errors.push(data.required("data must be a valid JSON object")),
        None => {}
    }
    errors
}
