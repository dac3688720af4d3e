//! OpenAPI v3 components of the schema's types: shapes, list and map types, merge keys, named values, and what is said about them.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use crate::gvk::GroupVersionKind;
use crate::prose::Prose;
use crate::schema::{Field, ListType, Scalar, Schema, Shape, TypeId};

/// A kind: what is said about the fields that all kinds have is said there.
const OBJECT: &str = "io.k8s.api.core.v1.ConfigMap";
const REFERENCE: &str = "#/components/schemas/";

/// What upstream's documents say of a type that is neither in its struct tags nor in its prose.
#[derive(Debug, Default)]
struct Said {
    unions: Option<Value>,
    /// The fields that must be there, where they are not in the order of their tags.
    required: Vec<&'static str>,
    /// The values of a field, or with `[]` or `{}` behind its name those of a list's or a map's items.
    values: HashMap<&'static str, Vec<&'static str>>,
}

/// The table `data/openapi.txt`, by the types' names in OpenAPI.
fn said() -> &'static HashMap<&'static str, Said> {
    static SAID: OnceLock<HashMap<&'static str, Said>> = OnceLock::new();
    SAID.get_or_init(|| {
        let mut said: HashMap<&str, Said> = HashMap::new();
        let mut current = "";
        for line in include_str!("../data/openapi.txt").lines() {
            match line.strip_prefix(' ').and_then(|field| field.split_once(' ')) {
                Some((field, values)) => {
                    let of = said.entry(current).or_default();
                    of.values.insert(field, values.split('|').collect());
                }
                None => {
                    let mut words = line.split(' ');
                    current = words.next().unwrap_or_default();
                    let of = said.entry(current).or_default();
                    for (key, value) in words.filter_map(|word| word.split_once('=')) {
                        match key {
                            "required" => of.required = value.split(',').collect(),
                            _ => of.unions = serde_json::from_str(value).ok(),
                        }
                    }
                }
            }
        }
        said
    })
}

/// Adds the component of a type under `name`, and those of every type it refers to.
pub fn add_components(schema: &Schema, prose: &Prose, root: TypeId, name: &str, into: &mut Map<String, Value>) {
    if into.contains_key(name) {
        return;
    }
    // entered first: types refer to themselves
    into.insert(name.to_owned(), Value::Null);
    let mut component = structure(schema, prose, root, into);
    let mut kinds: Vec<&GroupVersionKind> = schema
        .kinds()
        .filter(|(kind, ty)| *ty == root && kind.group != "meta.k8s.io")
        .map(|(kind, _)| kind)
        .collect();
    kinds.sort_by_key(|kind| (&kind.group, &kind.version, &kind.kind));
    if !kinds.is_empty() && name.starts_with("io.k8s.") {
        let tree = |k: &&GroupVersionKind| json!({ "group": k.group, "version": k.version, "kind": k.kind });
        component["x-kubernetes-group-version-kind"] = kinds.iter().map(tree).collect();
    }
    into.insert(name.to_owned(), component);
}

/// A reference to a component.
pub fn reference(name: &str) -> Value {
    json!({ "$ref": format!("{REFERENCE}{name}") })
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
    let nothing = Said::default();
    let said = said().get(name.as_str()).unwrap_or(&nothing);
    let mut properties = Map::new();
    for field in schema.json_fields(ty) {
        // those of lists are nowhere
        let of_all = || {
            prose
                .of(OBJECT, &field.name)
                .filter(|_| matches!(&*field.name, "apiVersion" | "kind"))
        };
        let text = prose.of(&name, &field.name).or_else(of_all);
        let property = property(schema, field, text, said, prose, into);
        properties.insert(field.name.to_string(), property);
    }
    let mut out = json!({ "type": "object" });
    if !properties.is_empty() {
        out["properties"] = Value::Object(properties);
    }
    explain(&mut out, "");
    let listed = name.rsplit('.').next().and_then(|kind| kind.strip_suffix("List"));
    if let Some(kind) = listed.filter(|_| out.get("description").is_none()) {
        out["description"] = json!(format!("{kind}List is a list of {kind}"));
    }
    let mut required: Vec<String> = said.required.iter().map(|name| (*name).to_owned()).collect();
    if required.is_empty() {
        add_required(schema, ty, &mut required);
    }
    if !required.is_empty() {
        out["required"] = json!(required);
    }
    if schema.structure(ty).is_some_and(|s| s.atomic) {
        out["x-kubernetes-map-type"] = json!("atomic");
    }
    if let Some(unions) = &said.unions {
        out["x-kubernetes-unions"] = unions.clone();
    }
    out
}

