//! Strategies of the kinds that make pods.

use serde_json::{Value, json};

use crate::strategy::{COUNTED, Strategy, text};

/// ReplicationControllers leave their pods when nothing is said.
pub static ORPHANING: Strategy = Strategy {
    orphan_by_default: true,
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
    ..COUNTED
};
