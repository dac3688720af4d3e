//! Schemas as expressions see them: what of an OpenAPI schema decides how data becomes values and what types they have.

use std::collections::BTreeMap;

use serde_json::Value as Json;

/// What `metadata.name` may be long, when the schema does not say less.
const NAME_LENGTH: i64 = 253;

/// The types of OpenAPI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SchemaType {
    /// `array`.
    Array,
    /// `object`.
    Object,
    /// `string`.
    String,
    /// `number`.
    Number,
    /// `integer`.
    Integer,
    /// `boolean`.
    Boolean,
    /// No type is declared.
    #[default]
    Absent,
}

/// How the items of a list are told apart (`x-kubernetes-list-type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListType {
    /// The list is one value.
    #[default]
    Atomic,
    /// Each item is there once.
    Set,
    /// Items are told apart by some of their fields.
    Map,
}

/// A structural schema, compiled once.
///
/// ```
/// let schema = cel::Schema::from_openapi(&serde_json::json!({
///     "type": "object", "properties": { "replicas": { "type": "integer" } }
/// }));
/// assert!(schema.properties.unwrap().contains_key("replicas"));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Schema {
    /// `type`.
    pub schema_type: SchemaType,
    /// `format`, or empty.
    pub format: Box<str>,
    /// `nullable`.
    pub nullable: bool,
    /// `x-kubernetes-int-or-string`.
    pub int_or_string: bool,
    /// `x-kubernetes-embedded-resource`.
    pub embedded_resource: bool,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub preserve_unknown_fields: bool,
    /// The schema of a list's items.
    pub items: Option<Box<Schema>>,
    /// `None` is not the same as none: an object without `properties` is a map.
    pub properties: Option<BTreeMap<String, Schema>>,
    /// The schema of a map's values.
    pub additional_properties: Option<Box<Schema>>,
    /// `x-kubernetes-list-type`.
    pub list_type: ListType,
    /// `x-kubernetes-list-map-keys`, by the identifiers that stand for them.
    pub list_keys: Vec<String>,
    /// `maxItems`.
    pub max_items: Option<i64>,
    /// `maxLength`.
    pub max_length: Option<i64>,
    /// `maxProperties`.
    pub max_properties: Option<i64>,
    /// `required`.
    pub required: Vec<String>,
    /// Bytes of the longest text that `enum` allows.
    pub longest_enum: Option<i64>,
    /// Whether there is a `default`.
    pub has_default: bool,
}

impl Schema {
    /// Reads a schema of a custom resource definition (`openAPIV3Schema`), or a part of it.
    pub fn from_openapi(json: &Json) -> Schema {
        let text = |key: &str| json.get(key).and_then(Json::as_str).unwrap_or_default();
        let flag = |key: &str| json.get(key).and_then(Json::as_bool).unwrap_or_default();
        let number = |key: &str| json.get(key).and_then(Json::as_i64);
        let inner = |key: &str| {
            let inner = json.get(key).filter(|v| v.is_object());
            inner.map(|v| Box::new(Schema::from_openapi(v)))
        };
        let texts = |key: &str| -> Vec<String> {
            let list = json.get(key).and_then(Json::as_array).into_iter().flatten();
            list.filter_map(Json::as_str).map(str::to_owned).collect()
        };
        let schema_type = match text("type") {
            "array" => SchemaType::Array,
            "object" => SchemaType::Object,
            "string" => SchemaType::String,
            "number" => SchemaType::Number,
            "integer" => SchemaType::Integer,
            "boolean" => SchemaType::Boolean,
            _ => SchemaType::Absent,
        };
        let list_type = match text("x-kubernetes-list-type") {
            "set" => ListType::Set,
            "map" => ListType::Map,
            _ => ListType::Atomic,
        };
        let properties = json.get("properties").and_then(Json::as_object);
        let properties = properties.filter(|p| !p.is_empty()).map(|properties| {
            let all = properties.iter();
            all.map(|(name, schema)| (name.clone(), Schema::from_openapi(schema)))
                .collect()
        });
        let choices = json.get("enum").and_then(Json::as_array).filter(|c| !c.is_empty());
        let longest = choices.map(|choices| {
            let texts = choices.iter().filter_map(Json::as_str);
            texts.map(|t| t.len() as i64).max().unwrap_or_default()
        });
        let keys = texts("x-kubernetes-list-map-keys").into_iter();
        Schema {
            schema_type,
            format: text("format").into(),
            nullable: flag("nullable"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            embedded_resource: flag("x-kubernetes-embedded-resource"),
            preserve_unknown_fields: flag("x-kubernetes-preserve-unknown-fields"),
            items: inner("items"),
            properties,
            additional_properties: inner("additionalProperties"),
            list_type,
            list_keys: keys.map(|key| crate::escape(&key).unwrap_or(key)).collect(),
            max_items: number("maxItems"),
            max_length: number("maxLength"),
            max_properties: number("maxProperties"),
            required: texts("required"),
            longest_enum: longest,
            has_default: json.get("default").is_some_and(|d| !d.is_null()),
        }
        .with_embedded_meta()
    }

    /// An embedded resource has the fields of all resources; values and types of it see them.
    fn with_embedded_meta(self) -> Schema {
        if self.embedded_resource && self.schema_type == SchemaType::Object {
            self.with_type_and_meta()
        } else {
            self
        }
    }

    fn has(&self, name: &str, schema_type: SchemaType) -> Option<&Schema> {
        let field = self.properties.as_ref()?.get(name)?;
        (field.schema_type == schema_type).then_some(field)
    }

    fn text_of(max: Option<i64>) -> Schema {
        Schema {
            schema_type: SchemaType::String,
            max_length: max,
            ..Schema::default()
        }
    }

    /// The schema of a resource's root: `apiVersion`, `kind`, `metadata.name` and `metadata.generateName` are there, whether it
    /// declares them or not.
    pub fn with_type_and_meta(mut self) -> Schema {
        let whole = self.has("kind", SchemaType::String).is_some()
            && self.has("apiVersion", SchemaType::String).is_some()
            && self.has("metadata", SchemaType::Object).is_some_and(|meta| {
                meta.has("name", SchemaType::String).is_some() && meta.has("generateName", SchemaType::String).is_some()
            });
        if whole {
            return self;
        }
        let properties = self.properties.get_or_insert_default();
        let declared = properties.get("metadata").and_then(|m| m.properties.as_ref());
        let bounded = |name: &str, max: i64| {
            let own = declared.and_then(|p| p.get(name)?.max_length);
            Schema::text_of(Some(own.map_or(max, |own| own.min(max))))
        };
        let meta = Schema {
            schema_type: SchemaType::Object,
            properties: Some(BTreeMap::from([
                ("name".to_owned(), bounded("name", NAME_LENGTH)),
                ("generateName".to_owned(), bounded("generateName", NAME_LENGTH - 1)),
            ])),
            ..Schema::default()
        };
        properties.insert("kind".to_owned(), Schema::text_of(None));
        properties.insert("apiVersion".to_owned(), Schema::text_of(None));
        properties.insert("metadata".to_owned(), meta);
        self
    }

    /// The schema of a member of an object, by its name in the data.
    pub(crate) fn member(&self, name: &str) -> Option<&Schema> {
        match &self.properties {
            Some(properties) => properties.get(name),
            None => self.additional_properties.as_deref(),
        }
    }
}
