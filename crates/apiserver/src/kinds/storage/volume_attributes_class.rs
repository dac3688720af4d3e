//! VolumeAttributesClass.

use serde_json::json;

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, text_at};
use crate::kinds::storage::storage_class::provisioner;
use crate::kinds::storage::{GROUP, parameters};
use crate::kinds::{Again, Asked, Check, Errors, Kind};

pub(in crate::kinds) const KIND: Kind = Kind {
    metadata: Asked::on_update(Again::BOTH),
    returns_deleted: true,
    columns: COLUMNS,
    ..Kind::plain(GROUP, "volumeattributesclasses", validate)
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("DriverName", "string", 0, |c| json!(text_at(c, "/driverName"))),
    AGE,
];

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    let parameters_at = root.get("parameters");
    if let Some(old) = check.before() {
        for field in ["driverName", "parameters"] {
            let at = root.get(field);
            if at.value != old.get(field).value {
                errors.push(at.forbidden(format!("updates to {field} are forbidden.")));
            }
        }
    }
    provisioner(&mut errors, &root.get("driverName"));
    parameters(&mut errors, &parameters_at);
    if parameters_at.map().is_none_or(serde_json::Map::is_empty) {
        errors.push(parameters_at.required("must contain at least one key/value pair"));
    }
    errors
}
