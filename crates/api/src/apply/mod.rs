//! Server-side apply: who manages which field, applying a configuration, and conflicts. KEP-555.

pub mod field_set;
mod merge;

use serde_json::{Map, Value, json};

use crate::schema::{Schema, TypeId};
use field_set::{FieldSet, Place, member};

/// Who writes, and how.
#[derive(Debug, Clone)]
pub struct ManagerContext {
    pub manager: String,
    /// `Apply` or `Update`.
    pub operation: String,
    /// Empty for the object itself.
    pub subresource: String,
    pub api_version: String,
    /// RFC 3339.
    pub now: String,
    pub force: bool,
}

/// A field of an apply that another manager has set otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    pub manager: String,
    pub operation: String,
    pub subresource: String,
    pub api_version: String,
    pub time: String,
    /// `.spec.replicas`
    pub field: String,
}

impl Conflict {
    /// `"kubectl" using apps/v1`
    pub fn manager_text(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == "Update" {
            text.push_str(&format!(" using {}", self.api_version));
            if !self.time.is_empty() {
                text.push_str(&format!(" at {}", self.time));
            }
        }
        text
    }
}

/// Why a configuration cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
    #[error("{0}")]
    Invalid(String),
}

/// Upstream's sentence on conflicts.
pub fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!(
            "Apply failed with 1 conflict: conflict with {}: {}",
            one.manager_text(),
            one.field
        );
    }
    let mut managers: Vec<String> = conflicts.iter().map(Conflict::manager_text).collect();
    managers.dedup();
    let mut text = format!("Apply failed with {} conflicts:", conflicts.len());
    for manager in managers {
        text.push_str(&format!(" conflicts with {manager}:"));
        for conflict in conflicts.iter().filter(|c| c.manager_text() == manager) {
            text.push_str(&format!("\n- {}", conflict.field));
        }
        text.push('\n');
    }
    text.trim_end().to_owned()
}

/// One entry of `metadata.managedFields`.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    manager: String,
    operation: String,
    subresource: String,
    api_version: String,
    time: String,
    fields: FieldSet,
}

impl Entry {
    fn decode(value: &Value) -> Entry {
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        Entry {
            manager: text("manager"),
            operation: text("operation"),
            subresource: text("subresource"),
            api_version: text("apiVersion"),
            time: text("time"),
            fields: value.get("fieldsV1").map(FieldSet::decode).unwrap_or_default(),
        }
    }

    fn encode(self) -> Value {
        let mut value = Map::new();
        let mut text = |key: &str, text: String| value.insert(key.to_owned(), Value::String(text));
        text("manager", self.manager);
        text("operation", self.operation);
        text("apiVersion", self.api_version);
        text("time", self.time);
        text("fieldsType", "FieldsV1".to_owned());
        if !self.subresource.is_empty() {
            text("subresource", self.subresource);
        }
        value.insert("fieldsV1".to_owned(), self.fields.encode());
        Value::Object(value)
    }

    fn is(&self, context: &ManagerContext) -> bool {
        self.manager == context.manager
            && self.operation == context.operation
            && self.subresource == context.subresource
            // updates of one manager are kept by version, applies are not
            && (self.operation == "Apply" || self.api_version == context.api_version)
    }

    fn rank(&self) -> (bool, &str, &str, &str) {
        (self.operation != "Apply", &self.time, &self.manager, &self.subresource)
    }

    fn new(context: &ManagerContext) -> Entry {
        Entry {
            manager: context.manager.clone(),
            operation: context.operation.clone(),
            subresource: context.subresource.clone(),
            api_version: context.api_version.clone(),
            time: context.now.clone(),
            fields: FieldSet::default(),
        }
    }
}

fn entries(tree: &Value) -> Vec<Entry> {
    let list = tree
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    list.map(Entry::decode).collect()
}

fn set_entries(tree: &mut Value, mut list: Vec<Entry>) {
    list.retain(|e| !e.fields.is_empty());
    // applies first, then by time, as upstream sorts
    list.sort_by(|a, b| a.rank().cmp(&b.rank()));
    let Some(metadata) = tree.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    if list.is_empty() {
        metadata.remove("managedFields");
    } else {
        metadata.insert("managedFields".into(), list.into_iter().map(Entry::encode).collect());
    }
}

/// What nobody manages of an object, and of its metadata.
const OF_OBJECT: [&str; 2] = ["apiVersion", "kind"];
const OF_METADATA: [&str; 9] = [
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
];

/// An object without what nobody manages.
fn strip_unmanaged(tree: &Value) -> Value {
    let mut tree = tree.clone();
    let Some(object) = tree.as_object_mut() else {
        return tree;
    };
    object.retain(|key, _| !OF_OBJECT.contains(&key.as_str()));
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| !OF_METADATA.contains(&key.as_str()));
        if metadata.is_empty() {
            object.remove("metadata");
        }
    }
    tree
}

/// What a path of writing may not own: status belongs to its subresource, everything else to the object.
fn confine(tree: &mut Value, subresource: &str) {
    let Some(object) = tree.as_object_mut() else { return };
    if subresource == "status" {
        object.retain(|key, _| key == "status" || key == "metadata");
    }
}

fn root_place(root: TypeId) -> Place<'static> {
    Place {
        ty: Some(root),
        field: None,
    }
}

