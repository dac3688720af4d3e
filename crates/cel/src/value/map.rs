//! Maps: of values, of data, and those whose members others compute.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::data::Mapping;
use super::{Outcome, Value, error, no_overload, read};
use crate::schema::Schema;

/// A map.
#[derive(Clone)]
pub enum Map<'a> {
    /// Members that were made.
    Values(Arc<Entries<'a>>),
    /// Members that stand in the data.
    Data(DataMap<'a>),
    /// Members that are computed when they are asked for.
    Host(&'a dyn Host),
}

/// A map whose members are computed when they are asked for, such as the variables of a policy.
pub trait Host: Send + Sync {
    /// The member of a name; `None` when there is none.
    fn member<'h>(&'h self, name: &str) -> Option<Outcome<'h>>;

    /// The names of all members.
    fn names(&self) -> Vec<Arc<str>>;
}

/// An object of the data, and what its schema says of it.
#[derive(Clone, Copy)]
pub struct DataMap<'a> {
    pub(crate) members: &'a dyn Mapping,
    pub(crate) schema: Option<&'a Schema>,
}

impl fmt::Debug for Map<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Map::Values(entries) => fmt::Debug::fmt(&entries.items, f),
            Map::Data(map) => write!(f, "{{{} members}}", map.members.len()),
            Map::Host(_) => f.write_str("Host"),
        }
    }
}

/// Entries of a map in the order they were put there.
#[derive(Debug, Clone, Default)]
pub struct Entries<'a> {
    pub(crate) items: Vec<(Value<'a>, Value<'a>)>,
    index: HashMap<Key, usize>,
}

/// A key that can be looked up. Whole numbers are the same key however they are written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Bool(bool),
    Whole(i128),
    Double(u64),
    Text(Arc<str>),
    Other(String),
}

fn key_of(value: &Value<'_>) -> Key {
    match value {
        Value::Bool(b) => Key::Bool(*b),
        Value::Int(n) => Key::Whole(i128::from(*n)),
        Value::Uint(n) => Key::Whole(i128::from(*n)),
        Value::Double(n) if n.fract() == 0.0 && n.abs() < 1.9e19 => Key::Whole(*n as i128),
        Value::Double(n) => Key::Double(n.to_bits()),
        Value::String(text) => Key::Text((**text).into()),
        other => Key::Other(other.show()),
    }
}

impl<'a> Entries<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes that the entries take, without what is in their values.
    pub(crate) fn made(&self) -> usize {
        let keys = self.items.iter().map(|(key, _)| key.as_str().map_or(0, str::len));
        let each = 2 * size_of::<Value<'_>>() + size_of::<(Key, usize)>();
        keys.sum::<usize>() + self.items.len().saturating_mul(each)
    }

    pub(crate) fn get(&self, key: &Value<'_>) -> Option<&Value<'a>> {
        let at = self.index.get(&key_of(key))?;
        Some(&self.items[*at].1)
    }

    /// Puts an entry in, in place of one of the same key.
    pub(crate) fn put(&mut self, key: Value<'a>, value: Value<'a>) {
        let place = key_of(&key);
        match self.index.get(&place) {
            Some(at) => self.items[*at] = (key, value),
            None => {
                self.index.insert(place, self.items.len());
                self.items.push((key, value));
            }
        }
    }

    pub(crate) fn remove(&mut self, key: &Value<'_>) {
        if let Some(at) = self.index.remove(&key_of(key)) {
            self.items.remove(at);
            self.index.values_mut().filter(|n| **n > at).for_each(|n| *n -= 1);
        }
    }
}

impl<'a> FromIterator<(Value<'a>, Value<'a>)> for Entries<'a> {
    fn from_iter<I: IntoIterator<Item = (Value<'a>, Value<'a>)>>(entries: I) -> Self {
        let mut out = Entries::default();
        entries.into_iter().for_each(|(key, value)| out.put(key, value));
        out
    }
}

impl<'a> DataMap<'a> {
    /// Whether the schema names the members, so that keys are identifiers.
    fn is_object(&self) -> bool {
        self.schema.is_some_and(|s| s.properties.is_some())
    }

    fn find(&self, key: &Value<'_>) -> Option<Outcome<'a>> {
        let Value::String(name) = key else {
            // a schema's map refuses what others do not find
            return self.schema.map(|_| no_overload());
        };
        let Some(schema) = self.schema else {
            return self.members.member(name).map(|view| read(view, None));
        };
        let unescaped;
        let mut name: &str = name;
        let object = self.is_object();
        if object && name.contains("__") {
            unescaped = crate::unescape(name)?;
            name = &unescaped;
        }
        let view = self.members.member(name)?;
        if object && matches!(view, super::data::View::Null) {
            return None;
        }
        let inner = schema.member(name)?;
        Some(read(view, Some(inner)))
    }

    fn keys(&self) -> Vec<Value<'a>> {
        let object = self.is_object();
        let mut keys = Vec::with_capacity(self.members.len());
        for (name, _) in self.members.members() {
            match self.schema {
                Some(schema) if schema.member(name).is_none() => {}
                Some(_) if object => {
                    let escaped = crate::escape(name).filter(|e| e != name);
                    keys.push(match escaped {
                        Some(escaped) => Value::text(escaped),
                        None => Value::String(super::Text::Borrowed(name)),
                    });
                }
                _ => keys.push(Value::String(super::Text::Borrowed(name))),
            }
        }
        keys
    }
}

impl<'a> Map<'a> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        match self {
            Map::Values(entries) => entries.len(),
            Map::Data(map) => map.members.len(),
            Map::Host(host) => host.names().len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a key; `None` when there is none.
    pub fn find(&self, key: &Value<'_>) -> Option<Outcome<'a>> {
        match self {
            Map::Values(entries) => entries.get(key).cloned().map(Ok),
            Map::Data(map) => map.find(key),
            Map::Host(host) => host.member(key.as_str()?),
        }
    }

    /// The value of a key that must be there.
    ///
    /// # Errors
    /// When it is not.
    pub(crate) fn get(&self, key: &Value<'_>) -> Outcome<'a> {
        match self.find(key) {
            Some(found) => found,
            None => error(format!("no such key: {}", key.plain())),
        }
    }

    /// The keys, always in the same order.
    pub fn keys(&self) -> Vec<Value<'a>> {
        match self {
            Map::Values(entries) => entries.items.iter().map(|(key, _)| key.clone()).collect(),
            Map::Data(map) => map.keys(),
            Map::Host(host) => host.names().into_iter().map(Value::text).collect(),
        }
    }
}
