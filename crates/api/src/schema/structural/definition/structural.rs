//! The structure of a schema: what can be cut to it and what only demands something (`schema.ValidateStructural`), and defaults that
//! keep to it (`defaulting.ValidateDefaults`).

use serde_json::{Map, Value, json};

use super::{Errors, each, flag, inner, is_given, is_set, list, object};
use crate::field::FieldError;
use crate::schema::path::Path;
use crate::schema::structural::embedded;
use crate::schema::structural::node::{Node, prune, text};
use crate::schema::structural::pattern;

/// Where a schema stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Root,
    Item,
    Field,
}

/// What no structural schema can be made of.
pub(super) fn structural_form(schema: &Value) -> bool {
    const NEVER: [&str; 6] = [
        "id",
        "$schema",
        "$ref",
        "patternProperties",
        "dependencies",
        "definitions",
    ];
    let mut fine = true;
    each(schema, &mut |s| {
        fine &= !NEVER.iter().any(|key| is_set(s, key))
            && s.get("additionalItems").is_none_or(Value::is_null)
            && !s.get("items").is_some_and(Value::is_array)
            && s.get("x-kubernetes-preserve-unknown-fields") != Some(&Value::Bool(false));
    });
    fine
}

/// With a status subresource the schema of status is taken out of the root's: only what is not lost then may stand there.
pub(super) fn root_with_status(schema: &Value, at: &str, errors: &mut Errors) {
    // in the order of upstream's type, which the message shows
    const ALLOWED: [(&str, &str); 22] = [
        ("Description", "description"),
        ("Type", "type"),
        ("Format", "format"),
        ("Title", "title"),
        ("Maximum", "maximum"),
        ("ExclusiveMaximum", "exclusiveMaximum"),
        ("Minimum", "minimum"),
        ("ExclusiveMinimum", "exclusiveMinimum"),
        ("MaxLength", "maxLength"),
        ("MinLength", "minLength"),
        ("Pattern", "pattern"),
        ("MaxItems", "maxItems"),
        ("MinItems", "minItems"),
        ("UniqueItems", "uniqueItems"),
        ("MultipleOf", "multipleOf"),
        ("Required", "required"),
        ("Items", "items"),
        ("Properties", "properties"),
        ("ExternalDocs", "externalDocs"),
        ("Example", "example"),
        ("XPreserveUnknownFields", "x-kubernetes-preserve-unknown-fields"),
        ("XValidations", "x-kubernetes-validations"),
    ];
    let kind = text(schema, "type");
    if !kind.is_empty() && kind != "object" {
        let why =
            "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        errors.push(FieldError::invalid(format!("{at}.type"), json!(kind), why));
        return;
    }
    let known = |key: &str| ALLOWED.iter().any(|(_, name)| *name == key);
    let keys = schema.as_object().into_iter().flatten().map(|(key, _)| key);
    if keys.into_iter().any(|key| is_given(schema, key) && !known(key)) {
        let names: Vec<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
        let why = format!(
            "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
            names.join(" ")
        );
        errors.push(FieldError::invalid(at, schema.clone(), why));
    }
}

