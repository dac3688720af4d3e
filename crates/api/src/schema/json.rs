//! Decodes JSON and YAML by the schema in one pass: types and ranges are checked, unknown fields dropped and reported,
//! duplicate fields reported.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::go::quote;
use crate::schema::document::Document;
use crate::schema::path::Path;
use crate::schema::weight::{TooHeavy, Weight};
use crate::schema::{Scalar, Schema, Shape, TypeId, scalar};

/// Why a body is not of its type. The message is what upstream's decoder says, where practical.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(pub String);

/// A decoded object and what strict decoding objects to.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The object, without the fields that its type does not have.
    pub value: Value,
    /// Paths such as `spec.containers[0].foo`.
    pub unknown: Vec<String>,
    /// Paths of keys that stand more than once.
    pub duplicate: Vec<String>,
    /// What the reader of the text itself objects to.
    pub text: Option<String>,
}

impl Decoded {
    /// The messages of strict field validation, as upstream words them.
    pub fn strict_errors(&self) -> Vec<String> {
        let unknown = self.unknown.iter().map(|p| format!("unknown field {}", quote(p)));
        // a field that nobody knows is told once
        let known = self.duplicate.iter().filter(|p| !self.unknown.contains(p));
        let duplicate = known.map(|p| format!("duplicate field {}", quote(p)));
        self.text.clone().into_iter().chain(unknown).chain(duplicate).collect()
    }

    /// The same of a custom object, whose text and whose fields are looked at one after the other: a field that nobody knows may
    /// stand twice, too.
    pub fn strict_errors_of_custom(&self) -> Vec<String> {
        let duplicate = self.duplicate.iter().map(|p| format!("duplicate field {}", quote(p)));
        let unknown = self.unknown.iter().map(|p| format!("unknown field {}", quote(p)));
        self.text.clone().into_iter().chain(duplicate).chain(unknown).collect()
    }
}

/// Which of upstream's two decoders speaks where a value is not of its type: the one that reads JSON, or the one that makes a typed
/// object of an untyped one, after a merge. The latter also takes a number without a fraction for an integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// The decoder of JSON.
    Json,
    /// The converter from an untyped object.
    Converter,
}

impl Schema {
    /// Decodes a JSON document.
    pub fn decode_json(&self, root: TypeId, bytes: &[u8]) -> Result<Decoded, DecodeError> {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let decoded = self.decode_with(root, &mut deserializer, Voice::Json, false)?;
        deserializer.end().map_err(|e| DecodeError(e.to_string()))?;
        Ok(decoded)
    }

    /// Decodes one YAML document.
    pub fn decode_yaml(&self, root: TypeId, bytes: &[u8]) -> Result<Decoded, DecodeError> {
        let document =
            Document::from_yaml(bytes).map_err(|e| DecodeError(format!("error converting YAML to JSON: {e}")))?;
        let text = document.yaml_problem();
        let decoded = self.decode_value(root, document.value)?;
        Ok(Decoded { text, ..decoded })
    }

    /// Checks a tree against the schema and drops what the schema does not know: for the result of a patch.
    pub fn decode_value(&self, root: TypeId, value: Value) -> Result<Decoded, DecodeError> {
        self.decode_with(root, value, Voice::Json, false)
    }

    /// As `decode_value`, for the result of a merge of trees.
    pub fn convert_value(&self, root: TypeId, value: &Value) -> Result<Decoded, DecodeError> {
        // Go goes through the fields of a struct: which of several mistakes it meets first hangs on that
        self.decode_with(root, value, Voice::Converter, false)
            .or_else(|_| self.decode_with(root, value, Voice::Converter, true))
    }

