//! Namespace.

use api::apply::Reset;
use api::names;
use serde_json::{Value, json};

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, text_at};
use crate::kinds::rules::{problems, qualified_name};
use crate::kinds::{Again, Asked, Check, Cursor, Errors, Hold, Kind, Part, STATUS};
use crate::tree::{keep, text};

pub(in crate::kinds) const KIND: Kind = Kind {
    read: |object| {
        let name = text(object, &["metadata", "name"]).unwrap_or_default().to_owned();
        if !name.is_empty() {
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = json!(name);
        }
    },
    prepare_create: |object, _| {
        object["status"] = json!({ "phase": "Active" });
        // the namespace controller removes what is in the namespace before this finalizer goes
        let finalizers = &mut object["spec"]["finalizers"];
        let mut list = finalizers.as_array().cloned().unwrap_or_default();
        if !list.iter().any(|f| f == "kubernetes") {
            list.push(json!("kubernetes"));
            *finalizers = Value::Array(list);
        }
    },
    keep: |new, old| {
        if let Some(spec) = old.get("spec") {
            if !new["spec"].is_object() {
                new["spec"] = json!({});
            }
            keep(&mut new["spec"], spec, "finalizers");
        }
    },
    parts: &[STATUS, FINALIZE],
    name: names::dns1123_label_errors,
    metadata: Asked::on_update(Again::BOTH),
    hold: Some(Hold {
        finalizer: None,
        holds: |namespace| {
            let list = namespace.pointer("/spec/finalizers").and_then(Value::as_array);
            list.is_some_and(|list| !list.is_empty())
        },
        mark: |namespace, _| namespace["status"]["phase"] = json!("Terminating"),
    }),
    columns: COLUMNS,
    ..Kind::new("", "namespaces", validate)
};

const FINALIZE: Part = Part {
    name: "finalize",
    reset: Reset::Except(&[&["status"]]),
    confine: |_, new, old| keep(new, old, "status"),
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Status", "string", 0, |n| json!(text_at(n, "/status/phase"))),
    AGE,
];

/// Returns everything in which an object breaks the rules of its kind.
pub fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    match check.subresource {
        "status" => {
            let phase = root.at(&["status", "phase"]).named("status.Phase");
            let deleted = root.at(&["metadata", "deletionTimestamp"]).is_some();
            let (wanted, why) = if deleted {
                (
                    "Terminating",
                    "may only be 'Terminating' if `deletionTimestamp` is not empty",
                )
            } else {
                ("Active", "may only be 'Active' if `deletionTimestamp` is empty")
            };
            if phase.text() != wanted {
                errors.push(phase.wrong(phase.text(), why));
            }
        }
        "finalize" => {
            for finalizer in root.at(&["spec", "finalizers"]).items() {
                namespace_finalizer(&mut errors, &finalizer);
            }
        }
        _ if check.old.is_none() => {
            let all = root.at(&["spec", "finalizers"]);
            for finalizer in all.items() {
                namespace_finalizer(&mut errors, &finalizer.named(&all.path));
            }
        }
        _ => {}
    }
    errors
}

/// A finalizer of a namespace's own list is Kubernetes' or has a domain.
fn namespace_finalizer(errors: &mut Errors, at: &Cursor) {
    qualified_name(errors, at);
    problems(errors, at, names::finalizer_error(at.text()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_keeps_its_finalizers_whatever_an_update_leaves_out() {
        let old = json!({ "metadata": {}, "spec": { "finalizers": ["kubernetes"] }, "status": { "phase": "Active" } });
        let update = json!({ "metadata": { "labels": { "a": "b" } } });
        let mut kept = update.clone();
        KIND.confine("", &mut kept, &old);
        assert_eq!(kept["spec"], old["spec"]);
        assert_eq!(
            (&kept["status"], &kept["metadata"]),
            (&old["status"], &update["metadata"])
        );
        let mut ended = json!({ "metadata": {}, "spec": { "finalizers": [] } });
        KIND.confine("finalize", &mut ended, &old);
        assert_eq!(ended["spec"]["finalizers"], json!([]));
    }
}
