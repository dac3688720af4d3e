//! Rules of Ingresses, their classes, and NetworkPolicies.

use api::field::FieldError;
use api::names;
use serde_json::Value;

use super::Check;
use crate::strategy::validation::common::{
    Errors, cidr, dns_label, dns_subdomain, immutable, ip, label_selector, one_of_or_none, port_number, problems,
    require,
};
use crate::strategy::validation::cursor::Cursor;

const CONTROLLER: usize = 250;
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

pub fn ingress(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    if check.is_status() {
        let list = |root: &Cursor| root.get("status").get("loadBalancer").get("ingress").value.clone();
        let old = check.before().map(|o| list(&o));
        let were: Vec<&str> = old
            .as_ref()
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|i| i.get("ip")?.as_str())
            .collect();
        for point in root.at(&["status", "loadBalancer", "ingress"]).items() {
            let (address, name) = (point.get("ip"), point.get("hostname"));
            if !address.text().is_empty() {
                ip(&mut errors, &address, &were);
            }
            if !name.text().is_empty() {
                dns_subdomain(&mut errors, &name);
                no_address(&mut errors, &name);
            }
        }
        return errors;
    }
    let spec = root.get("spec");
    let (backend_of_all, rules) = (spec.get("defaultBackend"), spec.get("rules"));
    if rules.list().is_empty() && !backend_of_all.is_some() {
        errors.push(spec.wrong(Value::Null, "either `defaultBackend` or `rules` must be specified"));
    }
    if backend_of_all.is_some() {
        backend(&mut errors, &backend_of_all);
    }
    for rule in rules.items() {
        let host = rule.get("host");
        if !host.text().is_empty() {
            no_address(&mut errors, &host);
            host_name(&mut errors, &host);
        }
        let http = rule.get("http");
        if http.is_some() {
            let paths = http.get("paths");
            if paths.list().is_empty() {
                errors.push(paths.required(""));
            }
            for path in paths.items() {
                http_path(&mut errors, &path);
            }
        }
    }
    for tls in spec.get("tls").items() {
        for host in tls.get("hosts").items() {
            host_name(&mut errors, &host);
        }
        let secret = tls.get("secretName");
        if !secret.text().is_empty() {
            dns_subdomain(&mut errors, &secret);
        }
    }
    let class = spec.get("ingressClassName");
    if class.is_some() {
        dns_subdomain(&mut errors, &class);
    }
    let annotation = root.at(&["metadata", "annotations", CLASS_ANNOTATION]);
    if check.old.is_none() && annotation.is_some() && class.is_some() && annotation.text() != class.text() {
        let at = annotation.named(format!("annotations.{CLASS_ANNOTATION}"));
        errors.push(at.invalid("must match `ingressClassName` when both are specified"));
    }
    errors
}

fn no_address(errors: &mut Errors, at: &Cursor) {
    if at.text().parse::<std::net::IpAddr>().is_ok() {
        errors.push(at.invalid("must be a DNS name, not an IP address"));
    }
}

/// A name, or all names below one.
fn host_name(errors: &mut Errors, at: &Cursor) {
    if at.text().contains('*') {
        problems(errors, at, names::wildcard_subdomain_errors(at.text()));
    } else {
        dns_subdomain(errors, at);
    }
}