    fn decode_with<'de, D: Deserializer<'de>>(
        &self,
        root: TypeId,
        deserializer: D,
        voice: Voice,
        declared: bool,
    ) -> Result<Decoded, DecodeError> {
        let context = Context {
            schema: self,
            voice,
            declared,
            found: RefCell::default(),
            weight: Weight::default(),
        };
        let seed = Seed {
            context: &context,
            ty: root,
            owner: None,
            path: &Path::Root,
            unseen: false,
        };
        let read = seed.deserialize(deserializer);
        let found = context.found.into_inner();
        match read {
            Ok(value) => {
                if let Some(misfit) = found.misfit {
                    return Err(DecodeError(misfit));
                }
                Ok(Decoded {
                    value,
                    unknown: found.unknown,
                    duplicate: found.duplicate,
                    text: None,
                })
            }
            // The text of serde's error has a position appended, which upstream's has not.
            Err(e) => Err(DecodeError(found.error.unwrap_or_else(|| e.to_string()))),
        }
    }
}

/// What strict decoding objects to is told a hundred times, as upstream's decoder does; each text once.
pub(super) const OBJECTIONS: usize = 100;

#[derive(Default)]
struct Found {
    unknown: Vec<String>,
    duplicate: Vec<String>,
    told: HashSet<String>,
    /// What ended the reading.
    error: Option<String>,
    /// The first value that is not of its type. Go reads on, and says so if nothing worse comes.
    misfit: Option<String>,
}

impl Found {
    fn unknown(&mut self, path: &Path<'_>) {
        if self.told.len() < OBJECTIONS {
            let text = path.text(true);
            if self.told.insert(format!("u{text}")) {
                self.unknown.push(text);
            }
        }
    }

    fn duplicate(&mut self, path: &Path<'_>) {
        if self.told.len() < OBJECTIONS {
            let text = path.text(true);
            if self.told.insert(format!("d{text}")) {
                self.duplicate.push(text);
            }
        }
    }
}

struct Context<'s> {
    schema: &'s Schema,
    voice: Voice,
    /// Fields are read in the order in which their struct declares them, and not in that of the document.
    declared: bool,
    found: RefCell<Found>,
    weight: Weight,
}

impl Context<'_> {
    fn weigh<E: serde::de::Error>(&self, weighed: Result<(), TooHeavy>) -> Result<(), E> {
        weighed.map_err(|error| {
            self.found.borrow_mut().error = Some(error.to_string());
            E::custom(error)
        })
    }
}

#[derive(Clone, Copy)]
struct Seed<'a> {
    context: &'a Context<'a>,
    ty: TypeId,
    /// The struct that the value is a field of.
    owner: Option<TypeId>,
    path: &'a Path<'a>,
    /// The value stands in one that reads itself in Go, where strict decoding does not look.
    unseen: bool,
}

