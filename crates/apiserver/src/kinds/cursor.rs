//! A place in an object: the value and the path that errors name it by.

use std::fmt;
use std::fmt::Display;

use api::field::FieldError;
use api::quantity::Quantity;
use serde_json::{Map, Value, json};
use smallvec::SmallVec;

static NULL: Value = Value::Null;

/// Where a value stands. Most values are fine and their paths never asked for: the text is made for the errors.
#[derive(Debug, Clone, Default)]
pub struct Path<'a> {
    /// A text that the steps continue.
    text: Option<Box<str>>,
    steps: SmallVec<[Step<'a>; 8]>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Key(&'a str),
    Index(usize),
}

impl<'a> Path<'a> {
    fn with(&self, step: Step<'a>) -> Path<'a> {
        let mut steps = SmallVec::from_slice(&self.steps);
        steps.push(step);
        let text = self.text.clone();
        Path { text, steps }
    }
}

impl Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text.as_deref().unwrap_or_default();
        f.write_str(text)?;
        let mut first = text.is_empty();
        for step in &self.steps {
            match step {
                Step::Field(name) if first => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Key(key) => write!(f, "[{key}]")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
            first = false;
        }
        Ok(())
    }
}

impl From<&str> for Path<'_> {
    fn from(text: &str) -> Self {
        Path::from(text.to_owned())
    }
}

impl From<String> for Path<'_> {
    fn from(text: String) -> Self {
        Path {
            text: Some(text.into()),
            steps: SmallVec::new(),
        }
    }
}

impl<'a> From<&Path<'a>> for Path<'a> {
    fn from(path: &Path<'a>) -> Self {
        path.clone()
    }
}

impl From<&Path<'_>> for String {
    fn from(path: &Path<'_>) -> Self {
        path.to_string()
    }
}

/// A value, `null` where it is absent, and where it stands.
#[derive(Debug, Clone)]
pub struct Cursor<'a> {
    pub path: Path<'a>,
    pub value: &'a Value,
}

impl<'a> Cursor<'a> {
    /// The whole object.
    pub fn root(value: &'a Value) -> Cursor<'a> {
        Cursor {
            path: Path::default(),
            value,
        }
    }

    /// A value at a path; `null` where it is absent.
    pub fn of(value: Option<&'a Value>, path: impl Into<Path<'a>>) -> Cursor<'a> {
        Cursor {
            path: path.into(),
            value: value.unwrap_or(&NULL),
        }
    }

    /// The field `key`: `path.key`.
    pub fn get(&self, key: &'a str) -> Cursor<'a> {
        Cursor::of(self.value.get(key), self.path.with(Step::Field(key)))
    }

    /// The field at a way of several keys.
    pub fn at(&self, keys: &[&'a str]) -> Cursor<'a> {
        keys.iter().fold(self.clone(), |at, key| at.get(key))
    }

    /// The entry `key` of a map: `path[key]`.
    pub fn key(&self, key: &'a str) -> Cursor<'a> {
        Cursor::of(self.value.get(key), self.path.with(Step::Key(key)))
    }

    /// The same value named by another path.
    pub fn named(&self, path: impl Into<Path<'a>>) -> Cursor<'a> {
        Cursor {
            path: path.into(),
            value: self.value,
        }
    }

    /// The items of a list, each with the path `path[index]`.
    pub fn items(&self) -> impl Iterator<Item = Cursor<'a>> + use<'a> {
        let path = self.path.clone();
        self.list()
            .iter()
            .enumerate()
            .map(move |(i, value)| Cursor::of(Some(value), path.with(Step::Index(i))))
    }

    /// The items of a list; none where there is no list.
    pub fn list(&self) -> &'a [Value] {
        self.value.as_array().map_or(&[], Vec::as_slice)
    }

    /// The map, where there is one.
    pub fn map(&self) -> Option<&'a Map<String, Value>> {
        self.value.as_object()
    }

    /// The entries of a map, each with the path `path[key]`.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, Cursor<'a>)> + use<'a> {
        let path = self.path.clone();
        self.map()
            .into_iter()
            .flatten()
            .map(move |(key, value)| (key.as_str(), Cursor::of(Some(value), path.with(Step::Key(key)))))
    }

    /// Whether there is a value.
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

    /// The integer, where there is one.
    pub fn int(&self) -> Option<i64> {
        self.value.as_i64()
    }

    /// Whether the value is `true`.
    pub fn is_true(&self) -> bool {
        self.value.as_bool() == Some(true)
    }

    /// Whether the value is `false`.
    pub fn is_false(&self) -> bool {
        self.value.as_bool() == Some(false)
    }

    /// The quantity, where there is one that can be read.
    pub fn quantity(&self) -> Option<Quantity> {
        quantity(self.value)
    }

    /// The error of a value that must be there.
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

    /// The value is wrong, and of a kind that is not shown.
    pub fn unfit(&self, why: impl Display) -> FieldError {
        FieldError::unfit(&self.path, why.to_string())
    }

    /// The error of a value that may not be there.
    pub fn forbidden(&self, why: impl Display) -> FieldError {
        FieldError::forbidden(&self.path, why.to_string())
    }

    /// The error of a value that stands here twice.
    pub fn duplicate(&self, shown: impl Into<Value>) -> FieldError {
        FieldError::duplicate(&self.path, shown.into())
    }

    /// The error of a reference to what is not there.
    pub fn not_found(&self, shown: impl Into<Value>) -> FieldError {
        FieldError::not_found(&self.path, shown.into())
    }

    /// The error of a value that is none of these.
    pub fn not_supported(&self, supported: &[&str]) -> FieldError {
        let shown = if self.is_some() { self.value.clone() } else { json!("") };
        FieldError::not_supported(&self.path, shown, supported)
    }
}

/// A quantity, written as a text or as a number; `None` where it is none.
pub fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(n) => n.to_string().parse().ok(),
        _ => None,
    }
}
