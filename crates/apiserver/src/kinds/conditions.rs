//! Conditions as `meta/v1` has them: the rules that all kinds with such conditions share.

use std::collections::HashSet;

use api::field::FieldError;

use crate::kinds::rules::{non_negative, one_of, problems, qualified_name, require};
use crate::kinds::{Cursor, Errors};

const REASON: usize = 1024;

const MESSAGE: usize = 32 << 10;

/// Refuses conditions that are not whole, and two of one type.
pub fn conditions(errors: &mut Errors, list: &Cursor) {
    let mut seen = HashSet::new();
    for condition in list.items() {
        let kind = condition.get("type");
        if !seen.insert(kind.text()) {
            errors.push(condition.duplicate(kind.text()));
        }
        if kind.text().is_empty() {
            errors.push(kind.required("is required"));
        } else {
            qualified_name(errors, &kind);
        }
        one_of(errors, &condition.get("status"), &["False", "True", "Unknown"]);
        non_negative(errors, &condition.get("observedGeneration"));
        require(errors, &condition.get("lastTransitionTime"));
        let (reason, message) = (condition.get("reason"), condition.get("message"));
        if require(errors, &reason) {
            problems(errors, &reason, reason_problem(reason.text()));
            if reason.text().len() > REASON {
                errors.push(FieldError::too_long(&reason.path, REASON));
            }
        }
        if message.text().len() > MESSAGE {
            errors.push(FieldError::too_long(&message.path, MESSAGE));
        }
    }
}

/// Whether a condition of this type is true.
pub fn is_true(list: &Cursor, kind: &str) -> bool {
    list.items()
        .any(|c| c.get("type").text() == kind && c.get("status").text() == "True")
}

fn reason_problem(text: &str) -> Option<&'static str> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ',' | ':');
    let fine = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.chars().all(inner);
    (!fine).then_some(
        "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric \
         characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or \
         'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is \
         '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')",
    )
}