/// The fields of an object that differ, of those that somebody may manage.
fn changes(schema: &Schema, root: TypeId, before: &Value, after: &Value) -> FieldSet {
    let place = root_place(root);
    let (Some(object), metadata) = (after.as_object(), after.get("metadata").and_then(Value::as_object)) else {
        return FieldSet::default();
    };
    let all = object.iter();
    let rest = all.filter(|(key, _)| *key != "metadata" && !OF_OBJECT.contains(&key.as_str()));
    let mut set = FieldSet::changed_members(schema, place, before, rest);
    let theirs = metadata.into_iter().flatten();
    let theirs = theirs.filter(|(key, _)| !OF_METADATA.contains(&key.as_str()));
    let before = before.get("metadata").unwrap_or(&Value::Null);
    let metadata = FieldSet::changed_members(schema, member(schema, place, "metadata"), before, theirs);
    set.add_member("metadata", metadata);
    set
}

/// Records in `after` who changed what since `before`, for every write that is not an apply.
pub fn track_update(
    schema: &Schema,
    root: TypeId,
    before: Option<&Value>,
    after: &mut Value,
    context: &ManagerContext,
) {
    // a client that sends an empty list asks for a fresh start
    let reset = after
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array)
        .is_some_and(|list| list.is_empty() || matches!(list.as_slice(), [Value::Object(one)] if one.is_empty()));
    let mut list = if reset {
        Vec::new()
    } else {
        match before {
            Some(before) => entries(before),
            None => entries(after),
        }
    };
    // what Go's empty struct has is not set by anybody: required members, as null
    let mut empty = Value::Object(Map::new());
    if before.is_none() && std::ptr::eq(schema, Schema::builtin()) {
        schema.normalize(root, &mut empty);
    }
    let changed = changes(schema, root, before.unwrap_or(&empty), after);
    // what this write took away nobody manages any more; what the server took away later stays as it was recorded
    let removed = before.map(|before| changes(schema, root, after, before));
    for entry in &mut list {
        if let Some(removed) = &removed {
            entry.fields.subtract(removed);
        }
        if !entry.is(context) {
            entry.fields.subtract(&changed);
        }
    }
    if !changed.is_empty() {
        match list.iter_mut().find(|e| e.is(context)) {
            Some(entry) => {
                entry.fields.union(&changed);
                entry.time.clone_from(&context.now);
            }
            None => list.push(Entry {
                fields: changed,
                ..Entry::new(context)
            }),
        }
    }
    set_entries(after, list);
}

/// Applies a configuration onto the live object, or makes a new one.
///
/// # Errors
/// `Conflicts` when other managers have set applied fields to other values and `force` is off.
pub fn apply(
    schema: &Schema,
    root: TypeId,
    live: Option<&Value>,
    config: &Value,
    context: &ManagerContext,
) -> Result<Value, ApplyError> {
    let empty = Value::Object(Map::new());
    let live_tree = live.unwrap_or(&empty);
    let mut list = live.map(entries).unwrap_or_default();
    let place = root_place(root);
    let mut wanted = strip_unmanaged(config);
    confine(&mut wanted, &context.subresource);
    let mut applied = FieldSet::of(schema, place, &wanted);
    applied.own = false;
    // what the apply would change, whoever manages it
    let merged = merge::merge(schema, place, live_tree, config);
    let contested = changes(schema, root, live_tree, &merged).intersection(&applied);
    let mut conflicts = Vec::new();
    for entry in list
        .iter()
        .filter(|e| !(e.manager == context.manager && e.operation == "Apply" && e.subresource == context.subresource))
    {
        for field in entry.fields.intersection(&contested).paths() {
            conflicts.push(Conflict {
                manager: entry.manager.clone(),
                operation: entry.operation.clone(),
                subresource: entry.subresource.clone(),
                api_version: entry.api_version.clone(),
                time: entry.time.clone(),
                field,
            });
        }
    }
    if !conflicts.is_empty() && !context.force {
        return Err(ApplyError::Conflicts(conflicts));
    }
    let previous = list
        .iter()
        .find(|e| e.is(context))
        .map(|e| e.fields.clone())
        .unwrap_or_default();
    for entry in list.iter_mut().filter(|e| !e.is(context)) {
        // forced: the others lose what they had set otherwise
        entry.fields.subtract(&contested);
    }
    // what this manager applied before and applies no more goes, unless another manager has it too
    let mut dropped = previous;
    dropped.subtract(&applied);
    for entry in list.iter().filter(|e| !e.is(context)) {
        dropped.subtract(&entry.fields);
    }
    let mut tree = merged;
    merge::remove(schema, place, &mut tree, &dropped, &applied);
    list.retain(|e| !e.is(context));
    list.push(Entry {
        fields: applied,
        ..Entry::new(context)
    });
    let whole = strip_unmanaged(&tree);
    for entry in &mut list {
        entry.fields.keep_present(schema, place, &whole);
    }
    // an apply that changes neither object nor fields keeps its time
    if let Some(live) = live {
        let before = entries(live);
        if let (Some(old), Some(new)) = (
            before.iter().find(|e| e.is(context)),
            list.iter_mut().find(|e| e.is(context)),
        ) && old.fields == new.fields
            && strip_unmanaged(live) == whole
        {
            new.time.clone_from(&old.time);
        }
    }
    if tree.get("metadata").is_none() {
        tree["metadata"] = json!({});
    }
    set_entries(&mut tree, list);
    Ok(tree)
}

#[cfg(test)]
mod tests;
