//! Rules of the annotations that were AppArmor profiles before there were fields.

use api::field::FieldError;
use serde_json::{Value, json};

use crate::kinds::{Cursor, Errors};
use crate::tree::text;

const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// An annotation names a container and a profile.
pub fn annotations(errors: &mut Errors, annotations: &Cursor, spec: &Cursor) {
    for (key, at) in annotations.entries() {
        let Some(name) = key.strip_prefix(APP_ARMOR) else {
            continue;
        };
        let known = LISTS
            .iter()
            .any(|list| spec.get(list).items().any(|c| c.get("name").text() == name));
        if !known {
            errors.push(at.wrong(name, "container not found"));
        }
        let text = at.text();
        if !matches!(text, "" | "runtime/default" | "unconfined") && !text.starts_with("localhost/") {
            errors.push(at.invalid(format!("invalid AppArmor profile name: {text:?}")));
        }
    }
}

/// A new pod says the same in both.
pub fn agree(errors: &mut Errors, pod: &Cursor) {
    let spec = pod.get("spec");
    if spec.at(&["os", "name"]).text() == "windows" {
        return;
    }
    let of_pod = spec.at(&["securityContext", "appArmorProfile"]);
    let annotations = pod.at(&["metadata", "annotations"]);
    for list in LISTS {
        for container in spec.get(list).items() {
            let own = container.at(&["securityContext", "appArmorProfile"]);
            let profile = if own.is_some() { own.value } else { of_pod.value };
            let key = format!("{APP_ARMOR}{}", container.get("name").text());
            let annotation = annotations.value.get(&key).and_then(Value::as_str);
            let (Some(annotation), false) = (annotation, profile.is_null()) else {
                continue;
            };
            let said = app_armor_profile(annotation);
            let differs = |field: &str| said.as_ref().map(|said| &said[field]) != Some(&profile[field]);
            if differs("type") {
                errors.push(
                    own.get("type")
                        .forbidden("apparmor type in annotation and field must match"),
                );
            } else if profile["type"] == "Localhost" && differs("localhostProfile") {
                let file = own.get("localhostProfile");
                errors.push(file.forbidden("apparmor profile in annotation and field must match"));
            }
        }
    }
}

/// The annotations of a pod stay as they are.
pub fn unchanged(errors: &mut Errors, new: &Cursor, old: &Cursor) {
    fn annotations<'a>(pod: &Cursor<'a>) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let map = pod.at(&["metadata", "annotations"]).map().into_iter().flatten();
        map.map(|(key, value)| (key.as_str(), value))
            .filter(|(key, _)| key.starts_with(APP_ARMOR))
    }
    let find = |pod: &Cursor, key: &str| pod.at(&["metadata", "annotations"]).value.get(key).cloned();
    let mut forbid =
        |key: &str, why: &str| errors.push(FieldError::forbidden(format!("metadata.annotations[{key}]"), why));
    for (key, value) in annotations(old) {
        if find(new, key).as_ref() != Some(value) {
            forbid(key, "may not remove or update AppArmor annotations");
        }
    }
    for (key, _) in annotations(new) {
        if find(old, key).is_none() {
            forbid(key, "may not add AppArmor annotations");
        }
    }
}

/// What the annotation of a container's AppArmor profile begins with; the container's name follows.
pub const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// The profile that an AppArmor annotation stands for.
fn app_armor_profile(annotation: &str) -> Option<Value> {
    match annotation {
        "unconfined" => Some(json!({ "type": "Unconfined" })),
        "runtime/default" => Some(json!({ "type": "RuntimeDefault" })),
        other => {
            let file = other.strip_prefix("localhost/").filter(|file| !file.is_empty())?;
            Some(json!({ "type": "Localhost", "localhostProfile": file }))
        }
    }
}

/// The containers that have an annotation and no field of their own: where each stands, the annotation, and the profile
/// to set. KEP-24.
pub fn app_armor_annotations(pod: &Value) -> Vec<(&'static str, usize, String, Option<Value>)> {
    let mut found = Vec::new();
    if text(pod, &["spec", "os", "name"]) == Some("windows") {
        return found;
    }
    let Some(annotations) = pod.pointer("/metadata/annotations").and_then(Value::as_object) else {
        return found;
    };
    let of_pod = pod.pointer("/spec/securityContext/appArmorProfile");
    for field in CONTAINERS {
        let list = pod.get("spec").and_then(|s| s.get(field)).and_then(Value::as_array);
        for (i, container) in list.into_iter().flatten().enumerate() {
            let key = format!("{APP_ARMOR}{}", text(container, &["name"]).unwrap_or_default());
            let own = container.pointer("/securityContext/appArmorProfile");
            if let (Some(annotation), None) = (annotations.get(&key).and_then(Value::as_str), own) {
                let padded = annotation.trim() != annotation;
                let profile = app_armor_profile(annotation).filter(|_| !padded);
                // what the pod says for all its containers need not be said again
                if profile.is_none() || profile.as_ref() != of_pod {
                    found.push((field, i, key, profile));
                }
            }
        }
    }
    found
}
