//! The strategy of Services. Addresses and ports are given out by the allocators in `registry::allocator`.

use api::field::FieldError;
use serde_json::{Value, json};

use crate::strategy::{DEFAULT, Strategy, text};

pub static SERVICE: Strategy = Strategy {
    create_on_update: true,
    prepare_create: |service| {
        service["status"] = json!({ "loadBalancer": {} });
    },
    validate,
    ..DEFAULT
};

fn validate(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let kind = text(new, &["spec", "type"]).unwrap_or("ClusterIP");
    let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    if !types.contains(&kind) {
        errors.push(FieldError::not_supported("spec.type", json!(kind), &types));
    }
    let ports = new.pointer("/spec/ports").and_then(Value::as_array);
    let headless = text(new, &["spec", "clusterIP"]) == Some("None");
    if kind == "ExternalName" {
        if text(new, &["spec", "externalName"]).unwrap_or_default().is_empty() {
            errors.push(FieldError::required("spec.externalName", ""));
        }
    } else if ports.is_none_or(Vec::is_empty) && !headless {
        errors.push(FieldError::required("spec.ports", ""));
    }
    let many = ports.is_some_and(|p| p.len() > 1);
    let mut names = std::collections::HashSet::new();
    let mut numbers = std::collections::HashSet::new();
    for (i, port) in ports.into_iter().flatten().enumerate() {
        let at = format!("spec.ports[{i}]");
        let name = text(port, &["name"]).unwrap_or_default();
        if name.is_empty() {
            if many {
                errors.push(FieldError::required(format!("{at}.name"), ""));
            }
        } else {
            for problem in api::names::dns1123_label_errors(name) {
                errors.push(FieldError::invalid(format!("{at}.name"), json!(name), problem));
            }
            if !names.insert(name.to_owned()) {
                errors.push(FieldError::duplicate(format!("{at}.name"), json!(name)));
            }
        }
        let number = port.get("port").and_then(Value::as_i64).unwrap_or(0);
        if !(1..=65535).contains(&number) {
            let why = "must be between 1 and 65535, inclusive";
            errors.push(FieldError::invalid(format!("{at}.port"), json!(number), why));
        }
        let protocol = text(port, &["protocol"]).unwrap_or("TCP");
        if !matches!(protocol, "TCP" | "UDP" | "SCTP") {
            errors.push(FieldError::not_supported(
                format!("{at}.protocol"),
                json!(protocol),
                &["SCTP", "TCP", "UDP"],
            ));
        }
        if !numbers.insert((number, protocol.to_owned())) {
            errors.push(FieldError::duplicate(at, port.clone()));
        }
    }
    if let Some(old) = old {
        let before = text(old, &["spec", "clusterIP"]).unwrap_or_default();
        let after = text(new, &["spec", "clusterIP"]).unwrap_or_default();
        let external = [kind, text(old, &["spec", "type"]).unwrap_or_default()].contains(&"ExternalName");
        if !before.is_empty() && before != after && !external {
            let why = if after.is_empty() {
                "primary clusterIP can not be unset"
            } else {
                "may not change once set"
            };
            errors.push(FieldError::invalid("spec.clusterIPs[0]", json!([after]), why));
        }
    }
    errors
}
