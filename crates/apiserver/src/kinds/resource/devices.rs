//! Rules of dynamic resource allocation: claims, their templates, classes and the slices that drivers publish. KEP-4381.

use std::collections::{HashMap, HashSet};

use api::field::FieldError;
use api::names;
use serde_json::Value;

use crate::kinds::resource::selector;
use crate::kinds::rules::{dns_label, dns_subdomain, problems, qualified_name, require};
use crate::kinds::{Check, Cursor, Errors, volume};

/// Entries of lists that may be long.
pub const MANY: usize = 32;

/// Entries of lists that may not.
pub const FEW: usize = 8;

const BINDING_CONDITIONS: usize = 4;

const IDENTIFIER: usize = 32;

const POOL: usize = 253;

const PARAMETERS: usize = 10 << 10;

/// The effects of taints of devices.
pub const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

/// Whether a list is not too long; one that is, is not looked at.
pub fn fits(errors: &mut Errors, list: &Cursor, most: usize) -> bool {
    let count = list.list().len();
    if count > most {
        errors.push(FieldError::too_many(&list.path, count, most));
    }
    count <= most
}

/// No item twice.
pub fn unique<'a>(errors: &mut Errors, list: &Cursor<'a>, key: impl Fn(&Cursor<'a>) -> &'a str) {
    let mut seen = HashSet::new();
    for item in list.items().filter(|item| !seen.insert(key(item))) {
        errors.push(item.duplicate(key(&item)));
    }
}

/// The names that constraints and configurations may speak of: of requests, and of their alternatives.
pub type Requests<'a> = HashMap<&'a str, HashSet<&'a str>>;

/// The names of requests, each with those of its alternatives.
pub fn request_names<'a>(devices: &Cursor<'a>) -> Requests<'a> {
    let named = devices.get("requests").items().map(|request| {
        let inner = request.get("firstAvailable").items().map(|r| r.get("name").text());
        (request.get("name").text(), inner.collect())
    });
    named.collect()
}

/// The place that asks for devices as their administrator: only marked namespaces may. KEP-5018.
pub fn admin_access(check: &Check) -> Option<String> {
    let admin = |at: &Cursor| at.get("adminAccess").is_true();
    let root = check.root();
    if check.is_status() {
        let way = ["status", "allocation", "devices", "results"];
        let granted = check
            .before()
            .is_some_and(|old| old.at(&way).items().any(|result| admin(&result)));
        let asked = root.at(&way).items().find(|result| !granted && admin(result))?;
        return Some(asked.get("adminAccess").path.to_string());
    }
    let spec = root.get("spec");
    // the one of a template is named as if it were a claim's own
    let requests = [
        spec.at(&["devices", "requests"]),
        spec.at(&["spec", "devices", "requests"]),
    ];
    let asked = requests
        .iter()
        .find_map(|list| list.items().position(|request| admin(&request.get("exactly"))));
    let index = asked.filter(|_| check.old.is_none())?;
    Some(format!("spec.devices.requests[{index}].adminAccess"))
}

/// The rules of what a claim asks for.
pub fn devices(errors: &mut Errors, at: &Cursor) {
    let requests = at.get("requests");
    let named = request_names(at);
    if fits(errors, &requests, MANY) {
        requests.items().for_each(|one| request(errors, &one));
        unique(errors, &requests, |one| one.get("name").text());
    }
    let constraints = at.get("constraints");
    if fits(errors, &constraints, MANY) {
        for constraint in constraints.items() {
            references(errors, &constraint.get("requests"), &named);
            let (same, distinct) = (constraint.get("matchAttribute"), constraint.get("distinctAttribute"));
            match same.present().or_else(|| distinct.present()) {
                Some(attribute) => full_name(errors, &attribute),
                None => errors.push(constraint.required(
                    "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set",
                )),
            }
        }
    }
    let configs = at.get("config");
    if fits(errors, &configs, MANY) {
        for config in configs.items() {
            references(errors, &config.get("requests"), &named);
            configuration(errors, &config);
        }
    }
}

