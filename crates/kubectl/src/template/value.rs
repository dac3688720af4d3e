//! Values of a template: parts of the object, and what the template itself makes.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde_json::Value;

use crate::print::go;

/// A value. Numbers of an object are floating point: that is how kubectl's Go reads JSON.
#[derive(Debug, Clone)]
pub enum Val<'v> {
    /// Absent or null: Go has no value then.
    Missing,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Cow<'v, str>),
    List(&'v [Value]),
    Map(&'v serde_json::Map<String, Value>),
}

impl<'v> From<&'v Value> for Val<'v> {
    fn from(value: &'v Value) -> Val<'v> {
        match value {
            Value::Null => Val::Missing,
            Value::Bool(b) => Val::Bool(*b),
            Value::Number(n) => Val::Float(n.as_f64().unwrap_or(f64::NAN)),
            Value::String(s) => Val::Text(Cow::Borrowed(s)),
            Value::Array(list) => Val::List(list),
            Value::Object(map) => Val::Map(map),
        }
    }
}

impl Val<'_> {
    /// Tells of a value that it is not the zero of its type.
    pub fn is_true(&self) -> bool {
        match self {
            Val::Missing => false,
            Val::Bool(b) => *b,
            Val::Int(n) => *n != 0,
            Val::Float(f) => *f != 0.0,
            Val::Text(text) => !text.is_empty(),
            Val::List(list) => !list.is_empty(),
            Val::Map(map) => !map.is_empty(),
        }
    }

    /// `%T`
    pub fn type_name(&self) -> &'static str {
        match self {
            Val::Missing => "<nil>",
            Val::Bool(_) => "bool",
            Val::Int(_) => "int",
            Val::Float(_) => "float64",
            Val::Text(_) => "string",
            Val::List(_) => "[]interface {}",
            Val::Map(_) => "map[string]interface {}",
        }
    }

    /// `%v`
    pub fn shown(&self) -> String {
        match self {
            Val::Missing => "<nil>".to_owned(),
            Val::Bool(b) => b.to_string(),
            Val::Int(n) => n.to_string(),
            Val::Float(f) => go::float(*f),
            Val::Text(text) => text.clone().into_owned(),
            Val::List(list) => list_shown(list),
            Val::Map(map) => map_shown(map),
        }
    }

    /// The text that an action leaves in the output.
    pub fn printed(&self) -> String {
        match self {
            Val::Missing => "<no value>".to_owned(),
            other => other.shown(),
        }
    }
}

fn list_shown(list: &[Value]) -> String {
    let items: Vec<String> = list.iter().map(|item| Val::from(item).shown()).collect();
    format!("[{}]", items.join(" "))
}

fn map_shown(map: &serde_json::Map<String, Value>) -> String {
    let mut keys: Vec<&String> = map.keys().collect();
    keys.sort_unstable();
    let mut out = String::from("map[");
    for (i, key) in keys.into_iter().enumerate() {
        let space = if i > 0 { " " } else { "" };
        // writing to a text cannot fail
        let _ = write!(out, "{space}{key}:{}", Val::from(&map[key]).shown());
    }
    out + "]"
}
