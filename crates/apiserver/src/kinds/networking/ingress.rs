//! Ingress.

use api::names;
use serde_json::{Value, json};

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, list_at, or, text_at};
use crate::kinds::core::service::balancer_addresses;
use crate::kinds::rules::{dns_label, dns_subdomain, ip, port_number, problems, require};
use crate::kinds::warnings::has;
use crate::kinds::{Again, Asked, Check, Cursor, Errors, Generation, Kind};

pub(in crate::kinds) const KIND: Kind = Kind {
    generation: Generation::Counted,
    metadata: Asked::on_update(Again::BOTH),
    warn: |told, new, old| {
        if old.is_none() {
            warn(told, new);
        }
    },
    place: Some("ingress"),
    columns: COLUMNS,
    ..Kind::new("networking.k8s.io", "ingresses", validate)
};

fn warn(told: &mut Vec<String>, ingress: &Value) {
    let key = "kubernetes.io/ingress.class";
    if has(&ingress["metadata"]["annotations"], key) && !has(&ingress["spec"], "ingressClassName") {
        told.push(format!(
            "annotation {key:?} is deprecated, please use 'spec.ingressClassName' instead"
        ));
    }
}

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Class", "string", 0, |i| or(i, "/spec/ingressClassName", "<none>")),
    ("Hosts", "string", 0, hosts),
    ("Address", "string", 0, |i| json!(balancer_addresses(i).join(","))),
    ("Ports", "string", 0, |i| {
        json!(if list_at(i, "/spec/tls").count() > 0 {
            "80, 443"
        } else {
            "80"
        })
    }),
    AGE,
];

fn hosts(ingress: &Value) -> Value {
    let rules = list_at(ingress, "/spec/rules").count();
    let all: Vec<&str> = list_at(ingress, "/spec/rules")
        .map(|r| text_at(r, "/host"))
        .filter(|h| !h.is_empty())
        .collect();
    json!(match all.len() {
        0 => "*".to_owned(),
        n if n > 3 => format!("{} + {} more...", all[..3].join(","), rules - 3),
        _ => all.join(","),
    })
}

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

fn validate(check: &Check) -> Errors {
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
