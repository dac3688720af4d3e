//! Items of sets and list-maps stand once.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::ERRORS;
use super::node::{Additional, Node};
use crate::field::FieldError;
use crate::schema::ListType;
use crate::schema::path::Path;

/// Every item that stands again in a list whose items are told apart.
pub fn errors(node: &Node, value: &Value) -> Vec<FieldError> {
    let mut found = Vec::new();
    find(node, value, &Path::Root, &mut found);
    found
}

fn find(node: &Node, value: &Value, at: &Path<'_>, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                match (node.properties.get(&**key), &node.additional) {
                    (Some(child), _) => find(child, inner, &Path::Key(at, key), errors),
                    (None, Additional::Schema(child)) => find(child, inner, &Path::Subscript(at, key), errors),
                    _ => {}
                }
            }
        }
        Value::Array(list) => {
            match &node.list {
                ListType::Atomic => {}
                ListType::Set => repeated(list.iter().cloned(), at, errors),
                ListType::Map(keys) => {
                    let odd = list.iter().position(|item| !item.is_object() && !item.is_null());
                    if let Some(i) = odd {
                        let why = "must be an object for an array of list-type map";
                        errors.push(FieldError::invalid(&Path::Index(at, i), list[i].clone(), why));
                    } else {
                        repeated(list.iter().map(|item| key_of(keys, item)), at, errors);
                    }
                }
            }
            if let Some(items) = &node.items {
                for (i, inner) in list.iter().enumerate() {
                    find(items, inner, &Path::Index(at, i), errors);
                }
            }
        }
        _ => {}
    }
}

fn key_of(keys: &[Box<str>], item: &Value) -> Value {
    let named = keys
        .iter()
        .filter_map(|key| Some((key.to_string(), item.get(&**key)?.clone())));
    Value::Object(named.collect::<Map<_, _>>())
}

/// One error for each item that stands more than once, at its second place.
fn repeated(items: impl Iterator<Item = Value>, at: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (i, item) in items.enumerate() {
        let times = seen.entry(item.to_string()).or_default();
        *times += 1;
        if *times == 2 && errors.len() < ERRORS {
            errors.push(FieldError::duplicate(&Path::Index(at, i), item));
        }
    }
}
