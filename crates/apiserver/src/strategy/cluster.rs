//! Strategies of the kinds that carry configuration and the cluster's own state.

use api::field::FieldError;
use serde_json::{Value, json};

use crate::strategy::{DEFAULT, PLAIN, Strategy, immutable, text};

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
    validate: |new, old| {
        let mut errors = frozen(new, old, &["data"]);
        errors.extend(immutable(new, old, &["type"]));
        let size: usize = new.get("data").and_then(Value::as_object).map_or(0, |data| {
            data.values().filter_map(Value::as_str).map(|v| v.len() / 4 * 3).sum()
        });
        if size > 1 << 20 {
            errors.push(FieldError::too_long("data", 1 << 20));
        }
        let wanted: &[&str] = match text(new, &["type"]).unwrap_or("Opaque") {
            "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
            "kubernetes.io/dockercfg" => &[".dockercfg"],
            "kubernetes.io/tls" => &["tls.crt", "tls.key"],
            "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
            _ => &[],
        };
        for key in wanted {
            if new.get("data").and_then(|d| d.get(*key)).is_none() {
                errors.push(FieldError::required(format!("data[{key}]"), ""));
            }
        }
        errors.extend(key_errors(new, "data"));
        errors
    },
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

pub static CONFIG_MAP: Strategy = Strategy {
    validate: |new, old| {
        let mut errors = frozen(new, old, &["data", "binaryData"]);
        errors.extend(key_errors(new, "data"));
        errors.extend(key_errors(new, "binaryData"));
        for (key, _) in new.get("data").and_then(Value::as_object).into_iter().flatten() {
            if new.get("binaryData").and_then(|b| b.get(key)).is_some() {
                let why = "duplicate of key present in binaryData";
                errors.push(FieldError::invalid(format!("data[{key}]"), json!(key), why));
            }
        }
        let size = |field: &str| {
            let map = new.get(field).and_then(Value::as_object);
            map.map_or(0, |m| m.values().filter_map(Value::as_str).map(str::len).sum::<usize>())
        };
        if size("data") + size("binaryData") > 1 << 20 {
            errors.push(FieldError::too_long("", 1 << 20));
        }
        errors
    },
    ..PLAIN
};

/// What `immutable: true` of ConfigMaps and Secrets forbids.
fn frozen(new: &Value, old: Option<&Value>, fields: &[&str]) -> Vec<FieldError> {
    let Some(old) = old.filter(|o| o.get("immutable") == Some(&Value::Bool(true))) else {
        return Vec::new();
    };
    let mut errors = Vec::new();
    let why = "field is immutable when `immutable` is set";
    if new.get("immutable") != Some(&Value::Bool(true)) {
        errors.push(FieldError::forbidden("immutable", why));
    }
    for field in fields {
        if new.get(*field) != old.get(*field) {
            errors.push(FieldError::forbidden(*field, why));
        }
    }
    errors
}

fn key_errors(object: &Value, field: &str) -> Vec<FieldError> {
    let keys = object
        .get(field)
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(|m| m.keys());
    let mut errors = Vec::new();
    for key in keys {
        for problem in api::names::config_map_key_errors(key) {
            errors.push(FieldError::invalid(
                format!("{field}[{key}]"),
                Value::String(key.clone()),
                problem,
            ));
        }
    }
    errors
}

pub static SIGNING_REQUEST: Strategy = Strategy {
    prepare_update: |new, old| {
        if let Some(spec) = old.get("spec") {
            new["spec"] = spec.clone();
        }
    },
    ..DEFAULT
};