fn http_path(errors: &mut Errors, path: &Cursor) {
    let (kind, text) = (path.get("pathType"), path.get("path"));
    if !kind.is_some() {
        errors.push(kind.required("pathType must be specified"));
        return;
    }
    let absolute = text.text().starts_with('/');
    match kind.text() {
        "Exact" | "Prefix" => {
            if !absolute {
                errors.push(text.wrong(text.text(), "must be an absolute path"));
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"]
                .iter()
                .filter(|p| text.text().contains(**p))
            {
                errors.push(text.invalid(format!("must not contain '{part}'")));
            }
            for end in ["/..", "/."].iter().filter(|e| text.text().ends_with(**e)) {
                errors.push(text.invalid(format!("cannot end with '{end}'")));
            }
        }
        "ImplementationSpecific" if !absolute && !text.text().is_empty() => {
            errors.push(text.invalid("must be an absolute path"));
        }
        "ImplementationSpecific" => {}
        _ => errors.push(kind.not_supported(&["Exact", "ImplementationSpecific", "Prefix"])),
    }
    backend(errors, &path.get("backend"));
}

fn backend(errors: &mut Errors, at: &Cursor) {
    let (resource, service) = (at.get("resource"), at.get("service"));
    match (resource.is_some(), service.is_some()) {
        (true, true) => errors.push(at.wrong("", "cannot set both resource and service backends")),
        (true, false) => {
            let group = resource.get("apiGroup");
            if group.is_some() {
                dns_subdomain(errors, &group);
            }
            for field in ["kind", "name"] {
                let part = resource.get(field);
                if part.text().is_empty() {
                    errors.push(part.required(""));
                } else {
                    problems(errors, &part, names::path_segment_errors(part.text()));
                }
            }
        }
        (false, true) => {
            let name = service.get("name");
            if require(errors, &name) {
                dns_label(errors, &name);
            }
            let (port_name, number) = (service.at(&["port", "name"]), service.at(&["port", "number"]));
            match (!port_name.text().is_empty(), number.int().unwrap_or(0) != 0) {
                (true, true) => errors.push(at.wrong("", "cannot set both port name & port number")),
                (true, false) => problems(errors, &port_name, names::port_name_errors(port_name.text())),
                (false, true) => port_number(errors, &number),
                (false, false) => errors.push(at.required("port name or number is required")),
            }
        }
        (false, false) => errors.push(at.wrong("", "resource or service backend is required")),
    }
}

pub fn ingress_class(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let spec = check.root().get("spec");
    let controller = spec.get("controller");
    if let Some(old) = check.before() {
        immutable(&mut errors, &controller, &old.at(&["spec", "controller"]));
    }
    if controller.text().len() > CONTROLLER {
        errors.push(FieldError::too_long(&controller.path, CONTROLLER));
    }
    match controller.text().split_once('/') {
        None if controller.text().is_empty() => errors.push(controller.required("")),
        Some((host, path)) if !host.is_empty() && !path.is_empty() => {
            let found = names::dns1123_subdomain_errors(host);
            errors.extend(found.into_iter().map(|p| controller.wrong(host, p)));
        }
        _ => errors.push(controller.invalid("must be a domain-prefixed path (such as \"acme.io/foo\")")),
    }
    let Some(parameters) = spec.get("parameters").present() else {
        return errors;
    };
    let group = parameters.get("apiGroup");
    if group.is_some() {
        dns_subdomain(&mut errors, &group);
    }
    for field in ["kind", "name"] {
        let part = parameters.get(field);
        if require(&mut errors, &part) {
            problems(&mut errors, &part, names::path_segment_errors(part.text()));
        }
    }
    let (scope, namespace) = (parameters.get("scope"), parameters.get("namespace"));
    match scope.text() {
        "" => errors.push(scope.required("")),
        "Namespace" if namespace.text().is_empty() => {
            errors.push(namespace.required("`parameters.scope` is set to 'Namespace'"));
        }
        "Namespace" => dns_label(&mut errors, &namespace),
        "Cluster" if namespace.is_some() => {
            errors.push(namespace.forbidden("`parameters.scope` is set to 'Cluster'"));
        }
        "Cluster" => {}
        _ => errors.push(scope.not_supported(&["Cluster", "Namespace"])),
    }
    errors
}

pub fn network_policy(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let spec = check.root().get("spec");
    let old = check.before().map(|o| o.get("spec"));
    let were = old.as_ref().map(blocks).unwrap_or_default();
    label_selector(&mut errors, &spec.get("podSelector"));
    for (list, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.get(list).items() {
            for port in rule.get("ports").items() {
                policy_port(&mut errors, &port);
            }
            for peer in rule.get(peers).items() {
                policy_peer(&mut errors, &peer, &were);
            }
        }
    }
    let types = spec.get("policyTypes");
    if types.list().len() > 2 {
        errors.push(types.invalid("may not specify more than two policyTypes"));
        return errors;
    }
    for kind in types.items() {
        one_of_or_none(&mut errors, &kind, &["Ingress", "Egress"]);
    }
    errors
}

/// Every network that a policy names.
fn blocks<'a>(spec: &Cursor<'a>) -> Vec<&'a str> {
    let mut out = Vec::new();
    for (list, peers) in [("ingress", "from"), ("egress", "to")] {
        for peer in spec.get(list).items().flat_map(|rule| rule.get(peers).items()) {
            let block = peer.get("ipBlock");
            out.push(block.get("cidr").text());
            out.extend(block.get("except").items().map(|e| e.text()));
        }
    }
    out
}

