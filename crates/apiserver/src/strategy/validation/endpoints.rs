//! Rules of Endpoints and EndpointSlices.

use std::collections::HashSet;
use std::net::IpAddr;

use api::field::FieldError;

use super::Check;
use crate::strategy::validation::common::{
    Errors, dns_label, dns_subdomain, immutable, ip, labels, one_of, port_number, problems, qualified_name,
};
use crate::strategy::validation::cursor::Cursor;

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const SLICE_ENDPOINTS: usize = 1000;
const SLICE_PORTS: usize = 20_000;
const SLICE_ADDRESSES: usize = 100;
const ZONE_HINTS: usize = 8;
const NODE_HINTS: usize = 8;
const TOPOLOGY_LABELS: usize = 16;

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

pub fn endpoints(check: &Check) -> Errors {
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

pub fn slice(check: &Check) -> Errors {
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
        slice_endpoints(&mut errors, &endpoints, kind.text());
    }
    if let Some(old) = old {
        immutable(&mut errors, &kind, &old.get("addressType"));
    }
    errors
}

fn slice_endpoints(errors: &mut Errors, list: &Cursor, kind: &str) {
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
