//! Values as texts: as literals of the language, and as Go prints them in messages.

use super::{List, Map, Value};
use crate::work;
use api::go;

impl Value<'_> {
    /// The value as a literal of the language; entries of maps are in the order of their keys' texts.
    pub fn show(&self) -> String {
        if !work::look() {
            return String::new();
        }
        match self {
            Value::Null => "null".into(),
            Value::Bool(b) => b.to_string(),
            Value::Int(n) => n.to_string(),
            Value::Uint(n) => format!("{n}u"),
            Value::Double(n) => double_literal(*n),
            Value::String(text) => go::quote(text),
            Value::Bytes(bytes) => {
                let octets: String = bytes.iter().map(|b| format!("\\{b:03o}")).collect();
                format!("b\"{octets}\"")
            }
            Value::Timestamp(t) => format!("timestamp(\"{}\")", t.show(0)),
            Value::Duration(n) => format!("duration(\"{}\")", seconds(*n)),
            Value::List(list) => {
                let items: Vec<String> = list.iter().map(|item| shown(item.as_ref())).collect();
                format!("[{}]", items.join(", "))
            }
            Value::Map(map) => {
                let mut entries: Vec<(String, String)> = Vec::new();
                for key in map.keys() {
                    let value = map.get(&key);
                    entries.push((key.show(), shown(value.as_ref())));
                }
                entries.sort_by(|a, b| a.0.cmp(&b.0));
                let entries: Vec<String> = entries.into_iter().map(|(k, v)| format!("{k}: {v}")).collect();
                format!("{{{}}}", entries.join(", "))
            }
            Value::Type(t) => t.name().into(),
            Value::Optional(Some(value)) => format!("optional.of({})", value.show()),
            Value::Optional(None) => "optional.none()".into(),
            Value::Object(object) => {
                let mut fields: Vec<String> = object
                    .fields
                    .iter()
                    .map(|(name, v)| format!("{name}: {}", v.show()))
                    .collect();
                fields.sort();
                format!("{}{{{}}}", object.name, fields.join(", "))
            }
            Value::Opaque(opaque) => opaque.show(),
            Value::Unknown(_) => "unknown".into(),
        }
    }

    /// The value as Go's `%v` prints it in messages.
    pub(crate) fn plain(&self) -> String {
        if !work::look() {
            return String::new();
        }
        match self {
            Value::String(text) => text.to_string(),
            Value::Double(n) => super::convert::double(*n),
            Value::Uint(n) => n.to_string(),
            Value::Bytes(bytes) => {
                let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
                format!("[{}]", numbers.join(" "))
            }
            Value::Null => "NULL_VALUE".into(),
            Value::List(List::Values(items)) => {
                let items: Vec<String> = items.iter().map(Value::plain).collect();
                format!("[{}]", items.join(", "))
            }
            Value::Map(Map::Values(entries)) => {
                let entries = entries.items.iter();
                let entries: Vec<String> = entries.map(|(k, v)| format!("{}: {}", k.plain(), v.plain())).collect();
                format!("{{{}}}", entries.join(", "))
            }
            Value::Timestamp(t) => t.show(t.offset),
            Value::Duration(n) => api::time::format_duration(*n),
            Value::Optional(Some(value)) => format!("optional({})", value.plain()),
            other => other.show(),
        }
    }
}

fn shown(value: Result<&Value<'_>, &super::Fault>) -> String {
    match value {
        Ok(value) => value.show(),
        Err(fault) => fault.to_string(),
    }
}

fn double_literal(n: f64) -> String {
    if n.is_nan() {
        return "double(\"NaN\")".into();
    }
    if n.is_infinite() {
        let sign = if n < 0.0 { "-" } else { "" };
        return format!("double(\"{sign}Infinity\")");
    }
    let text = format!("{n}");
    if text.contains('.') { text } else { format!("{text}.0") }
}

/// A duration as seconds with as many decimals as its double has.
pub(crate) fn seconds(nanos: i64) -> String {
    let (whole, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    format!("{}s", whole as f64 + rest as f64 / 1e9)
}
