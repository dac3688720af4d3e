//! Encodes a tree as protobuf, byte for byte as upstream's generated code does. The buffer is filled from the end, so
//! that every length is known when it is written.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::quantity;
use crate::schema::{Scalar, Schema, Shape, TypeId};
use crate::time::{self, Instant};

/// Why a tree cannot be encoded: it is not of the type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: cannot encode {value} as {expected}")]
pub struct EncodeError {
    /// Where, as `spec.replicas`.
    pub path: String,
    /// What stands there.
    pub value: String,
    /// The type that the schema has there.
    pub expected: String,
}

impl EncodeError {
    fn within(mut self, name: &str) -> Self {
        self.path = if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{name}.{}", self.path)
        };
        self
    }
}

pub(crate) const VARINT: u8 = 0;
pub(crate) const FIXED64: u8 = 1;
pub(crate) const LENGTH: u8 = 2;
pub(crate) const FIXED32: u8 = 5;

/// Bytes in reverse order.
#[derive(Default)]
pub(crate) struct Reversed(Vec<u8>);

impl Reversed {
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.0.reverse();
        self.0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend(bytes.iter().rev());
    }

    pub(crate) fn varint(&mut self, mut value: u64) {
        let mut bytes = [0u8; 10];
        let mut n = 0;
        loop {
            let byte = (value & 0x7f) as u8;
            value >>= 7;
            if value == 0 {
                bytes[n] = byte;
                break;
            }
            bytes[n] = byte | 0x80;
            n += 1;
        }
        self.raw(&bytes[..=n]);
    }

    pub(crate) fn key(&mut self, tag: u32, wire: u8) {
        self.varint(u64::from(tag) << 3 | u64::from(wire));
    }

    pub(crate) fn number(&mut self, tag: u32, value: i64) {
        self.varint(value as u64);
        self.key(tag, VARINT);
    }

    pub(crate) fn bytes(&mut self, tag: u32, bytes: &[u8]) {
        self.raw(bytes);
        self.close(tag, self.len() - bytes.len());
    }

    /// Ends a message whose content began when the buffer had `start` bytes.
    pub(crate) fn close(&mut self, tag: u32, start: usize) {
        self.varint((self.len() - start) as u64);
        self.key(tag, LENGTH);
    }
}

impl Schema {
    /// The protobuf message of an object, without the envelope.
    pub fn encode_proto(&self, root: TypeId, value: &Value) -> Result<Vec<u8>, EncodeError> {
        let mut out = Reversed::default();
        self.message(root, value.as_object(), &mut out)?;
        Ok(out.finish())
    }

    fn message(&self, ty: TypeId, object: Option<&Map<String, Value>>, out: &mut Reversed) -> Result<(), EncodeError> {
        let Some(structure) = self.structure(ty) else {
            return Ok(());
        };
        for field in structure.fields.iter().rev().filter(|f| f.tag != 0) {
            if field.inline {
                let start = out.len();
                self.message(field.ty, object, out)?;
                out.close(field.tag, start);
                continue;
            }
            let value = object.and_then(|o| o.get(&*field.name)).filter(|v| !v.is_null());
            self.member(field.tag, field.ty, field.pointer, value, out)
                .map_err(|e| e.within(&field.name))?;
        }
        Ok(())
    }

    fn member(
        &self,
        tag: u32,
        ty: TypeId,
        pointer: bool,
        value: Option<&Value>,
        out: &mut Reversed,
    ) -> Result<(), EncodeError> {
        match (self.shape(ty), value) {
            (Shape::List { item, .. }, Some(list)) => {
                let items = list.as_array().ok_or_else(|| self.wrong(ty, list))?;
                for (i, v) in items.iter().enumerate().rev() {
                    self.one(tag, *item, v, out).map_err(|e| e.within(&format!("[{i}]")))?;
                }
                Ok(())
            }
            (Shape::Map { value: value_type }, Some(map)) => {
                let entries = map.as_object().ok_or_else(|| self.wrong(ty, map))?;
                let mut entries: Vec<_> = entries.iter().collect();
                entries.sort_unstable_by_key(|(k, _)| k.as_str());
                for (k, v) in entries.into_iter().rev() {
                    let start = out.len();
                    self.one(2, *value_type, v, out).map_err(|e| e.within(k))?;
                    out.bytes(1, k.as_bytes());
                    out.close(tag, start);
                }
                Ok(())
            }
            (Shape::List { .. } | Shape::Map { .. } | Shape::WrappedList { .. }, None) => Ok(()),
            (Shape::Scalar(Scalar::Bytes), None) => Ok(()),
            (_, None) if pointer => Ok(()),
            (_, value) => self.one(tag, ty, value.unwrap_or(&Value::Null), out),
        }
    }

    fn wrong(&self, ty: TypeId, value: &Value) -> EncodeError {
        EncodeError {
            path: String::new(),
            value: value.to_string(),
            expected: self.go_name(ty),
        }
    }

