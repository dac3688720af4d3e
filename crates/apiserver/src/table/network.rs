//! Columns of Services, their endpoints, ingresses and network policies.

use serde_json::{Value, json};

use super::BuiltinColumn;
use super::cells::{AGE, NAME, labels, list, or, selector, text};

const SERVICES: &[BuiltinColumn] = &[
    NAME,
    ("Type", "string", 0, |s| json!(text(s, "/spec/type"))),
    ("Cluster-IP", "string", 0, |s| or(s, "/spec/clusterIPs/0", "<none>")),
    ("External-IP", "string", 0, external_ip),
    ("Port(s)", "string", 0, service_ports),
    AGE,
    ("Selector", "string", 1, |s| labels(s, "/spec/selector")),
];

const ENDPOINTS: &[BuiltinColumn] = &[NAME, ("Endpoints", "string", 0, endpoints), AGE];

const ENDPOINT_SLICES: &[BuiltinColumn] = &[
    NAME,
    ("AddressType", "string", 0, |s| json!(text(s, "/addressType"))),
    ("Ports", "string", 0, slice_ports),
    ("Endpoints", "string", 0, slice_endpoints),
    AGE,
];

const INGRESSES: &[BuiltinColumn] = &[
    NAME,
    ("Class", "string", 0, |i| or(i, "/spec/ingressClassName", "<none>")),
    ("Hosts", "string", 0, hosts),
    ("Address", "string", 0, |i| json!(balancer_addresses(i).join(","))),
    ("Ports", "string", 0, |i| {
        json!(if list(i, "/spec/tls").count() > 0 {
            "80, 443"
        } else {
            "80"
        })
    }),
    AGE,
];

const INGRESS_CLASSES: &[BuiltinColumn] = &[
    ("Name", "string", 0, |c| {
        super::cluster::name_or_default(c, "ingressclass.kubernetes.io/is-default-class")
    }),
    ("Controller", "string", 0, |c| json!(text(c, "/spec/controller"))),
    ("Parameters", "string", 0, parameters),
    AGE,
];

const NETWORK_POLICIES: &[BuiltinColumn] = &[
    NAME,
    ("Pod-Selector", "string", 0, |p| {
        selector(p, "/spec/podSelector", "<none>")
    }),
    AGE,
];

const SERVICE_CIDRS: &[BuiltinColumn] = &[
    NAME,
    ("CIDRs", "string", 0, |s| {
        let all: Vec<&str> = list(s, "/spec/cidrs").filter_map(Value::as_str).collect();
        json!(all.join(","))
    }),
    AGE,
];

const IP_ADDRESSES: &[BuiltinColumn] = &[
    NAME,
    ("ParentRef", "string", 0, |a| {
        let part = |field: &str| text(a, &format!("/spec/parentRef/{field}"));
        let group = part("group");
        let resource = if group.is_empty() {
            part("resource").to_owned()
        } else {
            format!("{}.{group}", part("resource"))
        };
        let parts = [resource.as_str(), part("namespace"), part("name")];
        json!(
            parts
                .into_iter()
                .filter(|p| !p.is_empty())
                .collect::<Vec<_>>()
                .join("/")
        )
    }),
];

pub fn columns(group: &str, plural: &str) -> Option<&'static [BuiltinColumn]> {
    match (group, plural) {
        ("", "services") => Some(SERVICES),
        ("", "endpoints") => Some(ENDPOINTS),
        ("discovery.k8s.io", "endpointslices") => Some(ENDPOINT_SLICES),
        ("networking.k8s.io", "ingresses") => Some(INGRESSES),
        ("networking.k8s.io", "ingressclasses") => Some(INGRESS_CLASSES),
        ("networking.k8s.io", "networkpolicies") => Some(NETWORK_POLICIES),
        ("networking.k8s.io", "servicecidrs") => Some(SERVICE_CIDRS),
        ("networking.k8s.io", "ipaddresses") => Some(IP_ADDRESSES),
        _ => None,
    }
}

