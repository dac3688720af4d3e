//! A structural schema: what the `openAPIV3Schema` of a definition says of each value, compiled once.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value};

use super::formats;
use super::pattern::Pattern;
use crate::schema::ListType;
use crate::schema::json::OBJECTIONS;
use crate::schema::path::Path;

/// What a schema says of the keys of an object that are no properties.
#[derive(Debug, Clone, Default)]
pub enum Additional {
    /// Nothing is said: other keys are pruned unless unknown fields are preserved.
    #[default]
    Absent,
    /// `true` or `false`.
    Allowed(bool),
    /// Their values are of this schema.
    Schema(Box<Node>),
}

/// One place of a schema.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// `object`, `array`, `string`, `integer`, `number`, `boolean`; empty for any.
    pub kind: Box<str>,
    /// `nullable`: null is a value.
    pub nullable: bool,
    /// `x-kubernetes-int-or-string`.
    pub int_or_string: bool,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub preserve_unknown: bool,
    /// A whole Kubernetes object, of which `metadata` has its own schema.
    pub embedded: bool,
    /// The value of a field that is not there.
    pub default: Option<Value>,
    /// The named fields of an object.
    pub properties: BTreeMap<Box<str>, Node>,
    /// What holds for the other keys of an object.
    pub additional: Additional,
    /// The schema of a list's items.
    pub items: Option<Box<Node>>,
    /// `x-kubernetes-list-type`, with the keys of `x-kubernetes-list-map-keys`.
    pub list: ListType,
    /// Replaced as a whole by server-side apply.
    pub atomic: bool,
    /// What holds for the value itself.
    pub checks: Option<Box<Checks>>,
}

/// What a schema demands of a value beyond its type.
#[derive(Debug, Clone, Default)]
pub struct Checks {
    pub required: Box<[Box<str>]>,
    pub values: Option<Box<[Value]>>,
    pub minimum: Option<f64>,
    pub exclusive_minimum: bool,
    pub maximum: Option<f64>,
    pub exclusive_maximum: bool,
    pub multiple_of: Option<f64>,
    pub min_length: Option<i64>,
    pub max_length: Option<i64>,
    pub pattern: Option<Pattern>,
    pub min_items: Option<i64>,
    pub max_items: Option<i64>,
    pub min_properties: Option<i64>,
    pub max_properties: Option<i64>,
    pub format: Box<str>,
    pub all_of: Box<[Node]>,
    pub any_of: Box<[Node]>,
    pub one_of: Box<[Node]>,
    pub not: Option<Box<Node>>,
}

