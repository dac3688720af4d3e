//! CustomResourceDefinition. It remembers every version that objects were ever stored in.

mod validation;

use std::collections::BTreeSet;

use api::schema::structural::definition::unknown_formats;
use serde_json::{Value, json};

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
    warn: |told, new, old| told.extend(formats(new, old)),
    place: Some("apiextensions.k8s.io/customresourcedefinitions"),
    hold: Some(Hold {
        finalizer: Some(CLEANUP),
        holds: |definition| text(definition, &["metadata", "deletionTimestamp"]).is_none_or(str::is_empty),
        mark: is_terminating,
    }),
    follow: Follow::Definition,
    ..Kind::new(GROUP, PLURAL, validation::validate)
};

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
