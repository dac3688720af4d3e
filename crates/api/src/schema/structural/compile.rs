//! The `openAPIV3Schema` of a definition compiled into an arena of types with their rules.

use serde_json::{Map, Value, json};

use super::RuleTable;
use super::rules::Rules;
use crate::field::FieldError;
use crate::schema::{Field, ListType, PatchStrategy, Scalar, Schema, Shape, Struct, Type, TypeId};

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
pub(super) struct Compiler {
    pub(super) schema: Schema,
    pub(super) rules: RuleTable,
    pub(super) errors: Vec<FieldError>,
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

    pub(super) fn any(&mut self) -> TypeId {
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

    pub(super) fn refuse_keywords(&mut self, schema: &Value, at: &str) {
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

    pub(super) fn compile(&mut self, schema: &Value, at: &str) -> TypeId {
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

    pub(super) fn object(&mut self, schema: &Value, at: &str, root: bool) -> TypeId {
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
