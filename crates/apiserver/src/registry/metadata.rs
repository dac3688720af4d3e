//! `metadata`: what the server sets on create and update, and its rules.

use std::borrow::Cow;

use api::field::FieldError;
use api::names;
use serde_json::{Map, Value, json};

use crate::http::status::{ApiError, Result};
use crate::registry::Registry;
use crate::registry::resource::Resource;
use crate::strategy::Generation;

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

/// Gives a new object its name, uid, time and first generation.
pub fn prepare_create(registry: &Registry, resource: &Resource, tree: &mut Value, namespace: &str) -> Result<()> {
    let uid = registry.uid();
    let now = registry.timestamp();
    let metadata = of(tree)?;
    let name_is_empty = metadata.get("name").and_then(Value::as_str).is_none_or(str::is_empty);
    if let Some(base) = metadata.get("generateName").and_then(Value::as_str)
        && name_is_empty
        && !base.is_empty()
    {
        let base: String = base.chars().take(GENERATED_BASE).collect();
        let name = format!("{base}{}", suffix(registry));
        metadata.insert("name".into(), json!(name));
    }
    for key in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "resourceVersion",
    ] {
        metadata.remove(key);
    }
    metadata.insert("uid".into(), json!(uid));
    metadata.insert("creationTimestamp".into(), json!(now));
    if resource.namespaced {
        metadata.insert("namespace".into(), json!(namespace));
    } else {
        metadata.remove("namespace");
    }
    if resource.strategy.generation == Generation::None {
        metadata.remove("generation");
    } else {
        metadata.insert("generation".into(), json!(1));
    }
    Ok(())
}

/// Keeps what an update may not change.
pub fn prepare_update(new: &mut Value, old: &Value) -> Result<()> {
    let metadata = of(new)?;
    for key in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "namespace",
        "name",
    ] {
        match old.get("metadata").and_then(|m| m.get(key)) {
            Some(value) => {
                metadata.insert(key.into(), value.clone());
            }
            None => {
                metadata.remove(key);
            }
        }
    }
    metadata.remove("selfLink");
    Ok(())
}

/// Counts a change of anything but metadata and status.
pub fn bump_generation(resource: &Resource, new: &mut Value, old: &Value) -> Result<()> {
    if resource.strategy.generation != Generation::Counted {
        return Ok(());
    }
    let counted = |tree: &Value| {
        let mut map = tree.as_object().cloned().unwrap_or_default();
        for key in ["metadata", "apiVersion", "kind"] {
            map.remove(key);
        }
        if resource.strategy.has_status {
            map.remove("status");
        }
        map
    };
    if counted(new) != counted(old) {
        let before = old.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
        of(new)?.insert("generation".into(), json!(before + 1));
    }
    Ok(())
}

