//! Lists: of values, of data, and joined ones.

use std::fmt;
use std::sync::Arc;

use super::data::Sequence;
use super::keyed::{self, Keyed, Keys};
use super::{Fault, Outcome, Value, read};
use crate::schema::{ListType, Schema};

/// A list.
#[derive(Debug, Clone)]
pub enum List<'a> {
    Values(Arc<Vec<Value<'a>>>),
    Data(DataList<'a>),
    Concat(Arc<Concat<'a>>),
    /// Lists that are sets or maps, merged.
    Keyed(Arc<Keyed<'a>>),
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
        (0..self.len()).filter_map(|at| self.get(at))
    }

    /// The items as values.
    ///
    /// # Errors
    /// When an item is not what its schema says.
    pub(crate) fn values(&self) -> Result<Vec<Value<'a>>, Fault> {
        self.iter().collect()
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
            len: self.len() + other.len(),
            first: self.clone(),
            second: other.clone(),
        }))
    }
}
