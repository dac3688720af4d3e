//! Documents of other servers in the one of version 2 (`kube-openapi`, `MergeSpecsIgnorePathConflictRenamingDefinitionsAndParameters`).

use std::collections::BTreeMap;

use serde_json::{Map, Value};

const DEFINITIONS: &str = "#/definitions/";
const KINDS: &str = "x-kubernetes-group-version-kind";

/// Adds the paths and definitions of another document. A path that is there stays; a definition of the same name that says something
/// else comes under another name.
pub fn merge(document: &mut Value, mut other: Value) {
    let mut taken = |key: &str| other[key].as_object_mut().map(std::mem::take).unwrap_or_default();
    let (mut paths, mut definitions) = (taken("paths"), taken("definitions"));
    paths.retain(|path, _| document["paths"].get(path).is_none());
    let Some(known) = document["definitions"].as_object_mut() else {
        return;
    };
    let mut renamed = BTreeMap::new();
    for (name, definition) in &definitions {
        if known.get(name).is_some_and(|k| !is_same(k, definition)) {
            renamed.insert(name.clone(), free_name(name, known, &definitions));
        }
    }
    for tree in paths.values_mut().chain(definitions.values_mut()) {
        rename(tree, &renamed);
    }
    for (name, definition) in definitions {
        let name = renamed.get(&name).unwrap_or(&name);
        match known.get_mut(name) {
            Some(known) => add_kinds(known, &definition),
            None => {
                known.insert(name.clone(), definition);
            }
        }
    }
    if let Some(all) = document["paths"].as_object_mut() {
        all.extend(paths);
    }
}

/// Whether two definitions differ in the kinds that they are of alone.
fn is_same(a: &Value, b: &Value) -> bool {
    let plain = |tree: &Value| {
        let mut tree = tree.clone();
        if let Some(map) = tree.as_object_mut() {
            map.remove(KINDS);
        }
        tree
    };
    a == b || plain(a) == plain(b)
}

fn add_kinds(known: &mut Value, other: &Value) {
    let Some(more) = other[KINDS].as_array() else { return };
    match known[KINDS].as_array_mut() {
        Some(all) => {
            let new: Vec<Value> = more.iter().filter(|kind| !all.contains(kind)).cloned().collect();
            all.extend(new);
        }
        None => known[KINDS] = more.clone().into(),
    }
}

fn free_name(name: &str, known: &Map<String, Value>, other: &Map<String, Value>) -> String {
    let is_free = |name: &String| !known.contains_key(name) && !other.contains_key(name);
    let mut names = (2_u64..).map(|n| format!("{name}_v{n}"));
    names.find(is_free).unwrap_or_default()
}

fn rename(tree: &mut Value, names: &BTreeMap<String, String>) {
    match tree {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get_mut("$ref")
                && let Some(new) = reference.strip_prefix(DEFINITIONS).and_then(|name| names.get(name))
            {
                *reference = format!("{DEFINITIONS}{new}");
            }
            map.values_mut().for_each(|value| rename(value, names));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| rename(value, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn definitions_that_say_something_else_get_another_name() {
        let reference = |name: &str| json!({ "$ref": format!("{DEFINITIONS}{name}") });
        let mut document = json!({
            "paths": { "/a": { "x": 1 } },
            "definitions": { "A": { "type": "string" }, "B": { "type": "object", KINDS: [{ "kind": "B" }] } },
        });
        merge(
            &mut document,
            json!({
                "paths": { "/a": { "x": 2 }, "/b": { "schema": reference("A") } },
                "definitions": {
                    "A": { "type": "object", "properties": { "b": reference("B") } },
                    "B": { "type": "object", KINDS: [{ "kind": "B2" }] },
                },
            }),
        );
        assert_eq!(
            document,
            json!({
                "paths": { "/a": { "x": 1 }, "/b": { "schema": reference("A_v2") } },
                "definitions": {
                    "A": { "type": "string" },
                    "A_v2": { "type": "object", "properties": { "b": reference("B") } },
                    "B": { "type": "object", KINDS: [{ "kind": "B" }, { "kind": "B2" }] },
                },
            })
        );
    }
}
