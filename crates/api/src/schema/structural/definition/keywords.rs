//! The keywords of a schema, wherever they stand (`ValidateCustomResourceDefinitionOpenAPISchema`).

use serde_json::{Value, json};

use super::collections::collections;
use super::structural::structural_form;
use super::{Errors, flag, inner, is_set, list, object};
use crate::field::FieldError;
use crate::schema::structural::field_path;
use crate::schema::structural::node::{Node, text};

/// The errors of keywords, and where they were found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) errors: Errors,
    pub(super) places: Vec<String>,
}

/// Where defaults are forbidden, and why.
#[derive(Clone, Default)]
pub(super) struct Defaults {
    pub(super) root: bool,
    pub(super) inside_meta: bool,
    pub(super) forbidden: Option<String>,
}

impl Defaults {
    fn below(&self) -> Defaults {
        Defaults {
            root: false,
            ..self.clone()
        }
    }
}

pub(super) fn openapi(schema: &Value, at: &str, context: &Defaults, found: &mut Found) {
    let mut own = Errors::new();
    supported(schema, at, context, &mut own);
    if flag(schema, "uniqueItems") {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        own.push(FieldError::forbidden(format!("{at}.uniqueItems"), why));
    }
    let properties = object(schema, "properties").filter(|p| !p.is_empty());
    let additional = schema.get("additionalProperties").filter(|a| !a.is_null());
    if let Some(additional) = additional
        && properties.is_some()
        && *additional != Value::Bool(true)
    {
        let why = "additionalProperties and properties are mutual exclusive";
        own.push(FieldError::forbidden(format!("{at}.additionalProperties"), why));
    }
    let mut wrong = !own.is_empty();
    found.errors.append(&mut own);
    openapi_below(schema, at, context, found);
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        let at = format!("{at}.x-kubernetes-preserve-unknown-fields");
        own.push(FieldError::invalid(at, json!(false), "must be true or undefined"));
    }
    collections(schema, at, &mut own);
    validations(schema, at, &mut own);
    wrong |= !own.is_empty();
    found.errors.append(&mut own);
    if wrong {
        found.places.push(at.to_owned());
    }
}

/// The schemas in a schema.
fn openapi_below(schema: &Value, at: &str, context: &Defaults, found: &mut Found) {
    if let Some(additional) = schema.get("additionalProperties").filter(|a| a.is_object()) {
        let mut below = context.below();
        if context.inside_meta {
            below.forbidden = Some("inside additionalProperties applying to object metadata".into());
        }
        openapi(additional, &format!("{at}.additionalProperties"), &below, found);
    }
    for (name, property) in object(schema, "properties").into_iter().flatten() {
        let mut below = context.below();
        if (context.root || flag(schema, "x-kubernetes-embedded-resource"))
            && matches!(name.as_str(), "metadata" | "kind" | "apiVersion")
        {
            below.inside_meta = true;
            if context.root {
                below.forbidden = Some(format!("in top-level {name}"));
            }
        }
        openapi(property, &format!("{at}.properties[{name}]"), &below, found);
    }
    if let Some(not) = inner(schema, "not") {
        openapi(not, &format!("{at}.not"), &context.below(), found);
    }
    for key in ["allOf", "oneOf", "anyOf"] {
        for (i, nested) in list(schema, key).iter().enumerate() {
            openapi(nested, &format!("{at}.{key}[{i}]"), &context.below(), found);
        }
    }
    if let Some(items) = inner(schema, "items") {
        openapi(items, &format!("{at}.items"), &context.below(), found);
    }
}

/// The form of validation rules; their expressions are not looked at.
fn validations(schema: &Value, at: &str, errors: &mut Errors) {
    const REASONS: [&str; 4] = [
        "FieldValueDuplicate",
        "FieldValueForbidden",
        "FieldValueInvalid",
        "FieldValueRequired",
    ];
    const LINE_BREAKS: [char; 2] = ['\n', '\r'];
    let mut node = None;
    for (i, rule) in list(schema, "x-kubernetes-validations").iter().enumerate() {
        let at = |key: &str| format!("{at}.x-kubernetes-validations[{i}].{key}");
        let [expression, message, message_expression, path] =
            ["rule", "message", "messageExpression", "fieldPath"].map(|key| text(rule, key));
        let trimmed = message.trim();
        if expression.trim().is_empty() {
            errors.push(FieldError::required(at("rule"), "rule is not specified"));
        } else if !message.is_empty() && trimmed.is_empty() {
            let why = "must be non-empty if specified";
            errors.push(FieldError::invalid(at("message"), json!(message), why));
        } else if trimmed.contains(LINE_BREAKS) {
            let why = "must not contain line breaks";
            errors.push(FieldError::invalid(at("message"), json!(message), why));
        } else if expression.trim().contains(LINE_BREAKS) && trimmed.is_empty() {
            let why = "message must be specified if rule contains line breaks";
            errors.push(FieldError::required(at("message"), why));
        }
        if !message_expression.is_empty() && message_expression.trim().is_empty() {
            let why = "messageExpression must be non-empty if specified";
            errors.push(FieldError::required(at("messageExpression"), why));
        }
        if let Some(reason) = rule.get("reason").and_then(Value::as_str)
            && !REASONS.contains(&reason)
        {
            errors.push(FieldError::not_supported(at("reason"), json!(reason), &REASONS));
        }
        if path.is_empty() {
            continue;
        }
        let mut wrong = |why: &str| errors.push(FieldError::invalid(at("fieldPath"), json!(path), why));
        if path.trim().is_empty() {
            wrong("must be non-empty if specified");
        }
        if path.contains(LINE_BREAKS) {
            wrong("must not contain line breaks");
        }
        let node = node.get_or_insert_with(|| structural_form(schema).then(|| Node::compile(schema)));
        if node
            .as_ref()
            .is_some_and(|node| field_path::resolve(node, path, true).is_err())
        {
            wrong("must be a valid path");
        }
    }
}

/// Keywords that are refused wherever they stand.
fn supported(schema: &Value, at: &str, context: &Defaults, errors: &mut Errors) {
    const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
    let kind = text(schema, "type");
    if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.push(FieldError::text_not_supported(format!("{at}.type"), kind, &TYPES));
    }
    if let (Some(reason), true) = (&context.forbidden, schema.get("default").is_some_and(|d| !d.is_null())) {
        errors.push(FieldError::forbidden(
            format!("{at}.default"),
            format!("must not be set {reason}"),
        ));
    }
    let mut refuse = |key: &str, why: &str| errors.push(FieldError::forbidden(format!("{at}.{key}"), why));
    for key in ["id", "patternProperties", "definitions"] {
        if is_set(schema, key) {
            refuse(key, &format!("{key} is not supported"));
        }
    }
    for key in ["additionalItems", "dependencies", "$ref"] {
        if schema.get(key).is_some_and(|v| !v.is_null()) {
            refuse(key, &format!("{key} is not supported"));
        }
    }
    if kind == "null" {
        refuse("type", "type cannot be set to null, use nullable as an alternative");
    }
    if schema.get("items").is_some_and(Value::is_array) {
        refuse("items", "items must be a schema object and not an array");
    }
    if context.inside_meta && flag(schema, "x-kubernetes-embedded-resource") {
        refuse(
            "x-kubernetes-embedded-resource",
            "must not be used inside of resource meta",
        );
    }
}
