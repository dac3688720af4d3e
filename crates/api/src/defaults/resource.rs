//! Defaults of dynamic resource allocation.

use serde_json::{Map, Value};

use super::{items, object, set};

pub(super) fn default(kind: &str, top: &mut Map<String, Value>) {
    match kind {
        "ResourceClaim" => {
            if let Some(spec) = object(top, "spec") {
                claim(spec);
            }
        }
        "ResourceClaimTemplate" => {
            if let Some(spec) = object(top, "spec").and_then(|template| object(template, "spec")) {
                claim(spec);
            }
        }
        _ => {}
    }
}

fn claim(spec: &mut Map<String, Value>) {
    let Some(devices) = object(spec, "devices") else { return };
    for entry in items(devices, "requests") {
        if let Some(exactly) = object(entry, "exactly") {
            request(exactly);
        }
        items(entry, "firstAvailable").for_each(request);
    }
}

/// One device where nothing is said.
fn request(request: &mut Map<String, Value>) {
    let unset = |value: Option<&Value>| value.is_none_or(|v| v.is_null() || v == "" || v == 0);
    if unset(request.get("allocationMode")) {
        request.insert("allocationMode".into(), "ExactCount".into());
    }
    if request.get("allocationMode").is_some_and(|mode| mode == "ExactCount") && unset(request.get("count")) {
        request.insert("count".into(), 1.into());
    }
    for toleration in items(request, "tolerations") {
        if unset(toleration.get("operator")) {
            toleration.remove("operator");
        }
        set(toleration, "operator", "Equal");
    }
}
