//! CustomResourceDefinition. It remembers every version that objects were ever stored in.

mod validation;

use std::collections::BTreeSet;

use api::schema::structural::definition::unknown_formats;
use serde_json::{Value, json};

use crate::kinds::columns::{BuiltinColumn, NAME, has_condition, list_at, text_at};
use crate::kinds::{Again, Asked, Follow, Generation, Hold, Kind};
use crate::tree::text;

/// The group of definitions.
pub const GROUP: &str = "apiextensions.k8s.io";
/// Definitions in a path.
pub const PLURAL: &str = "customresourcedefinitions";
/// Holds a definition back until its objects are gone.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

pub(in crate::kinds) const KIND: Kind = Kind {
    generation: Generation::Counted,
    unconditional_update: false,
    prepare_create: |object, _| {
        object["status"] = json!({ "storedVersions": [] });
        add_stored_version(object);
    },
    prepare_update: |new, _, _| add_stored_version(new),
    metadata: Asked::on_update(Again::CHANGE_OF_ANY)
        .and_on_status(Again::CHANGE_OF_ANY)
        .of_any_finalizers(),
    warn: |told, new, old| {
        told.extend(formats(new, old));
        told.extend(unsupported_sets(new, old));
    },
    place: Some("apiextensions.k8s.io/customresourcedefinitions"),
    hold: Some(Hold {
        finalizer: Some(CLEANUP),
        holds: |definition| text(definition, &["metadata", "deletionTimestamp"]).is_none_or(str::is_empty),
        mark: is_terminating,
    }),
    follow: Follow::Definition,
    columns: COLUMNS,
    ..Kind::new(GROUP, PLURAL, validation::validate)
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Scope", "string", 0, |d| json!(text_at(d, "/spec/scope"))),
    ("Versions", "string", 0, |d| {
        let served = list_at(d, "/spec/versions").filter(|v| v["served"] == true);
        let mut names: Vec<String> = served
            .map(|v| {
                let stored = if v["storage"] == true { "(storage)" } else { "" };
                format!("{}{stored}", text_at(v, "/name"))
            })
            .collect();
        names.sort();
        json!(names.join(","))
    }),
    ("Created At", "date", 0, |d| {
        json!(text_at(d, "/metadata/creationTimestamp"))
    }),
    ("Group", "string", 1, |d| json!(text_at(d, "/spec/group"))),
    ("Kind", "string", 1, |d| json!(text_at(d, "/spec/names/kind"))),
    ("ShortNames", "string", 1, |d| {
        let names: Vec<&str> = list_at(d, "/spec/names/shortNames").filter_map(Value::as_str).collect();
        json!(names.join(","))
    }),
    ("Established", "boolean", 1, |d| json!(has_condition(d, "Established"))),
];

fn is_terminating(definition: &mut Value, now: &str) {
    let list = definition.pointer("/status/conditions").and_then(Value::as_array);
    let mut conditions = list.cloned().unwrap_or_default();
    conditions.retain(|c| c["type"] != "Terminating");
    let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    conditions.push(json!({
        "type": "Terminating",
        "status": "True",
        "lastTransitionTime": now,
        "reason": "InstanceDeletionPending",
        "message": message,
    }));
    definition["status"]["conditions"] = json!(conditions);
}

fn add_stored_version(definition: &mut Value) {
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
    let storage = versions.into_iter().flatten().find(|v| v["storage"] == true);
    let Some(name) = storage.map(|v| v["name"].clone()) else {
        return;
    };
    if let Some(list) = definition
        .pointer_mut("/status/storedVersions")
        .and_then(Value::as_array_mut)
        && !list.contains(&name)
    {
        list.push(name);
    }
}

/// Sets in the schemas of a definition whose items are no scalars, and that it did not have before.
fn unsupported_sets(new: &Value, old: Option<&Value>) -> BTreeSet<String> {
    fn collect(schema: &Value, found: &mut BTreeSet<String>) {
        let kind = schema
            .pointer("/items/type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if schema["x-kubernetes-list-type"] == "set" && matches!(kind, "object" | "array") {
            found.insert(format!(
                "x-kubernetes-list-type: set for items of type {kind:?} is not supported by server-side apply or CEL validation rules"
            ));
        }
        match schema {
            Value::Object(map) => map.values().for_each(|inner| collect(inner, found)),
            Value::Array(list) => list.iter().for_each(|inner| collect(inner, found)),
            _ => {}
        }
    }
    let of = |definition: &Value| {
        let mut found = BTreeSet::new();
        for version in list_at(definition, "/spec/versions") {
            if let Some(schema) = version.pointer("/schema/openAPIV3Schema") {
                collect(schema, &mut found);
            }
        }
        found
    };
    let before = old.map(of).unwrap_or_default();
    of(new).difference(&before).cloned().collect()
}

/// Formats in the schemas of a definition that nothing is held against, and that it did not have before.
fn formats(new: &Value, old: Option<&Value>) -> Vec<String> {
    let unknown = |definition: &Value| -> Vec<String> {
        let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
        let schemas = versions
            .into_iter()
            .flatten()
            .filter_map(|v| v.pointer("/schema/openAPIV3Schema"));
        schemas.flat_map(unknown_formats).collect()
    };
    let before: BTreeSet<String> = old.map(unknown).into_iter().flatten().collect();
    let added = unknown(new).into_iter().filter(|format| !before.contains(format));
    added.map(|format| format!("unrecognized format {format:?}")).collect()
}
