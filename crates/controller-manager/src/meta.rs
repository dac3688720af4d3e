//! Small things about object metadata that controllers share: references, hashes, selectors.

use api::object::Object;
use api::selectors::LabelSelector;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{self as metav1, ObjectMeta, OwnerReference};
use k8s_openapi::{Metadata, Resource};

use crate::Error;
use crate::error::tree;

/// What events about the object name.
pub(crate) fn reference<K: Resource + Metadata<Ty = ObjectMeta>>(object: &K) -> ObjectReference {
    let meta = object.metadata();
    ObjectReference {
        api_version: Some(K::API_VERSION.to_owned()),
        kind: Some(K::KIND.to_owned()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

/// The reference dependents carry to their controller.
pub(crate) fn controller_reference<K: Resource + Metadata<Ty = ObjectMeta>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        name: name(owner).to_owned(),
        uid: uid(owner).to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

pub(crate) fn name<K: Metadata<Ty = ObjectMeta>>(object: &K) -> &str {
    object.metadata().name.as_deref().unwrap_or_default()
}

pub(crate) fn namespace<K: Metadata<Ty = ObjectMeta>>(object: &K) -> &str {
    object.metadata().namespace.as_deref().unwrap_or_default()
}

pub(crate) fn uid<K: Metadata<Ty = ObjectMeta>>(object: &K) -> &str {
    object.metadata().uid.as_deref().unwrap_or_default()
}

pub(crate) fn label<'a, K: Metadata<Ty = ObjectMeta>>(object: &'a K, key: &str) -> Option<&'a str> {
    object.metadata().labels.as_ref()?.get(key).map(String::as_str)
}

pub(crate) fn annotation<'a, K: Metadata<Ty = ObjectMeta>>(object: &'a K, key: &str) -> Option<&'a str> {
    object.metadata().annotations.as_ref()?.get(key).map(String::as_str)
}

pub(crate) fn is_deleting<K: Metadata<Ty = ObjectMeta>>(object: &K) -> bool {
    object.metadata().deletion_timestamp.is_some()
}

/// The owner of a typed object that manages it.
pub(crate) fn controller_of<K: Metadata<Ty = ObjectMeta>>(object: &K) -> Option<&OwnerReference> {
    let owners = object.metadata().owner_references.as_ref()?;
    owners.iter().find(|o| o.controller == Some(true))
}

/// `namespace/name` of a typed object.
pub(crate) fn key_of<K: Metadata<Ty = ObjectMeta>>(object: &K) -> String {
    match namespace(object) {
        "" => name(object).to_owned(),
        namespace => format!("{namespace}/{}", name(object)),
    }
}

pub(crate) fn selector(object: &str, selector: &metav1::LabelSelector) -> Result<LabelSelector, Error> {
    LabelSelector::from_tree(&tree("selector", selector)?).map_err(|source| Error::Selector {
        object: object.to_owned(),
        source,
    })
}

/// A selector as upstream prints it.
pub(crate) fn selector_text(selector: Option<&metav1::LabelSelector>) -> String {
    let Some(selector) = selector else {
        return "nil".to_owned();
    };
    let labels = selector.match_labels.iter().flatten();
    let labels: String = labels.map(|(key, value)| format!("{key}: {value},")).collect();
    let expressions = selector.match_expressions.iter().flatten();
    let expressions: String = expressions
        .map(|e| {
            let values = e.values.iter().flatten().cloned().collect::<Vec<_>>().join(" ");
            format!(
                "LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},",
                e.key, e.operator
            )
        })
        .collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

/// Whether a cached object's labels are selected.
pub(crate) fn selects(selector: &LabelSelector, object: &Object) -> bool {
    selector.matches(|key| object.meta.label(key))
}

/// FNV-1a of the bytes, in the letters and digits that cannot form words.
pub(crate) fn safe_hash(parts: &[&[u8]]) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut hash: u32 = 0x811c_9dc5;
    for byte in parts.iter().copied().flatten() {
        hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    }
    hash.to_string()
        .bytes()
        .map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()]))
        .collect()
}

/// The hash of anything serialisable and a collision count.
pub(crate) fn hash_of(value: &impl serde::Serialize, collisions: Option<i32>) -> Result<String, Error> {
    let bytes = serde_json::to_vec(value).map_err(|source| Error::Encode {
        what: "template",
        source,
    })?;
    let collisions = collisions.map(|c| c.to_le_bytes().to_vec()).unwrap_or_default();
    Ok(safe_hash(&[&bytes, &collisions]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_stable_and_change_with_the_collision_count() {
        let one = hash_of(&"x", None).unwrap();
        assert_eq!(one, hash_of(&"x", None).unwrap());
        assert_ne!(one, hash_of(&"x", Some(1)).unwrap());
        assert!(one.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
    }

    #[test]
    fn a_selector_is_printed_as_upstream_does() {
        let selector: metav1::LabelSelector =
            serde_json::from_value(serde_json::json!({"matchLabels": {"a": "b", "c": "d"},
            "matchExpressions": [{"key": "k", "operator": "In", "values": ["x", "y"]}]}))
            .unwrap();
        assert_eq!(
            selector_text(Some(&selector)),
            "&LabelSelector{MatchLabels:map[string]string{a: b,c: d,},MatchExpressions:[]LabelSelectorRequirement{LabelSelectorRequirement{Key:k,Operator:In,Values:[x y],},},}"
        );
        assert_eq!(selector_text(None), "nil");
    }
}
