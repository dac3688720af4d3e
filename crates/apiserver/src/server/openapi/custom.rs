//! Components of custom resources: the schema as its definition says it, and what every object has.

use api::prose::Prose;
use serde_json::{Map, Value, json};

use super::REFERENCE;
use crate::http::status::{ApiError, Result};
use crate::registry::resource::Resource;
use crate::server::ApiServer;

/// `com.example.stable.v1.Database` for the kind Database of `stable.example.com/v1`.
pub fn name(r: &Resource) -> String {
    let mut parts: Vec<&str> = r.group.split('.').collect();
    parts.reverse();
    format!("{}.{}.{}", parts.join("."), r.version, r.kind)
}

/// Adds the component of the kind and of its list. `plain` leaves out what version 2 cannot say.
pub fn add_components(
    server: &ApiServer,
    prose: &Prose,
    r: &Resource,
    name: &str,
    plain: bool,
    into: &mut Map<String, Value>,
) -> Result<()> {
    let catalog = server.registry.catalog();
    let definitions = catalog
        .stored("apiextensions.k8s.io", "customresourcedefinitions")
        .ok_or_else(|| ApiError::internal("definitions of custom resources are not served"))?;
    let definition = definitions.cache.get("", &format!("{}.{}", r.plural, r.group));
    // it may have gone since the catalog was read
    let Some(definition) = definition else { return Ok(()) };
    let definition = definition.tree()?;
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
    let schema = versions
        .into_iter()
        .flatten()
        .find(|v| v["name"] == *r.version)
        .and_then(|v| v.pointer("/schema/openAPIV3Schema"))
        .cloned()
        .unwrap_or_else(|| json!({ "type": "object" }));
    let open = schema["x-kubernetes-preserve-unknown-fields"] == true
        || definition.pointer("/spec/preserveUnknownFields") == Some(&Value::Bool(true));
    let component = if plain && open {
        // a client that validates would take any field named here for the only ones
        json!({ "type": "object" })
    } else {
        let mut schema = schema;
        if plain {
            super::v2::simplify(&mut schema);
        }
        if !plain {
            name_types(&mut schema);
        }
        embed(prose, &mut schema);
        of_every_object(prose, &mut schema);
        schema
    };
    for kind in ["ObjectMeta", "ListMeta"] {
        let builtin = catalog.all().map(|s| &s.resource).find(|r| !r.is_custom());
        if let Some(builtin) = builtin {
            let schema = builtin.schema.get();
            if let Some(ty) = schema.type_named(&format!("meta.v1.{kind}")) {
                api::openapi::add_components(schema, prose, ty, &format!("{META}{kind}"), into);
            }
        }
    }
    into.insert(name.to_owned(), component);
    let list = json!({
        "type": "object",
        "description": format!("{} is a list of {}", r.list_kind, r.kind),
        "required": ["items"],
        "properties": {
            "apiVersion": { "type": "string", "description": prose.of(OBJECT, "apiVersion") },
            "kind": { "type": "string", "description": prose.of(OBJECT, "kind") },
            "metadata": { "allOf": [{ "$ref": format!("{REFERENCE}{META}ListMeta") }] },
            "items": { "type": "array", "items": { "$ref": format!("{REFERENCE}{name}") }, "description": format!("List of {}", r.plural) },
        },
        "x-kubernetes-group-version-kind": [{ "group": r.group, "version": r.version, "kind": r.list_kind }],
    });
    into.insert(format!("{name}List"), list);
    Ok(())
}

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// A built-in kind: what is said about the fields that every object has is said there.
const OBJECT: &str = "io.k8s.api.core.v1.ConfigMap";

fn of_every_object(prose: &Prose, schema: &mut Value) {
    for field in ["apiVersion", "kind"] {
        schema["properties"][field] = json!({ "type": "string", "description": prose.of(OBJECT, field) });
    }
    let reference = json!({ "$ref": format!("{REFERENCE}{META}ObjectMeta") });
    schema["properties"]["metadata"] = json!({ "allOf": [reference], "description": prose.of(OBJECT, "metadata") });
}

/// An integer or a string is either.
fn name_types(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    if object.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) && !object.contains_key("anyOf") {
        object.insert("anyOf".into(), json!([{ "type": "integer" }, { "type": "string" }]));
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(key) {
            name_types(inner);
        }
    }
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        properties.values_mut().for_each(name_types);
    }
}

/// Objects within the object have what every object has.
fn embed(prose: &Prose, schema: &mut Value) {
    if schema["x-kubernetes-embedded-resource"] == true {
        of_every_object(prose, schema);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(key).filter(|s| s.is_object()) {
            embed(prose, inner);
        }
    }
    for inner in schema
        .get_mut("properties")
        .and_then(Value::as_object_mut)
        .into_iter()
        .flatten()
    {
        embed(prose, inner.1);
    }
}
