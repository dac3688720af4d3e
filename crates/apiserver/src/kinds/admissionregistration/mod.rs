//! Webhooks and policies of admission.

pub mod expression;
mod match_conditions;
pub mod mutating_admission_policy;
pub mod mutating_admission_policy_binding;
pub mod mutating_webhook_configuration;
mod policy;
mod resource_rule;
pub mod scope;
pub mod validating_admission_policy;
pub mod validating_admission_policy_binding;
pub mod validating_webhook_configuration;
mod webhook;

use serde_json::{Value, json};

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, length, text_at};
use crate::kinds::{Again, Asked, Check, Errors, Generation, Kind, STATUS_ALONE};

/// A kind of this group, but for its columns.
const fn of_admission(plural: &'static str, validate: fn(&Check) -> Errors) -> Kind {
    Kind {
        unconditional_update: false,
        generation: Generation::Counted,
        parts: &[STATUS_ALONE],
        metadata: Asked::on_update(Again::WHOLE_OF_ANY)
            .and_on_status(Again::NONE)
            .of_any_finalizers(),
        ..Kind::new("admissionregistration.k8s.io", plural, validate)
    }
}

const WEBHOOKS: &[BuiltinColumn] = &[NAME, ("Webhooks", "integer", 0, |w| length(w, "/webhooks")), AGE];

const POLICY_BINDINGS: &[BuiltinColumn] = &[
    NAME,
    ("PolicyName", "string", 0, |b| json!(text_at(b, "/spec/policyName"))),
    ("ParamRef", "string", 0, |b| {
        match (
            text_at(b, "/spec/paramRef/namespace"),
            text_at(b, "/spec/paramRef/name"),
        ) {
            (_, "") => json!("<unset>"),
            ("", name) => json!(format!("*/{name}")),
            (namespace, name) => json!(format!("{namespace}/{name}")),
        }
    }),
    AGE,
];

/// The cell of the kind of parameters.
pub fn param_kind(policy: &Value) -> Value {
    match policy.pointer("/spec/paramKind") {
        Some(kind) => json!(format!("{}/{}", text_at(kind, "/apiVersion"), text_at(kind, "/kind"))),
        None => json!("<unset>"),
    }
}

/// What ends the names of configurations that a server reads from files.
const STATIC: &str = ".static.k8s.io";

fn reserved() -> String {
    format!(
        "names ending with {STATIC:?} are reserved for static manifest-based configurations and cannot be managed via \
         the API"
    )
}

/// A new object may not have the name of one that is read from a file.
fn static_name(errors: &mut Errors, check: &Check) {
    let root = check.root();
    let name = root.at(&["metadata", "name"]);
    if check.old.is_none() && name.text().ends_with(STATIC) {
        errors.push(name.invalid(reserved()));
    }
}

/// Warns of a change of an object that has such a name.
fn warn_of_static_name(told: &mut Vec<String>, new: &Value, old: Option<&Value>) {
    let name = text_at(new, "/metadata/name");
    if old.is_some() && name.ends_with(STATIC) {
        told.push(format!("metadata.name: {}", reserved()));
    }
}