impl<'a> Seed<'a> {
    fn shape(&self) -> &'a Shape {
        self.context.schema.shape(self.ty)
    }

    fn scalar(&self) -> Option<Scalar> {
        match self.shape() {
            Shape::Scalar(s) => Some(*s),
            _ => None,
        }
    }

    /// Ends the reading: a type that reads itself does not know the value.
    fn fail<E: serde::de::Error>(&self, message: String) -> E {
        let error = E::custom(&message);
        self.context.found.borrow_mut().error = Some(message);
        error
    }

    /// Notes a value that is not of its type, and reads on.
    fn misfit<E: serde::de::Error>(&self, message: String) -> Result<Value, E> {
        if self.context.voice == Voice::Converter {
            return Err(self.fail(message));
        }
        self.context.found.borrow_mut().misfit.get_or_insert(message);
        Ok(Value::Null)
    }

    /// Reads what reads itself in Go: what does not fit in there ends the reading.
    fn reads_itself<E: serde::de::Error>(&self, read: impl FnOnce() -> Result<Value, E>) -> Result<Value, E> {
        let outside = self.context.found.borrow_mut().misfit.take();
        let value = read()?;
        let inside = std::mem::replace(&mut self.context.found.borrow_mut().misfit, outside);
        match inside {
            Some(message) => Err(self.fail(message)),
            None => Ok(value),
        }
    }

    /// The value is of another type: what JSON calls it, and what Go calls it.
    fn mismatch<E: serde::de::Error>(&self, found: &str, kind: &str) -> Result<Value, E> {
        let schema = self.context.schema;
        match self.scalar() {
            Some(Scalar::Quantity) => return Err(self.fail(crate::quantity::FORMAT.to_owned())),
            Some(Scalar::SchemaOrBool) => return Err(self.fail("boolean or JSON schema expected".to_owned())),
            // these look for a brace or a bracket, and find nothing in what has neither
            Some(Scalar::SchemaOrArray | Scalar::SchemaOrStrings) => return Ok(Value::Null),
            _ => {}
        }
        let (expected, special) = match self.scalar() {
            // these read themselves from a text or a number
            Some(Scalar::Time | Scalar::MicroTime | Scalar::Duration) => ("string".to_owned(), true),
            Some(Scalar::IntOrString) => ("int32".to_owned(), true),
            _ => (schema.go_name(self.ty), false),
        };
        if self.context.voice == Voice::Converter {
            return Err(self.fail(match self.shape() {
                _ if special => format!("json: cannot unmarshal {found} into Go value of type {expected}"),
                Shape::List { .. } | Shape::WrappedList { .. } | Shape::Scalar(Scalar::Bytes) => {
                    format!("cannot restore slice from {kind}")
                }
                Shape::Map { .. } => format!("cannot restore map from {kind}"),
                Shape::Struct(_) => format!("cannot restore struct from: {kind}"),
                // Go could make one of the other, but that is not meant
                Shape::Scalar(Scalar::String) if kind == "int64" => "cannot convert int64 to string".to_owned(),
                Shape::Scalar(Scalar::Int32 | Scalar::Int64) if kind == "float64" => {
                    format!("cannot convert float64 to {expected}")
                }
                Shape::Scalar(_) => format!("unrecognized type: {expected}"),
            }));
        }
        let place = match self.owner {
            Some(owner) => {
                let name = schema.go_name(owner);
                let name = name.rsplit('.').next().unwrap_or_default().to_owned();
                format!("struct field {name}.{}", self.path.text(false))
            }
            None => "value".to_owned(),
        };
        let message = format!("json: cannot unmarshal {found} into Go {place} of type {expected}");
        match special {
            true => Err(self.fail(message)),
            false => self.misfit(message),
        }
    }

    /// A number that is too large for its field, as Go's conversion leaves it: the low bits of it.
    fn cut(&self, number: &Value) -> Option<Value> {
        if self.context.voice != Voice::Converter {
            return None;
        }
        let wide = match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => whole,
            // beyond all integers is the least of them
            (None, Some(float)) if float.fract() == 0.0 && float.abs() >= LEAST.abs() => i64::MIN,
            (None, Some(float)) if float.fract() == 0.0 => float as i64,
            _ => return None,
        };
        match self.scalar() {
            Some(Scalar::Int32) => Some(Value::from(wide as i32)),
            Some(Scalar::Int64) => Some(Value::from(wide)),
            _ => None,
        }
    }

    fn integer<E: serde::de::Error>(&self, fits32: bool, fits64: bool, number: Value) -> Result<Value, E> {
        match self.scalar() {
            Some(Scalar::Int32) if fits32 => Ok(number),
            Some(Scalar::Int64) if fits64 => Ok(number),
            Some(Scalar::IntOrString) if fits32 => Ok(number),
            Some(Scalar::Double | Scalar::Quantity | Scalar::Any | Scalar::Json | Scalar::Raw | Scalar::FieldsV1) => {
                Ok(number)
            }
            Some(Scalar::Int32 | Scalar::Int64) if let Some(cut) = self.cut(&number) => Ok(cut),
            Some(Scalar::Int32 | Scalar::Int64 | Scalar::IntOrString) => {
                self.mismatch(&format!("number {number}"), go_kind(&number))
            }
            _ => self.mismatch("number", go_kind(&number)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// The least integer of 64 bits.
const LEAST: f64 = -9_223_372_036_854_775_808.0;
/// Larger numbers have no exact integer.
const WHOLE: f64 = 9e15;

/// What Go calls the type of a number in a tree.
fn go_kind(number: &Value) -> &'static str {
    if number.is_f64() { "float64" } else { "int64" }
}

/// A number with a fraction or an exponent. A zero with a sign is an integer to Go.
pub(super) fn real(v: f64) -> Value {
    if v == 0.0 && v.is_sign_negative() {
        return Value::from(0);
    }
    v.into()
}

/// Bytes of a text.
pub(super) fn text_of(value: &Value) -> usize {
    value.as_str().map_or(0, str::len)
}

/// Any JSON, noting duplicate keys.
struct Free<'a> {
    context: &'a Context<'a>,
    path: &'a Path<'a>,
}

impl<'de> DeserializeSeed<'de> for Free<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Free<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E: serde::de::Error>(self, v: bool) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        Ok(real(v))
    }

    fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_string<E: serde::de::Error>(self, v: String) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        while let Some(item) = {
            let path = Path::Index(self.path, out.len());
            items.next_element_seed(Free {
                context: self.context,
                path: &path,
            })?
        } {
            self.context.weigh(self.context.weight.value(text_of(&item)))?;
            out.push(item);
        }
        Ok(Value::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let path = Path::Key(self.path, &key);
            let value = entries.next_value_seed(Free {
                context: self.context,
                path: &path,
            })?;
            if out.contains_key(&key) {
                self.context.found.borrow_mut().duplicate(&path);
            }
            let size = key.len() + text_of(&value);
            self.context.weigh(self.context.weight.member(out.len(), size))?;
            out.insert(key, value);
        }
        Ok(Value::Object(out))
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context.schema.go_name(self.ty))
    }

    fn visit_bool<E: serde::de::Error>(self, v: bool) -> Result<Value, E> {
        match self.scalar() {
            Some(Scalar::Bool | Scalar::Any | Scalar::Json | Scalar::Raw | Scalar::FieldsV1 | Scalar::SchemaOrBool) => {
                Ok(v.into())
            }
            _ => self.mismatch("bool", "bool"),
        }
    }

    fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<Value, E> {
        self.integer(i32::try_from(v).is_ok(), true, v.into())
    }

    fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Value, E> {
        self.integer(i32::try_from(v).is_ok(), i64::try_from(v).is_ok(), v.into())
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        let whole = v.fract() == 0.0 && v.abs() < WHOLE && self.context.voice == Voice::Converter;
        let is_integer = matches!(self.scalar(), Some(Scalar::Int32 | Scalar::Int64 | Scalar::IntOrString));
        // a zero with a sign is an integer to Go's reader too
        if is_integer && (whole || v == 0.0) {
            return self.visit_i64(v as i64);
        }
        self.integer(false, false, real(v))
    }

    fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Value, E> {
        self.visit_string(v.to_owned())
    }

    fn visit_string<E: serde::de::Error>(self, v: String) -> Result<Value, E> {
        match self.scalar() {
            Some(
                Scalar::String | Scalar::IntOrString | Scalar::Any | Scalar::Json | Scalar::Raw | Scalar::FieldsV1,
            ) => Ok(v.into()),
            Some(s @ (Scalar::Bytes | Scalar::Time | Scalar::MicroTime | Scalar::Duration | Scalar::Quantity)) => {
                match scalar::check_text(s, &v) {
                    Ok(()) => Ok(v.into()),
                    Err(error) if s == Scalar::Bytes && self.context.voice == Voice::Converter => {
                        Err(self.fail(format!("error decoding from json: {error}")))
                    }
                    Err(error) if s == Scalar::Bytes => self.misfit(error.to_string()),
                    Err(error) => Err(self.fail(error.to_string())),
                }
            }
            _ => self.mismatch("string", "string"),
        }
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let schema = self.context.schema;
        let item_type = match self.shape() {
            Shape::List { item, .. } | Shape::WrappedList { item } => *item,
            Shape::Scalar(Scalar::Any | Scalar::Json | Scalar::Raw | Scalar::FieldsV1 | Scalar::SchemaOrStrings) => {
                return Free {
                    context: self.context,
                    path: self.path,
                }
                .visit_seq(items);
            }
            Shape::Scalar(Scalar::SchemaOrArray) => schema
                .json_schema
                .ok_or_else(|| A::Error::custom("no type for JSON schemas"))?,
            _ => {
                let told = self.mismatch("array", "slice")?;
                while items.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                return Ok(told);
            }
        };
        let itself = self.scalar() == Some(Scalar::SchemaOrArray);
        let mut read = || {
            let mut out = Vec::new();
            while let Some(item) = {
                let path = Path::Index(self.path, out.len());
                items.next_element_seed(Seed {
                    ty: item_type,
                    path: &path,
                    unseen: self.unseen || itself,
                    ..self
                })?
            } {
                self.context.weigh(self.context.weight.value(text_of(&item)))?;
                out.push(item);
            }
            Ok(Value::Array(out))
        };
        match itself {
            true => self.reads_itself(read),
            false => read(),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let schema = self.context.schema;
        match self.shape() {
            Shape::Struct(_) => self.members(entries, Some(self.ty), None, self.unseen),
            Shape::Map { value } => self.members(entries, None, Some(*value), self.unseen),
            Shape::Scalar(Scalar::Any | Scalar::Json | Scalar::Raw | Scalar::FieldsV1) => {
                let free = Free {
                    context: self.context,
                    path: self.path,
                };
                free.visit_map(entries)
            }
            Shape::Scalar(Scalar::SchemaOrArray | Scalar::SchemaOrBool | Scalar::SchemaOrStrings) => {
                self.reads_itself(|| self.members(entries, schema.json_schema, None, true))
            }
            _ => {
                let told = self.mismatch("object", "map")?;
                while entries
                    .next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?
                    .is_some()
                {}
                Ok(told)
            }
        }
    }
}

