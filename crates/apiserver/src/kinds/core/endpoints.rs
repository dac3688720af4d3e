//! Endpoints, and the rules of addresses that EndpointSlices share.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, list_at, text_at};
use crate::kinds::rules::{dns_label, dns_subdomain, ip, one_of, port_number, qualified_name};
use crate::kinds::warnings::{address, field, items, managed_by};
use crate::kinds::{Again, Asked, Check, Cursor, Errors, Kind};

pub(in crate::kinds) const KIND: Kind = Kind {
    create_on_update: true,
    metadata: Asked::on_update(Again::BOTH),
    warn: |told, new, _| warn(told, new),
    deprecation: Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
    place: Some("services/endpoints"),
    columns: COLUMNS,
    ..Kind::plain("", "endpoints", validate)
};

fn warn(told: &mut Vec<String>, endpoints: &Value) {
    let label = "endpoints.kubernetes.io/managed-by";
    if managed_by(endpoints, label, &["endpoint-controller"]) {
        return;
    }
    for (i, subset) in items(endpoints.get("subsets")).iter().enumerate() {
        for list in ["addresses", "notReadyAddresses"] {
            for (j, entry) in items(subset.get(list)).iter().enumerate() {
                address(told, field(entry, "ip"), || format!("subsets[{i}].{list}[{j}].ip"));
            }
        }
    }
}

/// The protocols of ports.
pub const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// An address that traffic may be sent to.
pub fn endpoint_ip(errors: &mut Errors, at: &Cursor) {
    let Some(address) = api::names::sloppy_ip(at.text()) else {
        errors.push(at.invalid("must be a valid IP address"));
        return;
    };
    let (local, local_multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.segments()[0] & 0xffc0 == 0xfe80, v6.segments()[0] & 0xff0f == 0xff02),
    };
    if address.is_unspecified() {
        errors.push(at.invalid(format!("may not be unspecified ({})", at.text())));
    }
    if address.is_loopback() {
        errors.push(at.invalid("may not be in the loopback range (127.0.0.0/8, ::1/128)"));
    }
    if local {
        errors.push(at.invalid("may not be in the link-local range (169.254.0.0/16, fe80::/10)"));
    }
    if local_multicast {
        errors.push(at.invalid("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"));
    }
}

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let subsets = check.root().get("subsets");
    if check
        .before()
        .is_some_and(|old| old.get("subsets").value == subsets.value)
    {
        return errors;
    }
    for subset in subsets.items() {
        let lists = [subset.get("addresses"), subset.get("notReadyAddresses")];
        if lists.iter().all(|l| l.list().is_empty()) {
            errors.push(subset.required("must specify `addresses` or `notReadyAddresses`"));
        }
        for address in lists.iter().flat_map(Cursor::items) {
            let at = address.get("ip");
            ip(&mut errors, &at, &[]);
            let name = address.get("hostname");
            if !name.text().is_empty() {
                dns_label(&mut errors, &name);
            }
            let node = address.get("nodeName");
            if node.is_some() {
                dns_subdomain(&mut errors, &node);
            }
            endpoint_ip(&mut errors, &at);
        }
        let ports = subset.get("ports");
        for port in ports.items() {
            let name = port.get("name");
            if !name.text().is_empty() {
                dns_label(&mut errors, &name);
            } else if ports.list().len() > 1 {
                errors.push(name.required(""));
            }
            port_number(&mut errors, &port.get("port"));
            one_of(&mut errors, &port.get("protocol"), &PROTOCOLS);
            let protocol = port.get("appProtocol");
            if protocol.is_some() {
                qualified_name(&mut errors, &protocol);
            }
        }
    }
    errors
}

const COLUMNS: &[BuiltinColumn] = &[NAME, ("Endpoints", "string", 0, addresses), AGE];

/// The first three, and how many more there are.
pub fn clipped(all: &[String], none: &str) -> Value {
    json!(match all.len() {
        0 => none.to_owned(),
        n if n > 3 => format!("{} + {} more...", all[..3].join(","), n - 3),
        _ => all.join(","),
    })
}

fn addresses(endpoints: &Value) -> Value {
    let mut all = Vec::new();
    for subset in list_at(endpoints, "/subsets") {
        if list_at(subset, "/ports").count() == 0 {
            all.extend(list_at(subset, "/addresses").map(|a| text_at(a, "/ip").to_owned()));
        }
        for port in list_at(subset, "/ports") {
            for address in list_at(subset, "/addresses") {
                let ip = text_at(address, "/ip");
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
