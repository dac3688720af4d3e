//! Structural schemas: the schema of a custom resource compiled into an arena, pruning, and validation by it.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::field::FieldError;
use crate::schema::{
    DecodeError, Decoded, Field, ListType, PatchStrategy, Scalar, Schema, Shape, Struct, Type, TypeId, table,
};

/// What a structural schema says of a value beyond its shape.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// `object`, `array`, `string`, `integer`, `number`, `boolean`; empty for any.
    kind: Box<str>,
    nullable: bool,
    int_or_string: bool,
    preserve_unknown: bool,
    required: Box<[Box<str>]>,
    values: Option<Box<[Value]>>,
    minimum: Option<(f64, bool)>,
    maximum: Option<(f64, bool)>,
    multiple_of: Option<f64>,
    min_length: Option<usize>,
    max_length: Option<usize>,
    pattern: Option<(Box<str>, regex::Regex)>,
    min_items: Option<usize>,
    max_items: Option<usize>,
    min_properties: Option<usize>,
    max_properties: Option<usize>,
    format: Box<str>,
    all_of: Box<[Rules]>,
    any_of: Box<[Rules]>,
    one_of: Box<[Rules]>,
    not: Option<Box<Rules>>,
    /// Of a logical rule: rules for members.
    properties: Box<[(Box<str>, Rules)]>,
}

/// Rules by type.
pub type RuleTable = HashMap<u32, Rules>;

/// Keywords of a schema that are refused, as upstream refuses them or because they are not built yet.
const FORBIDDEN: [(&str, &str); 9] = [
    ("$ref", "$ref is not supported"),
    ("deprecated", "deprecated is not supported"),
    ("discriminator", "discriminator is not supported"),
    ("readOnly", "readOnly is not supported"),
    ("writeOnly", "writeOnly is not supported"),
    ("xml", "xml is not supported"),
    ("patternProperties", "patternProperties is not supported"),
    ("definitions", "definitions is not supported"),
    ("dependencies", "dependencies is not supported"),
];

struct Compiler {
    schema: Schema,
    rules: RuleTable,
    errors: Vec<FieldError>,
}

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
        self.prune(root, &mut decoded.value, "", &mut decoded.unknown);
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
    fn prune(&self, ty: TypeId, value: &mut Value, path: &str, unknown: &mut Vec<String>) {
        let preserve = self.rules(ty).is_some_and(|r| r.preserve_unknown);
        match (self.shape(ty), value) {
            (Shape::Struct(_), Value::Object(map)) => {
                map.retain(|key, inner| {
                    let at = if path.is_empty() {
                        key.clone()
                    } else {
                        format!("{path}.{key}")
                    };
                    match self.field(ty, key) {
                        Some(_) if at == "metadata" => true,
                        Some(field) => {
                            self.prune(field.ty, inner, &at, unknown);
                            true
                        }
                        None if preserve => true,
                        None => {
                            unknown.push(at);
                            false
                        }
                    }
                });
            }
            (Shape::Map { value: inner }, Value::Object(map)) => {
                for (key, value) in map {
                    self.prune(*inner, value, &format!("{path}.{key}"), unknown);
                }
            }
            (Shape::List { item, .. }, Value::Array(list)) => {
                for (i, value) in list.iter_mut().enumerate() {
                    self.prune(*item, value, &format!("{path}[{i}]"), unknown);
                }
            }
            _ => {}
        }
    }

    /// Everything in which an object breaks its structural schema.
    pub fn validate_structural(&self, root: TypeId, value: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        self.validate_at(root, value, "", &mut errors);
        errors
    }

    fn validate_at(&self, ty: TypeId, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
        if let Some(rules) = self.rules(ty)
            && !rules.check(value, path, errors)
        {
            return;
        }
        match (self.shape(ty), value) {
            (Shape::Struct(_), Value::Object(map)) => {
                for (key, inner) in map {
                    if path.is_empty() && matches!(key.as_str(), "metadata" | "apiVersion" | "kind") {
                        continue;
                    }
                    if let Some(field) = self.field(ty, key) {
                        let at = if path.is_empty() {
                            key.clone()
                        } else {
                            format!("{path}.{key}")
                        };
                        self.validate_at(field.ty, inner, &at, errors);
                    }
                }
            }
            (Shape::Map { value: inner }, Value::Object(map)) => {
                for (key, value) in map {
                    self.validate_at(*inner, value, &format!("{path}.{key}"), errors);
                }
            }
            (Shape::List { item, list }, Value::Array(items)) => {
                for (i, value) in items.iter().enumerate() {
                    self.validate_at(*item, value, &format!("{path}[{i}]"), errors);
                }
                unique(list, items, path, errors);
            }
            _ => {}
        }
    }
}

