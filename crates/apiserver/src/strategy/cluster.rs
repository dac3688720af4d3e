//! Strategies of the kinds that carry configuration and the cluster's own state.

use serde_json::{Value, json};

use crate::strategy::{DEFAULT, PLAIN, Strategy, text};

/// Kinds that a PUT may create.
pub static CREATABLE: Strategy = Strategy {
    create_on_update: true,
    ..PLAIN
};

pub static NAMESPACE: Strategy = Strategy {
    prepare_create: |object| {
        object["status"] = json!({ "phase": "Active" });
        // the namespace controller removes what is in the namespace before this finalizer goes
        let finalizers = &mut object["spec"]["finalizers"];
        let list = finalizers.as_array().cloned().unwrap_or_default();
        if !list.iter().any(|f| f == "kubernetes") {
            let mut list = list;
            list.push(json!("kubernetes"));
            *finalizers = Value::Array(list);
        }
        let name = text(object, &["metadata", "name"]).unwrap_or_default().to_owned();
        object["metadata"]["labels"]["kubernetes.io/metadata.name"] = json!(name);
    },
    prepare_update: |new, old| {
        if let Some(finalizers) = old.pointer("/spec/finalizers") {
            new["spec"]["finalizers"] = finalizers.clone();
        } else if let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) {
            spec.remove("finalizers");
        }
        let name = text(new, &["metadata", "name"]).unwrap_or_default().to_owned();
        new["metadata"]["labels"]["kubernetes.io/metadata.name"] = json!(name);
    },
    absent: |_| "",
    ..DEFAULT
};

pub static NODE: Strategy = Strategy {
    create_on_update: false,
    absent: |path| if path == "spec.unschedulable" { "false" } else { "" },
    // a node reports its status when it registers
    has_status: true,
    ..DEFAULT
};

pub static EVENT: Strategy = Strategy {
    create_on_update: true,
    ..PLAIN
};

pub static SECRET: Strategy = Strategy {
    prepare_create: |object| {
        // stringData is written over data and never stored
        if let Some(Value::Object(plain)) = object.as_object_mut().and_then(|o| o.remove("stringData")) {
            merge_string_data(object, &plain);
        }
    },
    prepare_update: |new, _| {
        if let Some(Value::Object(plain)) = new.as_object_mut().and_then(|o| o.remove("stringData")) {
            merge_string_data(new, &plain);
        }
    },
    ..PLAIN
};

fn merge_string_data(object: &mut Value, plain: &serde_json::Map<String, Value>) {
    use base64::Engine;
    for (key, value) in plain {
        let encoded = base64::engine::general_purpose::STANDARD.encode(value.as_str().unwrap_or_default());
        object["data"][key] = json!(encoded);
    }
}

pub static SIGNING_REQUEST: Strategy = Strategy {
    prepare_update: |new, old| {
        if let Some(spec) = old.get("spec") {
            new["spec"] = spec.clone();
        }
    },
    ..DEFAULT
};
