//! Decodes protobuf into the tree that Go's JSON encoder would write for it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::schema::document::Document;
use crate::schema::json::DecodeError;
use crate::schema::proto_encode::{FIXED32, FIXED64, LENGTH, VARINT};
use crate::schema::weight::{TooHeavy, Weight};
use crate::schema::{Scalar, Schema, Shape, TypeId};
use crate::time::{self, Instant};

impl From<TooHeavy> for DecodeError {
    fn from(error: TooHeavy) -> DecodeError {
        DecodeError(error.to_string())
    }
}

fn broken(what: &str) -> DecodeError {
    DecodeError(format!("proto: {what}"))
}

/// One field's content on the wire.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wire<'b> {
    Number(u64),
    Fixed64([u8; 8]),
    Fixed32,
    Bytes(&'b [u8]),
}

/// Reads a message field by field.
pub(crate) struct Fields<'b>(pub &'b [u8]);

impl<'b> Fields<'b> {
    pub(crate) fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for (i, byte) in self.0.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                self.0 = &self.0[i + 1..];
                return Ok(value);
            }
        }
        Err(broken(if self.0.len() < 10 {
            "unexpected EOF"
        } else {
            "integer overflow"
        }))
    }

    fn take(&mut self, n: usize) -> Result<&'b [u8], DecodeError> {
        let (head, tail) = self.0.split_at_checked(n).ok_or_else(|| broken("unexpected EOF"))?;
        self.0 = tail;
        Ok(head)
    }

    pub(crate) fn next(&mut self) -> Result<Option<(u32, Wire<'b>)>, DecodeError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let tag = u32::try_from(key >> 3)
            .ok()
            .filter(|t| *t != 0)
            .ok_or_else(|| broken("illegal tag"))?;
        let wire = match (key & 7) as u8 {
            VARINT => Wire::Number(self.varint()?),
            FIXED64 => {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(self.take(8)?);
                Wire::Fixed64(bytes)
            }
            LENGTH => {
                let length = usize::try_from(self.varint()?).map_err(|_| broken("negative length"))?;
                Wire::Bytes(self.take(length)?)
            }
            FIXED32 => {
                self.take(4)?;
                Wire::Fixed32
            }
            other => return Err(broken(&format!("illegal wireType {other}"))),
        };
        Ok(Some((tag, wire)))
    }
}

/// How deep messages may nest; the deepest built-in type that is not recursive has about 20 levels.
const DEPTH: u32 = 200;
/// Bytes that a message without fields takes as an object.
const EMPTY: usize = 700;

/// How much deeper, and how much larger, a message may become.
#[derive(Clone, Copy)]
struct Left<'w> {
    depth: u32,
    weight: &'w Weight,
}

impl Left<'_> {
    fn deeper(self) -> Result<Self, DecodeError> {
        let depth = self.depth.checked_sub(1);
        let depth = depth.ok_or_else(|| broken("message nests too deeply"))?;
        Ok(Left { depth, ..self })
    }
}

impl Schema {
    /// Decodes a message without its envelope.
    pub fn decode_proto(&self, root: TypeId, bytes: &[u8]) -> Result<Value, DecodeError> {
        let mut object = Map::new();
        let weight = Weight::default();
        let left = Left {
            depth: DEPTH,
            weight: &weight,
        };
        self.read_message(root, bytes, &mut object, left)?;
        let mut value = Value::Object(object);
        self.normalize(root, &mut value);
        Ok(value)
    }

