//! PodTemplate.

use crate::kinds::columns::{BuiltinColumn, NAME, container_images, container_names, label_pairs};
use crate::kinds::warnings::changed;
use crate::kinds::{Check, Errors, Generation, Kind, pod_template};

pub(in crate::kinds) const KIND: Kind = Kind {
    generation: Generation::Counted,
    pod_spec: &["template", "spec"],
    warn: |told, new, old| {
        if changed(new, old) {
            pod_template::warnings::pod(told, &new["template"], "template");
        }
    },
    returns_deleted: true,
    columns: COLUMNS,
    ..Kind::plain("", "podtemplates", validate)
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Containers", "string", 0, |t| {
        container_names(t, "/template/spec/containers")
    }),
    ("Images", "string", 0, |t| {
        container_images(t, "/template/spec/containers")
    }),
    ("Pod Labels", "string", 0, |t| {
        label_pairs(t, "/template/metadata/labels")
    }),
];

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    pod_template::template(&mut errors, &check.root().get("template"));
    errors
}
