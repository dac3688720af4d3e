//! A place in an object: the value and the path that errors name it by.

use std::fmt::Display;

use api::field::FieldError;
use api::quantity::Quantity;
use serde_json::{Map, Value, json};

static NULL: Value = Value::Null;

/// A value, `null` where it is absent, and where it stands.
#[derive(Debug, Clone)]
pub struct Cursor<'a> {
    pub path: String,
    pub value: &'a Value,
}

impl<'a> Cursor<'a> {
    pub fn root(value: &'a Value) -> Cursor<'a> {
        Cursor {
            path: String::new(),
            value,
        }
    }

    pub fn of(value: Option<&'a Value>, path: impl Into<String>) -> Cursor<'a> {
        Cursor {
            path: path.into(),
            value: value.unwrap_or(&NULL),
        }
    }

    /// The field `key`: `path.key`.
    pub fn get(&self, key: &str) -> Cursor<'a> {
        let path = if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        };
        Cursor::of(self.value.get(key), path)
    }

    /// The field at a way of several keys.
    pub fn at(&self, keys: &[&str]) -> Cursor<'a> {
        keys.iter().fold(self.clone(), |at, key| at.get(key))
    }

    /// The entry `key` of a map: `path[key]`.
    pub fn key(&self, key: &str) -> Cursor<'a> {
        Cursor::of(self.value.get(key), format!("{}[{key}]", self.path))
    }

    /// The same value named by another path.
    pub fn named(&self, path: impl Into<String>) -> Cursor<'a> {
        Cursor {
            path: path.into(),
            value: self.value,
        }
    }

    pub fn items(&self) -> impl Iterator<Item = Cursor<'a>> + use<'a> {
        let path = self.path.clone();
        self.list()
            .iter()
            .enumerate()
            .map(move |(i, value)| Cursor::of(Some(value), format!("{path}[{i}]")))
    }

    pub fn list(&self) -> &'a [Value] {
        self.value.as_array().map_or(&[], Vec::as_slice)
    }

    pub fn map(&self) -> Option<&'a Map<String, Value>> {
        self.value.as_object()
    }

    /// The entries of a map, each with the path `path[key]`.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, Cursor<'a>)> + use<'a> {
        let path = self.path.clone();
        self.map()
            .into_iter()
            .flatten()
            .map(move |(key, value)| (key.as_str(), Cursor::of(Some(value), format!("{path}[{key}]"))))
    }

    pub fn is_some(&self) -> bool {
        !self.value.is_null()
    }

    /// The value where there is one.
    pub fn present(self) -> Option<Cursor<'a>> {
        self.is_some().then_some(self)
    }

    /// The text, or the empty text.
    pub fn text(&self) -> &'a str {
        self.value.as_str().unwrap_or_default()
    }

    pub fn int(&self) -> Option<i64> {
        self.value.as_i64()
    }

    pub fn is_true(&self) -> bool {
        self.value.as_bool() == Some(true)
    }

    pub fn is_false(&self) -> bool {
        self.value.as_bool() == Some(false)
    }

    pub fn quantity(&self) -> Option<Quantity> {
        quantity(self.value)
    }

    pub fn required(&self, why: &str) -> FieldError {
        FieldError::required(&self.path, why)
    }

    /// The value is wrong. Go shows a missing text as the empty one.
    pub fn invalid(&self, why: impl Display) -> FieldError {
        FieldError::invalid(&self.path, self.value.clone(), why.to_string())
    }

    /// Something else than the value at this place is shown as wrong.
    pub fn wrong(&self, shown: impl Into<Value>, why: impl Display) -> FieldError {
        FieldError::invalid(&self.path, shown.into(), why.to_string())
    }

    pub fn forbidden(&self, why: impl Display) -> FieldError {
        FieldError::forbidden(&self.path, why.to_string())
    }

    pub fn duplicate(&self, shown: impl Into<Value>) -> FieldError {
        FieldError::duplicate(&self.path, shown.into())
    }

    pub fn not_found(&self, shown: impl Into<Value>) -> FieldError {
        FieldError::not_found(&self.path, shown.into())
    }

    pub fn not_supported(&self, supported: &[&str]) -> FieldError {
        let shown = if self.is_some() { self.value.clone() } else { json!("") };
        FieldError::not_supported(&self.path, shown, supported)
    }
}

pub fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(n) => n.to_string().parse().ok(),
        _ => None,
    }
}
