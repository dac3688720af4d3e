//! Schemas of kinds, of what the API server publishes in OpenAPI v3.

use std::collections::HashMap;

use api::gvk::GroupVersionKind;
use cel::Schema;
use client::Client;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::Error;
use crate::discovery::group_path;

const JSON: &str = "application/json";

/// The documents there are, and those that were read.
pub(super) struct Published<'a> {
    client: &'a Client,
    paths: HashMap<String, Path>,
    documents: HashMap<String, HashMap<String, Value>>,
}

#[derive(Deserialize)]
struct Index {
    paths: HashMap<String, Path>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Path {
    #[serde(rename = "serverRelativeURL")]
    url: String,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    components: Components,
}

#[derive(Deserialize, Default)]
struct Components {
    #[serde(default)]
    schemas: HashMap<String, Value>,
}

impl<'a> Published<'a> {
    pub(super) async fn read(client: &'a Client) -> Result<Published<'a>, Error> {
        let index: Index = client.document("/openapi/v3", JSON).await?;
        Ok(Published {
            client,
            paths: index.paths,
            documents: HashMap::new(),
        })
    }

    /// The schema of a kind, or `None` when none is published.
    pub(super) async fn schema(&mut self, kind: &GroupVersionKind) -> Result<Option<Schema>, Error> {
        let path = group_path(&kind.group, &kind.version);
        let path = path.trim_start_matches('/');
        if !self.documents.contains_key(path) {
            let Some(at) = self.paths.get(path) else {
                return Ok(None);
            };
            let document: Document = self.client.document(&at.url, JSON).await?;
            self.documents.insert(path.to_owned(), document.components.schemas);
        }
        Ok(self.documents.get(path).and_then(|schemas| resolve(schemas, kind)))
    }
}

/// The schema of a kind with the schemas that it refers to in their places.
fn resolve(schemas: &HashMap<String, Value>, kind: &GroupVersionKind) -> Option<Schema> {
    let is = |of: &Value| of["group"] == *kind.group && of["version"] == *kind.version && of["kind"] == *kind.kind;
    let (name, schema) = schemas.iter().find(|(_, schema)| {
        let of = schema.get("x-kubernetes-group-version-kind");
        of.and_then(Value::as_array).is_some_and(|all| all.iter().any(is))
    })?;
    Some(Schema::from_openapi(&whole(schemas, schema, &mut vec![name])))
}

/// The name of the schema that stands in the place of another.
fn refers(schema: &Value) -> Option<&str> {
    if let Some(to) = schema.get("$ref").and_then(Value::as_str) {
        return Some(to.strip_prefix("#/components/schemas/").unwrap_or(to));
    }
    let all = schema.get("allOf").and_then(Value::as_array);
    all.into_iter().flatten().find_map(refers)
}

/// What expressions see of a schema. One that stands within itself is an object without fields there.
fn whole<'a>(schemas: &'a HashMap<String, Value>, schema: &'a Value, within: &mut Vec<&'a str>) -> Value {
    if let Some(to) = refers(schema) {
        if within.contains(&to) {
            return json!({ "type": "object" });
        }
        let Some(target) = schemas.get(to) else {
            return json!({});
        };
        within.push(to);
        let made = whole(schemas, target, within);
        within.pop();
        return made;
    }
    let mut made = Map::new();
    for (key, value) in schema.as_object().into_iter().flatten() {
        let value = match key.as_str() {
            "type" | "format" | "x-kubernetes-int-or-string" | "x-kubernetes-embedded-resource" => value.clone(),
            // fields of any name and kind: an object whose fields are not known
            "additionalProperties" if !value.is_object() => continue,
            "items" | "additionalProperties" => whole(schemas, value, within),
            "properties" => {
                let properties = value.as_object().into_iter().flatten();
                properties
                    .map(|(name, schema)| (name.clone(), whole(schemas, schema, within)))
                    .collect::<Map<_, _>>()
                    .into()
            }
            _ => continue,
        };
        made.insert(key.clone(), value);
    }
    // built-in kinds say it so
    if made.get("format").is_some_and(|format| format == "int-or-string") {
        made.insert("x-kubernetes-int-or-string".to_owned(), true.into());
    }
    made.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_followed_and_circles_end() {
        let schemas: HashMap<String, Value> = serde_json::from_value(json!({
            "Root": {
                "type": "object", "description": "left out",
                "properties": {
                    "one": { "allOf": [{ "$ref": "#/components/schemas/Inner" }], "default": {} },
                    "many": { "type": "array", "items": { "$ref": "#/components/schemas/Inner" } },
                    "by": { "type": "object", "additionalProperties": { "$ref": "#/components/schemas/Either" } },
                    "free": { "type": "object", "additionalProperties": true },
                },
                "x-kubernetes-group-version-kind": [{ "group": "x", "version": "v1", "kind": "Root" }],
            },
            "Inner": { "type": "object", "properties": { "n": { "type": "integer" }, "self": { "$ref": "#/components/schemas/Inner" } } },
            "Either": { "format": "int-or-string", "oneOf": [{ "type": "integer" }, { "type": "string" }] },
        }))
        .unwrap();
        let schema = resolve(&schemas, &GroupVersionKind::new("x", "v1", "Root")).unwrap();
        let declared = cel::Declared::from_schema(&schema, true, "Root1").unwrap();
        let of = |field: &str| declared.fields[field].of.to_string();
        assert_eq!(of("one"), "Root1.one");
        assert_eq!(of("many"), "list(Root1.many.@idx)");
        assert_eq!(of("by"), "map(string, dyn)");
        assert_eq!(of("free"), "Root1.free");
        assert!(declared.fields["one"].fields["self"].fields.is_empty());
        assert_eq!(of("metadata"), "Root1.metadata");
        assert!(resolve(&schemas, &GroupVersionKind::new("x", "v2", "Root")).is_none());
    }
}
