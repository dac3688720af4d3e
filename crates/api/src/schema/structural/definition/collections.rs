//! How lists and maps are merged.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};

use super::{Errors, flag, inner, list, object};
use crate::field::FieldError;
use crate::schema::structural::node::text;

/// Checks the keywords that say it.
pub(super) fn collections(schema: &Value, at: &str, errors: &mut Errors) {
    let kind = text(schema, "type");
    let word = |key: &str| schema.get(key).and_then(Value::as_str);
    let (map_type, list_type) = (word("x-kubernetes-map-type"), word("x-kubernetes-list-type"));
    let mut must_be = |wanted: &str, key: &str| {
        let why = format!("must be {wanted} if {key} is specified");
        errors.push(match kind {
            "" => FieldError::required(format!("{at}.type"), why),
            kind => FieldError::invalid(format!("{at}.type"), json!(kind), why),
        });
    };
    if map_type.is_some() && kind != "object" {
        must_be("object", "x-kubernetes-map-type");
    }
    if list_type.is_some() && kind != "array" {
        must_be("array", "x-kubernetes-list-type");
    } else if let (Some("set"), Some(items)) = (list_type, inner(schema, "items")) {
        let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
        let own = items.get("x-kubernetes-list-type").cloned().unwrap_or_default();
        let bad = match text(items, "type") {
            "array" if !matches!(own.as_str(), None | Some("atomic")) => Some("x-kubernetes-list-type"),
            "object" if text(items, "x-kubernetes-map-type") != "atomic" => Some("x-kubernetes-map-type"),
            _ => None,
        };
        errors.extend(bad.map(|key| FieldError::invalid(format!("{at}.items.{key}"), own, why)));
    }
    for (key, value, known) in [
        ("x-kubernetes-map-type", map_type, &["atomic", "granular"][..]),
        ("x-kubernetes-list-type", list_type, &["atomic", "set", "map"][..]),
    ] {
        if let Some(value) = value.filter(|value| !known.contains(value)) {
            errors.push(FieldError::text_not_supported(format!("{at}.{key}"), value, known));
        }
    }
    let keys = list(schema, "x-kubernetes-list-map-keys");
    let type_at = format!("{at}.x-kubernetes-list-type");
    if !keys.is_empty() && list_type != Some("map") {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        errors.push(match list_type {
            None => FieldError::required(type_at, why),
            Some(other) => FieldError::invalid(type_at, json!(other), why),
        });
    }
    if list_type == Some("map") {
        list_map(schema, keys, at, errors);
    }
    if let (Some(list_type @ ("set" | "map")), Some(items)) = (list_type, inner(schema, "items"))
        && flag(items, "nullable")
    {
        let why = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        errors.push(FieldError::forbidden(format!("{at}.items.nullable"), why));
    }
    if list_type == Some("map") {
        list_map_keys(schema, keys, at, errors);
    }
}

fn list_map(schema: &Value, keys: &[Value], at: &str, errors: &mut Errors) {
    let keys_at = format!("{at}.x-kubernetes-list-map-keys");
    if keys.is_empty() {
        let why = "must not be empty if x-kubernetes-list-type is map";
        errors.push(FieldError::required(&keys_at, why));
    }
    let Some(items) = inner(schema, "items") else {
        if schema.get("items").is_none_or(Value::is_null) {
            let why = "must have a schema if x-kubernetes-list-type is map";
            errors.push(FieldError::required(format!("{at}.items"), why));
        } else {
            let why = "must only have a single schema if x-kubernetes-list-type is map";
            errors.push(FieldError::invalid(format!("{at}.items"), schema["items"].clone(), why));
        }
        return;
    };
    let kind = text(items, "type");
    if kind != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(FieldError::invalid(format!("{at}.items.type"), json!(kind), why));
        return;
    }
    let mut seen = HashSet::new();
    for key in keys.iter().filter_map(Value::as_str) {
        match object(items, "properties").and_then(|p| p.get(key)) {
            Some(property) if matches!(text(property, "type"), "array" | "object") => {
                let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                let at = format!("{at}.items.properties[{key}].type");
                errors.push(FieldError::invalid(at, json!(kind), why));
            }
            Some(_) => {}
            None => {
                let why = "entries must all be names of item properties";
                errors.push(FieldError::invalid(&keys_at, Value::Array(keys.to_vec()), why));
            }
        }
        if !seen.insert(key) {
            let why = "must not contain duplicate entries";
            errors.push(FieldError::invalid(&keys_at, Value::Array(keys.to_vec()), why));
        }
    }
}

/// An item without a key could not be told apart.
fn list_map_keys(schema: &Value, keys: &[Value], at: &str, errors: &mut Errors) {
    let Some(items) = inner(schema, "items") else { return };
    let required = list(items, "required");
    let properties: BTreeMap<&str, &Value> = object(items, "properties")
        .into_iter()
        .flatten()
        .map(|(k, v)| (k.as_str(), v))
        .collect();
    for key in keys.iter().filter_map(Value::as_str) {
        let Some(property) = properties.get(key) else { continue };
        let at = format!("{at}.items.properties[{key}]");
        if !required.iter().any(|r| r == key) && property.get("default").is_none_or(Value::is_null) {
            let why =
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(FieldError::required(format!("{at}.default"), why));
        }
        if flag(property, "nullable") {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(FieldError::forbidden(format!("{at}.nullable"), why));
        }
    }
}
