//! The places of a configuration that are atomic: setting a part of one would take away the rest.

use serde_json::Value;

use super::place::{Parts, Place};

/// The paths of the lists and objects in a configuration that the schema replaces as a whole.
pub fn atomics(place: Place<'_>, config: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(place, config, "", &mut found);
    found
}

fn walk(place: Place<'_>, value: &Value, path: &str, found: &mut Vec<String>) {
    match (value, place.parts(Some(value))) {
        (Value::Object(map), parts) => {
            if parts == (Parts::Map { atomic: true }) {
                found.push(path.to_owned());
            }
            for (key, inner) in map {
                walk(place.member(key), inner, &format!("{path}.{key}"), found);
            }
        }
        (Value::Array(list), parts) => {
            if parts == Parts::Atomic {
                found.push(path.to_owned());
            }
            for (i, inner) in list.iter().enumerate() {
                walk(place.item(), inner, &format!("{path}[{i}]"), found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::gvk::GroupVersionKind;
    use crate::schema::Schema;

    #[test]
    fn lists_and_objects_that_are_replaced_as_a_whole_are_found() {
        let schema = Schema::builtin();
        let root = schema.type_for(&GroupVersionKind::new("apps", "v1", "Deployment"));
        let place = Place::root(schema, root.unwrap());
        for (config, want) in [
            (
                json!({ "spec": { "replicas": 1, "template": { "metadata": { "labels": { "a": "b" } } } } }),
                vec![],
            ),
            (
                json!({ "spec": { "selector": { "matchLabels": { "a": "b" } } } }),
                vec![".spec.selector"],
            ),
            (
                json!({ "spec": { "template": { "spec": { "containers": [{ "name": "c", "args": ["x"] }] } } } }),
                vec![".spec.template.spec.containers[0].args"],
            ),
        ] {
            assert_eq!(atomics(place, &config), want, "{config}");
        }
    }
}
