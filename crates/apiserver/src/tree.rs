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

/// Whether two values are the same in the eyes of upstream's `Semantic.DeepEqual`: a list without items is none.
pub fn equal(a: &Value, b: &Value) -> bool {
    let none = Value::Null;
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.iter().all(|(key, value)| equal(value, b.get(key).unwrap_or(&none)))
                && b.iter().all(|(key, value)| a.contains_key(key) || equal(&none, value))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Null, Value::Array(list)) | (Value::Array(list), Value::Null) => list.is_empty(),
        _ => a == b,
    }
}

/// The value at a dotted path.
pub fn at_path<'a>(tree: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.')
        .filter(|p| !p.is_empty())
        .try_fold(tree, |at, key| at.get(key))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_list_equals_an_empty_one() {
        let alike = |a: Value, b: Value| equal(&a, &b) && equal(&b, &a);
        assert!(alike(
            json!({ "a": [], "b": [{ "c": null }] }),
            json!({ "b": [{ "c": [] }] })
        ));
        assert!(!alike(json!({ "a": [1] }), json!({})));
        assert!(!alike(json!({ "a": {} }), json!({})));
        assert!(!alike(json!({ "a": 1, "b": [] }), json!({ "a": 2 })));
    }
}
