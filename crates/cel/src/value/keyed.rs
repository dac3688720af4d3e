//! Lists that are sets or maps (`x-kubernetes-list-type`): their order does not count, and joining merges them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::list::List;
use super::{Fault, Value, error};

/// What tells the items of a list apart.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Keys<'a> {
    /// The items themselves, which are scalars.
    Set,
    /// The values of these fields.
    Map(&'a [String]),
}

/// The result of merging.
#[derive(Debug)]
pub struct Keyed<'a> {
    pub(crate) items: Vec<Value<'a>>,
    pub(crate) keys: Keys<'a>,
}

/// A key as a text that is different for different ones.
fn key_of(item: &Value<'_>, keys: Keys<'_>) -> Result<String, Fault> {
    let names = match keys {
        Keys::Set if matches!(item, Value::List(_) | Value::Map(_)) => {
            return error("listSet operations are only supported on lists of scalar values");
        }
        Keys::Set => return Ok(item.show()),
        Keys::Map(names) => names,
    };
    let mut key = String::new();
    for name in names {
        let found = match item {
            Value::Map(map) => map.find(&Value::text(name.as_str())),
            _ => None,
        };
        match found {
            Some(Ok(value)) => key.push_str(&value.show()),
            _ => key.push_str("null"),
        }
        key.push('\n');
    }
    Ok(key)
}

/// The items of one list, overwritten (maps) and followed by those of the other.
pub(super) fn merge<'a>(list: &List<'a>, other: &List<'a>, keys: Keys<'a>) -> Result<List<'a>, Fault> {
    let mut items = list.values()?;
    let mut places = HashMap::new();
    for (at, item) in items.iter().enumerate() {
        places.insert(key_of(item, keys)?, at);
    }
    for item in other.iter() {
        let item = item?;
        let key = key_of(&item, keys)?;
        match (keys, places.get(&key)) {
            (Keys::Set, Some(_)) => {}
            (Keys::Set, None) => {
                places.insert(key, items.len());
                items.push(item);
            }
            (Keys::Map(_), Some(at)) => items[*at] = item,
            // items that come twice in the other list stay twice
            (Keys::Map(_), None) => items.push(item),
        }
    }
    Ok(List::Keyed(Arc::new(Keyed { items, keys })))
}

/// Whether two lists have the same items.
pub(super) fn equal(list: &List<'_>, other: &List<'_>, keys: Keys<'_>) -> Result<bool, Fault> {
    if list.len() != other.len() {
        return Ok(false);
    }
    let mut ours = HashMap::new();
    for item in list.iter() {
        let item = item?;
        ours.insert(key_of(&item, keys)?, item);
    }
    let mut seen = HashSet::new();
    for item in other.iter() {
        let item = item?;
        let key = key_of(&item, keys)?;
        match (ours.get(&key), keys) {
            (None, _) => return Ok(false),
            (Some(mine), Keys::Map(_)) if !mine.equals(&item)? => return Ok(false),
            _ => {}
        }
        seen.insert(key);
    }
    Ok(seen.len() == ours.len())
}