/// The fields that must be there, as the type declares them.
fn add_required(schema: &Schema, ty: TypeId, required: &mut Vec<String>) {
    for field in schema.structure(ty).iter().flat_map(|s| &s.fields) {
        if field.inline {
            add_required(schema, field.ty, required);
        } else if field.required {
            required.push(field.name.to_string());
        }
    }
}

fn property(
    schema: &Schema,
    field: &Field,
    text: Option<&str>,
    said: &Said,
    prose: &Prose,
    into: &mut Map<String, Value>,
) -> Value {
    let mut property = value(schema, prose, field.ty, into);
    // a struct that is no pointer is there, and empty
    if matches!(schema.shape(field.ty), Shape::Struct(_)) && !field.pointer {
        property["default"] = json!({});
    }
    if let Some(default) = &field.default {
        property["default"] = (**default).clone();
    }
    match &field.list {
        ListType::Atomic if field.says_atomic => property["x-kubernetes-list-type"] = json!("atomic"),
        ListType::Set => property["x-kubernetes-list-type"] = json!("set"),
        ListType::Map(keys) => {
            property["x-kubernetes-list-type"] = json!("map");
            property["x-kubernetes-list-map-keys"] = json!(keys);
        }
        ListType::Atomic => {}
    }
    if let Some(atomic) = field.atomic {
        property["x-kubernetes-map-type"] = json!(if atomic { "atomic" } else { "granular" });
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
    let mut text = text.unwrap_or_default().to_owned();
    let mut name_values = |values: &[&str]| {
        text.push_str("\n\nPossible enum values:");
        for value in values {
            text.push_str(&format!("\n - `{value:?}`"));
        }
    };
    if let Some(values) = said.values.get(&*field.name) {
        property["enum"] = json!(values);
        name_values(values);
    }
    if let Some(values) = said.values.get(format!("{}[]", field.name).as_str()) {
        property["items"]["enum"] = json!(values);
        name_values(values);
    }
    if let Some(values) = said.values.get(format!("{}{{}}", field.name).as_str()) {
        property["additionalProperties"]["enum"] = json!(values);
        name_values(values);
    }
    if let Some(values) = &field.values {
        property["enum"] = json!(values);
    }
    if !text.is_empty() {
        property["description"] = json!(text);
    }
    apart(property)
}

/// A reference has nothing beside it: what is said about it stands around it.
fn apart(mut property: Value) -> Value {
    if let Some(members) = property.as_object_mut()
        && members.len() > 1
        && let Some(reference) = members.remove("$ref")
    {
        members.insert("allOf".into(), json!([{ "$ref": reference }]));
    }
    property
}

fn value(schema: &Schema, prose: &Prose, ty: TypeId, into: &mut Map<String, Value>) -> Value {
    match schema.shape(ty) {
        Shape::Scalar(scalar) => match named(*scalar) {
            Some(name) => {
                if !into.contains_key(name) {
                    let mut component = scalar_schema(*scalar);
                    if let Some(text) = prose.of(name, "") {
                        component["description"] = json!(text);
                    }
                    into.insert(name.to_owned(), component);
                }
                reference(name)
            }
            None => scalar_schema(*scalar),
        },
        Shape::List { item, .. } | Shape::WrappedList { item } => {
            json!({ "type": "array", "items": value(schema, prose, *item, into) })
        }
        Shape::Map { value: inner } => {
            json!({ "type": "object", "additionalProperties": value(schema, prose, *inner, into) })
        }
        Shape::Struct(_) => match schema.open_name(ty) {
            Some(name) => {
                add_components(schema, prose, ty, &name, into);
                reference(&name)
            }
            // a part of a custom resource has no name of its own
            None => structure(schema, prose, ty, into),
        },
    }
}

/// The component of a scalar that has one.
fn named(scalar: Scalar) -> Option<&'static str> {
    Some(match scalar {
        Scalar::Time => "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
        Scalar::MicroTime => "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
        Scalar::FieldsV1 => "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
        Scalar::Quantity => "io.k8s.apimachinery.pkg.api.resource.Quantity",
        Scalar::IntOrString => "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
        Scalar::Raw => "io.k8s.apimachinery.pkg.runtime.RawExtension",
        Scalar::Json => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
        Scalar::SchemaOrArray => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
        Scalar::SchemaOrBool => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
        Scalar::SchemaOrStrings => {
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray"
        }
        _ => return None,
    })
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