    fn read_message(
        &self,
        ty: TypeId,
        bytes: &[u8],
        object: &mut Map<String, Value>,
        left: Left<'_>,
    ) -> Result<(), DecodeError> {
        let left = left.deeper()?;
        let Some(structure) = self.structure(ty) else {
            return Ok(());
        };
        let mut fields = Fields(bytes);
        while let Some((tag, wire)) = fields.next()? {
            let Ok(at) = structure.fields.binary_search_by_key(&tag, |f| f.tag) else {
                continue;
            };
            let field = &structure.fields[at];
            left.weight.member(object.len(), field.name.len())?;
            if field.inline {
                if let Wire::Bytes(inner) = wire {
                    self.read_message(field.ty, inner, object, left)?;
                }
                continue;
            }
            match self.shape(field.ty) {
                Shape::List { item, .. } => {
                    let list = object.entry(&*field.name).or_insert_with(|| Value::Array(Vec::new()));
                    let Value::Array(list) = list else { continue };
                    let numbers = matches!(
                        self.shape(*item),
                        Shape::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Bool)
                    );
                    match wire {
                        // A packed list.
                        Wire::Bytes(packed) if numbers => {
                            let mut packed = Fields(packed);
                            while !packed.0.is_empty() {
                                let number = Wire::Number(packed.varint()?);
                                list.push(self.read_one(*item, number, left)?);
                            }
                        }
                        wire => list.push(self.read_one(*item, wire, left)?),
                    }
                }
                Shape::Map { value } => {
                    let map = object.entry(&*field.name).or_insert_with(|| Value::Object(Map::new()));
                    let (Value::Object(map), Wire::Bytes(entry)) = (map, wire) else {
                        return Err(broken("map entry is no message"));
                    };
                    let (mut key, mut item) = (String::new(), Value::Null);
                    let mut entry = Fields(entry);
                    while let Some((tag, wire)) = entry.next()? {
                        match (tag, wire) {
                            (1, Wire::Bytes(k)) => key = utf8(k)?,
                            (2, wire) => item = self.read_one(*value, wire, left)?,
                            _ => {}
                        }
                    }
                    left.weight.member(map.len(), key.len())?;
                    map.insert(key, item);
                }
                _ => {
                    let value = self.read_one(field.ty, wire, left)?;
                    object.insert(field.name.to_string(), value);
                }
            }
        }
        Ok(())
    }

    fn read_one(&self, ty: TypeId, wire: Wire<'_>, left: Left<'_>) -> Result<Value, DecodeError> {
        let size = match (self.shape(ty), wire) {
            (Shape::Scalar(_), Wire::Bytes(bytes)) => bytes.len(),
            // members that are always written are there without being sent
            (Shape::Struct(_), _) => EMPTY,
            _ => 0,
        };
        left.weight.value(size)?;
        let wrong = || broken(&format!("wrong wireType for {}", self.go_name(ty)));
        match (self.shape(ty), wire) {
            (Shape::Scalar(Scalar::Bool), Wire::Number(n)) => Ok((n != 0).into()),
            (Shape::Scalar(Scalar::Int32), Wire::Number(n)) => Ok((n as i32).into()),
            (Shape::Scalar(Scalar::Int64), Wire::Number(n)) => Ok((n as i64).into()),
            (Shape::Scalar(Scalar::Double), Wire::Fixed64(b)) => Ok(number(f64::from_le_bytes(b))),
            (Shape::Scalar(s), Wire::Bytes(b)) => self.read_scalar(*s, b, left)?.ok_or_else(wrong),
            (Shape::Struct(_), Wire::Bytes(b)) => {
                let mut object = Map::new();
                self.read_message(ty, b, &mut object, left)?;
                Ok(Value::Object(object))
            }
            (Shape::WrappedList { item }, Wire::Bytes(b)) => {
                let mut items = Vec::new();
                let mut fields = Fields(b);
                while let Some((tag, wire)) = fields.next()? {
                    if tag == 1 {
                        items.push(self.read_one(*item, wire, left)?);
                    }
                }
                Ok(Value::Array(items))
            }
            _ => Err(wrong()),
        }
    }

    fn read_scalar(&self, scalar: Scalar, bytes: &[u8], left: Left<'_>) -> Result<Option<Value>, DecodeError> {
        let mut fields = Fields(bytes);
        Ok(Some(match scalar {
            Scalar::String => utf8(bytes)?.into(),
            Scalar::Bytes => STANDARD.encode(bytes).into(),
            Scalar::Time | Scalar::MicroTime => {
                let mut at = Instant { seconds: 0, nanos: 0 };
                if bytes.is_empty() {
                    return Ok(Some(Value::Null));
                }
                while let Some(field) = fields.next()? {
                    match field {
                        (1, Wire::Number(n)) => at.seconds = n as i64,
                        (2, Wire::Number(n)) => at.nanos = u32::try_from(n).unwrap_or_default(),
                        _ => {}
                    }
                }
                if scalar == Scalar::Time {
                    at.to_rfc3339()
                } else {
                    at.to_rfc3339_micro()
                }
                .into()
            }
            Scalar::Duration => {
                let mut nanos = 0;
                while let Some(field) = fields.next()? {
                    if let (1, Wire::Number(n)) = field {
                        nanos = n as i64;
                    }
                }
                time::format_duration(nanos).into()
            }
            Scalar::Quantity => {
                let mut text = String::from("0");
                while let Some(field) = fields.next()? {
                    if let (1, Wire::Bytes(b)) = field {
                        text = utf8(b)?;
                    }
                }
                crate::schema::scalar::check_text(Scalar::Quantity, &text).map_err(|e| DecodeError(e.to_string()))?;
                text.into()
            }
            Scalar::IntOrString => {
                let (mut string, mut number, mut text) = (false, 0, String::new());
                while let Some(field) = fields.next()? {
                    match field {
                        (1, Wire::Number(n)) => string = n == 1,
                        (2, Wire::Number(n)) => number = n as i32,
                        (3, Wire::Bytes(b)) => text = utf8(b)?,
                        _ => {}
                    }
                }
                if string { text.into() } else { number.into() }
            }
            Scalar::Raw | Scalar::FieldsV1 | Scalar::Json => {
                let mut value = Value::Null;
                while let Some(field) = fields.next()? {
                    if let (1, Wire::Bytes(b)) = field
                        && !b.is_empty()
                    {
                        value = self.read_raw(b)?;
                    }
                }
                value
            }
            Scalar::SchemaOrArray | Scalar::SchemaOrBool | Scalar::SchemaOrStrings => {
                let Some(json_schema) = self.json_schema else {
                    return Ok(None);
                };
                let (mut one, mut many, mut allows) = (None, Vec::new(), false);
                while let Some(field) = fields.next()? {
                    match field {
                        (1, Wire::Number(n)) => allows = n != 0,
                        (2, wire) if scalar == Scalar::SchemaOrBool => {
                            one = Some(self.read_one(json_schema, wire, left)?);
                        }
                        (1, wire) => one = Some(self.read_one(json_schema, wire, left)?),
                        (2, Wire::Bytes(b)) if scalar == Scalar::SchemaOrStrings => many.push(utf8(b)?.into()),
                        (2, wire) => many.push(self.read_one(json_schema, wire, left)?),
                        _ => {}
                    }
                }
                match one {
                    Some(schema) => schema,
                    None if scalar == Scalar::SchemaOrBool => allows.into(),
                    None => Value::Array(many),
                }
            }
            _ => return Ok(None),
        }))
    }

    /// A raw extension holds JSON, or another object in its protobuf envelope.
    fn read_raw(&self, bytes: &[u8]) -> Result<Value, DecodeError> {
        if let Some(inner) = crate::schema::envelope::unwrap_unknown(bytes) {
            let inner = inner?;
            let gvk = crate::gvk::GroupVersionKind::from_api_version(&inner.api_version, &inner.kind);
            let ty = self
                .type_for(&gvk)
                .ok_or_else(|| DecodeError(format!("no kind {:?} is registered", inner.kind)))?;
            let mut value = self.decode_proto(ty, inner.raw)?;
            if let Some(object) = value.as_object_mut() {
                object.insert("apiVersion".into(), inner.api_version.into());
                object.insert("kind".into(), inner.kind.into());
            }
            return Ok(value);
        }
        let document = Document::from_json(bytes).map_err(|e| DecodeError(e.to_string()))?;
        Ok(document.value)
    }
}

/// Whole floats are written without a fraction, as Go does.
fn number(n: f64) -> Value {
    if n.fract() == 0.0 && n.abs() < 9e15 {
        Value::from(n as i64)
    } else {
        Value::from(n)
    }
}

pub(crate) fn utf8(bytes: &[u8]) -> Result<String, DecodeError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| broken("string field contains invalid UTF-8"))
}
