//! Fields by kustomize's paths (`spec/containers[]/image`): lists on the way are walked, maps may be made. Pure.

use serde_json::{Map, Value};

use super::file::FieldSpec;
use super::resource::Id;
use crate::error::{Result, fail};

/// A field of some kinds.
#[derive(Debug, Clone)]
pub struct Field {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub path: String,
    /// Whether it is made where it is not there.
    pub create: bool,
}

impl Field {
    pub(crate) fn of_any(path: &str, create: bool) -> Field {
        Field::of("", "", "", path, create)
    }

    pub(crate) fn of(group: &str, version: &str, kind: &str, path: &str, create: bool) -> Field {
        Field {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            path: path.to_owned(),
            create,
        }
    }

    pub(crate) fn is_of(&self, id: &Id) -> bool {
        id.is_selected(&self.group, &self.version, &self.kind)
    }
}

impl From<&FieldSpec> for Field {
    fn from(spec: &FieldSpec) -> Field {
        Field::of(&spec.group, &spec.version, &spec.kind, &spec.path, spec.create)
    }
}

/// The parts of a path; a slash after a backslash is part of a name.
fn parts(path: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for c in path.chars() {
        match (c, escaped) {
            ('\\', false) => {
                escaped = true;
                continue;
            }
            ('/', false) => parts.push(String::new()),
            (c, _) => {
                if let Some(last) = parts.last_mut() {
                    last.push(c);
                }
            }
        }
        escaped = false;
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// Calls `set` with each value at a field of an object; `empty` is what is made where there is none and the field says so.
///
/// # Errors
/// When something on the way is neither a map nor a list, and what `set` returns.
pub fn at(
    object: &mut Value,
    field: &Field,
    empty: Option<&Value>,
    set: &mut dyn FnMut(&mut Value) -> Result<()>,
) -> Result<()> {
    let create = if field.create { empty } else { None };
    walk(object, &parts(&field.path), create, set)
}

fn walk(
    value: &mut Value,
    path: &[String],
    empty: Option<&Value>,
    set: &mut dyn FnMut(&mut Value) -> Result<()>,
) -> Result<()> {
    let Some((first, rest)) = path.split_first() else {
        return set(value);
    };
    match value {
        Value::Null => Ok(()),
        Value::Array(list) => list.iter_mut().try_for_each(|item| walk(item, path, empty, set)),
        Value::Object(map) => {
            let name = first.trim_end_matches("[]");
            let is_list = name.len() != first.len();
            let missing = map.get(name).is_none_or(Value::is_null);
            if missing {
                // lists are never made
                let Some(empty) = empty.filter(|_| !is_list) else {
                    return Ok(());
                };
                let made = if rest.is_empty() {
                    empty.clone()
                } else {
                    Value::Object(Map::new())
                };
                map.insert(name.to_owned(), made);
            }
            match map.get_mut(name) {
                Some(inner) => walk(inner, rest, empty, set),
                None => Ok(()),
            }
        }
        _ => fail("expected sequence or mapping node"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn changed(object: Value, path: &str, create: bool) -> Value {
        let mut object = object;
        let field = Field::of_any(path, create);
        at(&mut object, &field, Some(&json!("")), &mut |value| {
            *value = json!("x");
            Ok(())
        })
        .unwrap();
        object
    }

    #[test]
    fn lists_are_walked_and_maps_are_made_where_a_field_says_so() {
        let pod = json!({"spec": {"containers": [{"image": "a"}, {}]}});
        let expected = json!({"spec": {"containers": [{"image": "x"}, {}]}});
        assert_eq!(changed(pod.clone(), "spec/containers/image", false), expected);
        assert_eq!(changed(pod, "spec/containers[]/image", false), expected);
        assert_eq!(changed(json!({}), "a/b", true), json!({"a": {"b": "x"}}));
        assert_eq!(changed(json!({}), "a/b", false), json!({}));
        assert_eq!(changed(json!({}), "a[]/b", true), json!({}));
        assert_eq!(
            changed(json!({"a": {"b/c": 1}}), "a/b\\/c", false),
            json!({"a": {"b/c": "x"}})
        );
    }
}
