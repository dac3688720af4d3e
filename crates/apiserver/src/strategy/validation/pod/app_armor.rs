//! Rules of the annotations that were AppArmor profiles before there were fields.

use api::field::FieldError;
use serde_json::Value;

use crate::strategy::pod::{APP_ARMOR, app_armor_profile};
use crate::strategy::validation::common::Errors;
use crate::strategy::validation::cursor::Cursor;

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