pub(super) fn structural(schema: &Value, level: Level, at: &str, errors: &mut Errors) {
    let kind = text(schema, "type");
    if kind == "array" && inner(schema, "items").is_none() {
        errors.push(FieldError::required(format!("{at}.items"), "must be specified"));
    }
    if let Some(items) = inner(schema, "items") {
        structural(items, Level::Item, &format!("{at}.items"), errors);
    }
    for (name, property) in object(schema, "properties").into_iter().flatten() {
        structural(property, Level::Field, &format!("{at}.properties[{name}]"), errors);
    }
    let additional = schema.get("additionalProperties").filter(|a| !a.is_null());
    let additional_at = format!("{at}.additionalProperties");
    if let Some(additional) = additional {
        if level == Level::Root {
            errors.push(FieldError::forbidden(&additional_at, "must not be used at the root"));
        }
        if additional.is_object() {
            structural(additional, Level::Field, &additional_at, errors);
        }
    }
    let [int_or_string, preserve, embedded] = [
        "x-kubernetes-int-or-string",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
    ]
    .map(|key| flag(schema, key));
    for (key, set) in [
        ("x-kubernetes-preserve-unknown-fields", preserve),
        ("x-kubernetes-embedded-resource", embedded),
    ] {
        if int_or_string && set {
            let why = "must be false if x-kubernetes-int-or-string is true";
            errors.push(FieldError::invalid(format!("{at}.{key}"), json!(true), why));
        }
    }
    let is_pair = |schemas: &[Value]| schemas == [json!({ "type": "integer" }), json!({ "type": "string" })];
    let first = list(schema, "allOf").first();
    let skip = (
        is_pair(list(schema, "anyOf")),
        first.is_some_and(|all| is_pair(list(all, "anyOf"))),
    );
    value_validation(schema, skip, at, errors);
    let type_at = format!("{at}.type");
    if embedded && kind != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(match kind {
            "" => FieldError::required(type_at, why),
            kind => FieldError::invalid(type_at, json!(kind), why),
        });
    } else if kind.is_empty() && !int_or_string && !preserve {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(type_at, why));
    } else if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.push(FieldError::invalid(type_at, json!(kind), "must be object at the root"));
    }
    if embedded && additional.is_some() {
        let why = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(FieldError::forbidden(additional_at, why));
    }
    let check_metadata = level == Level::Root || embedded;
    let property = |name: &str| object(schema, "properties").and_then(|p| p.get(name));
    for name in ["kind", "apiVersion"] {
        if let Some(property) = property(name)
            && check_metadata
            && text(property, "type") != "string"
        {
            let at = format!("{at}.properties[{name}].type");
            errors.push(FieldError::invalid(at, json!(text(property, "type")), "must be string"));
        }
    }
    if let Some(property) = property("metadata") {
        let at = format!("{at}.properties[metadata]");
        if check_metadata && text(property, "type") != "object" {
            let kind = json!(text(property, "type"));
            errors.push(FieldError::invalid(format!("{at}.type"), kind, "must be object"));
        }
        if level == Level::Root && !names_alone(property) {
            let why =
                "must not specify anything other than name and generateName, but metadata is implicitly specified";
            errors.push(FieldError::forbidden(at, why));
        }
    }
    if embedded && !preserve && object(schema, "properties").is_none_or(Map::is_empty) {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without \
                   x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(format!("{at}.properties"), why));
    }
}

/// Whether the schema of metadata restricts nothing but names.
fn names_alone(metadata: &Value) -> bool {
    let fields = metadata.as_object().into_iter().flatten();
    fields.into_iter().all(|(key, value)| match key.as_str() {
        "type" | "default" => true,
        "properties" => {
            let names: Vec<&str> = value
                .as_object()
                .into_iter()
                .flatten()
                .map(|(k, _)| k.as_str())
                .collect();
            names.iter().all(|name| matches!(*name, "name" | "generateName"))
        }
        // what has no items comes to the same
        "enum" | "allOf" | "anyOf" | "oneOf" => !is_set(metadata, key),
        key => !is_given(metadata, key),
    })
}

fn value_validation(schema: &Value, (skip_any, skip_first_all): (bool, bool), at: &str, errors: &mut Errors) {
    if !skip_any {
        for (i, nested) in list(schema, "anyOf").iter().enumerate() {
            nested_validation(nested, false, &format!("{at}.anyOf[{i}]"), errors);
        }
    }
    for (i, nested) in list(schema, "allOf").iter().enumerate() {
        nested_validation(nested, skip_first_all && i == 0, &format!("{at}.allOf[{i}]"), errors);
    }
    for (i, nested) in list(schema, "oneOf").iter().enumerate() {
        nested_validation(nested, false, &format!("{at}.oneOf[{i}]"), errors);
    }
    if let Some(nested) = inner(schema, "not") {
        nested_validation(nested, false, &format!("{at}.not"), errors);
    }
    let expression = text(schema, "pattern");
    if let Err(why) = pattern::compile(expression) {
        let why = format!("must be a valid regular expression, but isn't: {why}");
        errors.push(FieldError::invalid(format!("{at}.pattern"), json!(expression), why));
    }
}

