//! `metadata.managedFields`: an entry for each manager, read and written.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::apply::ManagerContext;
use crate::apply::field_set::{BadFieldSet, FieldSet};

/// Upstream keeps this many entries of updates and puts the oldest of more than that together.
const MAX_UPDATERS: usize = 10;
/// Who has the fields of the entries that were put together.
const OLD_UPDATES: &str = "ancient-changes";

/// Why an entry of `metadata.managedFields` is none, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManagedFieldsError {
    /// `fieldsV1` has a key that is no path element.
    #[error(transparent)]
    Fields(#[from] BadFieldSet),
    /// The operation is another one.
    #[error("operation must be `Apply` or `Update`")]
    Operation,
    /// The entry does not say in which version its fields are.
    #[error("apiVersion must not be empty")]
    NoVersion,
    /// The fields are written in a way that Kubernetes does not have.
    #[error("invalid fieldsType {0:?} in managed fields")]
    FieldsType(String),
}

/// One entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub manager: String,
    /// `Apply` or `Update`.
    pub operation: String,
    pub subresource: String,
    pub api_version: String,
    /// RFC 3339; empty when the entry has none.
    pub time: String,
    pub fields: FieldSet,
}

impl Entry {
    fn decode(value: &Value) -> Result<Entry, ManagedFieldsError> {
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let entry = Entry {
            manager: text("manager"),
            operation: text("operation"),
            subresource: text("subresource"),
            api_version: text("apiVersion"),
            time: text("time"),
            fields: match value.get("fieldsV1") {
                Some(fields) => FieldSet::decode(fields)?,
                None => FieldSet::default(),
            },
        };
        if entry.operation != "Apply" && entry.operation != "Update" {
            return Err(ManagedFieldsError::Operation);
        }
        if entry.api_version.is_empty() {
            return Err(ManagedFieldsError::NoVersion);
        }
        match text("fieldsType").as_str() {
            "FieldsV1" => Ok(entry),
            other => Err(ManagedFieldsError::FieldsType(other.to_owned())),
        }
    }

    fn encode(self) -> Value {
        let mut value = Map::new();
        let mut text = |key: &str, text: String| value.insert(key.to_owned(), Value::String(text));
        text("manager", self.manager);
        text("operation", self.operation);
        text("apiVersion", self.api_version);
        text("fieldsType", "FieldsV1".to_owned());
        if !self.time.is_empty() {
            text("time", self.time);
        }
        if !self.subresource.is_empty() {
            text("subresource", self.subresource);
        }
        value.insert("fieldsV1".to_owned(), self.fields.encode());
        Value::Object(value)
    }

    /// The entry of a writer that has no fields yet.
    pub fn new(context: &ManagerContext) -> Entry {
        Entry {
            manager: context.manager.clone(),
            operation: context.operation.clone(),
            subresource: context.subresource.clone(),
            api_version: context.api_version.clone(),
            time: String::new(),
            fields: FieldSet::default(),
        }
    }

    pub(crate) fn is(&self, context: &ManagerContext) -> bool {
        self.is_same(&Entry::new(context))
    }

    /// Whether two entries are of the same writer.
    pub fn is_same(&self, other: &Entry) -> bool {
        self.identity() == other.identity()
    }

    /// What tells entries apart. Updates of one manager are kept by version, applies are not.
    fn identity(&self) -> (&str, &str, &str, &str) {
        let version = if self.operation == "Apply" {
            ""
        } else {
            &self.api_version
        };
        (&self.manager, &self.operation, version, &self.subresource)
    }

