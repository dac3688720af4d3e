//! Structural schemas of custom resources: what is stored is pruned and validated by them.

mod compile;
mod rules;

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use crate::field::FieldError;
use crate::schema::json::OBJECTIONS;
use crate::schema::path::Path;
use crate::schema::{DecodeError, Decoded, ListType, Schema, Shape, TypeId, table};

use compile::Compiler;
pub use rules::Rules;

/// Errors of one object that are told.
const ERRORS: usize = 1000;

/// Rules by type.
pub type RuleTable = HashMap<u32, Rules>;
impl Schema {
    /// Compiles the `openAPIV3Schema` of a CRD version. `at` is its field path.
    ///
    /// # Errors
    /// What makes it not structural, or asks for what is not supported.
    pub fn from_crd(openapi: &Value, at: &str) -> Result<(Schema, TypeId), Vec<FieldError>> {
        let mut compiler = Compiler {
            schema: Schema::default(),
            rules: RuleTable::new(),
            errors: Vec::new(),
        };
        let kind = openapi.get("type").and_then(Value::as_str).unwrap_or_default();
        if kind != "object" {
            let bad = if kind.is_empty() {
                FieldError::required(format!("{at}.type"), "must not be empty at the root")
            } else {
                FieldError::invalid(format!("{at}.type"), json!(kind), "must be object at the root")
            };
            compiler.errors.push(bad);
        }
        compiler.refuse_keywords(openapi, at);
        let root = compiler.object(openapi, at, true);
        table::flatten(&mut compiler.schema);
        compiler.schema.rules = compiler.rules;
        if compiler.errors.is_empty() {
            Ok((compiler.schema, root))
        } else {
            Err(compiler.errors)
        }
    }

    /// Decodes a custom object: unknown fields are pruned and reported, metadata is held against its own schema.
    pub fn decode_custom(&self, root: TypeId, value: Value) -> Result<Decoded, DecodeError> {
        let mut decoded = Decoded {
            value,
            unknown: Vec::new(),
            duplicate: Vec::new(),
            text: None,
        };
        let builtin = Schema::builtin();
        let meta = builtin
            .type_named("meta.v1.ObjectMeta")
            .ok_or_else(|| DecodeError("metadata has no schema".into()))?;
        if let Some(metadata) = decoded.value.get_mut("metadata") {
            let inner = builtin.decode_value(meta, metadata.take())?;
            *metadata = inner.value;
            decoded
                .unknown
                .extend(inner.unknown.into_iter().map(|p| format!("metadata.{p}")));
        }
        self.prune(root, &mut decoded.value, &Path::Root, &mut decoded.unknown);
        Ok(decoded)
    }

    /// Whether this is a custom resource's schema.
    pub fn is_structural(&self) -> bool {
        !self.rules.is_empty()
    }

    fn rules(&self, ty: TypeId) -> Option<&Rules> {
        self.rules.get(&ty.0)
    }

    /// Takes out what the schema does not specify.
    fn prune(&self, ty: TypeId, value: &mut Value, path: &Path<'_>, unknown: &mut Vec<String>) {
        let preserve = self.rules(ty).is_some_and(|r| r.preserve_unknown);
        match (self.shape(ty), value) {
            (Shape::Struct(_), Value::Object(map)) => {
                map.retain(|key, inner| {
                    let at = Path::Key(path, key);
                    match self.field(ty, key) {
                        Some(_) if path.is_root() && key == "metadata" => true,
                        Some(field) => {
                            self.prune(field.ty, inner, &at, unknown);
                            true
                        }
                        None if preserve => true,
                        None => {
                            if unknown.len() < OBJECTIONS {
                                unknown.push(at.text(true));
                            }
                            false
                        }
                    }
                });
            }
            (Shape::Map { value: inner }, Value::Object(map)) => {
                for (key, value) in map {
                    self.prune(*inner, value, &Path::Key(path, key), unknown);
                }
            }
            (Shape::List { item, .. }, Value::Array(list)) => {
                for (i, value) in list.iter_mut().enumerate() {
                    self.prune(*item, value, &Path::Index(path, i), unknown);
                }
            }
            _ => {}
        }
    }

    /// Everything in which an object breaks its structural schema.
    pub fn validate_structural(&self, root: TypeId, value: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        self.validate_at(root, value, &Path::Root, &mut errors);
        errors
    }

