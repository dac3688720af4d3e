//! The strategy of Services. Addresses and ports are given out by the allocators in `registry::allocator`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::strategy::{DEFAULT, Strategy, text};

pub static SERVICE: Strategy = Strategy {
    create_on_update: true,
    prepare_create: |service, _| {
        service["status"] = json!({ "loadBalancer": {} });
        if kind(service) == "ExternalName" {
            drop_internal_policy(service);
        }
    },
    prepare_update: drop_dependent,
    ..DEFAULT
};

fn kind(service: &Value) -> &str {
    text(service, &["spec", "type"]).unwrap_or("ClusterIP")
}

fn has_node_ports(service: &Value) -> bool {
    matches!(kind(service), "NodePort" | "LoadBalancer")
}

/// Whether traffic from outside the cluster comes in by this Service.
pub fn externally_accessible(service: &Value) -> bool {
    let addresses = service.pointer("/spec/externalIPs").and_then(Value::as_array);
    has_node_ports(service) || (kind(service) == "ClusterIP" && addresses.is_some_and(|a| !a.is_empty()))
}

/// Whether load balancers ask a port of each node if it has endpoints.
pub fn needs_health_check(service: &Value) -> bool {
    kind(service) == "LoadBalancer" && text(service, &["spec", "externalTrafficPolicy"]) == Some("Local")
}

pub fn is_headless(service: &Value) -> bool {
    service.pointer("/spec/clusterIPs") == Some(&json!(["None"]))
}

fn node_ports(service: &Value) -> BTreeSet<i64> {
    let ports = service.pointer("/spec/ports").and_then(Value::as_array);
    let numbers = ports.into_iter().flatten().filter_map(|p| p.get("nodePort")?.as_i64());
    numbers.filter(|n| *n != 0).collect()
}

/// There is no traffic to an external name.
fn drop_internal_policy(service: &mut Value) {
    let spec = service.get_mut("spec").and_then(Value::as_object_mut);
    spec.map(|spec| spec.remove("internalTrafficPolicy"));
}

/// A change of type takes with it the fields that the new type does not have, if the writer left them as they were.
fn drop_dependent(new: &mut Value, old: &Value, _: &str) {
    let get = |tree: &Value, field: &str| tree.get("spec").and_then(|s| s.get(field)).cloned();
    let same = |new: &Value, field: &str| get(new, field) == get(old, field);
    let mut gone: Vec<&str> = Vec::new();
    let external = |service: &Value| kind(service) == "ExternalName";
    if !external(old) && external(new) {
        if same(new, "clusterIP") && same(new, "clusterIPs") {
            gone.extend(["clusterIP", "clusterIPs"]);
        }
        gone.extend(["ipFamilies", "ipFamilyPolicy"].iter().filter(|f| same(new, f)));
    }
    let balancer = |service: &Value| kind(service) == "LoadBalancer";
    if needs_health_check(old) && !needs_health_check(new) && same(new, "healthCheckNodePort") {
        gone.push("healthCheckNodePort");
    }
    if balancer(old) && !balancer(new) {
        let fields = ["allocateLoadBalancerNodePorts", "loadBalancerClass"];
        gone.extend(fields.iter().filter(|f| same(new, f)));
    }
    if externally_accessible(old) && !externally_accessible(new) && same(new, "externalTrafficPolicy") {
        gone.push("externalTrafficPolicy");
    }
    let drop_ports = has_node_ports(old) && !has_node_ports(new) && node_ports(old).is_superset(&node_ports(new));
    if balancer(old) && !balancer(new) && new.get("status").is_some() {
        new["status"]["loadBalancer"] = json!({});
    }
    if external(new) {
        drop_internal_policy(new);
    }
    let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    for field in gone {
        spec.remove(field);
    }
    if drop_ports {
        let ports = spec.get_mut("ports").and_then(Value::as_array_mut);
        for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
            port.remove("nodePort");
        }
    }
}
