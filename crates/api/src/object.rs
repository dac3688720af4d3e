//! The one form in which every cache, list and watcher holds an object: its canonical JSON, kept once,
//! and the little of its metadata that selectors, owners and indexes ask for, parsed once.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A reference to the object that owns another one (`metadata.ownerReferences`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerReference {
    /// Group and version of the owner, as `apps/v1`.
    pub api_version: Box<str>,
    /// The owner's kind.
    pub kind: Box<str>,
    /// The owner's name; it is in the same namespace, or in none.
    pub name: Box<str>,
    /// The owner's UID: another object of the name is not the owner.
    pub uid: Box<str>,
    /// This owner manages the object. One owner at most does.
    #[serde(default)]
    pub controller: bool,
    /// In a foreground deletion the owner waits for this object to go.
    #[serde(default)]
    pub block_owner_deletion: bool,
}

/// What is parsed of an object when it enters a cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    /// Empty for cluster-scoped objects.
    pub namespace: Box<str>,
    /// The object's name.
    pub name: Box<str>,
    /// The object's UID.
    pub uid: Box<str>,
    /// The store's revision at which this version was written; zero for an object that was never stored.
    pub resource_version: u64,
    /// How often what users write (`spec`) was changed, from 1; zero for kinds that do not count.
    pub generation: i64,
    /// Sorted by key.
    pub labels: Box<[(Box<str>, Box<str>)]>,
    /// The objects that this one goes with.
    pub owners: Box<[OwnerReference]>,
    /// Whether `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// Who has to do something before a deleted object may go.
    pub finalizers: Box<[Box<str>]>,
}

impl Meta {
    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        let at = self.labels.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        Some(&self.labels[at].1)
    }

    /// The owner that manages the object, if any.
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owners.iter().find(|o| o.controller)
    }
}

/// One stored version of an object. Shared as `Arc<Object>`; never changed.
#[derive(Debug, Clone)]
pub struct Object {
    /// What was parsed of it.
    pub meta: Meta,
    /// Canonical JSON with `apiVersion`, `kind` and `metadata.resourceVersion` in place.
    pub bytes: Bytes,
}

/// Why bytes are not an object.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The text is not JSON, or its metadata is of another shape.
    #[error("object is not valid JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The version is not a decimal number.
    #[error("metadata.resourceVersion {0:?} is not a number")]
    ResourceVersion(String),
}

#[derive(Deserialize)]
struct Partial {
    #[serde(default)]
    metadata: PartialMeta,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PartialMeta {
    namespace: Box<str>,
    name: Box<str>,
    uid: Box<str>,
    resource_version: Box<str>,
    generation: i64,
    #[serde(deserialize_with = "null_as_empty")]
    labels: std::collections::BTreeMap<Box<str>, Box<str>>,
    #[serde(deserialize_with = "null_as_empty")]
    owner_references: Vec<OwnerReference>,
    deletion_timestamp: Option<serde::de::IgnoredAny>,
    #[serde(deserialize_with = "null_as_empty")]
    finalizers: Vec<Box<str>>,
}

fn null_as_empty<'de, D, T>(d: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

impl PartialMeta {
    fn meta(self) -> Result<Meta, ObjectError> {
        let resource_version = match &*self.resource_version {
            "" => 0,
            text => text
                .parse()
                .map_err(|_| ObjectError::ResourceVersion(text.to_owned()))?,
        };
        Ok(Meta {
            namespace: self.namespace,
            name: self.name,
            uid: self.uid,
            resource_version,
            generation: self.generation,
            labels: self.labels.into_iter().collect(),
            owners: self.owner_references.into(),
            deleting: self.deletion_timestamp.is_some(),
            finalizers: self.finalizers.into(),
        })
    }
}

impl Meta {
    /// Reads an object's tree, which spares parsing its bytes.
    ///
    /// # Errors
    /// When a field of its metadata is not of its type.
    pub fn of(object: &serde_json::Value) -> Result<Meta, ObjectError> {
        match object.get("metadata") {
            Some(metadata) => PartialMeta::deserialize(metadata)?.meta(),
            None => Ok(Meta::default()),
        }
    }
}

impl Object {
    /// Reads the metadata out of an object's JSON and keeps the bytes as they are.
    pub fn parse(bytes: Bytes) -> Result<Arc<Object>, ObjectError> {
        let partial: Partial = serde_json::from_slice(&bytes)?;
        Ok(Arc::new(Object {
            meta: partial.metadata.meta()?,
            bytes,
        }))
    }

    /// Decodes the object into a typed struct (`k8s_openapi`) or a tree.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.bytes)
    }

    /// `namespace/name`, or `name` for cluster-scoped objects: the key of work queues.
    pub fn key(&self) -> String {
        if self.meta.namespace.is_empty() {
            self.meta.name.to_string()
        } else {
            format!("{}/{}", self.meta.namespace, self.meta.name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_read_and_bytes_are_kept() {
        let json = br#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"b","resourceVersion":"7",
            "labels":{"z":"1","app":"x"},"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"r","uid":"u","controller":true}],
            "deletionTimestamp":"2026-01-01T00:00:00Z"},"spec":{}}"#;
        let object = Object::parse(Bytes::from_static(json)).unwrap();
        assert_eq!(object.key(), "b/a");
        assert_eq!(object.meta.resource_version, 7);
        assert_eq!(object.meta.label("app"), Some("x"));
        assert_eq!(object.meta.label("none"), None);
        let tree = serde_json::from_slice(json).unwrap();
        assert_eq!(Meta::of(&tree).unwrap(), object.meta);
        assert_eq!(object.meta.controller().map(|o| &*o.name), Some("r"));
        assert!(object.meta.deleting);
        assert_eq!(&object.bytes[..], &json[..]);
    }
}