/// Rules of metadata.
pub fn validate(resource: &Resource, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let metadata = new.get("metadata");
    let (name, base) = (text(new, "name"), text(new, "generateName"));
    if old.is_none() && !base.is_empty() && checks_base(resource) {
        for problem in name_errors(resource, &masked(base)) {
            errors.push(FieldError::invalid("metadata.generateName", json!(base), problem));
        }
    }
    if name.is_empty() {
        errors.push(FieldError::required(
            "metadata.name",
            "name or generateName is required",
        ));
    } else if old.is_none() {
        for problem in name_errors(resource, name) {
            errors.push(FieldError::invalid("metadata.name", json!(name), problem));
        }
    }
    let map = |key: &str| metadata.and_then(|m| m.get(key)).and_then(Value::as_object);
    for (key, value) in map("labels").into_iter().flatten() {
        for problem in names::qualified_name_errors(key) {
            errors.push(FieldError::invalid("metadata.labels", json!(key), problem));
        }
        let value = value.as_str().unwrap_or_default();
        for problem in names::label_value_errors(value) {
            errors.push(FieldError::invalid("metadata.labels", json!(value), problem));
        }
    }
    let mut size = 0;
    for (key, value) in map("annotations").into_iter().flatten() {
        size += key.len() + value.as_str().map_or(0, str::len);
        for problem in names::qualified_name_errors(&key.to_lowercase()) {
            errors.push(FieldError::invalid("metadata.annotations", json!(key), problem));
        }
    }
    if size > 256 << 10 {
        errors.push(FieldError::too_long("metadata.annotations", 256 << 10));
    }
    let list = |key: &str| {
        metadata
            .and_then(|m| m.get(key))
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    let mut controllers = 0;
    for (i, owner) in list("ownerReferences").enumerate() {
        for key in ["apiVersion", "kind", "name", "uid"] {
            if owner.get(key).and_then(Value::as_str).is_none_or(str::is_empty) {
                let value = owner.get(key).cloned().unwrap_or_else(|| json!(""));
                let at = format!("metadata.ownerReferences[{i}].{key}");
                errors.push(FieldError::invalid(at, value, format!("{key} must not be empty")));
            }
        }
        controllers += usize::from(owner.get("controller") == Some(&Value::Bool(true)));
    }
    if controllers > 1 {
        let value = metadata
            .and_then(|m| m.get("ownerReferences"))
            .cloned()
            .unwrap_or_default();
        let why = "Only one reference can have Controller set to true";
        errors.push(FieldError::invalid("metadata.ownerReferences", value, why));
    }
    let loose = takes_any_finalizer(resource);
    for (i, finalizer) in list("finalizers").enumerate() {
        if !loose {
            finalizer_name(&mut errors, finalizer, i);
        } else if old.is_none() {
            let text = finalizer.as_str().unwrap_or_default();
            let found = names::qualified_name_errors(text).into_iter();
            errors.extend(found.map(|p| FieldError::invalid("metadata.finalizers", json!(text), p)));
        }
    }
    const OPPOSED: [&str; 2] = ["orphan", "foregroundDeletion"];
    if old.is_none() && OPPOSED.iter().all(|name| list("finalizers").any(|f| f == name)) {
        let all = list("finalizers").cloned().collect();
        let why = format!("finalizer {} and {} cannot be both set", OPPOSED[0], OPPOSED[1]);
        errors.push(FieldError::invalid("metadata.finalizers", all, why));
    }
    if let Some(old) = old
        && !text(old, "deletionTimestamp").is_empty()
    {
        let had: Vec<&Value> = old
            .pointer("/metadata/finalizers")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .collect();
        let added: Vec<&Value> = list("finalizers").filter(|f| !had.contains(f)).collect();
        if !added.is_empty() {
            let shown: Vec<String> = added.iter().map(|f| f.to_string()).collect();
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                shown.join(", ")
            );
            errors.push(FieldError::forbidden("metadata.finalizers", why));
        }
    }
    if old.is_some() {
        // upstream asks twice what an update does to metadata, once for all kinds and once for each
        errors.extend(errors.clone());
    }
    errors
}

/// Whether finalizers need no domain: custom resources and a few built-in groups do not ask for one.
fn takes_any_finalizer(resource: &Resource) -> bool {
    const LOOSE: [&str; 5] = [
        "admissionregistration.k8s.io",
        "apiextensions.k8s.io",
        "apiregistration.k8s.io",
        "coordination.k8s.io",
        "node.k8s.io",
    ];
    resource.is_custom() || LOOSE.contains(&resource.group.as_str())
}

/// A finalizer is Kubernetes' own or has a domain.
fn finalizer_name(errors: &mut Vec<FieldError>, finalizer: &Value, index: usize) {
    let text = finalizer.as_str().unwrap_or_default();
    let at = format!("metadata.finalizers[{index}]");
    let found = names::finalizer_errors(text);
    errors.extend(found.into_iter().map(|p| FieldError::invalid(&at, json!(text), p)));
}

/// Whether `generateName` has to be right besides the name that it gave.
fn checks_base(resource: &Resource) -> bool {
    !resource.is("", "replicationcontrollers") && !resource.is("resource.k8s.io", "deviceclasses")
}

/// The base of a generated name as upstream checks it: what makes a trailing dash right takes its neighbour along.
fn masked(base: &str) -> Cow<'_, str> {
    let cut = base.strip_suffix('-').and_then(|rest| rest.char_indices().next_back());
    match cut {
        Some((at, _)) => Cow::Owned(format!("{}a", &base[..at])),
        None => Cow::Borrowed(base),
    }
}

/// What is wrong with a name of this kind.
fn name_errors(resource: &Resource, name: &str) -> Vec<String> {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "namespaces" | "services") => names::dns1123_label_errors(name),
        ("rbac.authorization.k8s.io", _) => names::path_segment_errors(name),
        ("certificates.k8s.io", _) if name.contains(':') => names::path_segment_errors(name),
        ("networking.k8s.io", "ipaddresses") => names::canonical_ip_errors(name).into_iter().collect(),
        ("flowcontrol.apiserver.k8s.io" | "apiregistration.k8s.io", _) => names::dns1123_subdomain_errors(name),
        _ => names::dns1123_subdomain_errors(name),
    }
}
