//! Reading and changing an object's tree by its keys.

use serde_json::Value;

/// The text at a path of keys.
pub fn text<'a>(tree: &'a Value, path: &[&str]) -> Option<&'a str> {
    path.iter().try_fold(tree, |at, key| at.get(key))?.as_str()
}

/// Copies a top-level field of `old` over `new`'s, or removes it.
pub fn keep(new: &mut Value, old: &Value, field: &str) {
    let Some(object) = new.as_object_mut() else { return };
    match old.get(field) {
        Some(value) => {
            object.insert(field.to_owned(), value.clone());
        }
        None => {
            object.remove(field);
        }
    }
}

/// Removes a field and returns it.
pub fn take(tree: &mut Value, key: &str) -> Option<Value> {
    tree.as_object_mut()?.remove(key)
}

/// Sets a field, if there is a value.
pub fn put(tree: &mut Value, key: &str, value: Option<Value>) {
    if let (Some(object), Some(value)) = (tree.as_object_mut(), value) {
        object.insert(key.to_owned(), value);
    }
}

/// The value at a dotted path.
pub fn at_path<'a>(tree: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.')
        .filter(|p| !p.is_empty())
        .try_fold(tree, |at, key| at.get(key))
}