/// Addresses that a load balancer gave, sorted.
fn balancer_addresses(tree: &Value) -> Vec<String> {
    let address = |i: &Value| match text(i, "/ip") {
        "" => text(i, "/hostname").to_owned(),
        ip => ip.to_owned(),
    };
    let mut all: Vec<String> = list(tree, "/status/loadBalancer/ingress")
        .map(address)
        .filter(|a| !a.is_empty())
        .collect();
    all.sort();
    all.dedup();
    all
}

fn external_ip(service: &Value) -> Value {
    let external: Vec<String> = list(service, "/spec/externalIPs")
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let joined = |all: Vec<String>, none: &str| json!(if all.is_empty() { none.to_owned() } else { all.join(",") });
    match text(service, "/spec/type") {
        "ClusterIP" | "NodePort" => joined(external, "<none>"),
        "LoadBalancer" => {
            let mut all = balancer_addresses(service);
            all.extend(external);
            joined(all, "<pending>")
        }
        "ExternalName" => json!(text(service, "/spec/externalName")),
        _ => json!("<unknown>"),
    }
}

fn service_ports(service: &Value) -> Value {
    let port = |p: &Value| {
        let node = p["nodePort"].as_i64().filter(|n| *n > 0).map(|n| format!(":{n}"));
        format!("{}{}/{}", p["port"], node.unwrap_or_default(), text(p, "/protocol"))
    };
    let ports: Vec<String> = list(service, "/spec/ports").map(port).collect();
    json!(if ports.is_empty() {
        "<none>".into()
    } else {
        ports.join(",")
    })
}

/// The first three, and how many more there are.
fn clipped(all: &[String], none: &str) -> Value {
    json!(match all.len() {
        0 => none.to_owned(),
        n if n > 3 => format!("{} + {} more...", all[..3].join(","), n - 3),
        _ => all.join(","),
    })
}

fn endpoints(endpoints: &Value) -> Value {
    let mut all = Vec::new();
    for subset in list(endpoints, "/subsets") {
        if list(subset, "/ports").count() == 0 {
            all.extend(list(subset, "/addresses").map(|a| text(a, "/ip").to_owned()));
        }
        for port in list(subset, "/ports") {
            for address in list(subset, "/addresses") {
                let ip = text(address, "/ip");
                let host = if ip.contains(':') {
                    format!("[{ip}]")
                } else {
                    ip.to_owned()
                };
                all.push(format!("{host}:{}", port["port"]));
            }
        }
    }
    clipped(&all, "<none>")
}

fn slice_ports(slice: &Value) -> Value {
    let port = |p: &Value| match p["port"].as_i64() {
        Some(n) => n.to_string(),
        None => "*".to_owned(),
    };
    let all: Vec<String> = list(slice, "/ports").map(port).collect();
    clipped(&all, "<unset>")
}

fn slice_endpoints(slice: &Value) -> Value {
    let addresses = list(slice, "/endpoints").flat_map(|e| list(e, "/addresses"));
    let all: Vec<String> = addresses.filter_map(Value::as_str).map(str::to_owned).collect();
    clipped(&all, "<unset>")
}

fn hosts(ingress: &Value) -> Value {
    let rules = list(ingress, "/spec/rules").count();
    let all: Vec<&str> = list(ingress, "/spec/rules")
        .map(|r| text(r, "/host"))
        .filter(|h| !h.is_empty())
        .collect();
    json!(match all.len() {
        0 => "*".to_owned(),
        n if n > 3 => format!("{} + {} more...", all[..3].join(","), rules - 3),
        _ => all.join(","),
    })
}

fn parameters(class: &Value) -> Value {
    let part = |field: &str| text(class, &format!("/spec/parameters/{field}"));
    json!(match (part("kind"), part("apiGroup"), part("name")) {
        ("", _, _) => "<none>".to_owned(),
        (kind, "", name) => format!("{kind}/{name}"),
        (kind, group, name) => format!("{kind}.{group}/{name}"),
    })
}
