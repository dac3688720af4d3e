//! OpenAPI v3 components of the schema's types: shapes, list and map types, merge keys, and what is said about them.

use serde_json::{Map, Value, json};

use crate::prose::Prose;
use crate::schema::{ListType, Scalar, Schema, Shape, TypeId};

/// Adds the component of a type under `name`, and those of every type it refers to.
pub fn add_components(schema: &Schema, prose: &Prose, root: TypeId, name: &str, into: &mut Map<String, Value>) {
    if into.contains_key(name) {
        return;
    }
    // entered first: types refer to themselves
    into.insert(name.to_owned(), Value::Null);
    let component = structure(schema, prose, root, into);
    into.insert(name.to_owned(), component);
}

fn structure(schema: &Schema, prose: &Prose, ty: TypeId, into: &mut Map<String, Value>) -> Value {
    let name = schema.open_name(ty).unwrap_or_default();
    let explain = |of: &mut Value, field: &str| {
        if let Some(text) = prose.of(&name, field) {
            of["description"] = json!(text);
        }
    };
    if schema.structure(ty).is_none() {
        let mut out = value(schema, prose, ty, into);
        explain(&mut out, "");
        return out;
    }
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in schema.json_fields(ty) {
        let mut property = value(schema, prose, field.ty, into);
        let more = field.default.is_some() || field.patch.merge || field.atomic.is_some();
        if property.get("$ref").is_some() && (more || prose.of(&name, &field.name).is_some()) {
            property = json!({ "allOf": [property] });
        }
        explain(&mut property, &field.name);
        match &field.list {
            ListType::Atomic if property["type"] == "array" => property["x-kubernetes-list-type"] = json!("atomic"),
            ListType::Set => property["x-kubernetes-list-type"] = json!("set"),
            ListType::Map(keys) => {
                property["x-kubernetes-list-type"] = json!("map");
                property["x-kubernetes-list-map-keys"] = json!(keys);
            }
            ListType::Atomic => {}
        }
        if field.atomic == Some(true) {
            property["x-kubernetes-map-type"] = json!("atomic");
        }
        let strategies = [
            (field.patch.merge, "merge"),
            (field.patch.replace, "replace"),
            (field.patch.retain_keys, "retainKeys"),
        ];
        let words: Vec<&str> = strategies.iter().filter(|(on, _)| *on).map(|(_, word)| *word).collect();
        if !words.is_empty() {
            property["x-kubernetes-patch-strategy"] = json!(words.join(","));
        }
        if let Some(key) = &field.merge_key {
            property["x-kubernetes-patch-merge-key"] = json!(key);
        }
        if let Some(default) = &field.default {
            property["default"] = (**default).clone();
        }
        if let Some(values) = &field.values {
            property["enum"] = json!(values);
        }
        if field.required {
            required.push(field.name.to_string());
        }
        properties.insert(field.name.to_string(), property);
    }
    let mut out = json!({ "type": "object", "properties": properties });
    explain(&mut out, "");
    if !required.is_empty() {
        out["required"] = json!(required);
    }
    out
}

fn value(schema: &Schema, prose: &Prose, ty: TypeId, into: &mut Map<String, Value>) -> Value {
    match schema.shape(ty) {
        Shape::Scalar(scalar) => scalar_schema(*scalar),
        Shape::List { item, .. } | Shape::WrappedList { item } => {
            json!({ "type": "array", "items": value(schema, prose, *item, into) })
        }
        Shape::Map { value: inner } => {
            json!({ "type": "object", "additionalProperties": value(schema, prose, *inner, into) })
        }
        Shape::Struct(_) => match schema.open_name(ty) {
            Some(name) => {
                add_components(schema, prose, ty, &name, into);
                json!({ "$ref": format!("#/components/schemas/{name}") })
            }
            // a part of a custom resource has no name of its own
            None => structure(schema, prose, ty, into),
        },
    }
}

fn scalar_schema(scalar: Scalar) -> Value {
    match scalar {
        Scalar::String | Scalar::Duration => json!({ "type": "string" }),
        Scalar::Bool => json!({ "type": "boolean" }),
        Scalar::Int32 => json!({ "type": "integer", "format": "int32" }),
        Scalar::Int64 => json!({ "type": "integer", "format": "int64" }),
        Scalar::Double => json!({ "type": "number", "format": "double" }),
        Scalar::Bytes => json!({ "type": "string", "format": "byte" }),
        Scalar::Time | Scalar::MicroTime => json!({ "type": "string", "format": "date-time" }),
        Scalar::Quantity => json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] }),
        Scalar::IntOrString => {
            json!({ "format": "int-or-string", "oneOf": [{ "type": "integer" }, { "type": "string" }] })
        }
        Scalar::Raw | Scalar::FieldsV1 => json!({ "type": "object" }),
        Scalar::Json | Scalar::SchemaOrArray | Scalar::SchemaOrBool | Scalar::SchemaOrStrings | Scalar::Any => {
            json!({})
        }
    }
}