fn request(errors: &mut Errors, at: &Cursor) {
    dns_label(errors, &at.get("name"));
    let (exactly, alternatives) = (at.get("exactly"), at.get("firstAvailable"));
    match (exactly.is_some(), !alternatives.list().is_empty()) {
        (false, false) => errors.push(at.required("exactly one of `exactly` or `firstAvailable` is required")),
        (true, true) => errors.push(at.wrong(
            Value::Null,
            "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
        )),
        (true, false) => wanted(errors, &exactly),
        (false, true) => {
            if fits(errors, &alternatives, FEW) {
                for one in alternatives.items() {
                    dns_label(errors, &one.get("name"));
                    wanted(errors, &one);
                }
                unique(errors, &alternatives, |one| one.get("name").text());
            }
        }
    }
}

/// What is wanted: devices of a class, how many.
fn wanted(errors: &mut Errors, at: &Cursor) {
    let class = at.get("deviceClassName");
    if require(errors, &class) {
        dns_subdomain(errors, &class);
    }
    selectors(errors, &at.get("selectors"), false);
    let (mode, count) = (at.get("allocationMode"), at.get("count"));
    let number = count.int().unwrap_or(0);
    match mode.text() {
        "All" if number != 0 => errors.push(count.invalid("must not be specified when allocationMode is 'All'")),
        "ExactCount" if number <= 0 => errors.push(count.wrong(number, "must be greater than zero")),
        "All" | "ExactCount" => {}
        _ => errors.push(mode.not_supported(&["All", "ExactCount"])),
    }
    for toleration in at.get("tolerations").items() {
        tolerate(errors, &toleration);
    }
}

fn tolerate(errors: &mut Errors, at: &Cursor) {
    let (key, operator, value, effect) = (at.get("key"), at.get("operator"), at.get("value"), at.get("effect"));
    if !key.text().is_empty() {
        qualified_name(errors, &key);
    }
    match operator.text() {
        "Exists" if !value.text().is_empty() => errors.push(value.invalid("must be empty for operator `Exists`")),
        "Exists" => {}
        "Equal" => problems(errors, &value, names::label_value_errors(value.text())),
        "" => errors.push(operator.required("")),
        _ => errors.push(operator.not_supported(&["Equal", "Exists"])),
    }
    if !effect.text().is_empty() && !EFFECTS.contains(&effect.text()) {
        errors.push(effect.not_supported(&EFFECTS));
    }
}

/// The rules of selectors of devices. Expressions that are stored already were right once, and stay so.
pub fn selectors(errors: &mut Errors, list: &Cursor, stored: bool) {
    if !fits(errors, list, MANY) {
        return;
    }
    for selector in list.items() {
        let cel = selector.get("cel");
        if !cel.is_some() {
            errors.push(cel.required(""));
        } else if !stored {
            selector::expression(errors, &cel.get("expression"));
        }
    }
}

/// The rules of names of requests that something speaks of.
pub fn references(errors: &mut Errors, list: &Cursor, requests: &Requests) {
    if fits(errors, list, MANY) {
        list.items().for_each(|name| reference(errors, &name, requests));
        unique(errors, list, Cursor::text);
    }
}

/// The rules of one such name.
pub fn reference(errors: &mut Errors, name: &Cursor, requests: &Requests) {
    const WHY: &str =
        "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
    let parts: Vec<&str> = name.text().split('/').collect();
    if parts.len() > 2 {
        errors.push(name.invalid(WHY));
        return;
    }
    for part in &parts {
        let found = names::dns1123_label_errors(part);
        errors.extend(found.into_iter().map(|p| name.wrong(*part, p)));
    }
    let inner = requests.get(parts[0]);
    if !inner.is_some_and(|inner| parts.get(1).is_none_or(|part| inner.contains(part))) {
        errors.push(name.invalid(WHY));
    }
}

/// Parameters that only a driver understands.
pub fn configuration(errors: &mut Errors, at: &Cursor) {
    let opaque = at.get("opaque");
    if !opaque.is_some() {
        errors.push(opaque.required(""));
        return;
    }
    volume::driver_name(errors, &opaque.get("driver"));
    parameters(errors, &opaque.get("parameters"));
}

/// An object that is no longer than it may be.
pub fn parameters(errors: &mut Errors, at: &Cursor) {
    match at.value {
        Value::Null => errors.push(at.required("")),
        value if value.to_string().len() > PARAMETERS => errors.push(FieldError::too_long(&at.path, PARAMETERS)),
        Value::Object(_) => {}
        _ => errors.push(at.wrong("<value omitted>", "must be a valid JSON object")),
    }
}

