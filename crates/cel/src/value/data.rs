//! Data that values are read from where it stands: a trait for each of its shapes, so that any tree serves.

use serde_json::{Map, Value as Json};

/// A part of a tree.
#[derive(Clone, Copy)]
pub enum View<'a> {
    /// Nothing.
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A number with a fraction.
    Double(f64),
    /// A text.
    String(&'a str),
    /// A list.
    List(&'a dyn Sequence),
    /// An object.
    Map(&'a dyn Mapping),
}

/// A list in a tree.
pub trait Sequence: Send + Sync {
    /// The number of items.
    fn len(&self) -> usize;

    /// Whether there are no items.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The item at a place, from 0.
    fn item(&self, at: usize) -> Option<View<'_>>;
}

/// An object in a tree.
pub trait Mapping: Send + Sync {
    /// The number of members.
    fn len(&self) -> usize;

    /// Whether there are no members.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The member of a name.
    fn member(&self, name: &str) -> Option<View<'_>>;

    /// The members, always in the same order.
    fn members(&self) -> Box<dyn Iterator<Item = (&str, View<'_>)> + '_>;
}

impl<'a> View<'a> {
    /// A JSON tree. Whole numbers that do not fit 64 bits with a sign are doubles, as Go's decoder makes them.
    pub fn of(json: &'a Json) -> View<'a> {
        match json {
            Json::Null => View::Null,
            Json::Bool(b) => View::Bool(*b),
            Json::Number(n) => match n.as_i64() {
                Some(n) => View::Int(n),
                None => View::Double(n.as_f64().unwrap_or_default()),
            },
            Json::String(text) => View::String(text),
            Json::Array(list) => View::List(list),
            Json::Object(map) => View::Map(map),
        }
    }

    /// Whether two parts hold the same data.
    pub(crate) fn same(&self, other: &View<'_>) -> bool {
        if !crate::work::look() {
            return false;
        }
        match (self, other) {
            (View::Null, View::Null) => true,
            (View::Bool(a), View::Bool(b)) => a == b,
            (View::Int(a), View::Int(b)) => a == b,
            (View::Double(a), View::Double(b)) => a == b,
            (View::String(a), View::String(b)) => a == b,
            (View::List(a), View::List(b)) => {
                let items = |n| a.item(n).zip(b.item(n)).is_some_and(|(x, y)| x.same(&y));
                a.len() == b.len() && (0..a.len()).all(items)
            }
            (View::Map(a), View::Map(b)) => {
                a.len() == b.len() && a.members().all(|(name, x)| b.member(name).is_some_and(|y| x.same(&y)))
            }
            _ => false,
        }
    }

    /// How Go names the data's type.
    pub(crate) fn go_type(&self) -> &'static str {
        match self {
            View::Null => "<nil>",
            View::Bool(_) => "bool",
            View::Int(_) => "int64",
            View::Double(_) => "float64",
            View::String(_) => "string",
            View::List(_) => "[]interface {}",
            View::Map(_) => "map[string]interface {}",
        }
    }
}

impl Sequence for Vec<Json> {
    fn len(&self) -> usize {
        self.len()
    }

    fn item(&self, at: usize) -> Option<View<'_>> {
        self.get(at).map(View::of)
    }
}

impl Mapping for Map<String, Json> {
    fn len(&self) -> usize {
        self.len()
    }

    fn member(&self, name: &str) -> Option<View<'_>> {
        self.get(name).map(View::of)
    }

    fn members(&self) -> Box<dyn Iterator<Item = (&str, View<'_>)> + '_> {
        Box::new(self.iter().map(|(name, value)| (name.as_str(), View::of(value))))
    }
}
