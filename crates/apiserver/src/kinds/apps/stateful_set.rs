//! StatefulSet.

use std::collections::HashSet;

use api::names;
use serde_json::{Value, json};

use crate::kinds::apps::deployment::STRATEGY;
use crate::kinds::columns::{AGE, BuiltinColumn, NAME};
use crate::kinds::core::persistent_volume_claim;
use crate::kinds::rules::{
    dns_label, go_struct, immutable, int_or_percent, int_or_percent_value, non_negative, not_more_than_all,
};
use crate::kinds::warnings::{changed, items};
use crate::kinds::workload::{
    IMAGES, NAMES, all_non_negative, counted, is_empty, mismatch, not_decremented, readable, ready_of_desired,
    required_selector, runs_for_ever, selects, template,
};
use crate::kinds::{Check, Cursor, Errors, Generation, Kind, pod_template, workload};

pub(in crate::kinds) const KIND: Kind = Kind {
    generation: Generation::Counted,
    pod_spec: workload::POD_SPEC,
    name: names::dns1123_label_errors,
    warn: |told, new, old| {
        template(told, new, changed(new, old));
        warn_of_claims(told, new, old.is_some());
    },
    columns: COLUMNS,
    ..Kind::new("apps", "statefulsets", validate)
};

const COLUMNS: &[BuiltinColumn] = &[NAME, ("Ready", "string", 0, ready_of_desired), AGE, NAMES, IMAGES];

fn warn_of_claims(told: &mut Vec<String>, set: &Value, update: bool) {
    for (i, claim) in items(set.pointer("/spec/volumeClaimTemplates")).iter().enumerate() {
        // upstream names the spec in an update only, and so
        let spec = if update { ".Spec" } else { "" };
        persistent_volume_claim::warn_of_spec(told, &claim["spec"], || format!("spec.volumeClaimTemplates[{i}]{spec}"));
    }
    if set["spec"]["revisionHistoryLimit"].as_i64().is_some_and(|n| n < 0) {
        told.push(
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"
                .to_owned(),
        );
    }
}

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    if check.is_status() {
        let fields = [
            "replicas",
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
            "observedGeneration",
            "collisionCount",
        ];
        let status = root.get("status");
        all_non_negative(&mut errors, &status, &fields);
        let fields = [
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
        ];
        counted(&mut errors, &status, &fields, "status.readyReplicas");
        not_decremented(&mut errors, check);
        return errors;
    }
    stateful_set_spec(&mut errors, &root.get("spec"), check.before().is_some());
    if let Some(old) = check.before() {
        stateful_set_update(&mut errors, &root.get("spec"), &old.get("spec"));
    }
    errors
}

fn stateful_set_spec(errors: &mut Errors, spec: &Cursor, update: bool) {
    let management = spec.get("podManagementPolicy");
    match management.text() {
        "" => errors.push(management.required("")),
        "OrderedReady" | "Parallel" => {}
        _ => errors.push(management.invalid("must be 'OrderedReady' or 'Parallel'")),
    }
    stateful_strategy(errors, &spec.get("updateStrategy"));
    let retention = spec.get("persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"] {
        let at = retention.get(field);
        if retention.is_some() && !matches!(at.text(), "Retain" | "Delete") {
            errors.push(at.not_supported(&["Retain", "Delete"]));
        }
    }
    for claim in spec.get("volumeClaimTemplates").items().filter(|_| !update) {
        persistent_volume_claim::spec(errors, &claim.get("spec"));
    }
    all_non_negative(errors, spec, &["replicas", "minReadySeconds"]);
    non_negative(errors, &spec.at(&["ordinals", "start"]));
    let service = spec.get("serviceName");
    if !update && !service.text().is_empty() {
        dns_label(errors, &service);
    }
    let selector = spec.get("selector");
    required_selector(errors, &selector, "statefulset");
    if !readable(&selector) {
        errors.push(selector.invalid(""));
    } else {
        let labels = spec.at(&["template", "metadata", "labels"]);
        let empty = selector.is_some() && is_empty(&selector);
        if !empty && !selects(&selector, &labels) {
            mismatch(errors, &labels);
        }
        let template = with_claims(spec);
        let template = Cursor::of(Some(&template), format!("{}.template", spec.path));
        pod_template::template(errors, &template);
        pod_template::template_marks(errors, &template);
    }
    runs_for_ever(errors, &spec.at(&["template", "spec"]), "StatefulSet");
}

/// The template with a volume for each claim template, and without the names that each pod gets of its own.
fn with_claims(spec: &Cursor) -> Value {
    let mut template = spec.get("template").value.clone();
    let claims: Vec<&str> = spec
        .get("volumeClaimTemplates")
        .items()
        .map(|c| c.at(&["metadata", "name"]).text())
        .collect();
    let Some(inner) = template.get_mut("spec").and_then(Value::as_object_mut) else {
        return template;
    };
    inner.remove("subdomain");
    inner.remove("hostname");
    if claims.is_empty() {
        return template;
    }
    let unique: HashSet<&str> = claims.iter().copied().collect();
    let own = inner
        .remove("volumes")
        .and_then(|v| v.as_array().cloned())
        .unwrap_or_default();
    let is_claim = |v: &Value| {
        v.get("name")
            .and_then(Value::as_str)
            .is_some_and(|n| unique.contains(n))
    };
    let made = unique
        .iter()
        .map(|name| json!({ "name": name, "persistentVolumeClaim": { "claimName": name } }));
    let volumes = made.chain(own.iter().filter(|v| !is_claim(v)).cloned()).collect();
    inner.insert("volumes".into(), Value::Array(volumes));
    template
}

fn stateful_strategy(errors: &mut Errors, strategy: &Cursor) {
    let rolling = strategy.get("rollingUpdate");
    match strategy.get("type").text() {
        "" => errors.push(strategy.required("")),
        "OnDelete" => {
            if rolling.is_some() {
                errors.push(rolling.invalid("only allowed for updateStrategy 'RollingUpdate'"));
            }
        }
        "RollingUpdate" => {
            non_negative(errors, &rolling.get("partition"));
            let unavailable = rolling.get("maxUnavailable");
            if unavailable.is_some() {
                int_or_percent(errors, &unavailable);
                if int_or_percent_value(&unavailable) == 0 {
                    errors.push(unavailable.invalid("cannot be 0"));
                }
                not_more_than_all(errors, &unavailable);
            }
        }
        _ => {
            let error = strategy.invalid("must be 'RollingUpdate' or 'OnDelete'");
            errors.push(error.shown(&go_struct(strategy, &STRATEGY)));
        }
    }
}

fn stateful_set_update(errors: &mut Errors, spec: &Cursor, before: &Cursor) {
    for field in ["selector", "volumeClaimTemplates", "serviceName", "podManagementPolicy"] {
        immutable(errors, &spec.get(field), &before.get(field));
    }
}