/// A schema below a logical one may demand things, but specify none.
fn nested_validation(schema: &Value, skip_any: bool, at: &str, errors: &mut Errors) {
    value_validation(schema, (skip_any, false), at, errors);
    if let Some(items) = inner(schema, "items") {
        nested_validation(items, false, &format!("{at}.items"), errors);
    }
    for (name, property) in object(schema, "properties").into_iter().flatten() {
        nested_validation(property, false, &format!("{at}.properties[{name}]"), errors);
    }
    const FORBIDDEN: [(&str, &str); 12] = [
        ("type", "must be empty to be structural"),
        ("additionalProperties", "must be undefined to be structural"),
        ("default", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("nullable", "must be false to be structural"),
        ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
        ("x-kubernetes-embedded-resource", "must be false to be structural"),
        ("x-kubernetes-int-or-string", "must be false to be structural"),
        ("x-kubernetes-list-map-keys", "must be empty to be structural"),
        ("x-kubernetes-list-type", "must be undefined to be structural"),
        ("x-kubernetes-map-type", "must be undefined to be structural"),
    ];
    for (key, why) in FORBIDDEN {
        let set = match key {
            "default" => schema.get(key).is_some_and(|d| !d.is_null()),
            "additionalProperties" => schema
                .get(key)
                .is_some_and(|a| a.is_object() || *a == Value::Bool(true)),
            "x-kubernetes-list-type" | "x-kubernetes-map-type" => schema.get(key).is_some_and(Value::is_string),
            key => is_set(schema, key),
        };
        if set {
            errors.push(FieldError::forbidden(format!("{at}.{key}"), why));
        }
    }
    if is_set(schema, "x-kubernetes-validations") {
        let at = format!("{at}.x-kubernetes-validations");
        errors.push(FieldError::forbidden(at, "must be empty to be structural"));
    }
    if object(schema, "properties").is_some_and(|p| p.contains_key("metadata")) {
        let at = format!("{at}.properties[metadata]");
        errors.push(FieldError::forbidden(at, "must not be specified in a nested context"));
    }
}

/// What is demanded of a field must be demanded of one that is specified. `main` is the specifying schema.
pub(super) fn complete(validation: &Value, main: Option<&Value>, main_at: &str, at: &str, errors: &mut Errors) {
    let mut nested = |schema: &Value, at: String| complete_nested(schema, main, main_at, &at, errors);
    if let Some(not) = inner(validation, "not") {
        nested(not, format!("{at}.not"));
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        for (i, schema) in list(validation, key).iter().enumerate() {
            nested(schema, format!("{at}.{key}[{i}]"));
        }
    }
}

fn complete_nested(validation: &Value, main: Option<&Value>, main_at: &str, at: &str, errors: &mut Errors) {
    let Some(specified) = main else {
        let why = format!("because it is defined in {at}");
        errors.push(FieldError::required(main_at, why));
        return;
    };
    complete(validation, main, main_at, at, errors);
    if let Some(items) = inner(validation, "items") {
        let (main_at, at) = (format!("{main_at}.items"), format!("{at}.items"));
        complete_nested(items, inner(specified, "items"), &main_at, &at, errors);
    }
    for (name, property) in object(validation, "properties").into_iter().flatten() {
        let (main_at, at) = (
            format!("{main_at}.properties[{name}]"),
            format!("{at}.properties[{name}]"),
        );
        let main = object(specified, "properties").and_then(|p| p.get(name));
        complete_nested(property, main, &main_at, &at, errors);
    }
}

/// Defaults must themselves keep to the schema. `meta` says that the schema is of metadata.
pub(super) fn defaults(node: &Node, root: bool, meta: bool, at: &str, errors: &mut Errors) {
    let embedded = node.embedded || root;
    let meta = meta && !embedded;
    if let Some(default) = &node.default {
        let under = format!("{at}.default");
        let mut pruned = default.clone();
        let mut unknown = Vec::new();
        if !meta {
            prune(Some(node), &mut pruned, node.embedded, &Path::Root, &mut unknown);
        }
        if !unknown.is_empty() {
            errors.push(FieldError::invalid(
                &under,
                default.clone(),
                "must not have unknown fields",
            ));
        }
        let place = Path::Key(&Path::Root, &under);
        let coerced = embedded::coerce(node, &mut default.clone(), &place, &mut Vec::new());
        let of_objects = match coerced {
            Err(error) if !meta => vec![error],
            _ => embedded::errors(node, default, &place, node.embedded),
        };
        if of_objects.is_empty() {
            errors.extend(node.check_part(default, None, &under));
        } else {
            errors.extend(of_objects);
        }
    }
    if let Some(items) = &node.items {
        defaults(items, false, meta, &format!("{at}.items"), errors);
    }
    for (name, property) in &node.properties {
        let of_meta = embedded && matches!(&**name, "metadata" | "apiVersion" | "kind");
        defaults(
            property,
            false,
            meta || of_meta,
            &format!("{at}.properties[{name}]"),
            errors,
        );
    }
}
