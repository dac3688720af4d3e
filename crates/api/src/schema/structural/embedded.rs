//! Whole Kubernetes objects inside a custom resource (`x-kubernetes-embedded-resource`): their metadata is held against
//! its own schema, and they must say what they are.

use serde_json::{Map, Value, json};

use super::node::{Additional, Node};
use crate::field::FieldError;
use crate::names;
use crate::schema::Schema;
use crate::schema::path::Path;

/// What all annotations of an object may take, in bytes.
const MAX_ANNOTATIONS: usize = 256 << 10;

/// Takes out of the metadata of embedded objects what metadata does not have, and tells the paths.
///
/// # Errors
/// Metadata that cannot be read, or a kind or version that is no text.
pub fn coerce(node: &Node, value: &mut Value, at: &Path<'_>, unknown: &mut Vec<String>) -> Result<(), FieldError> {
    match value {
        Value::Object(map) => {
            if node.embedded {
                coerce_object(map, at, unknown)?;
            }
            for (key, inner) in map.iter_mut() {
                match (node.properties.get(&**key), &node.additional) {
                    (Some(child), _) => coerce(child, inner, &Path::Key(at, key), unknown)?,
                    (None, Additional::Schema(child)) => coerce(child, inner, &Path::Subscript(at, key), unknown)?,
                    _ => {}
                }
            }
        }
        Value::Array(list) => {
            let Some(items) = &node.items else { return Ok(()) };
            for (i, inner) in list.iter_mut().enumerate() {
                coerce(items, inner, &Path::Index(at, i), unknown)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn coerce_object(map: &mut Map<String, Value>, at: &Path<'_>, unknown: &mut Vec<String>) -> Result<(), FieldError> {
    for key in ["apiVersion", "kind"] {
        if let Some(other) = map.get(key).filter(|v| !v.is_string()) {
            return Err(FieldError::invalid(
                &Path::Key(at, key),
                other.clone(),
                "must be a string",
            ));
        }
    }
    let Some(metadata) = map.get_mut("metadata") else {
        return Ok(());
    };
    let at = Path::Key(at, "metadata").text(true);
    let schema = Schema::builtin();
    let Some(meta) = schema.type_named("meta.v1.ObjectMeta") else {
        return Ok(());
    };
    let decoded = schema.decode_value(meta, metadata.clone());
    let mut decoded = decoded.map_err(|why| FieldError::invalid(&at, metadata.clone(), why.to_string()))?;
    unknown.extend(decoded.unknown.iter().map(|path| format!("{at}.{path}")));
    schema.normalize(meta, &mut decoded.value);
    *metadata = decoded.value;
    Ok(())
}

/// The paths of what the metadata of whole objects has and metadata does not, where it cannot be read for other reasons. `whole` says
/// that the value is an object itself.
pub fn undeclared(node: &Node, value: &Value, at: &Path<'_>, whole: bool, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if whole || node.embedded {
                let schema = Schema::builtin();
                let meta = schema.type_named("meta.v1.ObjectMeta");
                let metadata = map.get("metadata").and_then(Value::as_object).into_iter().flatten();
                let unknown = metadata.filter(|(key, _)| meta.is_some_and(|meta| schema.field(meta, key).is_none()));
                let at = Path::Key(at, "metadata");
                found.extend(unknown.map(|(key, _)| Path::Key(&at, key).text(true)));
            }
            for (key, inner) in map {
                if let Some(child) = node.child(key) {
                    undeclared(child, inner, &Path::Key(at, key), false, found);
                }
            }
        }
        Value::Array(list) => {
            let Some(items) = &node.items else { return };
            for (i, inner) in list.iter().enumerate() {
                undeclared(items, inner, &Path::Index(at, i), false, found);
            }
        }
        _ => {}
    }
}

/// Everything that is wrong with embedded objects. `whole` says that the value is one itself.
pub fn errors(node: &Node, value: &Value, at: &Path<'_>, whole: bool) -> Vec<FieldError> {
    let mut found = Vec::new();
    find(node, value, at, whole, &mut found);
    found
}

fn find(node: &Node, value: &Value, at: &Path<'_>, whole: bool, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(map) => {
            if whole || node.embedded {
                object_errors(map, at, errors);
            }
            for (key, inner) in map {
                match (node.properties.get(&**key), &node.additional) {
                    (Some(child), _) => find(child, inner, &Path::Key(at, key), false, errors),
                    (None, Additional::Schema(child)) => find(child, inner, &Path::Subscript(at, key), false, errors),
                    _ => {}
                }
            }
        }
        Value::Array(list) => {
            let Some(items) = &node.items else { return };
            for (i, inner) in list.iter().enumerate() {
                find(items, inner, &Path::Index(at, i), false, errors);
            }
        }
        _ => {}
    }
}

