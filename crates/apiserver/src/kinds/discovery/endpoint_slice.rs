//! EndpointSlice.

use std::collections::HashSet;
use std::net::IpAddr;

use api::field::FieldError;
use serde_json::{Value, json};

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, list_at, text_at};
use crate::kinds::core::endpoints::{PROTOCOLS, clipped, endpoint_ip};
use crate::kinds::rules::{dns_label, dns_subdomain, immutable, ip, labels, one_of, problems, qualified_name};
use crate::kinds::warnings::{address, field, items, managed_by};
use crate::kinds::{Again, Asked, Check, Cursor, Errors, Generation, Kind};

pub(in crate::kinds) const KIND: Kind = Kind {
    generation: Generation::WithLabels,
    counts_sent: true,
    disabled: &[&["endpoints", "*", "deprecatedTopology"]],
    metadata: Asked::on_update(Again::WHOLE),
    warn: |told, new, old| warn(told, new, old.is_some()),
    columns: COLUMNS,
    ..Kind::plain("discovery.k8s.io", "endpointslices", validate)
};

fn warn(told: &mut Vec<String>, slice: &Value, update: bool) {
    if !update && field(slice, "addressType") == "FQDN" {
        told.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
    }
    let controllers = [
        "endpointslice-controller.k8s.io",
        "endpointslicemirroring-controller.k8s.io",
    ];
    if managed_by(slice, "endpointslice.kubernetes.io/managed-by", &controllers) {
        return;
    }
    for (i, endpoint) in items(slice.get("endpoints")).iter().enumerate() {
        for (j, ip) in items(endpoint.get("addresses")).iter().enumerate() {
            let at = || format!("endpoints[{i}].addresses[{j}]");
            address(told, ip.as_str().unwrap_or_default(), at);
        }
    }
}

const SLICE_ENDPOINTS: usize = 1000;

const SLICE_PORTS: usize = 20_000;

const SLICE_ADDRESSES: usize = 100;

const ZONE_HINTS: usize = 8;

const NODE_HINTS: usize = 8;

const TOPOLOGY_LABELS: usize = 16;

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    let kind = root.get("addressType");
    one_of(&mut errors, &kind, &["FQDN", "IPv4", "IPv6"]);
    let ports = root.get("ports");
    if ports.list().len() > SLICE_PORTS {
        errors.push(FieldError::too_many(&ports.path, ports.list().len(), SLICE_PORTS));
    } else {
        let mut names = HashSet::new();
        for port in ports.items() {
            let name = port.get("name");
            if !name.text().is_empty() {
                dns_label(&mut errors, &name);
            }
            if !names.insert(name.text()) {
                errors.push(name.duplicate(name.text()));
            }
            one_of(&mut errors, &port.get("protocol"), &PROTOCOLS);
            let protocol = port.get("appProtocol");
            if protocol.is_some() {
                qualified_name(&mut errors, &protocol);
            }
        }
    }
    let endpoints = root.get("endpoints");
    let old = check.before();
    if old.as_ref().is_none_or(|o| o.get("endpoints").value != endpoints.value) {
        all_endpoints(&mut errors, &endpoints, kind.text());
    }
    if let Some(old) = old {
        immutable(&mut errors, &kind, &old.get("addressType"));
    }
    errors
}

fn all_endpoints(errors: &mut Errors, list: &Cursor, kind: &str) {
    if list.list().len() > SLICE_ENDPOINTS {
        errors.push(FieldError::too_many(&list.path, list.list().len(), SLICE_ENDPOINTS));
        return;
    }
    for endpoint in list.items() {
        let addresses = endpoint.get("addresses");
        let count = addresses.list().len();
        if count == 0 {
            errors.push(addresses.required("must contain at least 1 address"));
        } else if count > SLICE_ADDRESSES {
            errors.push(FieldError::too_many(&addresses.path, count, SLICE_ADDRESSES));
        }
        for address in addresses.items() {
            match kind {
                "IPv4" | "IPv6" => of_family(errors, &addresses, &address, kind == "IPv6"),
                "FQDN" => fqdn(errors, &address),
                _ => {}
            }
        }
        let node = endpoint.get("nodeName");
        if node.is_some() {
            dns_subdomain(errors, &node);
        }
        let topology = endpoint.get("deprecatedTopology");
        labels(errors, &topology);
        if topology.map().is_some_and(|t| t.len() > TOPOLOGY_LABELS) {
            let count = topology.map().map_or(0, serde_json::Map::len);
            errors.push(FieldError::too_many(&topology.path, count, TOPOLOGY_LABELS));
        }
        let name = endpoint.get("hostname");
        if name.is_some() {
            dns_label(errors, &name);
        }
        for (field, most) in [("forZones", ZONE_HINTS), ("forNodes", NODE_HINTS)] {
            let hints = endpoint.at(&["hints", field]);
            if hints.list().len() > most {
                errors.push(FieldError::too_many(&hints.path, hints.list().len(), most));
                break;
            }
            let mut seen = HashSet::new();
            for hint in hints.items() {
                let name = hint.get("name");
                if !seen.insert(name.text()) {
                    errors.push(name.duplicate(name.text()));
                }
                if field == "forZones" {
                    problems(errors, &name, api::names::label_value_errors(name.text()));
                } else {
                    dns_subdomain(errors, &name);
                }
            }
        }
    }
}

/// An address of the slice's family; the newer of the two families must be written in its shortest form.
fn of_family(errors: &mut Errors, list: &Cursor, address: &Cursor, six: bool) {
    let text = address.text();
    let count = errors.len();
    ip(errors, address, &[]);
    let Ok(parsed) = text.parse::<IpAddr>() else { return };
    if six && errors.len() == count && parsed.to_string() != text {
        errors.push(address.invalid(format!("must be in canonical form ({:?})", parsed.to_string())));
    }
    if errors.len() > count {
        return;
    }
    if parsed.is_ipv6() != six {
        let family = if six { "IPv6" } else { "IPv4" };
        errors.push(list.wrong(text, format!("must be an {family} address")));
    }
    endpoint_ip(errors, address);
}

fn fqdn(errors: &mut Errors, at: &Cursor) {
    let text = at.text().strip_suffix('.').unwrap_or(at.text());
    if text.is_empty() {
        errors.push(at.required(""));
        return;
    }
    let found = api::names::dns1123_subdomain_errors(text);
    if found.is_empty() && !text.contains('.') {
        errors.push(at.wrong(text, "should be a domain with at least two segments separated by dots"));
    }
    errors.extend(found.into_iter().map(|p| at.wrong(text, p)));
}

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("AddressType", "string", 0, |s| json!(text_at(s, "/addressType"))),
    ("Ports", "string", 0, slice_ports),
    ("Endpoints", "string", 0, slice_endpoints),
    AGE,
];

fn slice_ports(slice: &Value) -> Value {
    let port = |p: &Value| match p["port"].as_i64() {
        Some(n) => n.to_string(),
        None => "*".to_owned(),
    };
    let all: Vec<String> = list_at(slice, "/ports").map(port).collect();
    clipped(&all, "<unset>")
}

fn slice_endpoints(slice: &Value) -> Value {
    let addresses = list_at(slice, "/endpoints").flat_map(|e| list_at(e, "/addresses"));
    let all: Vec<String> = addresses.filter_map(Value::as_str).map(str::to_owned).collect();
    clipped(&all, "<unset>")
}