fn policy_port(errors: &mut Errors, port: &Cursor) {
    let protocol = port.get("protocol");
    one_of_or_none(errors, &protocol, &["TCP", "UDP", "SCTP"]);
    let (number, end) = (port.get("port"), port.get("endPort"));
    match number.value {
        Value::Null => {
            if end.is_some() {
                errors.push(end.invalid("may not be specified when `port` is not specified"));
            }
        }
        Value::String(name) => {
            if end.is_some() {
                errors.push(end.invalid("may not be specified when `port` is non-numeric"));
            }
            problems(errors, &number, names::port_name_errors(name));
        }
        _ => {
            port_number(errors, &number);
            if end.is_some() {
                if end.int() < number.int() {
                    errors.push(end.wrong(number.value.clone(), "must be greater than or equal to `port`"));
                }
                port_number(errors, &end);
            }
        }
    }
}

fn policy_peer(errors: &mut Errors, peer: &Cursor, were: &[&str]) {
    let [pods, namespaces, block] = ["podSelector", "namespaceSelector", "ipBlock"].map(|f| peer.get(f));
    for selector in [&pods, &namespaces] {
        label_selector(errors, selector);
    }
    if block.is_some() {
        ip_block(errors, &block, were);
    }
    if !pods.is_some() && !namespaces.is_some() && !block.is_some() {
        errors.push(peer.required("must specify a peer"));
    } else if block.is_some() && (pods.is_some() || namespaces.is_some()) {
        errors.push(peer.forbidden("may not specify both ipBlock and another peer"));
    }
}

fn ip_block(errors: &mut Errors, block: &Cursor, were: &[&str]) {
    let whole = block.get("cidr");
    if !require(errors, &whole) {
        return;
    }
    cidr(errors, &whole, were);
    let Some((base, bits)) = network(whole.text()) else {
        return;
    };
    for except in block.get("except").items() {
        cidr(errors, &except, were);
        let Some((address, inner)) = network(except.text()) else {
            continue;
        };
        let shift = 128 - bits;
        let same = shift == 128 || address >> shift == base >> shift;
        if !same || bits >= inner {
            errors.push(except.invalid("must be a strict subset of `cidr`"));
        }
    }
}

/// A network as a number of 128 bits and how many of them are its own; IPv4 stands apart from all IPv6.
fn network(text: &str) -> Option<(u128, u32)> {
    let (address, bits) = text.split_once('/')?;
    let bits: u32 = bits.parse().ok()?;
    match address.parse().ok()? {
        std::net::IpAddr::V4(v4) if bits <= 32 => Some((u128::from(v4.to_ipv6_mapped()), bits + 96)),
        std::net::IpAddr::V6(v6) if bits <= 128 => Some((u128::from(v6), bits)),
        _ => None,
    }
}