/// A name in a domain, or in the driver's own where it may be left out.
pub fn name_in_domain(errors: &mut Errors, at: &Cursor, name: &str) {
    let identifier = |errors: &mut Errors, id: &str| {
        if id.len() > IDENTIFIER {
            errors.push(FieldError::too_long(&at.path, IDENTIFIER));
        }
        errors.extend(names::c_identifier_error(id).map(|p| at.wrong(id, p)));
    };
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        [id] => identifier(errors, id),
        [domain, id] => {
            let shown = Value::String((*domain).to_owned());
            match domain.is_empty() {
                true => errors.push(at.wrong("", "the domain must not be empty")),
                false => volume::driver_name(errors, &Cursor::of(Some(&shown), at.path.to_string())),
            }
            match id.is_empty() {
                true => errors.push(at.wrong("", "the name must not be empty")),
                false => identifier(errors, id),
            }
        }
        _ => {}
    }
}

fn full_name(errors: &mut Errors, at: &Cursor) {
    name_in_domain(errors, at, at.text());
    if !at.text().contains('/') {
        errors.push(at.invalid("a fully qualified name must be a domain and a name separated by a slash"));
    }
}

/// The rules of the name of a pool.
pub fn pool_name(errors: &mut Errors, name: &Cursor) {
    if !require(errors, name) {
        return;
    }
    if name.text().len() > POOL {
        errors.push(FieldError::too_long(&name.path, POOL));
    }
    for part in name.text().split('/') {
        let found = names::dns1123_subdomain_errors(part);
        errors.extend(found.into_iter().map(|p| name.wrong(part, p)));
    }
}

/// Conditions that a binding waits for.
pub fn binding(errors: &mut Errors, at: &Cursor) {
    let (good, bad) = (at.get("bindingConditions"), at.get("bindingFailureConditions"));
    for list in [&good, &bad] {
        if fits(errors, list, BINDING_CONDITIONS) {
            list.items().for_each(|name| qualified_name(errors, &name));
        }
        unique(errors, list, Cursor::text);
    }
    let good_names: HashSet<&str> = good.items().map(|name| name.text()).collect();
    for name in bad.items().filter(|name| good_names.contains(name.text())) {
        errors.push(name.invalid("bindingFailureConditions must not overlap with bindingConditions"));
    }
    match (good.list().is_empty(), bad.list().is_empty()) {
        (true, false) => errors.push(good.wrong(
            good.value.clone(),
            "bindingConditions are required to use bindingFailureConditions",
        )),
        (false, true) => errors.push(bad.wrong(
            bad.value.clone(),
            "bindingFailureConditions are required to use bindingConditions",
        )),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::resource::resource_claim;

    fn found(rules: fn(&Check) -> Errors, spec: &Value) -> Vec<String> {
        let new = json!({ "metadata": { "name": "x" }, "spec": spec });
        let check = Check {
            new: &new,
            old: None,
            subresource: "",
            custom: None,
            now: 0,
        };
        rules(&check).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_claim_names_its_requests_once_and_speaks_of_no_others() {
        let request = json!({ "name": "gpu", "exactly": { "deviceClassName": "gpu.example.org", "allocationMode": "ExactCount", "count": 1 } });
        let fine = json!({ "devices": { "requests": [request], "constraints": [{ "requests": ["gpu"], "matchAttribute": "a.b/numa" }] } });
        assert!(found(resource_claim::validate, &fine).is_empty());
        let broken = json!({ "devices": { "requests": [request, request, { "name": "x" }],
            "constraints": [{ "requests": ["other"], "matchAttribute": "numa" }], "config": [{}] } });
        assert_eq!(
            found(resource_claim::validate, &broken),
            [
                "spec.devices.requests[2]: Required value: exactly one of `exactly` or `firstAvailable` is required",
                "spec.devices.requests[1]: Duplicate value: \"gpu\"",
                "spec.devices.constraints[0].requests[0]: Invalid value: \"other\": must be the name of a request in the claim or \
                 the name of a request and a subrequest separated by '/'",
                "spec.devices.constraints[0].matchAttribute: Invalid value: \"numa\": a fully qualified name must be a domain and a \
                 name separated by a slash",
                "spec.devices.config[0].opaque: Required value",
            ]
        );
    }
}