fn unique(list: &ListType, items: &[Value], path: &str, errors: &mut Vec<FieldError>) {
    let id = |item: &Value| match list {
        ListType::Atomic => None,
        ListType::Set => Some(item.clone()),
        ListType::Map(keys) => Some(Value::Object(
            keys.iter()
                .filter_map(|k| Some((k.to_string(), item.get(&**k)?.clone())))
                .collect(),
        )),
    };
    let mut seen: Vec<Value> = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let Some(id) = id(item) else { return };
        if seen.contains(&id) {
            errors.push(FieldError::duplicate(format!("{path}[{i}]"), id));
        } else {
            seen.push(id);
        }
    }
}

impl Compiler {
    fn add(&mut self, shape: Shape, rules: Option<Rules>) -> TypeId {
        let id = u32::try_from(self.schema.types.len()).unwrap_or(u32::MAX);
        self.schema.types.push(Type { name: "".into(), shape });
        if let Some(rules) = rules {
            self.rules.insert(id, rules);
        }
        TypeId(id)
    }

    fn any(&mut self) -> TypeId {
        self.add(Shape::Scalar(Scalar::Any), None)
    }

    /// The shape of `ObjectMeta` as server-side apply needs it.
    fn metadata(&mut self) -> TypeId {
        let any = self.any();
        let strings = self.add(Shape::Map { value: any }, None);
        let set = self.add(
            Shape::List {
                item: any,
                list: ListType::Set,
            },
            None,
        );
        let reference = self.add(Shape::Scalar(Scalar::Any), None);
        let keys: Box<[Box<str>]> = Box::new(["uid".into()]);
        let owners = self.add(
            Shape::List {
                item: reference,
                list: ListType::Map(keys),
            },
            None,
        );
        let names = [
            "name",
            "generateName",
            "namespace",
            "selfLink",
            "uid",
            "resourceVersion",
            "generation",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "managedFields",
        ];
        let mut fields: Vec<Field> = names.into_iter().map(|n| field(n, any)).collect();
        fields.push(field("labels", strings));
        fields.push(field("annotations", strings));
        fields.push(field("finalizers", set));
        fields.push(field("ownerReferences", owners));
        self.add(
            Shape::Struct(Struct {
                fields,
                ..Struct::default()
            }),
            None,
        )
    }

    fn refuse_keywords(&mut self, schema: &Value, at: &str) {
        for (key, why) in FORBIDDEN {
            if schema.get(key).is_some_and(|v| !v.is_null()) {
                self.errors.push(FieldError::forbidden(format!("{at}.{key}"), why));
            }
        }
        if schema
            .get("x-kubernetes-validations")
            .is_some_and(|v| v.as_array().is_some_and(|l| !l.is_empty()))
        {
            let why = "CEL validation rules are not supported by this server";
            self.errors
                .push(FieldError::forbidden(format!("{at}.x-kubernetes-validations"), why));
        }
    }