    /// How conflicts call the manager: `"kubectl" with subresource "status" using apps/v1`.
    pub fn shown(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == "Update" {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }
}

/// All entries of an object.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Managed(pub Vec<Entry>);

impl Managed {
    /// The entries of an object.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn of(tree: &Value) -> Result<Managed, ManagedFieldsError> {
        let list = tree.pointer("/metadata/managedFields").and_then(Value::as_array);
        let decoded: Vec<Entry> = list
            .into_iter()
            .flatten()
            .map(Entry::decode)
            .collect::<Result<_, _>>()?;
        // of one manager's entries the last counts, in the place of the first
        let mut places = HashMap::new();
        let mut taken: Vec<usize> = Vec::new();
        for (i, entry) in decoded.iter().enumerate() {
            let at = *places.entry(entry.identity()).or_insert(taken.len());
            match taken.get_mut(at) {
                Some(there) => *there = i,
                None => taken.push(i),
            }
        }
        let mut decoded: Vec<Option<Entry>> = decoded.into_iter().map(Some).collect();
        let all = taken.into_iter().filter_map(|i| decoded[i].take()).collect();
        Ok(Managed(all))
    }

    /// Whether an object asks to forget who manages what: an empty list, or one empty entry.
    pub fn is_reset(tree: &Value) -> bool {
        let list = tree.pointer("/metadata/managedFields").and_then(Value::as_array);
        list.is_some_and(|list| list.is_empty() || matches!(list.as_slice(), [Value::Object(one)] if one.is_empty()))
    }

    /// Gives an object the entries that it had before, as they were.
    pub fn restore(before: Option<&Value>, after: &mut Value) {
        let entries = before.and_then(|before| before.pointer("/metadata/managedFields"));
        let Some(metadata) = after.get_mut("metadata").and_then(Value::as_object_mut) else {
            return;
        };
        match entries {
            Some(entries) => metadata.insert("managedFields".into(), entries.clone()),
            None => metadata.remove("managedFields"),
        };
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn find(&self, context: &ManagerContext) -> Option<&Entry> {
        self.0.iter().find(|e| e.is(context))
    }

    /// The entry of a writer, made if there is none.
    pub fn entry(&mut self, context: &ManagerContext) -> &mut Entry {
        let at = match self.0.iter().position(|e| e.is(context)) {
            Some(at) => at,
            None => {
                self.0.push(Entry::new(context));
                self.0.len() - 1
            }
        };
        &mut self.0[at]
    }

    pub(crate) fn drop_empty(&mut self) {
        self.0.retain(|e| !e.fields.is_empty());
    }

    /// Puts the oldest entries of updates together until there are few enough.
    pub fn cap_updaters(&mut self) {
        let mut updaters: Vec<Entry> = self.0.extract_if(.., |e| e.operation == "Update").collect();
        updaters.sort_by(|a, b| (&a.time, a.identity()).cmp(&(&b.time, b.identity())));
        let mut kept: Vec<Entry> = Vec::new();
        let mut oldest: HashMap<String, usize> = HashMap::new();
        let mut excess = updaters.len().saturating_sub(MAX_UPDATERS);
        for entry in updaters {
            let at = *oldest.entry(entry.api_version.clone()).or_insert(kept.len());
            match kept.get_mut(at).filter(|_| excess > 0) {
                Some(bucket) => {
                    bucket.fields.union(&entry.fields);
                    bucket.manager = OLD_UPDATES.into();
                    bucket.subresource = String::new();
                    bucket.time = entry.time;
                    excess -= 1;
                }
                None => kept.push(entry),
            }
        }
        self.0.extend(kept);
    }

    /// Writes the entries into an object: applies first, then by time, as upstream sorts them.
    pub fn write(mut self, tree: &mut Value) {
        let Some(metadata) = tree.get_mut("metadata").and_then(Value::as_object_mut) else {
            return;
        };
        self.drop_empty();
        fn rank(e: &Entry) -> [&str; 5] {
            [&e.operation, &e.time, &e.manager, &e.api_version, &e.subresource]
        }
        self.0.sort_by(|a, b| rank(a).cmp(&rank(b)));
        if self.0.is_empty() {
            metadata.remove("managedFields");
        } else {
            let list = self.0.into_iter().map(Entry::encode).collect();
            metadata.insert("managedFields".into(), list);
        }
    }
}
