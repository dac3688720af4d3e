//! ResourceSlice. Taints of devices say since when they are.

use api::field::FieldError;
use api::names;
use serde_json::{Value, json};

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, text_at};
use crate::kinds::pod_template::placement;
use crate::kinds::resource::GROUP;
use crate::kinds::resource::devices::{EFFECTS, FEW, MANY, binding, fits, name_in_domain, pool_name, unique};
use crate::kinds::rules::{dns_label, dns_subdomain, immutable, problems, qualified_name, require};
use crate::kinds::{Check, Cursor, Errors, Generation, Kind, volume};
use crate::tree::text;

pub(in crate::kinds) const KIND: Kind = Kind {
    generation: Generation::Counted,
    counts_sent: true,
    prepare_create: |slice, writer| date_taints(slice, writer.now),
    prepare_update: |new, _, now| date_taints(new, now),
    warn: |told, new, _| {
        let driver = text(new, &["spec", "driver"]).unwrap_or_default();
        if driver != driver.to_lowercase() {
            told.push(format!(
                "spec.driver: driver names should be lowercase; {driver:?} contains uppercase characters"
            ));
        }
    },
    returns_deleted: true,
    columns: COLUMNS,
    ..Kind::plain(GROUP, "resourceslices", validate)
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Node", "string", 0, |s| json!(text_at(s, "/spec/nodeName"))),
    ("Driver", "string", 0, |s| json!(text_at(s, "/spec/driver"))),
    ("Pool", "string", 0, |s| json!(text_at(s, "/spec/pool/name"))),
    AGE,
];

fn date_taints(slice: &mut Value, now: &str) {
    let devices = slice.pointer_mut("/spec/devices").and_then(Value::as_array_mut);
    for device in devices.into_iter().flatten() {
        let taints = device.get_mut("taints").and_then(Value::as_array_mut);
        for taint in taints.into_iter().flatten().filter_map(Value::as_object_mut) {
            if taint.get("timeAdded").is_none_or(Value::is_null) {
                taint.insert("timeAdded".into(), json!(now));
            }
        }
    }
}

const CONSUMPTIONS: usize = 2;

const TAINTS: usize = 16;

const DEVICES: usize = 128;

const ADVANCED_DEVICES: usize = 64;

const ATTRIBUTES: usize = 32;

const TEXT: usize = 64;

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let spec = check.root().get("spec");
    volume::driver_name(&mut errors, &spec.get("driver"));
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
    pool_name(errors, &at.get("name"));
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
        placement::node_selector(errors, &selector);
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
        placement::node_selector(errors, &selector);
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
    let (text, version) = (at.get("string"), at.get("version"));
    if version.is_some() && !is_semantic_version(version.text()) {
        errors.push(version.invalid("must be a string compatible with semver.org spec 2.0.0"));
    }
    for value in [text, version] {
        if value.text().len() > TEXT {
            errors.push(FieldError::too_long(&value.path, TEXT));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

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
