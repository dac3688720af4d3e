//! A value that a type says more of: scalars within their ranges, and what Go says of others.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::free::Free;
use super::{Context, Voice, real, text_of};
use crate::schema::path::Path;
use crate::schema::{Scalar, Shape, TypeId, scalar};

#[derive(Clone, Copy)]
pub(super) struct Seed<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) ty: TypeId,
    /// The struct that the value is a field of.
    pub(super) owner: Option<TypeId>,
    pub(super) path: &'a Path<'a>,
    /// The value stands in one that reads itself in Go, where strict decoding does not look.
    pub(super) unseen: bool,
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
