//! Service. `allocator` gives out its addresses and ports.

pub mod validation;

use std::collections::BTreeSet;

use api::names;
use serde_json::{Value, json};

use crate::kinds::Kind;
use crate::kinds::columns::{AGE, BuiltinColumn, NAME, label_pairs, list_at, or, text_at};
use crate::kinds::warnings::{address, field, has, items, subnet};
use crate::tree::text;

pub(in crate::kinds) const KIND: Kind = Kind {
    create_on_update: true,
    prepare_create: |service, _| {
        service["status"] = json!({ "loadBalancer": {} });
        if kind(service) == "ExternalName" {
            drop_internal_policy(service);
        }
    },
    prepare_update: drop_dependent,
    allocates: true,
    name: names::dns1123_label_errors,
    warn: |told, new, _| warn(told, new),
    place: Some("services/specs"),
    returns_deleted: true,
    columns: COLUMNS,
    ..Kind::new("", "services", validation::validate)
};

fn warn(told: &mut Vec<String>, service: &Value) {
    let spec = &service["spec"];
    let (kind, cluster_ip) = (field(spec, "type"), field(spec, "clusterIP"));
    let outside = kind == "ExternalName";
    let headless = kind == "ClusterIP" && cluster_ip == "None";
    let hints = "service.kubernetes.io/topology-aware-hints";
    if has(&service["metadata"]["annotations"], hints) {
        told.push(format!(
            "annotation {hints} is deprecated, please use service.kubernetes.io/topology-mode instead"
        ));
    }
    let texts = |key: &str| items(spec.get(key)).iter().enumerate();
    if !outside && !cluster_ip.is_empty() && cluster_ip != "None" {
        for (i, ip) in texts("clusterIPs") {
            address(told, ip.as_str().unwrap_or_default(), || {
                format!("spec.clusterIPs[{i}]")
            });
        }
    }
    let external = !items(spec.get("externalIPs")).is_empty();
    let ignored = [
        ("loadBalancerIP", !field(spec, "loadBalancerIP").is_empty()),
        ("externalIPs", external),
        ("SessionAffinity", field(spec, "sessionAffinity") != "None"),
    ];
    for (what, _) in ignored.iter().filter(|(_, given)| headless && *given) {
        told.push(format!("spec.{what} is ignored for headless services"));
    }
    for (i, ip) in texts("externalIPs") {
        address(told, ip.as_str().unwrap_or_default(), || {
            format!("spec.externalIPs[{i}]")
        });
    }
    if external && !headless && !outside {
        told.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned());
    }
    address(told, field(spec, "loadBalancerIP"), || "spec.loadBalancerIP".to_owned());
    for (i, range) in texts("loadBalancerSourceRanges") {
        let at = || format!("spec.loadBalancerSourceRanges[{i}]");
        subnet(told, range.as_str().unwrap_or_default(), at);
    }
    if outside && external {
        told.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !outside && !field(spec, "externalName").is_empty() {
        told.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if field(spec, "trafficDistribution") == "PreferClose" {
        told.push("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".to_owned());
    }
}

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Type", "string", 0, |s| json!(text_at(s, "/spec/type"))),
    ("Cluster-IP", "string", 0, |s| or(s, "/spec/clusterIPs/0", "<none>")),
    ("External-IP", "string", 0, external_ip),
    ("Port(s)", "string", 0, service_ports),
    AGE,
    ("Selector", "string", 1, |s| label_pairs(s, "/spec/selector")),
];

/// Addresses that a load balancer gave, sorted.
pub fn balancer_addresses(tree: &Value) -> Vec<String> {
    let address = |i: &Value| match text_at(i, "/ip") {
        "" => text_at(i, "/hostname").to_owned(),
        ip => ip.to_owned(),
    };
    let mut all: Vec<String> = list_at(tree, "/status/loadBalancer/ingress")
        .map(address)
        .filter(|a| !a.is_empty())
        .collect();
    all.sort();
    all.dedup();
    all
}

fn external_ip(service: &Value) -> Value {
    let external: Vec<String> = list_at(service, "/spec/externalIPs")
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let joined = |all: Vec<String>, none: &str| json!(if all.is_empty() { none.to_owned() } else { all.join(",") });
    match text_at(service, "/spec/type") {
        "ClusterIP" | "NodePort" => joined(external, "<none>"),
        "LoadBalancer" => {
            let mut all = balancer_addresses(service);
            all.extend(external);
            joined(all, "<pending>")
        }
        "ExternalName" => json!(text_at(service, "/spec/externalName")),
        _ => json!("<unknown>"),
    }
}

fn service_ports(service: &Value) -> Value {
    let port = |p: &Value| {
        let node = p["nodePort"].as_i64().filter(|n| *n > 0).map(|n| format!(":{n}"));
        format!("{}{}/{}", p["port"], node.unwrap_or_default(), text_at(p, "/protocol"))
    };
    let ports: Vec<String> = list_at(service, "/spec/ports").map(port).collect();
    json!(if ports.is_empty() {
        "<none>".into()
    } else {
        ports.join(",")
    })
}

fn kind(service: &Value) -> &str {
    text(service, &["spec", "type"]).unwrap_or("ClusterIP")
}

/// Whether each node leads a port of its own to this Service.
pub fn has_node_ports(service: &Value) -> bool {
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

/// Whether a Service says that it has no cluster IP.
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
