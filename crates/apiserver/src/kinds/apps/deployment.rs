//! Deployment. It hands its annotations on to its ReplicaSets: a change of these is a new generation too.

use api::apply::Reset;
use serde_json::json;

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, count, selector_text};
use crate::kinds::rules::{
    go_struct, immutable, int_or_percent, int_or_percent_value, non_negative, not_more_than_all,
};
use crate::kinds::workload::{
    IMAGES, NAMES, ROLLING, all_non_negative, counted, not_decremented, ready_of_desired, selector_and_template,
};
use crate::kinds::{Check, Cursor, Errors, Generation, Kind, Part, STATUS, workload};

pub(in crate::kinds) const KIND: Kind = Kind {
    generation: Generation::WithAnnotations,
    parts: &[Part {
        reset: Reset::Except(&[&["spec"], &["metadata", "labels"]]),
        ..STATUS
    }],
    pod_spec: workload::POD_SPEC,
    warn: workload::warn,
    columns: COLUMNS,
    ..Kind::new("apps", "deployments", validate)
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Ready", "string", 0, ready_of_desired),
    ("Up-to-date", "string", 0, |d| {
        json!(count(d, "/status/updatedReplicas"))
    }),
    ("Available", "string", 0, |d| {
        json!(count(d, "/status/availableReplicas"))
    }),
    AGE,
    NAMES,
    IMAGES,
    ("Selector", "string", 1, |t| selector_text(t, "/spec/selector", "")),
];

/// Where a Deployment of `extensions/v1beta1` said to which revision it goes back.
const ROLLBACK: &str = "deprecated.deployment.rollback.to";

/// The fields of a strategy as Go shows it: the name there, the name in JSON, and the text of an absent one.
pub const STRATEGY: [(&str, &str, &str); 2] = [("Type", "type", "\"\""), ("RollingUpdate", "rollingUpdate", "null")];

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    if check.is_status() {
        let fields = [
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
            "terminatingReplicas",
            "collisionCount",
        ];
        let status = root.get("status");
        all_non_negative(&mut errors, &status, &fields);
        counted(
            &mut errors,
            &status,
            &["updatedReplicas", "readyReplicas", "availableReplicas"],
            "readyReplicas",
        );
        not_decremented(&mut errors, check);
        return errors;
    }
    let spec = root.get("spec");
    non_negative(&mut errors, &spec.get("replicas"));
    selector_and_template(&mut errors, &spec);
    deployment_strategy(&mut errors, &spec.get("strategy"));
    all_non_negative(
        &mut errors,
        &spec,
        &["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"],
    );
    let rollback = root.at(&["metadata", "annotations", ROLLBACK]).text().parse::<i64>();
    if let Some(revision) = rollback.ok().filter(|revision| *revision < 0) {
        let at = spec.named("spec.rollback.version");
        errors.push(at.wrong(revision, "must be greater than or equal to 0"));
    }
    let deadline = spec.get("progressDeadlineSeconds");
    if deadline
        .int()
        .is_some_and(|n| n <= spec.get("minReadySeconds").int().unwrap_or(0))
    {
        errors.push(deadline.invalid("must be greater than minReadySeconds"));
    }
    if let Some(old) = check.before() {
        immutable(&mut errors, &spec.get("selector"), &old.at(&["spec", "selector"]));
    }
    errors
}

fn deployment_strategy(errors: &mut Errors, strategy: &Cursor) {
    let rolling = strategy.get("rollingUpdate");
    match strategy.get("type").text() {
        "Recreate" => {
            if rolling.is_some() {
                errors.push(rolling.forbidden("may not be specified when strategy `type` is 'Recreate'"));
            }
        }
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
            int_or_percent(errors, &unavailable);
            int_or_percent(errors, &surge);
            if int_or_percent_value(&unavailable) == 0 && int_or_percent_value(&surge) == 0 {
                errors.push(unavailable.invalid("may not be 0 when `maxSurge` is 0"));
            }
            not_more_than_all(errors, &unavailable);
        }
        _ => {
            let error = strategy.not_supported(&["Recreate", "RollingUpdate"]);
            let inner = rolling.is_some().then(|| go_struct(&rolling, &ROLLING));
            let kind = strategy.get("type").text();
            let shown = format!(
                "{{\"Type\":{kind:?},\"RollingUpdate\":{}}}",
                inner.as_deref().unwrap_or("null")
            );
            errors.push(error.shown(&shown));
        }
    }
}
