//! IngressClass.

use api::field::FieldError;
use api::names;
use serde_json::{Value, json};

use crate::kinds::columns::{AGE, BuiltinColumn, name_or_default, text_at};
use crate::kinds::rules::{dns_label, dns_subdomain, immutable, problems, require};
use crate::kinds::{Again, Asked, Check, Errors, Generation, Kind};

pub(in crate::kinds) const KIND: Kind = Kind {
    generation: Generation::Counted,
    metadata: Asked::on_update(Again::BOTH),
    columns: COLUMNS,
    ..Kind::plain("networking.k8s.io", "ingressclasses", validate)
};

const COLUMNS: &[BuiltinColumn] = &[
    ("Name", "string", 0, |c| {
        name_or_default(c, "ingressclass.kubernetes.io/is-default-class")
    }),
    ("Controller", "string", 0, |c| json!(text_at(c, "/spec/controller"))),
    ("Parameters", "string", 0, parameters),
    AGE,
];

fn parameters(class: &Value) -> Value {
    let part = |field: &str| text_at(class, &format!("/spec/parameters/{field}"));
    json!(match (part("kind"), part("apiGroup"), part("name")) {
        ("", _, _) => "<none>".to_owned(),
        (kind, "", name) => format!("{kind}/{name}"),
        (kind, group, name) => format!("{kind}.{group}/{name}"),
    })
}

const CONTROLLER: usize = 250;

fn validate(check: &Check) -> Errors {
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
        _ if !scope.is_some() => errors.push(scope.required("")),
        "Namespace" if !namespace.is_some() => {
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