    fn compile(&mut self, schema: &Value, at: &str) -> TypeId {
        self.refuse_keywords(schema, at);
        let flag = |key: &str| schema.get(key) == Some(&Value::Bool(true));
        let kind = schema.get("type").and_then(Value::as_str).unwrap_or_default();
        match kind {
            "object" => self.object(schema, at, false),
            "array" => {
                let Some(items) = schema.get("items").filter(|i| i.is_object()) else {
                    self.errors
                        .push(FieldError::required(format!("{at}.items"), "must be specified"));
                    return self.any();
                };
                let item = self.compile(items, &format!("{at}.items"));
                let list = match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
                    Some("set") => ListType::Set,
                    Some("map") => {
                        let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
                        let keys: Box<[Box<str>]> = keys
                            .into_iter()
                            .flatten()
                            .filter_map(|k| k.as_str().map(Into::into))
                            .collect();
                        if keys.is_empty() {
                            let why = "must not be empty if x-kubernetes-list-type is map";
                            self.errors
                                .push(FieldError::required(format!("{at}.x-kubernetes-list-map-keys"), why));
                        }
                        ListType::Map(keys)
                    }
                    Some("atomic") | None => ListType::Atomic,
                    Some(other) => {
                        let all = ["atomic", "map", "set"];
                        self.errors.push(FieldError::not_supported(
                            format!("{at}.x-kubernetes-list-type"),
                            json!(other),
                            &all,
                        ));
                        ListType::Atomic
                    }
                };
                let rules = self.rules(schema, at);
                self.add(Shape::List { item, list }, Some(rules))
            }
            "" if !flag("x-kubernetes-int-or-string") && !flag("x-kubernetes-preserve-unknown-fields") => {
                let why = "must not be empty for specified object fields";
                self.errors.push(FieldError::required(format!("{at}.type"), why));
                self.any()
            }
            "" | "string" | "integer" | "number" | "boolean" => {
                let rules = self.rules(schema, at);
                self.add(Shape::Scalar(Scalar::Any), Some(rules))
            }
            other => {
                let all = ["array", "boolean", "integer", "number", "object", "string"];
                self.errors
                    .push(FieldError::not_supported(format!("{at}.type"), json!(other), &all));
                self.any()
            }
        }
    }

    fn object(&mut self, schema: &Value, at: &str, root: bool) -> TypeId {
        let rules = self.rules(schema, at);
        let empty = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        let additional = schema.get("additionalProperties");
        if !properties.is_empty() && additional.is_some_and(|a| *a != Value::Bool(false)) {
            let why = "additionalProperties and properties are mutual exclusive";
            self.errors
                .push(FieldError::forbidden(format!("{at}.additionalProperties"), why));
        }
        let atomic = schema.get("x-kubernetes-map-type").is_some_and(|t| t == "atomic");
        if let Some(inner) = additional.filter(|a| a.is_object()) {
            let value = self.compile(inner, &format!("{at}.additionalProperties"));
            return self.add(Shape::Map { value }, Some(rules));
        }
        if additional == Some(&Value::Bool(true)) || (properties.is_empty() && rules.preserve_unknown && !root) {
            let value = self.any();
            return self.add(Shape::Map { value }, Some(rules));
        }
        let embedded = schema.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true));
        let mut fields = Vec::new();
        for (name, inner) in properties {
            if (root || embedded) && matches!(name.as_str(), "metadata" | "apiVersion" | "kind") {
                continue;
            }
            let ty = self.compile(inner, &format!("{at}.properties[{name}]"));
            let default = inner
                .get("default")
                .filter(|d| !d.is_null())
                .map(|d| Box::new(d.clone()));
            let atomic = inner.get("x-kubernetes-map-type").map(|t| t == "atomic");
            fields.push(Field {
                default,
                atomic,
                ..field(name, ty)
            });
        }
        if root || embedded {
            let any = self.any();
            let metadata = self.metadata();
            fields.push(field("apiVersion", any));
            fields.push(field("kind", any));
            fields.push(field("metadata", metadata));
        }
        self.add(
            Shape::Struct(Struct {
                fields,
                atomic,
                ..Struct::default()
            }),
            Some(rules),
        )
    }

    fn rules(&mut self, schema: &Value, at: &str) -> Rules {
        let flag = |key: &str| schema.get(key) == Some(&Value::Bool(true));
        let number = |key: &str| schema.get(key).and_then(Value::as_f64);
        let count = |key: &str| {
            schema
                .get(key)
                .and_then(Value::as_u64)
                .and_then(|n| usize::try_from(n).ok())
        };
        let text = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default();
        let pattern = match text("pattern") {
            "" => None,
            pattern => match regex::Regex::new(pattern) {
                Ok(compiled) => Some((pattern.into(), compiled)),
                Err(error) => {
                    let why = format!("must be a valid regular expression, but isn't: {error}");
                    self.errors
                        .push(FieldError::invalid(format!("{at}.pattern"), json!(pattern), why));
                    None
                }
            },
        };
        let list = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        let required = list.filter_map(|r| r.as_str().map(Into::into)).collect();
        let mut many = |key: &str| -> Box<[Rules]> {
            let list = schema.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
            list.iter()
                .enumerate()
                .map(|(i, s)| self.rules(s, &format!("{at}.{key}[{i}]")))
                .collect()
        };
        let (all_of, any_of, one_of) = (many("allOf"), many("anyOf"), many("oneOf"));
        let not = schema
            .get("not")
            .filter(|n| n.is_object())
            .map(|n| Box::new(self.rules(n, &format!("{at}.not"))));
        let properties = if at.contains("Of[") || at.ends_with(".not") {
            let map = schema
                .get("properties")
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default();
            map.iter()
                .map(|(k, s)| (k.as_str().into(), self.rules(s, &format!("{at}.properties[{k}]"))))
                .collect()
        } else {
            Box::default()
        };
        Rules {
            kind: text("type").into(),
            nullable: flag("nullable"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            required,
            values: schema.get("enum").and_then(Value::as_array).map(|v| v.clone().into()),
            minimum: number("minimum").map(|n| (n, flag("exclusiveMinimum"))),
            maximum: number("maximum").map(|n| (n, flag("exclusiveMaximum"))),
            multiple_of: number("multipleOf"),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            pattern,
            min_items: count("minItems"),
            max_items: count("maxItems"),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
            format: text("format").into(),
            all_of,
            any_of,
            one_of,
            not,
            properties,
        }
    }
}

