//! Types that schemas declare, with what the cost estimate needs of them: how many elements values may have at most, and how
//! short their text may be.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::escape;
use crate::schema::{Schema, SchemaType};
use crate::types::Type;

/// Bytes a request may have.
const MAX_REQUEST: i64 = 3 * 1024 * 1024;

/// A type and the bounds of its values.
#[derive(Debug, Clone)]
pub struct Declared {
    /// The type.
    pub of: Type,
    /// Fields by the identifiers that stand for them.
    pub fields: BTreeMap<String, Arc<Declared>>,
    /// The type of the keys of a map.
    pub key: Option<Arc<Declared>>,
    /// The type of the items of a list or the values of a map.
    pub element: Option<Arc<Declared>>,
    /// Characters of a text, items of a list, entries of a map.
    pub max_elements: i64,
    /// Bytes of the shortest JSON text of a value.
    pub min_size: i64,
    is_object: bool,
}

impl Declared {
    fn simple(of: Type, max_elements: i64, min_size: i64) -> Declared {
        Declared {
            of,
            fields: BTreeMap::new(),
            key: None,
            element: None,
            max_elements,
            min_size,
            is_object: false,
        }
    }

    /// A type whose values have no bounds of their own.
    pub fn unbounded(of: Type) -> Declared {
        Declared::simple(of, MAX_REQUEST, 0)
    }

    /// A type whose values have at most so many characters, items or entries.
    pub fn bounded(of: Type, max_elements: i64) -> Declared {
        Declared::simple(of, max_elements, 0)
    }

    /// A map with at most so many entries.
    pub fn map(key: Declared, value: Declared, max_elements: i64) -> Declared {
        let mut declared = Declared::bounded(Type::map(key.of.clone(), value.of.clone()), max_elements);
        declared.key = Some(Arc::new(key));
        declared.element = Some(Arc::new(value));
        declared
    }

    /// A list of values of a type.
    pub fn list(item: Declared) -> Declared {
        let mut declared = Declared::unbounded(Type::list(item.of.clone()));
        declared.element = Some(Arc::new(item));
        declared
    }

    /// An object type with these fields, for what no schema describes.
    pub fn record<N: Into<String>>(name: &str, fields: impl IntoIterator<Item = (N, Declared)>) -> Declared {
        let mut declared = Declared::unbounded(Type::object(name));
        declared.is_object = true;
        let fields = fields.into_iter();
        declared.fields = fields.map(|(name, field)| (name.into(), Arc::new(field))).collect();
        declared
    }

    /// The type that a schema declares, or `None` when expressions do not see such data. `name` is the name of the object types
    /// in it: the root's is `name`, a field's `name.field`. `root` is for the root of a resource.
    pub fn from_schema(schema: &Schema, root: bool, name: &str) -> Option<Declared> {
        if root && !schema.int_or_string {
            return Declared::build(&schema.clone().with_type_and_meta(), name);
        }
        Declared::build(schema, name)
    }

    fn build(schema: &Schema, name: &str) -> Option<Declared> {
        if schema.int_or_string {
            let max = schema.max_length.map_or(MAX_REQUEST - 2, |max| max.max(0) * 4);
            return Some(Declared::simple(Type::Dyn, max, 1));
        }
        match schema.schema_type {
            SchemaType::Array => {
                let item = Declared::build(schema.items.as_ref()?, &format!("{name}.@idx"))?;
                let fitting = (MAX_REQUEST - 2) / (item.min_size + 1);
                let max = schema.max_items.map_or(fitting, |max| max.max(0));
                let mut declared = Declared::simple(Type::list(item.of.clone()), max, 2);
                declared.element = Some(Arc::new(item));
                Some(declared)
            }
            SchemaType::Object => Declared::object(schema, name),
            SchemaType::String => Some(Declared::text(schema)),
            SchemaType::Boolean => Some(Declared::simple(Type::Bool, 0, 4)),
            SchemaType::Number => Some(Declared::simple(Type::Double, 0, 1)),
            SchemaType::Integer => Some(Declared::simple(Type::Int, 0, 1)),
            SchemaType::Absent => None,
        }
    }

    fn object(schema: &Schema, name: &str) -> Option<Declared> {
        if let Some(values) = &schema.additional_properties {
            let value = Declared::build(values, &format!("{name}.@elem"))?;
            let fitting = (MAX_REQUEST - 2) / (value.min_size + 6);
            let max = schema.max_properties.map_or(fitting, |max| max.max(0));
            let mut declared = Declared::simple(Type::map(Type::String, value.of.clone()), max, 2);
            declared.key = Some(Arc::new(Declared::simple(Type::String, 0, 2)));
            declared.element = Some(Arc::new(value));
            return Some(declared);
        }
        let mut declared = Declared::simple(Type::object(name), 0, 2);
        declared.is_object = true;
        let required = &schema.required;
        for (property, schema) in schema.properties.iter().flatten() {
            let identifier = escape(property);
            let inner = format!("{name}.{}", identifier.as_deref().unwrap_or(property));
            let Some(field) = Declared::build(schema, &inner) else {
                continue;
            };
            if required.contains(property) && !schema.has_default {
                declared.min_size += property.len() as i64 + field.min_size + 4;
            }
            declared.fields.extend(identifier.map(|i| (i, Arc::new(field))));
        }
        Some(declared)
    }

    fn text(schema: &Schema) -> Declared {
        let whole = MAX_REQUEST - 2;
        match &*schema.format {
            "byte" => Declared::simple(Type::Bytes, schema.max_length.map_or(whole, |max| max.max(0)), 2),
            "duration" => Declared::simple(Type::Duration, 32, 3),
            "date" => Declared::simple(Type::Timestamp, 12, 12),
            "date-time" => Declared::simple(Type::Timestamp, 32, 21),
            _ => {
                let max = match (schema.max_length, schema.longest_enum) {
                    // a character is up to four bytes
                    (Some(max), _) => max.max(0) * 4,
                    (None, Some(longest)) => longest,
                    (None, None) => whole,
                };
                Declared::simple(Type::String, max, 2)
            }
        }
    }

    /// How often such data may occur in one request, at most.
    pub fn max_cardinality(&self) -> u64 {
        (MAX_REQUEST / (self.min_size + 1)) as u64
    }

    /// The types of objects in a type, by name.
    pub(crate) fn objects(declared: &Arc<Declared>, into: &mut HashMap<Arc<str>, Arc<Declared>>) {
        if let (true, Type::Struct(name)) = (declared.is_object, &declared.of) {
            into.insert(name.clone(), declared.clone());
        }
        let inner = declared.fields.values().chain(&declared.element);
        inner.for_each(|d| Declared::objects(d, into));
    }
}