    fn validate_at(&self, ty: TypeId, value: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
        if errors.len() >= ERRORS {
            return;
        }
        if let Some(rules) = self.rules(ty)
            && !rules.check(value, path, errors)
        {
            return;
        }
        match (self.shape(ty), value) {
            (Shape::Struct(_), Value::Object(map)) => {
                for (key, inner) in map {
                    if path.is_root() && matches!(key.as_str(), "metadata" | "apiVersion" | "kind") {
                        continue;
                    }
                    if let Some(field) = self.field(ty, key) {
                        self.validate_at(field.ty, inner, &Path::Key(path, key), errors);
                    }
                }
            }
            (Shape::Map { value: inner }, Value::Object(map)) => {
                for (key, value) in map {
                    self.validate_at(*inner, value, &Path::Key(path, key), errors);
                }
            }
            (Shape::List { item, list }, Value::Array(items)) => {
                for (i, value) in items.iter().enumerate() {
                    self.validate_at(*item, value, &Path::Index(path, i), errors);
                }
                unique(list, items, path, errors);
            }
            _ => {}
        }
    }
}
fn unique(list: &ListType, items: &[Value], path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let id = |item: &Value| match list {
        ListType::Atomic => None,
        ListType::Set => Some(item.clone()),
        ListType::Map(keys) => Some(Value::Object(
            keys.iter()
                .filter_map(|k| Some((k.to_string(), item.get(&**k)?.clone())))
                .collect(),
        )),
    };
    let mut seen: HashSet<Value> = HashSet::new();
    for (i, item) in items.iter().enumerate() {
        let Some(id) = id(item) else { return };
        if seen.contains(&id) {
            errors.push(FieldError::duplicate(Path::Index(path, i).text(true), id));
        } else {
            seen.insert(id);
        }
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> Value {
        json!({ "type": "object", "properties": { "spec": {
            "type": "object", "required": ["engine"],
            "properties": {
                "engine": { "type": "string", "enum": ["postgres", "mysql"] },
                "replicas": { "type": "integer", "minimum": 1, "maximum": 5, "default": 1 },
                "port": { "x-kubernetes-int-or-string": true },
                "users": { "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                           "items": { "type": "object", "properties": { "name": { "type": "string" } } } },
            },
        } } })
    }

    #[test]
    fn objects_are_pruned_defaulted_and_validated() {
        let (schema, root) = Schema::from_crd(&database(), "schema").unwrap();
        let object = json!({ "metadata": { "name": "a" }, "spec": { "engine": "postgres", "foo": 1 } });
        let mut decoded = schema.decode_custom(root, object).unwrap();
        assert_eq!(decoded.unknown, ["spec.foo"]);
        schema.set_defaults(root, &mut decoded.value);
        assert_eq!(decoded.value["spec"], json!({ "engine": "postgres", "replicas": 1 }));
        assert!(schema.validate_structural(root, &decoded.value).is_empty());
        let bad = json!({ "spec": { "engine": "oracle", "replicas": 9, "port": true, "users": [{ "name": "a" }, { "name": "a" }] } });
        let texts: Vec<String> = schema
            .validate_structural(root, &bad)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            texts,
            [
                "spec.engine: Unsupported value: \"oracle\": supported values: \"postgres\", \"mysql\"",
                "spec.port: Invalid value: \"boolean\": spec.port in body must be of type integer or string: \"boolean\"",
                "spec.replicas: Invalid value: 9: spec.replicas in body should be less than or equal to 5",
                "spec.users[1]: Duplicate value: {\"name\":\"a\"}",
            ]
        );
        let missing = schema.validate_structural(root, &json!({ "spec": {} }));
        assert_eq!(missing[0].to_string(), "spec.engine: Required value");
    }

    #[test]
    fn what_is_not_structural_is_refused() {
        let errors = Schema::from_crd(&json!({ "type": "object", "properties": { "a": {} } }), "schema").unwrap_err();
        assert_eq!(errors[0].field, "schema.properties[a].type");
        let rules = json!({ "type": "object", "x-kubernetes-validations": [{ "rule": "true" }], "properties": { "b": { "type": "string", "x-kubernetes-validations": [{ "rule": "true" }] } } });
        assert!(!Schema::from_crd(&rules, "schema").unwrap_err().is_empty());
    }
}
