//! Lease.

use serde_json::json;

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, text_at};
use crate::kinds::rules::non_negative;
use crate::kinds::{Again, Asked, Check, Errors, Kind};

pub(in crate::kinds) const KIND: Kind = Kind {
    create_on_update: true,
    unconditional_update: false,
    metadata: Asked::on_update(Again::CHANGE_OF_ANY).of_any_finalizers(),
    columns: COLUMNS,
    ..Kind::plain("coordination.k8s.io", "leases", validate)
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Holder", "string", 0, |l| json!(text_at(l, "/spec/holderIdentity"))),
    AGE,
];

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let spec = check.root().get("spec");
    let seconds = spec.get("leaseDurationSeconds");
    if seconds.int().is_some_and(|n| n <= 0) {
        errors.push(seconds.invalid("must be greater than 0"));
    }
    non_negative(&mut errors, &spec.get("leaseTransitions"));
    let holder = spec.get("preferredHolder");
    if !holder.text().is_empty() && spec.get("strategy").text().is_empty() {
        errors.push(holder.forbidden("may only be specified if `strategy` is defined"));
    }
    errors
}
