//! Types of expressions and values.

use std::fmt;
use std::sync::Arc;

/// A type, as the checker deduces it and as values have it.
#[derive(Debug, Clone, PartialEq)]
pub enum Type {
    /// Any value; nothing is known before evaluation.
    Dyn,
    /// The type of what could not be checked.
    Error,
    /// `null_type`.
    Null,
    /// `bool`.
    Bool,
    /// `int`: 64 bits with a sign.
    Int,
    /// `uint`: 64 bits without one.
    Uint,
    /// `double`.
    Double,
    /// `string`.
    String,
    /// `bytes`.
    Bytes,
    /// `timestamp`.
    Timestamp,
    /// `duration`.
    Duration,
    /// The type of types, with the type that is meant where it is known.
    Type(Option<Arc<Type>>),
    /// `list`, and the type of the items.
    List(Arc<Type>),
    /// `map`, and the types of keys and values.
    Map(Arc<(Type, Type)>),
    /// An object with named fields.
    Struct(Arc<str>),
    /// A type without fields, perhaps with parameters: `optional_type(int)`.
    Opaque(Arc<str>, Arc<[Type]>),
    /// A parameter of a function's declaration.
    Param(Arc<str>),
    /// A type that the checker is still to find.
    Variable(u32),
}

/// The name of optional types.
pub(crate) const OPTIONAL: &str = "optional_type";

impl Type {
    /// `list(item)`.
    pub fn list(item: Type) -> Type {
        Type::List(Arc::new(item))
    }

    /// `map(key, value)`.
    pub fn map(key: Type, value: Type) -> Type {
        Type::Map(Arc::new((key, value)))
    }

    /// `optional_type(inner)`.
    pub fn optional(inner: Type) -> Type {
        Type::Opaque(OPTIONAL.into(), [inner].into())
    }

    /// An object's type.
    pub fn object(name: &str) -> Type {
        Type::Struct(name.into())
    }

    pub(crate) fn unwrap_optional(&self) -> Option<&Type> {
        match self {
            Type::Opaque(name, params) if &**name == OPTIONAL => params.first(),
            _ => None,
        }
    }

    pub(crate) fn is_dyn(&self) -> bool {
        matches!(self, Type::Dyn)
    }

    pub(crate) fn is_dyn_or_error(&self) -> bool {
        matches!(self, Type::Dyn | Type::Error)
    }

    pub(crate) fn is_unknown(&self) -> bool {
        matches!(self, Type::Param(_) | Type::Variable(_))
    }

    /// The name that values of the type have at run time, without parameters.
    pub fn name(&self) -> &str {
        match self {
            Type::Dyn => "dyn",
            Type::Error => "error",
            Type::Null => "null_type",
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Uint => "uint",
            Type::Double => "double",
            Type::String => "string",
            Type::Bytes => "bytes",
            Type::Timestamp => "google.protobuf.Timestamp",
            Type::Duration => "google.protobuf.Duration",
            Type::Type(_) => "type",
            Type::List(_) => "list",
            Type::Map(_) => "map",
            Type::Struct(name) | Type::Opaque(name, _) | Type::Param(name) => name,
            Type::Variable(_) => "var",
        }
    }

    /// The types within.
    pub(crate) fn params(&self) -> Vec<&Type> {
        match self {
            Type::List(item) => vec![item],
            Type::Map(both) => vec![&both.0, &both.1],
            Type::Type(Some(inner)) => vec![inner],
            Type::Opaque(_, params) => params.iter().collect(),
            _ => Vec::new(),
        }
    }

    /// Whether two types are the same when parameters stand for any type.
    pub(crate) fn equivalent(&self, other: &Type) -> bool {
        if self.is_unknown() && other.is_unknown() {
            return true;
        }
        let (ours, theirs) = (self.params(), other.params());
        std::mem::discriminant(self) == std::mem::discriminant(other)
            && self.name() == other.name()
            && ours.len() == theirs.len()
            && ours.iter().zip(theirs).all(|(a, b)| a.equivalent(b))
    }

    /// Whether the size of values is known without looking at them.
    pub(crate) fn is_scalar(&self) -> bool {
        match self {
            Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => true,
            other => other.unwrap_optional().is_some_and(Type::is_scalar),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Error => f.write_str("!error!"),
            Type::Null => f.write_str("null"),
            Type::Timestamp => f.write_str("timestamp"),
            Type::Duration => f.write_str("duration"),
            Type::Variable(n) => write!(f, "_var{n}"),
            other => {
                f.write_str(other.name())?;
                let params = other.params();
                for (n, param) in params.iter().enumerate() {
                    f.write_str(if n == 0 { "(" } else { ", " })?;
                    param.fmt(f)?;
                }
                f.write_str(if params.is_empty() { "" } else { ")" })
            }
        }
    }
}

/// Reads a type as declarations write it: `list(T)`, `map(string, dyn)`, `optional(T)`, `kubernetes.URL`. One capital letter is
/// a parameter; a name with a dot or a capital letter is an object's type, one that begins with `net.` an opaque one.
pub(crate) fn read(text: &str) -> Type {
    let text = text.trim();
    if let Some((name, inside)) = text.strip_suffix(')').and_then(|t| t.split_once('(')) {
        let inner = split(inside);
        let first = inner.first().map_or(Type::Dyn, |t| read(t));
        return match name {
            "list" => Type::list(first),
            "map" => Type::map(first, inner.get(1).map_or(Type::Dyn, |t| read(t))),
            "type" => Type::Type(Some(Arc::new(first))),
            _ => Type::optional(first),
        };
    }
    match text {
        "dyn" => Type::Dyn,
        "null" => Type::Null,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        "type" => Type::Type(None),
        name if name.len() == 1 => Type::Param(name.into()),
        name if name.starts_with("net.") => Type::Opaque(name.into(), [].into()),
        name => Type::object(name),
    }
}

/// Splits at the commas that stand in no parentheses.
pub(crate) fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    if !text[start..].trim().is_empty() {
        parts.push(text[start..].trim());
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_types_are_read_and_shown() {
        for (text, shown) in [
            ("list(T)", "list(T)"),
            ("map(string, list(int))", "map(string, list(int))"),
            ("optional(map(K, V))", "optional_type(map(K, V))"),
            ("kubernetes.URL", "kubernetes.URL"),
            ("net.IP", "net.IP"),
            ("timestamp", "timestamp"),
        ] {
            assert_eq!(read(text).to_string(), shown);
        }
        assert!(Type::list(Type::Int).equivalent(&read("list(int)")));
        assert!(!Type::list(Type::Int).equivalent(&read("list(uint)")));
    }
}
