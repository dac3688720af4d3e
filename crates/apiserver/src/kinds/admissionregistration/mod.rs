//! Webhooks and policies of admission.

pub mod mutating_admission_policy;
pub mod mutating_admission_policy_binding;
pub mod mutating_webhook_configuration;
pub mod validating_admission_policy;
pub mod validating_admission_policy_binding;
pub mod validating_webhook_configuration;

use api::field::FieldError;
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

/// Something that this server does not obey may not be stored.
pub fn refused(_: &Check) -> Errors {
    let why = "admission webhooks and policies are not supported by this server";
    [FieldError::forbidden("", why)].into_iter().collect()
}
