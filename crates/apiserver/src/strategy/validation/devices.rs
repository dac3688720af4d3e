//! Rules of dynamic resource allocation: claims, their templates, classes and the slices that drivers publish. KEP-4381. The
//! expressions of selectors are not compiled.

use std::collections::{HashMap, HashSet};

use api::field::FieldError;
use api::names;
use serde_json::Value;

use super::{Check, pod, storage};
use crate::strategy::validation::common::{
    Errors, dns_label, dns_subdomain, immutable, is_extended_resource, problems, qualified_name, require,
    template_metadata,
};
use crate::strategy::validation::cursor::Cursor;

const MANY: usize = 32;
const FEW: usize = 8;
const BINDING_CONDITIONS: usize = 4;
const CONSUMPTIONS: usize = 2;
const TAINTS: usize = 16;
const IDENTIFIER: usize = 32;
const DEVICES: usize = 128;
const ADVANCED_DEVICES: usize = 64;
const ATTRIBUTES: usize = 32;
const TEXT: usize = 64;
const POOL: usize = 253;
const PARAMETERS: usize = 10 << 10;
const EXPRESSION: usize = 10 << 10;
const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

pub fn claim(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let spec = check.root().get("spec");
    match check.before() {
        _ if check.is_status() => {}
        // what nobody may change is not asked again
        Some(old) => immutable(&mut errors, &spec, &old.get("spec")),
        None => devices(&mut errors, &spec.get("devices")),
    }
    errors
}

pub fn claim_template(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let spec = check.root().get("spec");
    match check.before() {
        Some(old) => immutable(&mut errors, &spec, &old.get("spec")),
        None => {
            template_metadata(&mut errors, &spec.get("metadata"));
            devices(&mut errors, &spec.at(&["spec", "devices"]));
        }
    }
    errors
}

pub fn class(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let spec = check.root().get("spec");
    selectors(&mut errors, &spec.get("selectors"));
    let configs = spec.get("config");
    if fits(&mut errors, &configs, MANY) {
        configs.items().for_each(|config| configuration(&mut errors, &config));
    }
    let name = spec.get("extendedResourceName");
    if name.is_some() && !is_extended_resource(name.text()) {
        errors.push(name.invalid("must be a valid extended resource name"));
    }
    errors
}

/// Whether a list is not too long; one that is, is not looked at.
fn fits(errors: &mut Errors, list: &Cursor, most: usize) -> bool {
    let count = list.list().len();
    if count > most {
        errors.push(FieldError::too_many(&list.path, count, most));
    }
    count <= most
}

/// No item twice.
fn unique<'a>(errors: &mut Errors, list: &Cursor<'a>, key: impl Fn(&Cursor<'a>) -> &'a str) {
    let mut seen = HashSet::new();
    for item in list.items().filter(|item| !seen.insert(key(item))) {
        errors.push(item.duplicate(key(&item)));
    }
}

/// The names that constraints and configurations may speak of: of requests, and of their alternatives.
type Requests<'a> = HashMap<&'a str, HashSet<&'a str>>;