impl Node {
    /// Compiles a schema. What upstream refuses in one is found by `definition`; here it is passed over.
    pub fn compile(schema: &Value) -> Node {
        let flag = |key: &str| schema.get(key) == Some(&Value::Bool(true));
        let object = |key: &str| schema.get(key).filter(|v| v.is_object());
        let nested = |v: &Value| Box::new(Node::compile(v));
        let properties = schema.get("properties").and_then(Value::as_object);
        let properties = properties.into_iter().flatten();
        let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
        let keys = keys.into_iter().flatten().filter_map(|k| k.as_str().map(Into::into));
        Node {
            kind: text(schema, "type").into(),
            nullable: flag("nullable"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            default: schema.get("default").filter(|d| !d.is_null()).cloned(),
            properties: properties.map(|(k, s)| (k.as_str().into(), Node::compile(s))).collect(),
            additional: match schema.get("additionalProperties") {
                Some(Value::Bool(allowed)) => Additional::Allowed(*allowed),
                Some(inner @ Value::Object(_)) => Additional::Schema(nested(inner)),
                _ => Additional::Absent,
            },
            items: object("items").map(nested),
            list: match text(schema, "x-kubernetes-list-type") {
                "set" => ListType::Set,
                "map" => ListType::Map(keys.collect()),
                _ => ListType::Atomic,
            },
            atomic: text(schema, "x-kubernetes-map-type") == "atomic",
            checks: Checks::compile(schema).map(Box::new),
        }
    }

    /// Takes out the formats that nothing is held against: objects are not, though the defaults of a schema are.
    pub fn forget_unknown_formats(&mut self) {
        if let Some(checks) = &mut self.checks {
            // a value that may be of either type is held against formats of texts
            let kind = if self.int_or_string { "" } else { &*self.kind };
            if !formats::is_known_of(kind, &checks.format) {
                checks.format = Box::default();
            }
            let lists = [&mut checks.all_of, &mut checks.any_of, &mut checks.one_of];
            lists.into_iter().flatten().for_each(Node::forget_unknown_formats);
            checks.not.iter_mut().for_each(|not| not.forget_unknown_formats());
        }
        self.properties.values_mut().for_each(Node::forget_unknown_formats);
        self.items.iter_mut().for_each(|items| items.forget_unknown_formats());
        if let Additional::Schema(node) = &mut self.additional {
            node.forget_unknown_formats();
        }
    }

    /// Lets values that may be an integer or a string be of any type: defaults are held against nothing more.
    pub fn forget_unions(&mut self) {
        self.int_or_string = false;
        self.properties.values_mut().for_each(Node::forget_unions);
        self.items.iter_mut().for_each(|items| items.forget_unions());
        if let Additional::Schema(node) = &mut self.additional {
            node.forget_unions();
        }
    }

    /// The schema of one key of an object.
    pub fn child(&self, key: &str) -> Option<&Node> {
        match (self.properties.get(key), &self.additional) {
            (Some(node), _) => Some(node),
            (None, Additional::Schema(node)) => Some(node),
            _ => None,
        }
    }

    /// The fields of a value that are not specified, below a node that keeps such; `open` says that this one is.
    pub fn loose(&self, value: &Value, open: bool, at: &Path<'_>, found: &mut HashSet<String>) {
        match value {
            Value::Object(map) => {
                for (key, inner) in map {
                    let below = Path::Key(at, key);
                    match (self.child(key), &self.additional) {
                        (Some(child), _) => child.loose(inner, open || self.preserve_unknown, &below, found),
                        (None, Additional::Absent) if open && !self.preserve_unknown && found.len() < OBJECTIONS => {
                            found.insert(below.text(true));
                        }
                        _ => {}
                    }
                }
            }
            Value::Array(list) => {
                let Some(items) = &self.items else { return };
                for (i, inner) in list.iter().enumerate() {
                    items.loose(inner, open || self.preserve_unknown, &Path::Index(at, i), found);
                }
            }
            _ => {}
        }
    }

    /// Puts defaults where nothing is, or where a null is that may not be.
    pub fn set_defaults(&self, value: &mut Value) {
        match value {
            Value::Object(map) => {
                for (key, node) in &self.properties {
                    let Some(default) = &node.default else { continue };
                    let absent = match map.get(&**key) {
                        None => true,
                        Some(there) => there.is_null() && !node.nullable,
                    };
                    if absent {
                        map.insert(key.to_string(), default.clone());
                    }
                }
                for (key, inner) in map.iter_mut() {
                    if let Some(node) = self.properties.get(&**key) {
                        node.set_defaults(inner);
                    } else if let Additional::Schema(node) = &self.additional {
                        node.replace_null(inner);
                        node.set_defaults(inner);
                    }
                }
            }
            Value::Array(list) => {
                let Some(node) = &self.items else { return };
                for inner in list {
                    node.replace_null(inner);
                    node.set_defaults(inner);
                }
            }
            _ => {}
        }
    }

    fn replace_null(&self, value: &mut Value) {
        if value.is_null() && !self.nullable {
            *value = self.default.clone().unwrap_or_default();
        }
    }
}

/// Takes out the nulls that may not be and have no default to take their place.
pub fn drop_nulls(node: Option<&Node>, value: &mut Value) {
    match value {
        Value::Object(map) => map.retain(|key, inner| {
            let child = node.and_then(|node| node.child(key));
            let goes = inner.is_null() && child.is_some_and(|c| !c.nullable && c.default.is_none());
            if !goes {
                drop_nulls(child, inner);
            }
            !goes
        }),
        Value::Array(list) => {
            let child = node.and_then(|node| node.items.as_deref());
            list.iter_mut().for_each(|inner| drop_nulls(child, inner));
        }
        _ => {}
    }
}

/// What an embedded resource has that its schema need not name.
const OF_EVERY_OBJECT: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Takes out the fields that a schema does not specify, and tells their paths. `at` is the path of the value, and
/// `whole` says that it is a whole object.
pub fn prune(node: Option<&Node>, value: &mut Value, whole: bool, at: &Path<'_>, unknown: &mut Vec<String>) {
    let preserve = node.is_some_and(|n| n.preserve_unknown);
    match value {
        Value::Object(map) => map.retain(|key, inner| {
            let embedded = whole || node.is_some_and(|n| n.embedded);
            if embedded && OF_EVERY_OBJECT.contains(&key.as_str()) {
                return true;
            }
            let below = Path::Key(at, key);
            let keep = node.is_some_and(|node| prune_known(node, key, inner, &below, unknown) || preserve);
            if !keep && unknown.len() < OBJECTIONS {
                unknown.push(below.text(true));
            }
            keep
        }),
        Value::Array(list) => {
            let items = node.and_then(|n| n.items.as_deref());
            for (i, inner) in list.iter_mut().enumerate() {
                let below = Path::Index(at, i);
                match (preserve, items) {
                    // nothing of a list that is kept as it is goes, but what its items specify otherwise
                    (true, None) => {}
                    (true, Some(items)) => keep_unknown(items, inner, &below, unknown),
                    (false, items) => prune(items, inner, false, &below, unknown),
                }
            }
        }
        _ => {}
    }
}

/// Prunes the value of a key that a schema knows; whether it does.
fn prune_known(node: &Node, key: &str, inner: &mut Value, at: &Path<'_>, unknown: &mut Vec<String>) -> bool {
    let child = match (node.properties.get(key), &node.additional) {
        (Some(child), _) => Some(child),
        (None, Additional::Schema(child)) => Some(&**child),
        (None, Additional::Allowed(_)) => None,
        (None, Additional::Absent) => return false,
    };
    prune(child, inner, false, at, unknown);
    true
}

/// Prunes only where a schema specifies something: below a list whose unknown fields are kept.
fn keep_unknown(node: &Node, value: &mut Value, at: &Path<'_>, unknown: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map.iter_mut() {
                if !(node.embedded && OF_EVERY_OBJECT.contains(&key.as_str())) {
                    prune_known(node, key, inner, &Path::Key(at, key), unknown);
                }
            }
        }
        Value::Array(list) => {
            let Some(items) = node.items.as_deref() else { return };
            for (i, inner) in list.iter_mut().enumerate() {
                keep_unknown(items, inner, &Path::Index(at, i), unknown);
            }
        }
        _ => {}
    }
}

