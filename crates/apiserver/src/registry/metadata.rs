//! `metadata`: what the server sets on create and update.

use serde_json::{Map, Value, json};

use crate::http::status::{ApiError, Result};
use crate::kinds::kind::{Generation, Kind};
use crate::registry::Registry;
use crate::registry::resource::Resource;
use crate::tree::equal;

/// The metadata of a tree, made if it is not there.
pub fn of(tree: &mut Value) -> Result<&mut Map<String, Value>> {
    let object = tree
        .as_object_mut()
        .ok_or_else(|| ApiError::bad_request("object is not a JSON object"))?;
    let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if metadata.is_null() {
        *metadata = Value::Object(Map::new());
    }
    metadata
        .as_object_mut()
        .ok_or_else(|| ApiError::bad_request("metadata is not a JSON object"))
}

/// A text of the metadata; empty where there is none.
pub fn text<'a>(tree: &'a Value, key: &str) -> &'a str {
    tree.get("metadata")
        .and_then(|m| m.get(key))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Letters and digits that cannot be confused or form words.
const SUFFIX: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// `generateName` is cut so that the name still fits a label.
const GENERATED_BASE: usize = 58;

/// Five random characters, as `generateName` appends.
pub fn suffix(registry: &Registry) -> String {
    let mut random = [0u8; 5];
    registry.environment.random(&mut random);
    random
        .iter()
        .map(|b| char::from(SUFFIX[usize::from(*b) % SUFFIX.len()]))
        .collect()
}

/// How many names are tried for one object: among a million of one kind eight leave one clash in a thousand.
const NAMES: usize = 8;

/// Gives a new object its name, uid, time and first generation. A name that is generated is none that is `taken`, if that can be.
pub fn prepare_create(
    registry: &Registry,
    resource: &Resource,
    tree: &mut Value,
    namespace: &str,
    taken: impl Fn(&str) -> bool,
) -> Result<()> {
    let uid = registry.uid();
    let now = registry.timestamp();
    let metadata = of(tree)?;
    let name_is_empty = metadata.get("name").and_then(Value::as_str).is_none_or(str::is_empty);
    if let Some(base) = metadata.get("generateName").and_then(Value::as_str)
        && name_is_empty
        && !base.is_empty()
    {
        let base: String = base.chars().take(GENERATED_BASE).collect();
        let name = || format!("{base}{}", suffix(registry));
        let mut names = std::iter::repeat_with(name).take(NAMES);
        let free = names.find(|name| !taken(name));
        metadata.insert("name".into(), json!(free.unwrap_or_else(name)));
    }
    for key in ["selfLink", "resourceVersion"] {
        metadata.remove(key);
    }
    metadata.insert("uid".into(), json!(uid));
    metadata.insert("creationTimestamp".into(), json!(now));
    if resource.namespaced {
        metadata.insert("namespace".into(), json!(namespace));
    } else {
        metadata.remove("namespace");
    }
    // the generation of kinds that do not count it is the client's
    if !matches!(resource.rules.generation, Generation::None | Generation::Changes) {
        metadata.insert("generation".into(), json!(1));
    } else if metadata.get("generation") == Some(&json!(0)) {
        metadata.remove("generation");
    }
    Ok(())
}

/// Takes from an object that is sent to be created what only the server sets, before its writer's fields are recorded.
pub fn wipe(tree: &mut Value) -> Result<()> {
    let metadata = of(tree)?;
    for key in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
    ] {
        metadata.remove(key);
    }
    Ok(())
}

/// Keeps where the object is: an update never changes that.
pub fn keep_place(new: &mut Value, old: &Value) -> Result<()> {
    let metadata = of(new)?;
    let had = |key: &str| old.get("metadata").and_then(|m| m.get(key)).filter(|v| !v.is_null());
    for key in ["namespace", "name"] {
        match had(key) {
            Some(value) => metadata.insert(key.into(), value.clone()),
            None => metadata.remove(key),
        };
    }
    Ok(())
}

