//! APIService. What this server serves itself is there as soon as it is named.

use api::names;
use serde_json::{Value, json};

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, list_at, text_at};
use crate::kinds::rules::{dns_subdomain, problems, require};
use crate::kinds::{Again, Asked, Check, Errors, Follow, Kind, STATUS_ALONE};
use crate::tree::keep;

pub(in crate::kinds) const KIND: Kind = Kind {
    unconditional_update: false,
    prepare_create: |object, writer| {
        let local = object.pointer("/spec/service").is_none_or(Value::is_null);
        keep(object, &json!({}), "status");
        if local {
            let condition = json!({
                "type": "Available", "status": "True", "lastTransitionTime": writer.now,
                "reason": "Local", "message": "Local APIServices are always available",
            });
            object["status"] = json!({ "conditions": [condition] });
        }
    },
    parts: &[STATUS_ALONE],
    // the one of the core group ends in a dot
    name: names::path_segment_errors,
    metadata: Asked::on_update(Again::BOTH_OF_ANY)
        .and_on_status(Again::NONE)
        .of_any_finalizers(),
    place: Some("apiregistration.k8s.io/apiservices"),
    follow: Follow::ApiService,
    columns: COLUMNS,
    ..Kind::new("apiregistration.k8s.io", "apiservices", validate)
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Service", "string", 0, |s| match text_at(s, "/spec/service/name") {
        "" => json!("Local"),
        name => json!(format!("{}/{name}", text_at(s, "/spec/service/namespace"))),
    }),
    ("Available", "string", 0, |s| {
        match list_at(s, "/status/conditions").find(|c| c["type"] == "Available") {
            Some(c) if c["status"] == "True" => json!("True"),
            Some(c) => json!(format!("{} ({})", text_at(c, "/status"), text_at(c, "/reason"))),
            None => json!("Unknown"),
        }
    }),
    AGE,
];

const GROUP_PRIORITY: i64 = 20_000;

const VERSION_PRIORITY: i64 = 1_000;

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    let spec = root.get("spec");
    if check.is_status() {
        for condition in root.at(&["status", "conditions"]).items() {
            let status = condition.get("status");
            if !["True", "False", "Unknown"].contains(&status.text()) {
                errors.push(status.not_supported(&["True", "False", "Unknown"]));
            }
        }
        return errors;
    }
    let (group, version, name) = (spec.get("group"), spec.get("version"), root.at(&["metadata", "name"]));
    let wanted = format!("{}.{}", version.text(), group.text());
    if !name.text().is_empty() && name.text() != wanted && names::path_segment_errors(name.text()).is_empty() {
        let wanted = api::go::quote(&wanted);
        errors.push(name.invalid(format!("must be `spec.version+\".\"+spec.group`: {wanted}")));
    }
    if !group.text().is_empty() {
        dns_subdomain(&mut errors, &group);
    } else if version.text() != "v1" {
        errors.push(group.required("only v1 may have an empty group and it better be legacy kube"));
    }
    problems(&mut errors, &version, names::dns1035_label_errors(version.text()));
    for (field, most) in [
        ("groupPriorityMinimum", GROUP_PRIORITY),
        ("versionPriority", VERSION_PRIORITY),
    ] {
        let at = spec.get(field);
        let number = at.int().unwrap_or(0);
        if number <= 0 || number > most {
            errors.push(at.wrong(number, format!("must be positive and less than {most}")));
        }
    }
    let (service, insecure, bundle) = (
        spec.get("service"),
        spec.get("insecureSkipTLSVerify"),
        spec.get("caBundle"),
    );
    let has_bundle = !bundle.text().is_empty();
    if !service.is_some() {
        if has_bundle {
            let bytes = bundle.text().trim_end_matches('=').len() * 3 / 4;
            let why = "local APIServices may not have a caBundle";
            errors.push(bundle.wrong(format!("{bytes} bytes"), why));
        }
        if insecure.is_true() {
            errors.push(insecure.invalid("local APIServices may not have insecureSkipTLSVerify"));
        }
        return errors;
    }
    require(&mut errors, &service.get("namespace"));
    require(&mut errors, &service.get("name"));
    let port = service.get("port");
    let number = port.int().unwrap_or(0);
    if !(1..=65535).contains(&number) {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        errors.push(port.wrong(number, why));
    }
    if insecure.is_true() && has_bundle {
        errors.push(insecure.invalid("may not be true if caBundle is present"));
    }
    errors
}
