//! Strategies of the kinds that carry configuration and the cluster's own state.

use serde_json::{Value, json};

use crate::strategy::{DEFAULT, Generation, PLAIN, Strategy, keep, text};

/// Kinds that a PUT may create.
pub static CREATABLE: Strategy = Strategy {
    create_on_update: true,
    ..PLAIN
};

pub static NAMESPACE: Strategy = Strategy {
    read: |object| {
        let name = text(object, &["metadata", "name"]).unwrap_or_default().to_owned();
        if !name.is_empty() {
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = json!(name);
        }
    },
    prepare_create: |object, _| {
        object["status"] = json!({ "phase": "Active" });
        // the namespace controller removes what is in the namespace before this finalizer goes
        let finalizers = &mut object["spec"]["finalizers"];
        let list = finalizers.as_array().cloned().unwrap_or_default();
        if !list.iter().any(|f| f == "kubernetes") {
            let mut list = list;
            list.push(json!("kubernetes"));
            *finalizers = Value::Array(list);
        }
    },
    absent: |_| "",
    ..DEFAULT
};

pub static NODE: Strategy = Strategy {
    create_on_update: false,
    absent: |path| if path == "spec.unschedulable" { "false" } else { "" },
    // a node reports its status when it registers
    has_status: true,
    read: |object| {
        // the one network of old is the first of the many of today
        let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
            return;
        };
        let one = spec
            .get("podCIDR")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let first = spec.get("podCIDRs").and_then(|all| all.get(0)).and_then(Value::as_str);
        if !one.is_empty() && first != Some(one.as_str()) {
            spec.insert("podCIDRs".into(), json!([one]));
        } else if one.is_empty()
            && let Some(first) = first.map(str::to_owned)
        {
            spec.insert("podCIDR".into(), json!(first));
        }
    },
    ..DEFAULT
};

/// What this server serves itself is there as soon as it is named.
pub static API_SERVICE: Strategy = Strategy {
    unconditional_update: false,
    prepare_create: |object, now| {
        let local = object.pointer("/spec/service").is_none_or(Value::is_null);
        keep(object, &json!({}), "status");
        if local {
            let condition = json!({
                "type": "Available", "status": "True", "lastTransitionTime": now,
                "reason": "Local", "message": "Local APIServices are always available",
            });
            object["status"] = json!({ "conditions": [condition] });
        }
    },
    ..DEFAULT
};

/// Volumes note when their phase changed.
pub static VOLUME: Strategy = Strategy {
    prepare_create: |object, now| {
        object["status"] = json!({ "phase": "Pending", "lastPhaseTransitionTime": now });
    },
    prepare_update: |new, old, now| {
        const SINCE: &str = "lastPhaseTransitionTime";
        let since = |volume: &Value| text(volume, &["status", SINCE]).map(str::to_owned);
        let phase = |volume: &Value| text(volume, &["status", "phase"]).unwrap_or_default().to_owned();
        let (is, was) = (since(new), since(old));
        let kept = match phase(new) == phase(old) {
            true if is.is_none() => was,
            false if is.is_none() || is == was => Some(now.to_owned()),
            _ => return,
        };
        if let Some(time) = kept {
            new["status"][SINCE] = json!(time);
        }
    },
    ..DEFAULT
};

pub static EVENT: Strategy = Strategy {
    create_on_update: true,
    selected: |stored, path| {
        if path == "source" {
            let component = text(stored, &["source", "component"]).filter(|c| !c.is_empty());
            return component.or_else(|| text(stored, &["reportingComponent"]));
        }
        None
    },
    ..PLAIN
};

/// Taints of devices say since when they are.
pub static RESOURCE_SLICE: Strategy = Strategy {
    generation: Generation::Counted,
    prepare_create: date_taints,
    prepare_update: |new, _, now| date_taints(new, now),
    ..PLAIN
};

fn date_taints(slice: &mut Value, now: &str) {
    let devices = slice.pointer_mut("/spec/devices").and_then(Value::as_array_mut);
    for device in devices.into_iter().flatten() {
        let taints = device.get_mut("taints").and_then(Value::as_array_mut);
        for taint in taints.into_iter().flatten().filter_map(Value::as_object_mut) {
            if taint.get("timeAdded").is_none_or(Value::is_null) {
                taint.insert("timeAdded".into(), json!(now));
            }
        }
    }
}

/// Of the secrets that it names an account keeps the names.
pub static SERVICE_ACCOUNT: Strategy = Strategy {
    prepare_create: |object, _| name_secrets(object),
    prepare_update: |new, _, _| name_secrets(new),
    ..PLAIN
};

fn name_secrets(account: &mut Value) {
    let secrets = account.get_mut("secrets").and_then(Value::as_array_mut);
    for secret in secrets.into_iter().flatten().filter_map(Value::as_object_mut) {
        secret.retain(|key, _| key == "name");
    }
}

pub static SECRET: Strategy = Strategy {
    read: |object| {
        // stringData is written over data and never stored
        if let Some(Value::Object(plain)) = object.as_object_mut().and_then(|o| o.remove("stringData")) {
            merge_string_data(object, &plain);
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

/// Definitions remember every version that objects were ever stored in.
pub static DEFINITION: Strategy = Strategy {
    generation: Generation::Counted,
    unconditional_update: false,
    prepare_create: |object, _| {
        object["status"] = json!({ "storedVersions": [] });
        add_stored_version(object);
    },
    prepare_update: |new, _, _| add_stored_version(new),
    ..DEFAULT
};

fn add_stored_version(definition: &mut Value) {
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
    let storage = versions.into_iter().flatten().find(|v| v["storage"] == true);
    let Some(name) = storage.map(|v| v["name"].clone()) else {
        return;
    };
    if let Some(list) = definition
        .pointer_mut("/status/storedVersions")
        .and_then(Value::as_array_mut)
        && !list.contains(&name)
    {
        list.push(name);
    }
}

/// Conditions that come without times get them.
fn date_conditions(new: &mut Value, old: &Value, now: &str) {
    let before = old.pointer("/status/conditions").and_then(Value::as_array);
    let conditions = new.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        if text(condition, &["lastUpdateTime"]).is_none() {
            condition["lastUpdateTime"] = json!(now);
        }
        if text(condition, &["lastTransitionTime"]).is_none() {
            let alike = |c: &&Value| c["type"] == condition["type"] && c["status"] == condition["status"];
            let since = before.into_iter().flatten().find(alike);
            let since = since.and_then(|c| text(c, &["lastTransitionTime"])).unwrap_or(now);
            condition["lastTransitionTime"] = json!(since);
        }
    }
}

pub static SIGNING_REQUEST: Strategy = Strategy {
    prepare_update: |new, old, now| {
        keep(new, old, "spec");
        date_conditions(new, old, now);
    },
    ..DEFAULT
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_notes_when_its_phase_changed_unless_its_writer_does() {
        let volume =
            |phase: &str, since: Value| json!({ "status": { "phase": phase, "lastPhaseTransitionTime": since } });
        let since = |phase: &str, since: Value| {
            let mut new = volume(phase, since);
            (VOLUME.prepare_update)(&mut new, &volume("Pending", json!("before")), "now");
            new["status"]["lastPhaseTransitionTime"].take()
        };
        assert_eq!(since("Pending", Value::Null), "before");
        assert_eq!(since("Bound", Value::Null), "now");
        assert_eq!(since("Bound", json!("before")), "now");
        assert_eq!(since("Bound", json!("said")), "said");
    }
}