/// What only the server sets in a new object, kept from those who may change it before.
pub struct Withheld {
    fields: Vec<(&'static str, Value)>,
    /// The name that was made, where its writer gave none.
    name: Option<Value>,
}

/// Takes out of a new object what its writer did not give; `given` is the name that it did.
pub fn withhold(tree: &mut Value, given: &str, kind: &Kind) -> Result<Withheld> {
    let counts = !matches!(kind.generation, Generation::None | Generation::Changes);
    let metadata = of(tree)?;
    let keys = ["uid", "creationTimestamp"]
        .into_iter()
        .chain(counts.then_some("generation"));
    let fields = keys.filter_map(|key| Some((key, metadata.remove(key)?))).collect();
    let name = match given.is_empty() {
        true => metadata.remove("name"),
        false => None,
    };
    Ok(Withheld { fields, name })
}

impl Withheld {
    /// Puts it back. A name that somebody gave meanwhile stays.
    pub fn give_back(self, tree: &mut Value) -> Result<()> {
        let metadata = of(tree)?;
        for (key, value) in self.fields {
            metadata.insert(key.into(), value);
        }
        let named = metadata
            .get("name")
            .and_then(Value::as_str)
            .is_some_and(|name| !name.is_empty());
        // without its stem there is no name to make
        let stem = metadata
            .get("generateName")
            .and_then(Value::as_str)
            .is_some_and(|stem| !stem.is_empty());
        if let Some(name) = self.name.filter(|_| !named && stem) {
            metadata.insert("name".into(), name);
        }
        Ok(())
    }
}

/// Keeps what nobody changes by an update, and what it leaves out; what it may not change is for validation to refuse. Mutating
/// admission has seen what was sent, as in upstream's `BeforeUpdate`.
pub fn keep_times(new: &mut Value, old: &Value) -> Result<()> {
    let metadata = of(new)?;
    let had = |key: &str| old.get("metadata").and_then(|m| m.get(key)).filter(|v| !v.is_null());
    for key in ["creationTimestamp", "generation"] {
        match had(key) {
            Some(value) => metadata.insert(key.into(), value.clone()),
            None => metadata.remove(key),
        };
    }
    for key in ["uid", "deletionGracePeriodSeconds"] {
        let is_empty = metadata.get(key).is_none_or(|v| v.is_null() || v == "");
        if let (Some(value), true) = (had(key), is_empty) {
            metadata.insert(key.into(), value.clone());
        }
    }
    if let Some(value) = had("deletionTimestamp") {
        metadata.insert("deletionTimestamp".into(), value.clone());
    }
    metadata.remove("selfLink");
    Ok(())
}

/// Whether the generation counts a change: of anything but metadata and status, of some kinds of the annotations or labels too, but
/// not of annotations that come with a status.
pub fn is_counted(kind: &Kind, subresource: &str, new: &Value, old: &Value) -> bool {
    let differs = |part: &str| new.pointer(part).unwrap_or(&Value::Null) != old.pointer(part).unwrap_or(&Value::Null);
    let counts_too = match kind.generation {
        Generation::Counted | Generation::Changes => false,
        Generation::WithAnnotations => subresource.is_empty() && differs("/metadata/annotations"),
        Generation::WithLabels => differs("/metadata/labels"),
        Generation::None | Generation::One => return false,
    };
    let nothing = Value::Null;
    let changed = |a: &Value, b: &Value| {
        let was = |key: &String| b.get(key).unwrap_or(&nothing);
        counted(kind, a).any(|(key, value)| !equal(value, was(key)))
    };
    counts_too || changed(new, old) || changed(old, new)
}

/// The members of an object whose changes are counted.
fn counted<'a>(kind: &Kind, tree: &'a Value) -> impl Iterator<Item = (&'a String, &'a Value)> {
    let members = tree.as_object().into_iter().flatten();
    members.filter(|(key, _)| match key.as_str() {
        "metadata" | "apiVersion" | "kind" => false,
        "status" => !kind.has_status,
        _ => true,
    })
}

/// Counts a change.
///
/// # Errors
/// When the object has no metadata.
pub fn bump_generation(new: &mut Value, old: &Value) -> Result<()> {
    let before = old.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
    // Go's counter wraps, too
    of(new)?.insert("generation".into(), json!(before.wrapping_add(1)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;

    #[test]
    fn annotations_of_a_deployment_count_unless_they_come_with_its_status() {
        let old = json!({ "metadata": { "generation": 1 }, "spec": {} });
        let counts = |plural: &str, subresource: &str| {
            let new = json!({ "metadata": { "generation": 1, "annotations": { "a": "b" } }, "spec": {} });
            is_counted(kinds::find("apps", plural).unwrap(), subresource, &new, &old)
        };
        assert!(counts("deployments", ""));
        assert!(!counts("deployments", "status"));
        assert!(!counts("replicasets", ""));
    }

    /// `pkg/registry/discovery/endpointslice/strategy.go`
    #[test]
    fn labels_of_an_endpoint_slice_count() {
        let old = json!({ "metadata": { "generation": 1 }, "endpoints": [] });
        let counts = |key: &str| {
            let new = json!({ "metadata": { "generation": 1, key: { "a": "b" } }, "endpoints": [] });
            is_counted(
                kinds::find("discovery.k8s.io", "endpointslices").unwrap(),
                "",
                &new,
                &old,
            )
        };
        assert_eq!((counts("labels"), counts("annotations")), (true, false));
    }
}
