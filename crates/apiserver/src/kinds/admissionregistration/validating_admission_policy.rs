//! ValidatingAdmissionPolicy.

use std::collections::HashSet;

use api::names::qualified_name_errors;
use cel::Type;

use super::expression;
use super::match_conditions::match_conditions;
use super::policy;
use super::scope::{Purpose, Scope};
use crate::kinds::admissionregistration::{of_admission, param_kind, static_name, warn_of_static_name};
use crate::kinds::columns::{AGE, BuiltinColumn, NAME, length};
use crate::kinds::{Check, Cursor, Errors, Kind};

pub(in crate::kinds) const KIND: Kind = Kind {
    columns: COLUMNS,
    warn: warn_of_static_name,
    ..of_admission("validatingadmissionpolicies", validate)
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Validations", "integer", 0, |p| length(p, "/spec/validations")),
    ("ParamKind", "string", 0, param_kind),
    AGE,
];

/// How many annotations a policy may make, and bytes that the expression of one may have.
const MOST_ANNOTATIONS: usize = 20;
const LONGEST_ANNOTATION: usize = 5 * 1024;
const NOTHING: &str = "validations or auditAnnotations must contain at least one item";
const REASONS: &[&str] = &["Forbidden", "Invalid", "RequestEntityTooLarge"];

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    if check.is_status() {
        status(&mut errors, &root.get("status"));
        return errors;
    }
    let (spec, old) = (root.get("spec"), check.old);
    policy::frame(&mut errors, &spec);
    let has_params = spec.get("paramKind").is_some();
    let conditions = spec.get("matchConditions");
    if !policy::has_same_conditions(&spec, old) {
        let known = policy::texts(old, "matchConditions", "/expression");
        match_conditions(&mut errors, &conditions, &known, has_params);
    }
    let variables = spec.get("variables");
    let mut scope = Scope::new(has_params, !variables.list().is_empty());
    let known = policy::texts(old, "validations", "/expression");
    policy::variables(&mut errors, &variables, &mut scope, &known);
    let (validations, annotations) = (spec.get("validations"), spec.get("auditAnnotations"));
    if validations.list().is_empty() && annotations.list().is_empty() {
        errors.push(validations.required(NOTHING));
        errors.push(annotations.required(NOTHING));
    }
    let messages = policy::texts(old, "validations", "/messageExpression");
    for validation in validations.items() {
        self::validation(&mut errors, &validation, &scope, &known, &messages);
    }
    let known = policy::texts(old, "auditAnnotations", "/valueExpression");
    if annotations.list().len() > MOST_ANNOTATIONS {
        errors.push(annotations.invalid(format!("must not have more than {MOST_ANNOTATIONS} auditAnnotations")));
    }
    let mut keys = HashSet::new();
    for annotation in annotations.items() {
        let name = root.at(&["metadata", "name"]);
        self::annotation(&mut errors, &annotation, name.text(), &scope, &known);
        let key = annotation.get("key");
        if !keys.insert(key.text()) {
            errors.push(key.duplicate(key.text()));
        }
    }
    static_name(&mut errors, check);
    errors
}

fn validation(errors: &mut Errors, at: &Cursor, scope: &Scope, known: &HashSet<&str>, messages: &HashSet<&str>) {
    const LINE_BREAKS: [char; 2] = ['\n', '\r'];
    let (expression, message, dynamic) = (at.get("expression"), at.get("message"), at.get("messageExpression"));
    let text = expression.text();
    if text.trim().is_empty() {
        errors.push(expression.required("expression is not specified"));
    } else if let Err(why) = scope.compile(text, known.contains(text), Purpose::Decision, &[Type::Bool]) {
        errors.push(expression::unfit(&expression, text, &why));
    }
    let text = dynamic.text();
    if !text.is_empty() && text.trim().is_empty() {
        errors.push(dynamic.invalid("must be non-empty if specified"));
    } else if !text.is_empty()
        && let Err(why) = scope.compile(text, messages.contains(text), Purpose::Message, &[Type::String])
    {
        errors.push(expression::unfit(&dynamic, text, &why));
    }
    let text = message.text();
    if !text.is_empty() && text.trim().is_empty() {
        errors.push(message.invalid("must be non-empty if specified"));
    } else if text.trim().contains(LINE_BREAKS) {
        errors.push(message.invalid("must not contain line breaks"));
    }
    let reason = at.get("reason");
    if reason.is_some() && !REASONS.contains(&reason.text()) {
        errors.push(reason.not_supported(REASONS));
    }
}

fn annotation(errors: &mut Errors, at: &Cursor, policy: &str, scope: &Scope, known: &HashSet<&str>) {
    let (key, expression) = (at.get("key"), at.get("valueExpression"));
    if policy.is_empty() {
        errors.push(key.invalid("requires metadata.name be non-empty"));
    } else {
        let name = format!("{policy}/{}", key.text());
        let found = qualified_name_errors(&name);
        errors.extend(found.into_iter().map(|why| key.wrong(name.as_str(), why)));
    }
    let text = expression.text().trim();
    if text.is_empty() {
        errors.push(expression.required("valueExpression is not specified"));
    } else if text.len() > LONGEST_ANNOTATION {
        errors.push(expression.required(&format!("must not exceed {LONGEST_ANNOTATION} bytes in length")));
    } else {
        let stored = known.contains(expression.text());
        if let Err(why) = scope.compile(text, stored, Purpose::Decision, &[Type::String, Type::Null]) {
            errors.push(expression::unfit(&expression, expression.text(), &why));
        }
    }
}

fn status(errors: &mut Errors, at: &Cursor) {
    for warning in at.at(&["typeChecking", "expressionWarnings"]).items() {
        let (text, reference) = (warning.get("warning"), warning.get("fieldRef"));
        if text.text().is_empty() {
            errors.push(text.required(""));
        }
        if reference.text().trim().is_empty() {
            errors.push(reference.required(""));
        }
    }
    crate::kinds::conditions::conditions(errors, &at.get("conditions"));
}
