//! Values of expressions. Lists, maps and texts of data are read where they stand; a value lives as long as the data.

pub mod data;

mod arithmetic;
mod compare;
mod convert;
mod keyed;
mod list;
mod map;
mod opaque;
mod parts;
mod read;
mod show;
mod time;

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

pub(crate) use self::arithmetic::{Operator, negate};
pub(crate) use self::convert::{Target, double};
pub use self::list::List;
pub(crate) use self::list::MOST_MADE;
pub(crate) use self::map::Entries;
pub use self::map::{Host, Map};
pub use self::opaque::{Object, Opaque};
pub(crate) use self::parts::Parts;
pub use self::read::read;
pub use self::time::Timestamp;
use crate::types::Type;

/// A value.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer with a sign.
    Int(i64),
    /// An integer without one.
    Uint(u64),
    /// A number with a fraction.
    Double(f64),
    /// A text.
    String(Text<'a>),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// A point of time.
    Timestamp(Timestamp),
    /// Nanoseconds.
    Duration(i64),
    /// A list.
    List(List<'a>),
    /// A map.
    Map(Map<'a>),
    /// A type, which is a value of its own.
    Type(Type),
    /// A value that may be absent.
    Optional(Option<Arc<Value<'a>>>),
    /// An object that an expression built.
    Object(Arc<Object<'a>>),
    /// A value of a library's own type.
    Opaque(Arc<dyn Opaque>),
    /// Data whose schema says no more than that it is kept; it can be compared, nothing else.
    Unknown(Unknown<'a>),
}

/// Data that has no type.
#[derive(Clone, Copy)]
pub struct Unknown<'a>(pub(crate) data::View<'a>);

impl fmt::Debug for Unknown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unknown")
    }
}

/// A text of the data, or one that was made.
#[derive(Clone)]
pub enum Text<'a> {
    /// It stands in the data.
    Borrowed(&'a str),
    /// It was made.
    Owned(Arc<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Text::Borrowed(text) => text,
            Text::Owned(text) => text,
        }
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// Why an evaluation has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// An error in the language's sense, which `&&` and `||` may absorb.
    #[error("{0}")]
    Error(Arc<str>),
    /// The evaluation cost more than it may.
    #[error("operation cancelled: actual cost limit exceeded")]
    CostLimit,
    /// The evaluation was asked to stop.
    #[error("operation interrupted")]
    Interrupted,
}

/// A value, or why there is none.
pub type Outcome<'a> = Result<Value<'a>, Fault>;

/// An error with a message.
pub(crate) fn error<T>(message: impl Into<Arc<str>>) -> Result<T, Fault> {
    Err(Fault::Error(message.into()))
}

/// An error whose message is why something was refused.
pub(crate) fn refused<T>(why: impl std::error::Error) -> Result<T, Fault> {
    error(why.to_string())
}

/// The error of an operation on values that it is not for.
pub(crate) fn no_overload<T>() -> Result<T, Fault> {
    error("no such overload")
}

impl<'a> Value<'a> {
    /// A text that was made.
    pub fn text(text: impl Into<Arc<str>>) -> Value<'a> {
        Value::String(Text::Owned(text.into()))
    }

    /// A list of values.
    pub fn list(items: Vec<Value<'a>>) -> Value<'a> {
        Value::List(List::Values(Arc::new(items)))
    }

    /// A list of texts.
    pub(crate) fn texts<T: Into<Arc<str>>>(texts: impl IntoIterator<Item = T>) -> Value<'a> {
        Value::list(texts.into_iter().map(Value::text).collect())
    }

    /// An optional value that is there.
    pub(crate) fn some(value: Value<'a>) -> Value<'a> {
        Value::Optional(Some(Arc::new(value)))
    }

    /// A library's value.
    pub(crate) fn opaque(value: impl Opaque + 'static) -> Value<'a> {
        Value::Opaque(Arc::new(value))
    }

    /// The library's value that this is.
    pub(crate) fn downcast<T: 'static>(&self) -> Option<&T> {
        match self {
            Value::Opaque(opaque) => opaque.as_any().downcast_ref(),
            _ => None,
        }
    }

    /// The value's text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The name of the value's type.
    pub fn type_name(&self) -> &str {
        match self {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::String(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::Timestamp(_) => "google.protobuf.Timestamp",
            Value::Duration(_) => "google.protobuf.Duration",
            Value::List(_) => "list",
            Value::Map(_) => "map",
            Value::Type(_) => "type",
            Value::Optional(_) => "optional_type",
            Value::Object(object) => &object.name,
            Value::Opaque(opaque) => opaque.type_name(),
            Value::Unknown(_) => "unknown",
        }
    }

    /// The size that costs are reckoned by: characters, bytes, items or entries; `None` for what has no size.
    pub(crate) fn size(&self) -> Option<u64> {
        match self {
            Value::String(text) => Some(text.chars().count() as u64),
            Value::Bytes(bytes) => Some(bytes.len() as u64),
            Value::List(list) => Some(list.len() as u64),
            Value::Map(map) => Some(map.len() as u64),
            Value::Opaque(opaque) => opaque.size(),
            _ => None,
        }
    }

    /// Bytes that a value which was just made takes, and nobody else holds.
    pub(crate) fn made(&self) -> usize {
        match self {
            Value::String(Text::Owned(text)) if Arc::strong_count(text) == 1 => text.len(),
            Value::Bytes(bytes) if Arc::strong_count(bytes) == 1 => bytes.len(),
            Value::List(list) => list.made(),
            Value::Map(Map::Values(entries)) if Arc::strong_count(entries) == 1 => entries.made(),
            Value::Optional(Some(inner)) if Arc::strong_count(inner) == 1 => inner.made(),
            _ => 0,
        }
    }

    /// The name of the type that Go has for such a value, which some messages show.
    pub(crate) fn go_type(&self) -> &'static str {
        match self {
            Value::Null => "types.Null",
            Value::Bool(_) => "types.Bool",
            Value::Int(_) => "types.Int",
            Value::Uint(_) => "types.Uint",
            Value::Double(_) => "types.Double",
            Value::String(_) => "types.String",
            Value::Bytes(_) => "types.Bytes",
            Value::Timestamp(_) => "types.Timestamp",
            Value::Duration(_) => "types.Duration",
            Value::Type(_) => "*types.Type",
            Value::Optional(_) => "*types.Optional",
            Value::List(_) => "*types.baseList",
            Value::Map(_) => "*types.baseMap",
            Value::Object(_) => "*dynamic.ObjectVal",
            Value::Opaque(_) | Value::Unknown(_) => "ref.Val",
        }
    }

    /// Whether the value is its type's zero.
    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Value::Null => true,
            Value::Bool(b) => !b,
            Value::Int(n) | Value::Duration(n) => *n == 0,
            Value::Uint(n) => *n == 0,
            Value::Double(n) => *n == 0.0,
            Value::String(text) => text.is_empty(),
            Value::Bytes(bytes) => bytes.is_empty(),
            Value::Timestamp(t) => t.is_go_zero(),
            Value::List(List::Values(items)) => items.is_empty(),
            Value::List(List::Parts(parts)) => parts.len() == 0,
            Value::List(List::Concat(_) | List::Keyed(_)) => false,
            // lists and maps that a schema describes have no zero upstream
            Value::List(List::Data(list)) => list.schema.is_none() && list.items.is_empty(),
            Value::Map(Map::Values(entries)) => entries.items.is_empty(),
            Value::Map(Map::Data(map)) => map.schema.is_none() && map.members.is_empty(),
            Value::Object(object) => object.fields.is_empty(),
            _ => false,
        }
    }
}
