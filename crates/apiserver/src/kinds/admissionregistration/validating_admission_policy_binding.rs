//! ValidatingAdmissionPolicyBinding.

use std::collections::HashSet;

use api::go;
use serde_json::json;

use super::policy;
use crate::kinds::admissionregistration::{POLICY_BINDINGS, of_admission, static_name, warn_of_static_name};
use crate::kinds::{Check, Cursor, Errors, Kind};

pub(in crate::kinds) const KIND: Kind = Kind {
    columns: POLICY_BINDINGS,
    warn: warn_of_static_name,
    ..of_admission("validatingadmissionpolicybindings", validate)
};

const ACTIONS: &[&str] = &["Audit", "Deny", "Warn"];

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    let spec = root.get("spec");
    policy::binding(&mut errors, &spec);
    actions(&mut errors, &spec.get("validationActions"));
    static_name(&mut errors, check);
    errors
}

fn actions(errors: &mut Errors, list: &Cursor) {
    let mut seen = HashSet::new();
    for action in list.items() {
        if !ACTIONS.contains(&action.text()) {
            // a named type of text, which upstream shows as JSON
            let shown = go::json(&json!(action.text()), None);
            errors.push(action.not_supported(ACTIONS).shown(&shown));
        }
        if !seen.insert(action.text()) {
            errors.push(action.duplicate(action.text()));
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        errors.push(list.invalid(
            "must not contain both Deny and Warn (repeating the same validation failure information in the API response and \
             headers serves no purpose)",
        ));
    }
    if seen.is_empty() {
        errors.push(list.required(""));
    }
}