impl Seed<'_> {
    /// The members of a struct, or of a map of values of one type.
    fn members<'de, A: MapAccess<'de>>(
        self,
        mut entries: A,
        structure: Option<TypeId>,
        value_type: Option<TypeId>,
        unseen: bool,
    ) -> Result<Value, A::Error> {
        let schema = self.context.schema;
        if let (true, Some(ty)) = (self.context.declared, structure) {
            return self.in_declared_order(ty, entries);
        }
        let mut out = Map::new();
        let mut ignored: HashSet<String> = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            let path = if value_type.is_some() {
                Path::Entry(self.path, &key)
            } else {
                Path::Key(self.path, &key)
            };
            let (ty, owner) = match (structure, value_type) {
                (Some(s), _) => match schema.field(s, &key) {
                    Some(field) => (field.ty, structure),
                    None => {
                        entries.next_value::<serde::de::IgnoredAny>()?;
                        let mut found = self.context.found.borrow_mut();
                        if unseen {
                            continue;
                        }
                        if ignored.contains(&key) {
                            found.duplicate(&path);
                        } else {
                            found.unknown(&path);
                            ignored.insert(key);
                        }
                        continue;
                    }
                },
                (None, Some(value)) => (value, self.owner),
                (None, None) => return Err(A::Error::custom("no type for JSON schemas")),
            };
            let value = entries.next_value_seed(Seed {
                context: self.context,
                ty,
                owner,
                path: &path,
                unseen,
            })?;
            if out.contains_key(&key) && !unseen {
                self.context.found.borrow_mut().duplicate(&path);
            }
            let size = key.len() + text_of(&value);
            self.context.weigh(self.context.weight.member(out.len(), size))?;
            let value = match (out.remove(&key), structure.and_then(|s| schema.field(s, &key))) {
                // entries of a map are made anew
                (Some(before), Some(field)) => schema.read_over(ty, field.pointer, before, value),
                _ => value,
            };
            out.insert(key, value);
        }
        Ok(Value::Object(out))
    }

    /// Reads a struct's fields in the order in which it declares them.
    fn in_declared_order<'de, A: MapAccess<'de>>(self, ty: TypeId, mut entries: A) -> Result<Value, A::Error> {
        let schema = self.context.schema;
        let mut members: Map<String, Value> = Map::new();
        while let Some((key, value)) = entries.next_entry()? {
            members.insert(key, value);
        }
        let (mut out, mut fields) = (Map::new(), Vec::new());
        schema.declared(ty, &mut |field| fields.push(field));
        for field in fields {
            let Some((key, value)) = members.remove_entry(&*field.name) else {
                continue;
            };
            let seed = Seed {
                ty: field.ty,
                owner: Some(ty),
                path: &Path::Key(self.path, &key),
                ..self
            };
            let value = seed.deserialize(value).map_err(A::Error::custom)?;
            out.insert(key, value);
        }
        Ok(Value::Object(out))
    }
}

