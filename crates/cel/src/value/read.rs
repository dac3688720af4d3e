//! Values out of data: what a schema says decides what a part of the data is.

use super::data::View;
use super::list::{DataList, List};
use super::map::{DataMap, Map};
use super::time::{self, Timestamp};
use super::{Outcome, Text, Unknown, Value, error};
use crate::schema::{Schema, SchemaType};

/// The value that a part of the data is. Without a schema numbers are `int` or `double` as they are written, and texts are texts.
///
/// # Errors
/// When the data is not what the schema says.
pub fn read<'a>(view: View<'a>, schema: Option<&'a Schema>) -> Outcome<'a> {
    let Some(schema) = schema else {
        return Ok(plain(view));
    };
    if matches!(view, View::Null) {
        if schema.nullable {
            return Ok(Value::Null);
        }
        return error("invalid data, got null for schema with nullable=false");
    }
    if schema.int_or_string {
        return match view {
            View::String(text) => Ok(Value::String(Text::Borrowed(text))),
            View::Int(n) => Ok(Value::Int(n)),
            _ => error("invalid data, expected XIntOrString value to be either a string or integer"),
        };
    }
    match (schema.schema_type, view) {
        (SchemaType::Object, View::Map(members)) => Ok(Value::Map(Map::Data(DataMap {
            members,
            schema: Some(schema),
        }))),
        (SchemaType::Object, _) => error("invalid data, expected a map for the provided schema with type=object"),
        (SchemaType::Array, View::List(_)) if schema.items.is_none() => {
            error("invalid array type, expected Items with a non-empty Schema")
        }
        (SchemaType::Array, View::List(items)) => Ok(Value::List(List::Data(DataList {
            items,
            schema: Some(schema),
        }))),
        (SchemaType::Array, _) => error("invalid data, expected an array for the provided schema with type=array"),
        (SchemaType::String, View::String(text)) => formatted(text, &schema.format),
        (SchemaType::String, other) => error(format!("invalid data, expected string, got {}", other.go_type())),
        (SchemaType::Number, View::Int(n)) => Ok(Value::Double(n as f64)),
        (SchemaType::Number, View::Double(n)) => Ok(Value::Double(n)),
        (SchemaType::Number, other) => error(format!("invalid data, expected float, got {}", other.go_type())),
        (SchemaType::Integer, View::Int(n)) => Ok(Value::Int(n)),
        (SchemaType::Integer, other) => error(format!("invalid data, expected int, got {}", other.go_type())),
        (SchemaType::Boolean, View::Bool(b)) => Ok(Value::Bool(b)),
        (SchemaType::Boolean, other) => error(format!("invalid data, expected bool, got {}", other.go_type())),
        (SchemaType::Absent, view) if schema.preserve_unknown_fields => Ok(Value::Unknown(Unknown(view))),
        (SchemaType::Absent, _) => error(
            "invalid type, expected object, array, number, integer, boolean or string, or no type with \
             x-kubernetes-int-or-string or x-kubernetes-preserve-unknown-fields is true, got ",
        ),
    }
}

fn plain(view: View<'_>) -> Value<'_> {
    match view {
        View::Null => Value::Null,
        View::Bool(b) => Value::Bool(b),
        View::Int(n) => Value::Int(n),
        View::Double(n) => Value::Double(n),
        View::String(text) => Value::String(Text::Borrowed(text)),
        View::List(items) => Value::List(List::Data(DataList { items, schema: None })),
        View::Map(members) => Value::Map(Map::Data(DataMap { members, schema: None })),
    }
}

/// A text of a format that has values of its own.
fn formatted<'a>(text: &'a str, format: &str) -> Outcome<'a> {
    match format {
        "duration" => match time::duration_of_schema(text) {
            Ok(nanos) => Ok(Value::Duration(nanos)),
            Err(why) => error(format!("Invalid duration {text}: {why}")),
        },
        "date" => match Timestamp::date(text) {
            Ok(t) => Ok(Value::Timestamp(t)),
            Err(why) => error(format!("Invalid date formatted string {text}: {why}")),
        },
        "date-time" => match Timestamp::of_schema(text) {
            Ok(t) => Ok(Value::Timestamp(t)),
            Err(why) => error(format!("Invalid date-time formatted string {text}: {why}")),
        },
        "byte" => match base64(text) {
            Ok(bytes) => Ok(Value::Bytes(bytes.into())),
            Err(at) => error(format!(
                "Invalid byte formatted string {text}: illegal base64 data at input byte {at}"
            )),
        },
        _ => Ok(Value::String(Text::Borrowed(text))),
    }
}

/// Bytes of base64 in the alphabet of URLs; the place of the first sign that is wrong otherwise.
fn base64(text: &str) -> Result<Vec<u8>, usize> {
    use base64::Engine as _;
    let packed: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
    let decoded = base64::engine::general_purpose::URL_SAFE.decode(&packed);
    decoded.map_err(|why| match why {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
        base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => packed.len(),
    })
}