fn field(name: &str, ty: TypeId) -> Field {
    Field {
        name: name.into(),
        tag: 0,
        ty,
        omit_empty: true,
        omit_zero: false,
        pointer: true,
        inline: false,
        required: false,
        list: ListType::Atomic,
        atomic: None,
        patch: PatchStrategy::default(),
        merge_key: None,
        default: None,
        values: None,
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_i64() || n.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

impl Rules {
    /// Checks a value; `false` when it is of the wrong type, so that nothing more can be said.
    fn check(&self, value: &Value, path: &str, errors: &mut Vec<FieldError>) -> bool {
        let found = kind_of(value);
        if value.is_null() && self.nullable {
            return false;
        }
        if self.int_or_string {
            if !matches!(found, "integer" | "string") {
                let why = format!("{path} in body must be of type integer or string: {found:?}");
                errors.push(FieldError::type_invalid(path, json!(found), why));
                return false;
            }
        } else if !self.kind.is_empty() && *self.kind != *found && !(&*self.kind == "number" && found == "integer") {
            let why = format!("{path} in body must be of type {}: {found:?}", self.kind);
            errors.push(FieldError::type_invalid(path, json!(found), why));
        }
        let holds = |rules: &Rules| {
            let mut ignored = Vec::new();
            rules.check(value, path, &mut ignored);
            ignored.is_empty()
        };
        let shown = if path.is_empty() { "<nil>" } else { path };
        if !self.any_of.is_empty() && !self.any_of.iter().any(holds) {
            errors.push(FieldError::invalid(
                path,
                value.clone(),
                format!("{shown} in body must validate at least one schema (anyOf)"),
            ));
        }
        if !self.one_of.is_empty() && self.one_of.iter().filter(|r| holds(r)).count() != 1 {
            errors.push(FieldError::invalid(
                path,
                value.clone(),
                format!("{shown} in body must validate one and only one schema (oneOf)"),
            ));
        }
        for rules in &self.all_of {
            rules.check(value, path, errors);
        }
        if self.not.as_ref().is_some_and(|r| holds(r)) {
            errors.push(FieldError::invalid(
                path,
                value.clone(),
                format!("{shown} in body must not validate the schema (not)"),
            ));
        }
        let mut invalid = |why: String| {
            errors.push(FieldError::invalid(
                path,
                value.clone(),
                format!("{path} in body {why}"),
            ));
        };
        match value {
            Value::String(s) => {
                let length = s.chars().count();
                if self.min_length.is_some_and(|n| length < n) {
                    invalid(format!(
                        "should be at least {} chars long",
                        self.min_length.unwrap_or(0)
                    ));
                }
                if let Some(n) = self.max_length.filter(|n| length > *n) {
                    errors.push(FieldError::too_long(path, n));
                }
                if let Some((text, pattern)) = &self.pattern
                    && !pattern.is_match(s)
                {
                    errors.push(FieldError::invalid(
                        path,
                        value.clone(),
                        format!("{path} in body should match '{text}'"),
                    ));
                }
                if !format_holds(&self.format, s) {
                    let why = format!("{path} in body must be of type {}: {s:?}", self.format);
                    errors.push(FieldError::invalid(path, value.clone(), why));
                }
            }
            Value::Number(n) => {
                let n = n.as_f64().unwrap_or(f64::NAN);
                if let Some((least, exclusive)) = self.minimum
                    && (n < least || (exclusive && n <= least))
                {
                    let word = if exclusive {
                        "greater than"
                    } else {
                        "greater than or equal to"
                    };
                    invalid(format!("should be {word} {least}"));
                }
                if let Some((most, exclusive)) = self.maximum
                    && (n > most || (exclusive && n >= most))
                {
                    let word = if exclusive {
                        "less than"
                    } else {
                        "less than or equal to"
                    };
                    invalid(format!("should be {word} {most}"));
                }
                if let Some(step) = self.multiple_of.filter(|s| *s > 0.0 && (n / s).fract() != 0.0) {
                    invalid(format!("should be a multiple of {step}"));
                }
            }
            Value::Array(items) => {
                if let Some(n) = self.min_items.filter(|n| items.len() < *n) {
                    invalid(format!("should have at least {n} items"));
                }
                if let Some(n) = self.max_items.filter(|n| items.len() > *n) {
                    errors.push(FieldError::too_many(path, items.len(), n));
                }
            }
            Value::Object(map) => {
                for name in &self.required {
                    if map.get(&**name).is_none() {
                        let at = if path.is_empty() {
                            name.to_string()
                        } else {
                            format!("{path}.{name}")
                        };
                        errors.push(FieldError::required(at, ""));
                    }
                }
                if let Some(n) = self.min_properties.filter(|n| map.len() < *n) {
                    errors.push(FieldError::invalid(
                        path,
                        value.clone(),
                        format!("{path} in body should have at least {n} properties"),
                    ));
                }
                if let Some(n) = self.max_properties.filter(|n| map.len() > *n) {
                    errors.push(FieldError::too_many(path, map.len(), n));
                }
                for (name, rules) in &self.properties {
                    if let Some(inner) = map.get(&**name) {
                        rules.check(inner, &format!("{path}.{name}"), errors);
                    }
                }
            }
            _ => {}
        }
        if let Some(values) = &self.values
            && !values.contains(value)
        {
            let shown: Vec<String> = values
                .iter()
                .map(|v| v.as_str().map_or_else(|| v.to_string(), Into::into))
                .collect();
            let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
            errors.push(FieldError::not_supported(path, value.clone(), &shown));
        }
        true
    }
}

/// Formats that upstream enforces and can be told without doubt; others are not checked, as unknown formats upstream.
fn format_holds(format: &str, text: &str) -> bool {
    match format {
        "date-time" => crate::time::Instant::parse(text).is_some(),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "byte" => {
            text.len().is_multiple_of(4)
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='))
        }
        _ => true,
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
