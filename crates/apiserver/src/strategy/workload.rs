//! Strategies of the kinds that make pods.

use api::field::FieldError;
use api::selectors::LabelSelector;
use serde_json::{Value, json};

use crate::strategy::{COUNTED, Strategy, immutable, text};

/// Deployments: the selector must fit the template and never changes.
pub static DEPLOYMENT: Strategy = Strategy {
    validate: |new, old| validate(new, old, &["spec", "selector"]),
    ..COUNTED
};

/// ReplicaSets, StatefulSets, DaemonSets.
pub static SELECTING: Strategy = Strategy {
    validate: |new, old| {
        let mut errors = validate(new, old, &["spec", "selector"]);
        if text(new, &["kind"]) == Some("StatefulSet") {
            errors.extend(stateful_set_update(new, old));
        }
        errors
    },
    ..COUNTED
};

/// ReplicationControllers leave their pods when nothing is said.
pub static ORPHANING: Strategy = Strategy {
    orphan_by_default: true,
    validate: |new, _| non_negative(new),
    ..COUNTED
};

pub static JOB: Strategy = Strategy {
    orphan_by_default: true,
    prepare_create: |object| {
        if object.pointer("/spec/manualSelector") == Some(&Value::Bool(true)) {
            return;
        }
        // the selector is made of the uid, so that no two jobs can ever share pods
        let uid = text(object, &["metadata", "uid"]).unwrap_or_default().to_owned();
        let name = text(object, &["metadata", "name"]).unwrap_or_default().to_owned();
        if object.pointer("/spec/selector").is_none() {
            object["spec"]["selector"] = json!({ "matchLabels": { "batch.kubernetes.io/controller-uid": uid } });
        }
        let labels = &mut object["spec"]["template"]["metadata"]["labels"];
        for (key, value) in [
            ("controller-uid", &uid),
            ("batch.kubernetes.io/controller-uid", &uid),
            ("job-name", &name),
            ("batch.kubernetes.io/job-name", &name),
        ] {
            labels[key] = json!(value);
        }
    },
    validate: |new, old| {
        let mut errors = validate(new, old, &["spec", "selector"]);
        errors.extend(immutable(new, old, &["spec", "completionMode"]));
        let suspended = old.is_some_and(|o| o.pointer("/spec/suspend") == Some(&Value::Bool(true)));
        if !suspended {
            errors.extend(immutable(new, old, &["spec", "template"]));
        }
        let policy = text(new, &["spec", "template", "spec", "restartPolicy"]).unwrap_or_default();
        if !matches!(policy, "OnFailure" | "Never") {
            let supported = ["OnFailure", "Never"];
            let path = "spec.template.spec.restartPolicy";
            if policy.is_empty() || policy == "Always" {
                errors.push(FieldError::required(path, "valid values: \"OnFailure\", \"Never\""));
            } else {
                errors.push(FieldError::not_supported(path, json!(policy), &supported));
            }
        }
        errors
    },
    ..COUNTED
};

fn validate(new: &Value, old: Option<&Value>, selector: &[&str]) -> Vec<FieldError> {
    let mut errors = non_negative(new);
    errors.extend(immutable(new, old, selector));
    let spec = new.get("spec");
    match spec.and_then(|s| s.get("selector")) {
        None => errors.push(FieldError::required("spec.selector", "")),
        Some(selector) => match LabelSelector::from_tree(selector) {
            Err(problem) => errors.push(FieldError::invalid(
                "spec.selector",
                selector.clone(),
                problem.to_string(),
            )),
            Ok(parsed) => {
                let labels = new.pointer("/spec/template/metadata/labels");
                if parsed.is_empty() {
                    let why = "empty selector is invalid for deployment";
                    errors.push(FieldError::invalid("spec.selector", selector.clone(), why));
                }
                let get = |key: &str| labels.and_then(|l| l.get(key)).and_then(Value::as_str);
                if !parsed.matches(get) {
                    let value = labels.cloned().unwrap_or(Value::Null);
                    let why = "`selector` does not match template `labels`";
                    errors.push(FieldError::invalid("spec.template.metadata.labels", value, why));
                }
            }
        },
    }
    if text(new, &["kind"]) != Some("Job") {
        let policy = text(new, &["spec", "template", "spec", "restartPolicy"]).unwrap_or("Always");
        if policy != "Always" {
            let path = "spec.template.spec.restartPolicy";
            errors.push(FieldError::not_supported(path, json!(policy), &["Always"]));
        }
    }
    errors.extend(crate::strategy::pod::validate_template(
        new.pointer("/spec/template/spec"),
        "spec.template.spec",
    ));
    errors
}

fn non_negative(new: &Value) -> Vec<FieldError> {
    let fields = [
        "replicas",
        "minReadySeconds",
        "revisionHistoryLimit",
        "parallelism",
        "completions",
        "backoffLimit",
    ];
    let mut errors = Vec::new();
    for field in fields {
        if let Some(value) = new
            .pointer(&format!("/spec/{field}"))
            .filter(|v| v.as_i64().is_some_and(|n| n < 0))
        {
            let why = "must be greater than or equal to 0";
            errors.push(FieldError::invalid(format!("spec.{field}"), value.clone(), why));
        }
    }
    errors
}

fn stateful_set_update(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    const MUTABLE: [&str; 8] = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
        "selector",
    ];
    let fixed = |tree: &Value| {
        let mut spec = tree.get("spec").and_then(Value::as_object).cloned().unwrap_or_default();
        spec.retain(|key, _| !MUTABLE.contains(&key.as_str()));
        spec
    };
    let Some(old) = old else { return Vec::new() };
    if fixed(old) == fixed(new) {
        return Vec::new();
    }
    let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
               'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
    vec![FieldError::forbidden("spec", why)]
}