impl Schema {
    /// What Go's reader makes of a value that it reads where it has read another one, as of a field that is given twice: structs,
    /// maps and the items of lists are not made anew.
    fn read_over(&self, ty: TypeId, pointer: bool, before: Value, value: Value) -> Value {
        match (self.shape(ty), before, value) {
            (Shape::Struct(_), before, Value::Null) if !pointer => before,
            (
                Shape::Scalar(Scalar::String | Scalar::Bool | Scalar::Int32 | Scalar::Int64 | Scalar::Double),
                before,
                Value::Null,
            ) if !pointer => before,
            (Shape::Struct(_), Value::Object(mut all), Value::Object(members)) => {
                for (key, value) in members {
                    let value = match (all.remove(&key), self.field(ty, &key)) {
                        (Some(before), Some(field)) => self.read_over(field.ty, field.pointer, before, value),
                        _ => value,
                    };
                    all.insert(key, value);
                }
                Value::Object(all)
            }
            (Shape::Map { .. }, Value::Object(mut all), Value::Object(entries)) => {
                all.extend(entries);
                Value::Object(all)
            }
            (Shape::List { item, .. } | Shape::WrappedList { item }, Value::Array(before), Value::Array(items)) => {
                let mut before = before.into_iter();
                let read = items.into_iter().map(|value| match before.next() {
                    Some(before) => self.read_over(*item, false, before, value),
                    None => value,
                });
                Value::Array(read.collect())
            }
            (_, _, value) => value,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::gvk::GroupVersionKind;

    /// `fromUnstructured` of `apimachinery/pkg/runtime/converter.go`.
    #[test]
    fn a_number_that_is_too_large_for_its_field_loses_its_high_bits_when_it_is_converted() {
        let schema = Schema::builtin();
        let root = schema
            .type_for(&GroupVersionKind::new("apps", "v1", "Deployment"))
            .unwrap();
        let converted = |replicas: Value| {
            let decoded = schema.convert_value(root, &json!({ "spec": { "replicas": replicas } }));
            decoded
                .map(|decoded| decoded.value["spec"]["replicas"].clone())
                .map_err(|e| e.to_string())
        };
        assert_eq!(converted(json!(4_294_967_297_i64)), Ok(json!(1)));
        assert_eq!(converted(json!(1e300)), Ok(json!(0)));
        assert_eq!(converted(json!(1.5)), Err("cannot convert float64 to int32".to_owned()));
        let read = schema.decode_value(root, json!({ "spec": { "replicas": 4_294_967_297_i64 } }));
        assert!(read.is_err());
    }

    /// `encoding/json` keeps the first value that is not of its type and reads on; a type that reads itself ends it.
    #[test]
    fn what_a_type_does_not_know_is_told_before_a_value_of_another_type() {
        let schema = Schema::builtin();
        let pod = schema.type_for(&GroupVersionKind::new("", "v1", "Pod")).unwrap();
        let why = |spec: &str| {
            let text = format!(r#"{{"spec":{spec}}}"#);
            schema.decode_json(pod, text.as_bytes()).unwrap_err().to_string()
        };
        let two = why(r#"{"nodeName":1,"hostname":[{"a":1}]}"#);
        assert!(two.ends_with("spec.nodeName of type string"), "{two}");
        let one = why(r#"{"hostname":[{"a":[1]}],"subdomain":{"b":{}},"nodeName":"a"}"#);
        assert!(one.ends_with("spec.hostname of type string"), "{one}");
        assert_eq!(why(r#"{"nodeName":1,"overhead":{"cpu":"x"}}"#), crate::quantity::FORMAT);
        let kind = GroupVersionKind::new("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
        let definition = schema.type_for(&kind).unwrap();
        let read = |schema_of_v1: &str| {
            let text = format!(r#"{{"spec":{{"versions":[{{"schema":{{"openAPIV3Schema":{schema_of_v1}}}}}]}}}}"#);
            schema
                .decode_json(definition, text.as_bytes())
                .map_err(|e| e.to_string())
        };
        let inner = read(r#"{"title":1,"items":{"maximum":"x"}}"#).unwrap_err();
        assert!(inner.contains("cannot unmarshal string"), "{inner}");
        assert_eq!(
            read(r#"{"title":1,"additionalProperties":[]}"#).unwrap_err(),
            "boolean or JSON schema expected"
        );
        assert!(read(r#"{"items":-1}"#).is_ok());
    }

    fn read(kind: (&str, &str), text: &str) -> Result<Value, String> {
        let schema = Schema::builtin();
        let root = schema
            .type_for(&GroupVersionKind::from_api_version(kind.0, kind.1))
            .unwrap();
        let decoded = schema.decode_json(root, text.as_bytes());
        decoded.map(|decoded| decoded.value).map_err(|e| e.to_string())
    }

    /// `decodeState` of `encoding/json`: a value of another type is kept for the end, an error of a value that reads itself is not.
    #[test]
    fn of_several_mistakes_the_first_is_told_but_what_reads_itself_goes_first() {
        let told = |text: &str| read(("v1", "Pod"), text).unwrap_err();
        let first = told(r#"{"spec": {"hostPID": "x", "containers": 5, "hostIPC": [1, {}]}, "kind": {"a": 1}}"#);
        assert!(
            first.starts_with("json: cannot unmarshal string into Go struct field PodSpec.spec.hostPID"),
            "{first}"
        );
        let time = told(r#"{"spec": {"hostPID": "x"}, "metadata": {"creationTimestamp": "now"}}"#);
        assert!(time.starts_with("parsing time"), "{time}");
        let quantity = told(r#"{"spec": {"overhead": {"cpu": ""}, "hostPID": 1}}"#);
        assert!(quantity.starts_with("quantities must match"), "{quantity}");
    }

    #[test]
    fn managed_fields_are_any_json_until_they_are_looked_into() {
        for fields in [r#""x""#, "5", "true", "[1]", "{}"] {
            let text = format!(r#"{{"metadata": {{"managedFields": [{{"fieldsV1": {fields}}}]}}}}"#);
            assert!(read(("v1", "Pod"), &text).is_ok(), "{fields}");
        }
    }

    /// `decodeState` of `encoding/json` reads into what is there.
    #[test]
    fn a_field_that_is_given_twice_is_read_over_what_it_was() {
        let map = read(
            ("v1", "ConfigMap"),
            r#"{"data": {"a": "1"}, "data": {"b": "2"}, "immutable": true, "immutable": null}"#,
        );
        assert_eq!(
            map.unwrap(),
            json!({ "data": { "a": "1", "b": "2" }, "immutable": null })
        );
        let pod = r#"{"spec": {"hostname": "a", "containers": [{"name": "c", "tty": true}, {"name": "d"}]},
                      "spec": {"hostname": null, "containers": [{"name": "e"}]}}"#;
        let want = json!({ "spec": { "hostname": "a", "containers": [{ "name": "e", "tty": true }] } });
        assert_eq!(read(("v1", "Pod"), pod).unwrap(), want);
    }

    /// `structFromUnstructured` of `apimachinery/pkg/runtime/converter.go`.
    #[test]
    fn a_tree_is_converted_in_the_order_of_the_struct() {
        let schema = Schema::builtin();
        let root = schema
            .type_for(&GroupVersionKind::new("autoscaling", "v1", "HorizontalPodAutoscaler"))
            .unwrap();
        let tree = json!({ "spec": { "maxReplicas": 1.5, "scaleTargetRef": { "kind": [{}] } } });
        let told = schema.convert_value(root, &tree).unwrap_err().to_string();
        assert_eq!(told, "unrecognized type: string");
    }

    #[test]
    fn a_field_that_nobody_knows_is_told_once_and_quoted() {
        let schema = Schema::builtin();
        let root = schema.type_for(&GroupVersionKind::new("", "v1", "ConfigMap")).unwrap();
        let text = br#"{"immutable":true,"q\"q":1,"q\"q":2,"immutable":true}"#;
        let told = schema.decode_json(root, text).unwrap().strict_errors();
        assert_eq!(told, [r#"unknown field "q\"q""#, r#"duplicate field "immutable""#]);
    }
}
