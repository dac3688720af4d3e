//! Rules of Deployments, ReplicaSets, StatefulSets, DaemonSets, ReplicationControllers and ControllerRevisions.

use std::collections::HashSet;

use api::field::FieldError;
use api::selectors::LabelSelector;
use serde_json::{Value, json};

use super::{Check, pod, storage};
use crate::strategy::keep;
use crate::strategy::validation::common::{
    Errors, dns_label, go_struct, immutable, int_or_percent, int_or_percent_value, label_selector, non_negative,
    not_more_than_all,
};
use crate::strategy::validation::cursor::Cursor;

const ROLLING: [(&str, &str, &str); 2] = [("MaxUnavailable", "maxUnavailable", "0"), ("MaxSurge", "maxSurge", "0")];
/// Where a Deployment of `extensions/v1beta1` said to which revision it goes back.
const ROLLBACK: &str = "deprecated.deployment.rollback.to";
/// The domain of annotations that say what could not be said in this version.
const UNCONVERTED: &str = "non-convertible.kubernetes.io";
const STRATEGY: [(&str, &str, &str); 2] = [("Type", "type", "\"\""), ("RollingUpdate", "rollingUpdate", "null")];

fn all_non_negative(errors: &mut Errors, at: &Cursor, fields: &[&'static str]) {
    for field in fields {
        non_negative(errors, &at.get(field));
    }
}

/// Whether the selector, if it can be read, takes pods of the template.
fn selects(selector: &Cursor, labels: &Cursor) -> bool {
    if !selector.is_some() {
        return false;
    }
    LabelSelector::from_tree(selector.value)
        .is_ok_and(|s| s.matches(|key| labels.value.get(key).and_then(Value::as_str)))
}

fn is_empty(selector: &Cursor) -> bool {
    selector.get("matchLabels").map().is_none_or(|m| m.is_empty()) && selector.get("matchExpressions").list().is_empty()
}

fn readable(selector: &Cursor) -> bool {
    !selector.is_some() || LabelSelector::from_tree(selector.value).is_ok()
}

fn mismatch(errors: &mut Errors, labels: &Cursor) {
    errors.push(labels.invalid("`selector` does not match template `labels`"));
}

/// What a template of pods that are to run for ever must keep to.
fn runs_for_ever(errors: &mut Errors, spec: &Cursor, kind: &str) {
    let policy = spec.get("restartPolicy");
    if policy.text() != "Always" {
        errors.push(policy.not_supported(&["Always"]));
    }
    let deadline = spec.get("activeDeadlineSeconds");
    if deadline.is_some() {
        errors.push(deadline.forbidden(format!("activeDeadlineSeconds in {kind} is not Supported")));
    }
}

/// The selector and the template of a Deployment or ReplicaSet.
fn selector_and_template(errors: &mut Errors, spec: &Cursor) {
    let selector = spec.get("selector");
    if !selector.is_some() {
        errors.push(selector.required(""));
    } else {
        label_selector(errors, &selector);
        if is_empty(&selector) {
            errors.push(selector.invalid("empty selector is invalid for deployment"));
        }
    }
    if !readable(&selector) {
        errors.push(selector.invalid("invalid label selector"));
        return;
    }
    let template = spec.get("template");
    let labels = template.at(&["metadata", "labels"]);
    // a selector that is missing takes nothing, an empty one is refused already
    let empty = selector.is_some() && is_empty(&selector);
    if !empty && !selects(&selector, &labels) {
        mismatch(errors, &labels);
    }
    pod::template(errors, &template);
    runs_for_ever(errors, &template.get("spec"), "ReplicaSet");
}

pub fn deployment(check: &Check) -> Errors {
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

/// Replicas of a kind cannot be more than there are.
fn counted(errors: &mut Errors, status: &Cursor, fields: &[&'static str], ready_name: &str) {
    let count = |field: &'static str| status.get(field).int().unwrap_or(0);
    for field in fields {
        if count(field) > count("replicas") {
            errors.push(status.get(field).invalid("cannot be greater than status.replicas"));
        }
    }
    if count("availableReplicas") > count("readyReplicas") {
        let at = status.get("availableReplicas");
        errors.push(at.invalid(format!("cannot be greater than {ready_name}")));
    }
}

fn not_decremented(errors: &mut Errors, check: &Check) {
    let count = |root: Option<Cursor>| root.and_then(|r| r.at(&["status", "collisionCount"]).int());
    let (now, before) = (count(Some(check.root())), count(check.before()));
    if before.is_some_and(|b| now.is_none_or(|n| n < b)) {
        let at = check.root().at(&["status", "collisionCount"]);
        errors.push(at.wrong(now.unwrap_or(0), "cannot be decremented"));
    }
}

pub fn replica_set(check: &Check) -> Errors {
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

pub fn replication_controller(check: &Check) -> Errors {
    if check.is_status() {
        return replica_set(check);
    }
    let mut errors = Errors::new();
    let spec = check.root().get("spec");
    non_negative(&mut errors, &spec.get("minReadySeconds"));
    let selector = spec.get("selector");
    let wanted = selector.map().filter(|m| !m.is_empty());
    if wanted.is_none() {
        errors.push(selector.required(""));
    }
    let replicas = spec.get("replicas");
    if replicas.is_some() {
        non_negative(&mut errors, &replicas);
    } else {
        errors.push(replicas.required(""));
    }
    let template = spec.get("template");
    if !template.is_some() {
        errors.push(template.required(""));
        return errors;
    }
    let labels = template.at(&["metadata", "labels"]);
    if wanted.is_some_and(|w| w.iter().any(|(key, value)| labels.value.get(key) != Some(value))) {
        mismatch(&mut errors, &labels);
    }
    pod::template(&mut errors, &template);
    runs_for_ever(&mut errors, &template.get("spec"), "ReplicationController");
    if let Some(old) = check.before() {
        unconverted(&mut errors, &selector, &old);
    }
    errors
}

/// A controller that was made of one with a selector that it cannot have does not get another one.
fn unconverted(errors: &mut Errors, selector: &Cursor, old: &Cursor) {
    for (key, value) in old.at(&["metadata", "annotations"]).entries() {
        let Some((_, field)) = key.split_once('/').filter(|(_, field)| !field.contains('/')) else {
            continue;
        };
        if !key.starts_with(UNCONVERTED) {
            continue;
        }
        if !field.contains("selector") {
            let mut error = value.named(field).not_found(value.text());
            error.detail = "unknown non-convertible field".into();
            errors.push(error);
        } else if selector.value != old.at(&["spec", "selector"]).value {
            errors.push(selector.invalid("cannot update non-convertible selector"));
        }
    }
}

pub fn daemon_set(check: &Check) -> Errors {
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
    pod::template(&mut errors, &template);
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

pub fn stateful_set(check: &Check) -> Errors {
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
        storage::claim_spec(errors, &claim.get("spec"));
    }
    all_non_negative(errors, spec, &["replicas", "minReadySeconds"]);
    non_negative(errors, &spec.at(&["ordinals", "start"]));
    let service = spec.get("serviceName");
    if !update && !service.text().is_empty() {
        dns_label(errors, &service);
    }
    let selector = spec.get("selector");
    if !selector.is_some() {
        errors.push(selector.required(""));
    } else {
        label_selector(errors, &selector);
        if is_empty(&selector) {
            errors.push(selector.invalid("empty selector is invalid for statefulset"));
        }
    }
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
        pod::template(errors, &template);
        pod::template_marks(errors, &template);
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
    const MUTABLE: [&str; 7] = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    let mut munged = spec.value.clone();
    for field in MUTABLE {
        keep(&mut munged, before.value, field);
    }
    if munged != *before.value {
        let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                   'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                   'minReadySeconds' are forbidden";
        errors.push(spec.forbidden(why));
    }
}

pub fn controller_revision(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    non_negative(&mut errors, &root.get("revision"));
    let data = root.get("data");
    match check.before() {
        Some(old) => immutable(&mut errors, &data, &old.get("data")),
        None if !data.is_some() => errors.push(data.required("data is mandatory")),
        None if data.map().is_none() => errors.push(data.required("data must be a valid JSON object")),
        None => {}
    }
    errors
}

pub fn pod_template(check: &Check) -> Errors {
    let mut errors = Errors::new();
    pod::template(&mut errors, &check.root().get("template"));
    errors
}

/// Something that this server does not obey may not be stored.
pub fn refused(_: &Check) -> Errors {
    let why = "admission webhooks and policies are not supported by this server";
    [FieldError::forbidden("", why)].into_iter().collect()
}