fn object_errors(map: &Map<String, Value>, at: &Path<'_>, errors: &mut Vec<FieldError>) {
    for key in ["apiVersion", "kind"] {
        let at = Path::Key(at, key).text(true);
        match map.get(key) {
            None => errors.push(FieldError::required(at, "")),
            Some(Value::String(text)) if text.is_empty() => {
                errors.push(FieldError::invalid(at, json!(text), "must not be empty"));
            }
            Some(Value::String(text)) if key == "kind" => {
                let found = names::dns1035_label_errors(&text.to_lowercase());
                if !found.is_empty() {
                    let why = format!("may have mixed case, but should otherwise match: {}", found.join(","));
                    errors.push(FieldError::invalid(at, json!(text), why));
                }
            }
            Some(Value::String(text)) => {
                if text.matches('/').count() > 1 {
                    let why = format!("unexpected GroupVersion string: {text}");
                    errors.push(FieldError::invalid(at, json!(text), why));
                }
            }
            Some(other) => errors.push(FieldError::invalid(at, other.clone(), "must be a string")),
        }
    }
    if let Some(metadata) = map.get("metadata") {
        metadata_errors(metadata, &Path::Key(at, "metadata"), errors);
    }
}

fn metadata_errors(metadata: &Value, at: &Path<'_>, errors: &mut Vec<FieldError>) {
    let text = |key: &str| metadata.get(key).and_then(Value::as_str).unwrap_or_default();
    let mut problems = |at: String, value: &str, found: Vec<String>| {
        errors.extend(found.into_iter().map(|why| FieldError::invalid(&at, json!(value), why)));
    };
    problems(
        format!("{at}.name"),
        text("name"),
        names::path_segment_errors(text("name")),
    );
    if !text("namespace").is_empty() {
        let found = names::dns1123_label_errors(text("namespace"));
        problems(format!("{at}.namespace"), text("namespace"), found);
    }
    let map = |key: &str| metadata.get(key).and_then(Value::as_object).into_iter().flatten();
    for (key, value) in map("labels") {
        let value = value.as_str().unwrap_or_default();
        problems(format!("{at}.labels"), key, names::qualified_name_errors(key));
        problems(format!("{at}.labels"), value, names::label_value_errors(value));
    }
    let mut size = 0;
    for (key, value) in map("annotations") {
        size += key.len() + value.as_str().map_or(0, str::len);
        problems(
            format!("{at}.annotations"),
            key,
            names::qualified_name_errors(&key.to_lowercase()),
        );
    }
    let finalizers = metadata.get("finalizers").and_then(Value::as_array);
    for (i, name) in finalizers.into_iter().flatten().enumerate() {
        let name = name.as_str().unwrap_or_default();
        problems(
            format!("{at}.finalizers[{i}]"),
            name,
            names::qualified_name_errors(name),
        );
    }
    if size > MAX_ANNOTATIONS {
        errors.push(FieldError::too_long(format!("{at}.annotations"), MAX_ANNOTATIONS));
    }
}
