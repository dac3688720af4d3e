//! ResourceClaim.

use serde_json::{Value, json};

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, list_at, text_at};
use crate::kinds::resource::devices::devices;
use crate::kinds::resource::{GROUP, device_status};
use crate::kinds::rules::immutable;
use crate::kinds::{Again, Asked, Check, Errors, Kind, STATUS_ALONE};

pub(in crate::kinds) const KIND: Kind = Kind {
    parts: &[STATUS_ALONE],
    metadata: Asked::on_update(Again::BOTH).and_on_status(Again::NONE),
    admin_access: super::devices::admin_access,
    returns_deleted: true,
    columns: COLUMNS,
    ..Kind::new(GROUP, "resourceclaims", validate)
};

const COLUMNS: &[BuiltinColumn] = &[NAME, ("State", "string", 0, claim_state), AGE];

fn claim_state(claim: &Value) -> Value {
    let mut states = Vec::new();
    if !text_at(claim, "/metadata/deletionTimestamp").is_empty() {
        states.push("deleted");
    }
    if claim.pointer("/status/allocation").is_none() {
        states.push("pending");
    } else {
        states.push("allocated");
        if list_at(claim, "/status/reservedFor").count() > 0 {
            states.push("reserved");
        }
    }
    json!(states.join(","))
}

/// Returns everything in which an object breaks the rules of its kind.
pub fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let spec = check.root().get("spec");
    match check.before() {
        _ if check.is_status() => device_status::update(&mut errors, check),
        // what nobody may change is not asked again
        Some(old) => immutable(&mut errors, &spec, &old.get("spec")),
        None => devices(&mut errors, &spec.get("devices")),
    }
    errors
}