impl Checks {
    fn compile(schema: &Value) -> Option<Checks> {
        let number = |key: &str| schema.get(key).and_then(Value::as_f64);
        let count = |key: &str| schema.get(key).and_then(Value::as_i64);
        let flag = |key: &str| schema.get(key) == Some(&Value::Bool(true));
        let list = |key: &str| schema.get(key).and_then(Value::as_array).map(Vec::as_slice);
        let many = |key: &str| -> Box<[Node]> { list(key).unwrap_or_default().iter().map(Node::compile).collect() };
        let object: &Map<String, Value> = schema.as_object()?;
        const KEYS: [&str; 19] = [
            "required",
            "enum",
            "minimum",
            "exclusiveMinimum",
            "maximum",
            "exclusiveMaximum",
            "multipleOf",
            "minLength",
            "maxLength",
            "pattern",
            "minItems",
            "maxItems",
            "minProperties",
            "maxProperties",
            "format",
            "allOf",
            "anyOf",
            "oneOf",
            "not",
        ];
        if !KEYS.iter().any(|key| object.contains_key(*key)) {
            return None;
        }
        let names = list("required").unwrap_or_default().iter();
        Some(Checks {
            required: names.filter_map(|r| r.as_str().map(Into::into)).collect(),
            values: list("enum").filter(|v| !v.is_empty()).map(Into::into),
            minimum: number("minimum"),
            exclusive_minimum: flag("exclusiveMinimum"),
            maximum: number("maximum"),
            exclusive_maximum: flag("exclusiveMaximum"),
            multiple_of: number("multipleOf"),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            pattern: Some(text(schema, "pattern"))
                .filter(|p| !p.is_empty())
                .map(Pattern::new),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
            format: text(schema, "format").into(),
            all_of: many("allOf"),
            any_of: many("anyOf"),
            one_of: many("oneOf"),
            not: schema
                .get("not")
                .filter(|n| n.is_object())
                .map(|n| Box::new(Node::compile(n))),
        })
    }
}

/// A text of a schema, or the empty one.
pub fn text<'a>(schema: &'a Value, key: &str) -> &'a str {
    schema.get(key).and_then(Value::as_str).unwrap_or_default()
}