fn devices(errors: &mut Errors, at: &Cursor) {
    let requests = at.get("requests");
    let named: Requests = requests
        .items()
        .map(|request| {
            let inner = request.get("firstAvailable").items().map(|r| r.get("name").text());
            (request.get("name").text(), inner.collect())
        })
        .collect();
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
    selectors(errors, &at.get("selectors"));
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

fn selectors(errors: &mut Errors, list: &Cursor) {
    if !fits(errors, list, MANY) {
        return;
    }
    for selector in list.items() {
        let cel = selector.get("cel");
        let expression = cel.get("expression");
        if !cel.is_some() {
            errors.push(cel.required(""));
        } else if expression.text().len() > EXPRESSION {
            errors.push(FieldError::too_long(&expression.path, EXPRESSION));
        }
    }
}

fn references(errors: &mut Errors, list: &Cursor, requests: &Requests) {
    const WHY: &str =
        "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
    if !fits(errors, list, MANY) {
        return;
    }
    for name in list.items() {
        let parts: Vec<&str> = name.text().split('/').collect();
        if parts.len() > 2 {
            errors.push(name.invalid(WHY));
            continue;
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
    unique(errors, list, Cursor::text);
}

/// Parameters that only a driver understands.
fn configuration(errors: &mut Errors, at: &Cursor) {
    let opaque = at.get("opaque");
    if !opaque.is_some() {
        errors.push(opaque.required(""));
        return;
    }
    storage::driver_name(errors, &opaque.get("driver"));
    let parameters = opaque.get("parameters");
    match parameters.value {
        Value::Null => errors.push(parameters.required("")),
        value if value.to_string().len() > PARAMETERS => {
            errors.push(FieldError::too_long(&parameters.path, PARAMETERS));
        }
        Value::Object(_) => {}
        _ => errors.push(parameters.wrong("<value omitted>", "must be a valid JSON object")),
    }
}

/// A name in a domain, or in the driver's own where it may be left out.
fn name_in_domain(errors: &mut Errors, at: &Cursor, name: &str) {
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
                false => storage::driver_name(errors, &Cursor::of(Some(&shown), at.path.to_string())),
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

pub fn slice(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let spec = check.root().get("spec");
    storage::driver_name(&mut errors, &spec.get("driver"));
    pool(&mut errors, &spec.get("pool"));
    if let Some(old) = check.before().map(|old| old.get("spec")) {
        for way in [["pool", "name"].as_slice(), &["driver"], &["nodeName"]] {
            immutable(&mut errors, &spec.at(way), &old.at(way));
        }
    }
    where_it_is(&mut errors, &spec);
    let (counters, devices) = (spec.get("sharedCounters"), spec.get("devices"));
    if counters.is_some() && devices.is_some() {
        errors.push(spec.wrong("", "only one of `sharedCounters` or `devices` is allowed"));
    }
    let used = |device: &Cursor, field| !device.get(field).list().is_empty();
    let advanced = devices
        .items()
        .any(|device| used(&device, "taints") || used(&device, "consumesCounters"));
    if fits(&mut errors, &devices, if advanced { ADVANCED_DEVICES } else { DEVICES }) {
        let each = spec.get("perDeviceNodeSelection").is_true();
        devices.items().for_each(|one| device(&mut errors, &one, each));
        unique(&mut errors, &devices, |one| one.get("name").text());
    }
    if fits(&mut errors, &counters, FEW) {
        for set in counters.items() {
            counted(&mut errors, &set, "name");
        }
        unique(&mut errors, &counters, |one| one.get("name").text());
    }
    errors
}

fn pool(errors: &mut Errors, at: &Cursor) {
    let name = at.get("name");
    if require(errors, &name) {
        if name.text().len() > POOL {
            errors.push(FieldError::too_long(&name.path, POOL));
        }
        for part in name.text().split('/') {
            let found = names::dns1123_subdomain_errors(part);
            errors.extend(found.into_iter().map(|p| name.wrong(part, p)));
        }
    }
    let (slices, generation) = (at.get("resourceSliceCount"), at.get("generation"));
    if slices.int().unwrap_or(0) <= 0 {
        errors.push(slices.wrong(slices.int().unwrap_or(0), "must be greater than zero"));
    }
    if generation.int().is_some_and(|n| n < 0) {
        errors.push(generation.invalid("must be greater than or equal to zero"));
    }
}

/// One of the ways to say on which nodes a slice's devices are.
fn where_it_is(errors: &mut Errors, spec: &Cursor) {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    let mut set: Vec<&str> = Vec::new();
    let name = spec.get("nodeName");
    if name.is_some() {
        if name.text().is_empty() {
            errors.push(name.invalid("must be either unset or set to a non-empty string"));
        } else {
            set.push("`nodeName`");
            dns_subdomain(errors, &name);
        }
    }
    let selector = spec.get("nodeSelector");
    if selector.is_some() {
        set.push("`nodeSelector`");
        pod::node_selector(errors, &selector);
        let terms = selector.get("nodeSelectorTerms");
        if terms.list().len() != 1 {
            errors.push(terms.invalid("must have exactly one node selector term"));
        }
    }
    for (field, shown) in [
        ("allNodes", "`allNodes`"),
        ("perDeviceNodeSelection", "`perDeviceNodeSelection`"),
    ] {
        let at = spec.get(field);
        if at.is_true() {
            set.push(shown);
        } else if at.is_some() {
            errors.push(at.invalid("must be either unset or set to true"));
        }
    }
    match set.len() {
        0 => errors.push(spec.required(ONE)),
        1 => {}
        _ => errors.push(spec.wrong(
            format!("{{{}}}", set.join(", ")),
            format!("{ONE}, but multiple fields are set"),
        )),
    }
}

/// A set of counters, or what a device takes of one.
fn counted(errors: &mut Errors, at: &Cursor, name: &'static str) {
    let name = at.get(name);
    if require(errors, &name) {
        dns_label(errors, &name);
    }
    let counters = at.get("counters");
    let count = counters.entries().count();
    if count == 0 {
        errors.push(counters.required(""));
    } else if count > MANY {
        errors.push(FieldError::too_many(&counters.path, count, MANY));
    } else {
        for (key, _) in counters.entries() {
            let found = names::dns1123_label_errors(key);
            errors.extend(found.into_iter().map(|p| counters.wrong(key, p)));
        }
    }
}

fn device(errors: &mut Errors, at: &Cursor, placed: bool) {
    dns_label(errors, &at.get("name"));
    let (attributes, capacity) = (at.get("attributes"), at.get("capacity"));
    let count = attributes.entries().count() + capacity.entries().count();
    if count > ATTRIBUTES {
        let why = format!("the total number of attributes and capacities must not exceed {ATTRIBUTES}");
        errors.push(at.wrong(count, why));
    }
    for (name, value) in attributes.entries() {
        name_in_domain(errors, &attributes, name);
        attribute(errors, &value);
    }
    let shared = at.get("allowMultipleAllocations").is_true();
    for (name, value) in capacity.entries() {
        name_in_domain(errors, &capacity, name);
        let policy = value.get("requestPolicy");
        if policy.is_some() && !shared {
            errors.push(policy.forbidden("allowMultipleAllocations must be true"));
        }
    }
    let taints = at.get("taints");
    if fits(errors, &taints, TAINTS) {
        for taint in taints.items() {
            let (value, effect) = (taint.get("value"), taint.get("effect"));
            qualified_name(errors, &taint.get("key"));
            if !value.text().is_empty() {
                problems(errors, &value, names::label_value_errors(value.text()));
            }
            if require(errors, &effect) && !EFFECTS.contains(&effect.text()) {
                errors.push(effect.not_supported(&EFFECTS));
            }
        }
    }
    let consumed = at.get("consumesCounters");
    if fits(errors, &consumed, CONSUMPTIONS) {
        consumed.items().for_each(|one| counted(errors, &one, "counterSet"));
        unique(errors, &consumed, |one| one.get("counterSet").text());
    }
    if placed {
        on_nodes(errors, at);
    } else if ["nodeName", "nodeSelector", "allNodes"]
        .iter()
        .any(|f| at.get(f).is_some())
    {
        let why = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the \
                   ResourceSlice spec";
        errors.push(at.wrong(Value::Null, why));
    }
    binding(errors, at);
}

/// Where a device is, of a slice that says it of each.
fn on_nodes(errors: &mut Errors, at: &Cursor) {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set \
                       to true in the ResourceSlice spec";
    let mut set: Vec<&str> = Vec::new();
    let (name, selector, all) = (at.get("nodeName"), at.get("nodeSelector"), at.get("allNodes"));
    if name.is_some() && name.text().is_empty() {
        errors.push(name.invalid("must not be empty"));
    } else if name.is_some() {
        set.push("`nodeName`");
        dns_subdomain(errors, &name);
    }
    if selector.is_some() {
        set.push("`nodeSelector`");
        pod::node_selector(errors, &selector);
    }
    if all.is_true() {
        set.push("`allNodes`");
    } else if all.is_some() {
        errors.push(all.invalid("must be either unset or set to true"));
    }
    match set.len() {
        0 => errors.push(at.required(ONE)),
        1 => {}
        _ => errors.push(at.wrong(format!("{{{}}}", set.join(", ")), ONE)),
    }
}

fn attribute(errors: &mut Errors, at: &Cursor) {
    let kinds = [
        "bool", "int", "string", "version", "bools", "ints", "strings", "versions",
    ];
    let set = kinds.iter().filter(|kind| at.get(kind).is_some()).count();
    let (text, version) = (at.get("string"), at.get("version"));
    if version.is_some() && !is_semantic_version(version.text()) {
        errors.push(version.invalid("must be a string compatible with semver.org spec 2.0.0"));
    }
    for value in [text, version] {
        if value.text().len() > TEXT {
            errors.push(FieldError::too_long(&value.path, TEXT));
        }
    }
    match set {
        0 => errors.push(at.wrong("", "exactly one value must be specified")),
        1 => {}
        _ => errors.push(at.invalid("exactly one value must be specified")),
    }
}

/// `1.2.3-alpha.1+build`: numbers without leading zeros.
fn is_semantic_version(text: &str) -> bool {
    let number =
        |s: &str| !s.is_empty() && s.bytes().all(|c| c.is_ascii_digit()) && (s.len() == 1 || !s.starts_with('0'));
    let word = |s: &str| !s.is_empty() && s.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
    let (rest, build) = text.split_once('+').map_or((text, None), |(a, b)| (a, Some(b)));
    let (version, before) = rest.split_once('-').map_or((rest, None), |(a, b)| (a, Some(b)));
    let numbers: Vec<&str> = version.split('.').collect();
    let early = |s: &str| word(s) && (number(s) || !s.bytes().all(|c| c.is_ascii_digit()));
    numbers.len() == 3
        && numbers.iter().all(|n| number(n))
        && before.is_none_or(|before| before.split('.').all(early))
        && build.is_none_or(|build| build.split('.').all(word))
}

/// Conditions that a binding waits for.
fn binding(errors: &mut Errors, at: &Cursor) {
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
        (true, false) => errors.push(good.invalid("bindingConditions are required to use bindingFailureConditions")),
        (false, true) => errors.push(bad.invalid("bindingFailureConditions are required to use bindingConditions")),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(rules: fn(&Check) -> Errors, spec: &Value) -> Vec<String> {
        let new = json!({ "metadata": { "name": "x" }, "spec": spec });
        let check = Check {
            new: &new,
            old: None,
            subresource: "",
        };
        rules(&check).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_claim_names_its_requests_once_and_speaks_of_no_others() {
        let request = json!({ "name": "gpu", "exactly": { "deviceClassName": "gpu.example.org", "allocationMode": "ExactCount", "count": 1 } });
        let fine = json!({ "devices": { "requests": [request], "constraints": [{ "requests": ["gpu"], "matchAttribute": "a.b/numa" }] } });
        assert!(found(claim, &fine).is_empty());
        let broken = json!({ "devices": { "requests": [request, request, { "name": "x" }],
            "constraints": [{ "requests": ["other"], "matchAttribute": "numa" }], "config": [{}] } });
        assert_eq!(
            found(claim, &broken),
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

    #[test]
    fn versions_are_semantic() {
        for (text, fine) in [
            ("1.2.3", true),
            ("1.2.3-alpha.1+b.01", true),
            ("1.2", false),
            ("01.2.3", false),
            ("1.2.3-01", false),
            ("", false),
        ] {
            assert_eq!(is_semantic_version(text), fine, "{text}");
        }
    }
}
