//! Rules of pods, besides those that they share with templates.

use super::{status, update};
use crate::kinds::pod_template::{annotations_of, app_armor, container, seccomp, spec_of, volume};
use crate::kinds::{Check, Cursor, Errors};

/// A pod, new or changed.
pub fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    if check.subresource == "status" || check.subresource == "binding" {
        status::update(&mut errors, check);
        return errors;
    }
    metadata_and_spec(&mut errors, &root);
    match check.before() {
        None => created(&mut errors, &root),
        Some(old) => match check.subresource {
            "ephemeralcontainers" => update::ephemeral_containers(&mut errors, &root, &old),
            "resize" => update::resize(&mut errors, &root, &old),
            _ => update::spec(&mut errors, &root, &old),
        },
    }
    errors
}

fn metadata_and_spec(errors: &mut Errors, root: &Cursor) {
    annotations_of(errors, &root.at(&["metadata", "annotations"]), &root.get("spec"));
    let name = root.at(&["metadata", "name"]).text();
    let pod = spec_of(errors, root.get("spec"), name, true);
    volume::tokens_without_account(errors, &pod);
    for list in ["containers", "initContainers"] {
        for container in pod.spec.get(list).items() {
            container::only_for_pods(errors, &container);
        }
    }
}

fn created(errors: &mut Errors, root: &Cursor) {
    let spec = root.get("spec");
    seccomp::agree(errors, &root.get("metadata"), &spec);
    app_armor::agree(errors, root);
    let ephemeral = spec.get("ephemeralContainers");
    if !ephemeral.list().is_empty() {
        errors.push(ephemeral.forbidden("cannot be set on create"));
    }
    let node = spec.get("nodeName");
    if !node.text().is_empty() && !spec.get("schedulingGates").list().is_empty() {
        errors.push(node.forbidden("cannot be set until all schedulingGates have been cleared"));
    }
}
