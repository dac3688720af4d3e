//! ReplicaSet.

use crate::kinds::columns::{AGE, BuiltinColumn, NAME};
use crate::kinds::rules::immutable;
use crate::kinds::workload::{
    CURRENT, DESIRED, IMAGES, NAMES, READY, SELECTOR, all_non_negative, counted, selector_and_template,
};
use crate::kinds::{Check, Errors, Generation, Kind, workload};

pub(in crate::kinds) const KIND: Kind = Kind {
    generation: Generation::Counted,
    pod_spec: workload::POD_SPEC,
    warn: workload::warn,
    columns: COLUMNS,
    reads: Some(READS),
    ..Kind::new("apps", "replicasets", validate)
};

const COLUMNS: &[BuiltinColumn] = &[NAME, DESIRED, CURRENT, READY, AGE, NAMES, IMAGES, SELECTOR];

const READS: &[&str] = &[
    "metadata/name",
    "metadata/creationTimestamp",
    "spec/replicas",
    "spec/selector",
    "spec/template/spec/containers/name",
    "spec/template/spec/containers/image",
    "status/replicas",
    "status/readyReplicas",
];

/// Returns everything in which an object breaks the rules of its kind.
pub fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    if check.is_status() {
        let fields = [
            "replicas",
            "fullyLabeledReplicas",
            "readyReplicas",
            "availableReplicas",
            "observedGeneration",
            "terminatingReplicas",
        ];
        let status = root.get("status");
        all_non_negative(&mut errors, &status, &fields);
        let fields = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
        counted(&mut errors, &status, &fields, "readyReplicas");
        return errors;
    }
    let spec = root.get("spec");
    all_non_negative(&mut errors, &spec, &["replicas", "minReadySeconds"]);
    selector_and_template(&mut errors, &spec);
    if let Some(old) = check.before() {
        immutable(&mut errors, &spec.get("selector"), &old.at(&["spec", "selector"]));
    }
    errors
}
