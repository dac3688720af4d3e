//! DaemonSet. It keeps the count of its templates in an annotation, as its first version had it in the spec.

use serde_json::{Value, json};

use crate::kinds::apps::deployment::STRATEGY;
use crate::kinds::columns::{AGE, BuiltinColumn, NAME, count, label_pairs};
use crate::kinds::rules::{
    go_struct, immutable, int_or_percent, int_or_percent_value, label_selector, non_negative, not_more_than_all,
};
use crate::kinds::workload::{
    IMAGES, NAMES, SELECTOR, all_non_negative, is_empty, mismatch, not_decremented, readable, runs_for_ever, selects,
    template,
};
use crate::kinds::{Check, Cursor, Errors, Generation, Kind, pod_template, workload};
use crate::tree::text;

pub(in crate::kinds) const KIND: Kind = Kind {
    generation: Generation::Counted,
    read: |object| {
        let count = template_generation(object);
        object["metadata"]["annotations"][TEMPLATE_GENERATION] = json!(count.to_string());
    },
    prepare_create: |object, _| {
        let count = template_generation(object).max(1);
        object["metadata"]["annotations"][TEMPLATE_GENERATION] = json!(count.to_string());
    },
    prepare_update: |new, old, _| {
        let changed = new.pointer("/spec/template") != old.pointer("/spec/template");
        let count = template_generation(old) + i64::from(changed);
        new["metadata"]["annotations"][TEMPLATE_GENERATION] = json!(count.to_string());
    },
    pod_spec: workload::POD_SPEC,
    warn: |told, new, old| {
        let of = |object: &Value| object.pointer("/spec/template").cloned();
        template(told, new, old.is_none_or(|old| of(old) != of(new)));
    },
    columns: COLUMNS,
    ..Kind::new("apps", "daemonsets", validate)
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Desired", "integer", 0, |d| {
        json!(count(d, "/status/desiredNumberScheduled"))
    }),
    ("Current", "integer", 0, |d| {
        json!(count(d, "/status/currentNumberScheduled"))
    }),
    ("Ready", "integer", 0, |d| json!(count(d, "/status/numberReady"))),
    ("Up-to-date", "integer", 0, |d| {
        json!(count(d, "/status/updatedNumberScheduled"))
    }),
    ("Available", "integer", 0, |d| {
        json!(count(d, "/status/numberAvailable"))
    }),
    ("Node Selector", "string", 0, |d| {
        label_pairs(d, "/spec/template/spec/nodeSelector")
    }),
    AGE,
    NAMES,
    IMAGES,
    SELECTOR,
];

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    if check.is_status() {
        let fields = [
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ];
        all_non_negative(&mut errors, &root.get("status"), &fields);
        not_decremented(&mut errors, check);
        return errors;
    }
    let spec = root.get("spec");
    let selector = spec.get("selector");
    if let Some(old) = check.before() {
        immutable(&mut errors, &selector, &old.at(&["spec", "selector"]));
    }
    label_selector(&mut errors, &selector);
    let template = spec.get("template");
    let labels = template.at(&["metadata", "labels"]);
    if readable(&selector) && !selects(&selector, &labels) {
        mismatch(&mut errors, &labels);
    }
    if selector.is_some() && is_empty(&selector) {
        errors.push(selector.invalid("empty selector is invalid for daemonset"));
    }
    pod_template::template(&mut errors, &template);
    runs_for_ever(&mut errors, &template.get("spec"), "DaemonSet");
    non_negative(&mut errors, &spec.get("minReadySeconds"));
    daemon_strategy(&mut errors, &spec.get("updateStrategy"));
    non_negative(&mut errors, &spec.get("revisionHistoryLimit"));
    errors
}

fn daemon_strategy(errors: &mut Errors, strategy: &Cursor) {
    match strategy.get("type").text() {
        "OnDelete" => {}
        "RollingUpdate" => {
            let rolling = strategy.get("rollingUpdate");
            if !rolling.is_some() {
                errors.push(rolling.required(""));
                return;
            }
            let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
            int_or_percent(errors, &unavailable);
            int_or_percent(errors, &surge);
            not_more_than_all(errors, &unavailable);
            not_more_than_all(errors, &surge);
            match (
                int_or_percent_value(&unavailable) != 0,
                int_or_percent_value(&surge) != 0,
            ) {
                (true, true) => errors.push(surge.invalid("may not be set when maxUnavailable is non-zero")),
                (false, false) => errors.push(unavailable.required("cannot be 0 when maxSurge is 0")),
                _ => {}
            }
        }
        _ => {
            let error = strategy.not_supported(&["RollingUpdate", "OnDelete"]);
            errors.push(error.shown(&go_struct(strategy, &STRATEGY)));
        }
    }
}

const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn template_generation(object: &Value) -> i64 {
    let annotation = text(object, &["metadata", "annotations", TEMPLATE_GENERATION]);
    annotation.and_then(|a| a.parse().ok()).unwrap_or(0)
}
