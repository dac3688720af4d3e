//! Lists: of values, of data, and joined ones.

use std::fmt;
use std::sync::Arc;

use super::data::Sequence;
use super::keyed::{self, Keyed, Keys};
use super::parts::Parts;
use super::{Fault, Outcome, Value, read};
use crate::schema::{ListType, Schema};

/// Items of a list that a function may make: each costs one or more.
pub(crate) const MOST_MADE: usize = crate::limits::PER_CALL as usize;

/// A list.
#[derive(Debug, Clone)]
pub enum List<'a> {
    /// Items that were made.
    Values(Arc<Vec<Value<'a>>>),
    /// Items that stand in the data.
    Data(DataList<'a>),
    /// Lists, one after the other.
    Concat(Arc<Concat<'a>>),
    /// Lists that are sets or maps, merged.
    Keyed(Arc<Keyed<'a>>),
    /// The parts of a text.
    Parts(Arc<Parts<'a>>),
}

/// A list of the data, and what its schema says of it.
#[derive(Clone, Copy)]
pub struct DataList<'a> {
    pub(crate) items: &'a dyn Sequence,
    /// The schema of the list itself.
    pub(crate) schema: Option<&'a Schema>,
}

impl fmt::Debug for DataList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} items]", self.items.len())
    }
}

/// Two lists joined, neither of them empty. Joining copies nothing.
#[derive(Debug)]
pub struct Concat<'a> {
    first: List<'a>,
    second: List<'a>,
    len: usize,
}

impl<'a> DataList<'a> {
    fn item(&self, at: usize) -> Option<Outcome<'a>> {
        let view = self.items.item(at)?;
        Some(read(view, self.schema.and_then(|s| s.items.as_deref())))
    }
}

impl<'a> List<'a> {
    /// How many items there are.
    pub fn len(&self) -> usize {
        match self {
            List::Values(items) => items.len(),
            List::Keyed(keyed) => keyed.items.len(),
            List::Parts(parts) => parts.len(),
            List::Data(list) => list.items.len(),
            List::Concat(both) => both.len,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The item at a place, from 0; `None` beyond the end.
    pub fn get(&self, at: usize) -> Option<Outcome<'a>> {
        let (mut list, mut at) = (self, at);
        loop {
            match list {
                List::Values(items) => return items.get(at).cloned().map(Ok),
                List::Keyed(keyed) => return keyed.items.get(at).cloned().map(Ok),
                List::Parts(parts) => return parts.get(at).map(Ok),
                List::Data(data) => return data.item(at),
                List::Concat(both) => {
                    let first = both.first.len();
                    if at < first {
                        list = &both.first;
                    } else {
                        at -= first;
                        list = &both.second;
                    }
                }
            }
        }
    }

    /// The items in order.
    pub fn iter(&self) -> impl Iterator<Item = Outcome<'a>> + '_ {
        let (mut rest, mut at) = (vec![self], 0);
        std::iter::from_fn(move || {
            loop {
                let list = *rest.last()?;
                if let List::Concat(both) = list {
                    rest.pop();
                    rest.extend([&both.second, &both.first]);
                    continue;
                }
                if let Some(item) = list.get(at) {
                    at += 1;
                    return Some(item);
                }
                rest.pop();
                at = 0;
            }
        })
    }

    /// The items as values.
    ///
    /// # Errors
    /// When an item is not what its schema says, or when there are more than an evaluation may make.
    pub(crate) fn values(&self) -> Result<Vec<Value<'a>>, Fault> {
        if self.len() > MOST_MADE {
            return Err(Fault::CostLimit);
        }
        self.iter().collect()
    }

    /// Bytes that a list which was just made takes, and nobody else holds.
    pub(crate) fn made(&self) -> usize {
        match self {
            List::Values(items) if Arc::strong_count(items) == 1 => items.len().saturating_mul(size_of::<Value<'_>>()),
            List::Keyed(keyed) if Arc::strong_count(keyed) == 1 => {
                keyed.items.len().saturating_mul(size_of::<Value<'_>>())
            }
            List::Parts(parts) if Arc::strong_count(parts) == 1 => parts.len().saturating_mul(size_of::<(u32, u32)>()),
            _ => 0,
        }
    }

    /// The two lists one after the other; lists that are sets or maps are merged.
    ///
    /// # Errors
    /// When an item is not what its schema says, or is none that a set may have.
    pub fn join(&self, other: &List<'a>) -> Result<List<'a>, Fault> {
        match self.keys() {
            Some(keys) => keyed::merge(self, other, keys),
            None => Ok(self.joined(other)),
        }
    }

    /// Whether a schema describes the list.
    pub(crate) fn is_by_schema(&self) -> bool {
        match self {
            List::Data(data) => data.schema.is_some(),
            List::Keyed(_) => true,
            _ => false,
        }
    }

    /// What tells the items apart, in lists that are sets or maps.
    pub(crate) fn keys(&self) -> Option<Keys<'a>> {
        match self {
            List::Data(DataList {
                schema: Some(schema), ..
            }) => match schema.list_type {
                ListType::Set => Some(Keys::Set),
                ListType::Map => Some(Keys::Map(&schema.list_keys)),
                ListType::Atomic => None,
            },
            List::Keyed(keyed) => Some(keyed.keys),
            _ => None,
        }
    }

    fn joined(&self, other: &List<'a>) -> List<'a> {
        if self.is_empty() {
            return other.clone();
        }
        if other.is_empty() {
            return self.clone();
        }
        List::Concat(Arc::new(Concat {
            len: self.len().saturating_add(other.len()),
            first: self.clone(),
            second: other.clone(),
        }))
    }
}