    /// One value with its key; null is the zero value.
    fn one(&self, tag: u32, ty: TypeId, value: &Value, out: &mut Reversed) -> Result<(), EncodeError> {
        match self.shape(ty) {
            Shape::Scalar(s) => self.scalar(tag, ty, *s, value, out),
            Shape::Struct(_) => {
                if !value.is_object() && !value.is_null() {
                    return Err(self.wrong(ty, value));
                }
                let start = out.len();
                self.message(ty, value.as_object(), out)?;
                out.close(tag, start);
                Ok(())
            }
            Shape::WrappedList { item } => {
                let start = out.len();
                for v in value.as_array().into_iter().flatten().rev() {
                    self.one(1, *item, v, out)?;
                }
                out.close(tag, start);
                Ok(())
            }
            Shape::List { .. } | Shape::Map { .. } => Err(self.wrong(ty, value)),
        }
    }

    /// A schema of a definition where something else may stand.
    fn schema_or(&self, ty: TypeId, scalar: Scalar, value: &Value, out: &mut Reversed) -> Result<(), EncodeError> {
        let wrong = || self.wrong(ty, value);
        let json_schema = self.json_schema.ok_or_else(wrong)?;
        match value {
            Value::Object(_) if scalar == Scalar::SchemaOrBool => {
                self.one(2, json_schema, value, out)?;
                out.number(1, 1);
            }
            Value::Object(_) => self.one(1, json_schema, value, out)?,
            Value::Array(items) if scalar == Scalar::SchemaOrStrings => {
                for item in items.iter().rev() {
                    out.bytes(2, item.as_str().ok_or_else(wrong)?.as_bytes());
                }
            }
            Value::Array(items) if scalar == Scalar::SchemaOrArray => {
                for item in items.iter().rev() {
                    self.one(2, json_schema, item, out)?;
                }
            }
            Value::Bool(allows) => out.number(1, i64::from(*allows)),
            Value::Null if scalar == Scalar::SchemaOrBool => out.number(1, 0),
            Value::Null => {}
            _ => return Err(wrong()),
        }
        Ok(())
    }

    fn scalar(
        &self,
        tag: u32,
        ty: TypeId,
        scalar: Scalar,
        value: &Value,
        out: &mut Reversed,
    ) -> Result<(), EncodeError> {
        let null = value.is_null();
        let wrong = || self.wrong(ty, value);
        let text = || if null { Ok("") } else { value.as_str().ok_or_else(wrong) };
        let start = out.len();
        match scalar {
            Scalar::String => out.bytes(tag, text()?.as_bytes()),
            Scalar::Bool => out.number(
                tag,
                i64::from(if null {
                    false
                } else {
                    value.as_bool().ok_or_else(wrong)?
                }),
            ),
            Scalar::Int32 | Scalar::Int64 => {
                out.number(tag, if null { 0 } else { value.as_i64().ok_or_else(wrong)? });
            }
            Scalar::Double => {
                let number = if null { 0.0 } else { value.as_f64().ok_or_else(wrong)? };
                out.raw(&number.to_le_bytes());
                out.key(tag, FIXED64);
            }
            Scalar::Bytes => out.bytes(tag, &STANDARD.decode(text()?).map_err(|_| wrong())?),
            Scalar::Time | Scalar::MicroTime => {
                let micro = scalar == Scalar::MicroTime;
                if !null {
                    let at = Instant::parse(text()?).ok_or_else(wrong)?;
                    if !at.is_zero() {
                        out.number(2, if micro { i64::from(at.nanos / 1000 * 1000) } else { 0 });
                        out.number(1, at.seconds);
                    }
                }
                out.close(tag, start);
            }
            Scalar::Duration => {
                out.number(
                    1,
                    if null {
                        0
                    } else {
                        time::parse_duration(text()?).ok_or_else(wrong)?
                    },
                );
                out.close(tag, start);
            }
            Scalar::Quantity => {
                let number = match value {
                    Value::Number(n) => n.to_string(),
                    _ => text()?.trim().to_owned(),
                };
                let canonical = match number.as_str() {
                    "" => "0".to_owned(),
                    n => quantity::rewritten(n).map_err(|_| wrong())?,
                };
                out.bytes(1, canonical.as_bytes());
                out.close(tag, start);
            }
            Scalar::IntOrString => {
                let string = value.as_str();
                out.bytes(3, string.unwrap_or_default().as_bytes());
                out.number(
                    2,
                    if string.is_some() || null {
                        0
                    } else {
                        value.as_i64().ok_or_else(wrong)?
                    },
                );
                out.number(1, i64::from(string.is_some()));
                out.close(tag, start);
            }
            Scalar::Raw | Scalar::FieldsV1 | Scalar::Json => {
                if !null {
                    out.bytes(1, value.to_string().as_bytes());
                }
                out.close(tag, start);
            }
            Scalar::SchemaOrArray | Scalar::SchemaOrBool | Scalar::SchemaOrStrings => {
                self.schema_or(ty, scalar, value, out)?;
                out.close(tag, start);
            }
            Scalar::Any => return Err(wrong()),
        }
        Ok(())
    }
}
