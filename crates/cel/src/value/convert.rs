//! Conversions between types: `int(x)`, `string(x)` and their like.

use super::show::seconds;
use super::{Fault, Outcome, Timestamp, Value, error};

/// A target of conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Bool,
    Bytes,
    Double,
    Duration,
    Int,
    String,
    Timestamp,
    Uint,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Target::Bool => "bool",
            Target::Bytes => "bytes",
            Target::Double => "double",
            Target::Duration => "google.protobuf.Duration",
            Target::Int => "int",
            Target::String => "string",
            Target::Timestamp => "google.protobuf.Timestamp",
            Target::Uint => "uint",
        }
    }
}

impl<'a> Value<'a> {
    /// The value as one of another type.
    ///
    /// # Errors
    /// When it has no such form.
    pub(crate) fn convert(&self, target: Target) -> Outcome<'a> {
        let converted = match (self, target) {
            (Value::Bool(_), Target::Bool)
            | (Value::Bytes(_), Target::Bytes)
            | (Value::Double(_), Target::Double)
            | (Value::Duration(_), Target::Duration)
            | (Value::Int(_), Target::Int)
            | (Value::String(_), Target::String)
            | (Value::Timestamp(_), Target::Timestamp)
            | (Value::Uint(_), Target::Uint) => Some(self.clone()),
            (Value::String(text), target) => from_text(text, target)?,
            (Value::Int(n), Target::Uint) => {
                let n = u64::try_from(*n);
                Some(Value::Uint(n.or_else(|_| error("unsigned integer overflow"))?))
            }
            (Value::Int(n), Target::Double) => Some(Value::Double(*n as f64)),
            (Value::Int(n), Target::Timestamp) => match Timestamp::unix(*n) {
                Some(t) => Some(Value::Timestamp(t)),
                None => return error("timestamp overflow"),
            },
            (Value::Int(n), Target::String) => Some(Value::text(n.to_string())),
            (Value::Uint(n), Target::Int) => {
                Some(Value::Int(i64::try_from(*n).or_else(|_| error("integer overflow"))?))
            }
            (Value::Uint(n), Target::Double) => Some(Value::Double(*n as f64)),
            (Value::Uint(n), Target::String) => Some(Value::text(n.to_string())),
            (Value::Double(n), Target::Int) => Some(Value::Int(double_to_int(*n)?)),
            (Value::Double(n), Target::Uint) => Some(Value::Uint(double_to_uint(*n)?)),
            (Value::Double(n), Target::String) => Some(Value::text(double(*n))),
            (Value::Bool(b), Target::String) => Some(Value::text(b.to_string())),
            (Value::Bytes(bytes), Target::String) => match std::str::from_utf8(bytes) {
                Ok(text) => Some(Value::text(text)),
                Err(_) => return error("invalid UTF-8 in bytes, cannot convert to string"),
            },
            (Value::Duration(n), Target::String) => Some(Value::text(seconds(*n))),
            (Value::Duration(n), Target::Int) => Some(Value::Int(*n)),
            (Value::Timestamp(t), Target::String) => Some(Value::text(t.show(t.offset))),
            (Value::Timestamp(t), Target::Int) => Some(Value::Int(t.seconds)),
            (Value::Null, Target::String) => Some(Value::text("null")),
            (Value::Type(t), Target::String) => Some(Value::text(t.name())),
            _ => None,
        };
        converted.map_or_else(|| mismatch(self.type_name(), target), Ok)
    }
}

fn mismatch<'a>(from: &str, target: Target) -> Outcome<'a> {
    error(format!("type conversion error from '{from}' to '{}'", target.name()))
}

fn from_text<'a>(text: &str, target: Target) -> Result<Option<Value<'a>>, Fault> {
    Ok(match target {
        Target::Int => text.parse().ok().map(Value::Int),
        // Go's unsigned numbers have no sign
        Target::Uint => text.parse().ok().filter(|_| !text.starts_with('+')).map(Value::Uint),
        Target::Double => go_double(text).map(Value::Double),
        Target::Bool => match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(Value::Bool(false)),
            _ => None,
        },
        Target::Bytes => Some(Value::Bytes(text.as_bytes().into())),
        Target::Duration => api::duration::parse_go(text).ok().map(Value::Duration),
        Target::Timestamp => match Timestamp::parse(text) {
            Ok(t) => match Timestamp::new(t.seconds, t.nanos, t.offset) {
                Some(t) => Some(Value::Timestamp(t)),
                None => return error("timestamp overflow"),
            },
            Err(_) => None,
        },
        Target::String => Some(Value::text(text)),
    })
}

/// Go's `strconv.ParseFloat`: decimal and hexadecimal, infinities, underscores not.
fn go_double(text: &str) -> Option<f64> {
    let unsigned = text.trim_start_matches(['+', '-']);
    if text.len() - unsigned.len() > 1 {
        return None;
    }
    let lower = unsigned.to_ascii_lowercase();
    if let Some(hex) = lower.strip_prefix("0x") {
        let value = hex_double(hex)?;
        return Some(if text.starts_with('-') { -value } else { value });
    }
    let word = matches!(lower.as_str(), "inf" | "infinity" | "nan");
    if lower == "nan" && unsigned.len() != text.len() {
        return None;
    }
    let numeric = lower
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'+' | b'-'));
    if !word && !numeric {
        return None;
    }
    let value: f64 = text.parse().ok()?;
    (word || value.is_finite()).then_some(value)
}

fn hex_double(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once('p')?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = 0.0;
    for c in whole.chars().chain(fraction.chars()) {
        value = value * 16.0 + f64::from(c.to_digit(16)?);
    }
    let scaled = value * f64::from(exponent - 4 * fraction.len() as i32).exp2();
    scaled.is_finite().then_some(scaled)
}

fn double_to_int(n: f64) -> Result<i64, Fault> {
    if n.is_nan() || n.is_infinite() || n <= i64::MIN as f64 || n >= i64::MAX as f64 {
        return error("integer overflow");
    }
    Ok(n as i64)
}

fn double_to_uint(n: f64) -> Result<u64, Fault> {
    if n.is_nan() || n.is_infinite() || n < 0.0 || n >= u64::MAX as f64 {
        return error("unsigned integer overflow");
    }
    Ok(n as u64)
}

/// Go's `%g`.
pub(crate) fn double(n: f64) -> String {
    if n.is_nan() {
        return "NaN".into();
    }
    if n.is_infinite() {
        return if n < 0.0 { "-Inf" } else { "+Inf" }.into();
    }
    let text = format!("{n:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return format!("{n}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}
