//! Rules of the annotations that were seccomp profiles before there were fields. KEP-135.

use crate::kinds::rules::local_descending_path;
use crate::kinds::{Cursor, Errors};

const POD: &str = "seccomp.security.alpha.kubernetes.io/pod";

/// What the annotation of a container begins with; its name follows.
const CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";

const LOCAL: &str = "localhost/";

const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// An annotation names a profile.
pub fn annotations(errors: &mut Errors, annotations: &Cursor) {
    for (key, at) in annotations.entries() {
        if key != POD && !key.starts_with(CONTAINER) {
            continue;
        }
        let at = at.named(format!("{}.{key}", annotations.path));
        let known = matches!(at.text(), "runtime/default" | "docker/default" | "unconfined");
        if let Some(file) = at.text().strip_prefix(LOCAL) {
            let file = serde_json::Value::from(file);
            local_descending_path(errors, &Cursor::of(Some(&file), at.path.to_string()));
        } else if !known {
            errors.push(at.invalid("must be a valid seccomp profile"));
        }
    }
}

/// A pod or a template says the same in both.
pub fn agree(errors: &mut Errors, metadata: &Cursor, spec: &Cursor) {
    let annotations = metadata.get("annotations");
    let mut agree = |key: &str, owner: &Cursor| {
        let said = annotations.value.get(key).and_then(serde_json::Value::as_str);
        if let Some(said) = said {
            same(errors, said, &owner.at(&["securityContext", "seccompProfile"]));
        }
    };
    agree(POD, spec);
    for container in LISTS.iter().flat_map(|list| spec.get(list).items()) {
        agree(&format!("{CONTAINER}{}", container.get("name").text()), &container);
    }
}

fn same(errors: &mut Errors, said: &str, field: &Cursor) {
    let kind = field.get("type");
    let matches = match kind.text() {
        "Unconfined" => said == "unconfined",
        "RuntimeDefault" => matches!(said, "runtime/default" | "docker/default"),
        "Localhost" => said.starts_with(LOCAL),
        _ => true,
    };
    let file = field.get("localhostProfile");
    if !matches {
        errors.push(kind.forbidden("seccomp type in annotation and field must match"));
    } else if kind.text() == "Localhost" && said.strip_prefix(LOCAL) != file.value.as_str() {
        errors.push(file.forbidden("seccomp profile in annotation and field must match"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_annotation_names_a_profile_and_agrees_with_the_field() {
        let found = |annotation: &str, field: serde_json::Value| {
            let pod = json!({
                "metadata": { "annotations": { (format!("{CONTAINER}c")): annotation } },
                "spec": { "containers": [{ "name": "c", "securityContext": { "seccompProfile": field } }] },
            });
            let (root, mut errors) = (Cursor::root(&pod), Errors::new());
            annotations(&mut errors, &root.at(&["metadata", "annotations"]));
            agree(&mut errors, &root.get("metadata"), &root.get("spec"));
            errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(found("docker/default", json!({ "type": "RuntimeDefault" })), "");
        assert_eq!(
            found("localhost/a", json!({ "type": "Localhost", "localhostProfile": "a" })),
            ""
        );
        assert_eq!(
            found("foo", json!(null)),
            format!("metadata.annotations.{CONTAINER}c: Invalid value: \"foo\": must be a valid seccomp profile")
        );
        assert_eq!(
            found("unconfined", json!({ "type": "RuntimeDefault" })),
            "spec.containers[0].securityContext.seccompProfile.type: Forbidden: seccomp type in annotation and field \
             must match"
        );
    }
}
