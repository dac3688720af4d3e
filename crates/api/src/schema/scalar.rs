//! The scalars of the schema: their Go names, zero values and canonical JSON.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::duration::DurationError;
use crate::quantity::{self, Quantity, QuantityError};
use crate::schema::Scalar;
use crate::time::{self, Instant, TimeError};

/// The way Go names the type in messages.
pub(crate) fn go_name(scalar: Scalar) -> &'static str {
    match scalar {
        Scalar::String => "string",
        Scalar::Bool => "bool",
        Scalar::Int32 => "int32",
        Scalar::Int64 => "int64",
        Scalar::Double => "float64",
        Scalar::Bytes => "[]uint8",
        Scalar::Time => "v1.Time",
        Scalar::MicroTime => "v1.MicroTime",
        Scalar::Duration => "v1.Duration",
        Scalar::Quantity => "resource.Quantity",
        Scalar::IntOrString => "intstr.IntOrString",
        Scalar::Raw => "runtime.RawExtension",
        Scalar::FieldsV1 => "v1.FieldsV1",
        Scalar::Json => "v1.JSON",
        Scalar::SchemaOrArray => "v1.JSONSchemaPropsOrArray",
        Scalar::SchemaOrBool => "v1.JSONSchemaPropsOrBool",
        Scalar::SchemaOrStrings => "v1.JSONSchemaPropsOrStringArray",
        Scalar::Any => "interface {}",
    }
}

/// What Go's JSON encoder writes for the zero value.
pub(crate) fn zero(scalar: Scalar) -> Value {
    match scalar {
        Scalar::String => Value::from(""),
        Scalar::Bool => Value::from(false),
        Scalar::Int32 | Scalar::Int64 | Scalar::IntOrString | Scalar::Double => Value::from(0),
        Scalar::Quantity => Value::from("0"),
        Scalar::Duration => Value::from("0s"),
        _ => Value::Null,
    }
}

/// Whether Go's `omitempty` leaves the value out of a field that is no pointer. Structs are never empty to Go.
pub(crate) fn is_empty(scalar: Scalar, value: &Value) -> bool {
    match scalar {
        Scalar::String | Scalar::Bytes => value.as_str().is_none_or(str::is_empty),
        Scalar::Bool => !value.as_bool().unwrap_or_default(),
        Scalar::Int32 | Scalar::Int64 | Scalar::Double => value.as_f64().is_none_or(|n| n == 0.0),
        _ => false,
    }
}

/// Base64 without its line breaks, which Go's reader leaves out.
fn unbroken(text: &str) -> Cow<'_, str> {
    match text.contains(['\n', '\r']) {
        true => Cow::Owned(text.replace(['\n', '\r'], "")),
        false => Cow::Borrowed(text),
    }
}

/// Why a text is not of a type; upstream's words where it has some.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TextError {
    #[error(transparent)]
    Quantity(#[from] QuantityError),
    #[error(transparent)]
    Time(#[from] TimeError),
    #[error(transparent)]
    Duration(#[from] DurationError),
    /// Where the text stops being base64.
    #[error("illegal base64 data at input byte {0}")]
    Base64(usize),
}

/// Whether a text is of the type.
///
/// # Errors
/// Why it is not.
pub(crate) fn check_text(scalar: Scalar, text: &str) -> Result<(), TextError> {
    match scalar {
        Scalar::Quantity => Ok(text.trim().parse::<Quantity>().map(drop)?),
        Scalar::Time | Scalar::MicroTime => Ok(Instant::read(text, scalar == Scalar::MicroTime).map(drop)?),
        Scalar::Duration if time::parse_duration(text).is_none() => Err(DurationError::Invalid(text.to_owned()).into()),
        Scalar::Bytes => match STANDARD.decode(&*unbroken(text)) {
            Ok(_) => Ok(()),
            Err(base64::DecodeError::InvalidByte(at, _)) => Err(TextError::Base64(at)),
            // what is cut short is refused at the start of the last group of four
            Err(_) => Err(TextError::Base64(text.len() / 4 * 4)),
        },
        _ => Ok(()),
    }
}

/// Rewrites a value as Go's round trip does: canonical quantities, times in UTC, durations spelled out. What is not
/// of the type stays as it is; decoding refuses it.
pub(crate) fn canonicalize(scalar: Scalar, value: &mut Value) {
    let text = match (scalar, &*value) {
        // A quantity may be written as a number.
        (Scalar::Quantity, Value::Number(n)) => n.to_string(),
        (_, Value::String(s)) => s.clone(),
        _ => return,
    };
    let canonical = match scalar {
        Scalar::Bytes if text.contains(['\n', '\r']) => Some(unbroken(&text).into_owned()),
        Scalar::Quantity => quantity::rewritten(text.trim()).ok(),
        Scalar::Time => Instant::parse(&text).map(|t| t.to_rfc3339()),
        Scalar::MicroTime => Instant::parse(&text).map(|t| t.to_rfc3339_micro()),
        Scalar::Duration => time::parse_duration(&text).map(time::format_duration),
        _ => None,
    };
    if let Some(canonical) = canonical {
        let zero = matches!(scalar, Scalar::Time | Scalar::MicroTime) && canonical.starts_with("0001-01-01T00:00:00");
        *value = if zero { Value::Null } else { Value::String(canonical) };
    }
}
