//! Strategies of the kinds that make pods.

use serde_json::{Value, json};

use crate::strategy::{COUNTED, Generation, Strategy, text};

/// ReplicationControllers leave their pods when nothing is said.
pub static ORPHANING: Strategy = Strategy {
    orphan_by_default: true,
    ..COUNTED
};

/// Deployments hand their annotations on to their ReplicaSets: a change of these is a new generation too.
pub static DEPLOYMENT: Strategy = Strategy {
    generation: Generation::WithAnnotations,
    ..COUNTED
};

/// DaemonSets keep the count of their templates in an annotation, as their first version had it in the spec.
pub static DAEMON_SET: Strategy = Strategy {
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
    ..COUNTED
};

const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn template_generation(object: &Value) -> i64 {
    let annotation = text(object, &["metadata", "annotations", TEMPLATE_GENERATION]);
    annotation.and_then(|a| a.parse().ok()).unwrap_or(0)
}

const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";

pub static JOB: Strategy = Strategy {
    orphan_by_default: true,
    prepare_create: |object, _| {
        if object.pointer("/spec/manualSelector") == Some(&Value::Bool(true)) {
            return;
        }
        // the selector is made of the uid, so that no two jobs can ever share pods
        let uid = text(object, &["metadata", "uid"]).unwrap_or_default().to_owned();
        let name = text(object, &["metadata", "name"]).unwrap_or_default().to_owned();
        let own = &mut object["spec"]["selector"]["matchLabels"][CONTROLLER_UID];
        if own.is_null() {
            *own = json!(uid);
        }
        // what is said already is left for validation to refuse
        let labels = &mut object["spec"]["template"]["metadata"]["labels"];
        for (key, value) in [
            ("controller-uid", &uid),
            (CONTROLLER_UID, &uid),
            ("job-name", &name),
            ("batch.kubernetes.io/job-name", &name),
        ] {
            if labels[key].is_null() {
                labels[key] = json!(value);
            }
        }
    },
    ..COUNTED
};
