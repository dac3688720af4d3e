//! Rules that many kinds share: names, labels, selectors, numbers, quantities.

use api::field::FieldError;
use api::names;
use serde_json::Value;

use crate::kinds::cursor::Cursor;
use crate::tree::equal;

/// The faults of an object, up to a number that is still told.
pub type Errors = api::field::FieldErrors;

/// Appends an error for every problem of the text at a place.
pub fn problems<T: std::fmt::Display>(errors: &mut Errors, at: &Cursor, found: impl IntoIterator<Item = T>) {
    errors.extend(found.into_iter().map(|problem| at.wrong(at.text(), problem)));
}

/// Refuses a text that is no DNS label.
pub fn dns_label(errors: &mut Errors, at: &Cursor) {
    problems(errors, at, names::dns1123_label_errors(at.text()));
}

/// Refuses a text that is no DNS subdomain.
pub fn dns_subdomain(errors: &mut Errors, at: &Cursor) {
    problems(errors, at, names::dns1123_subdomain_errors(at.text()));
}

/// Refuses a text that is no qualified name.
pub fn qualified_name(errors: &mut Errors, at: &Cursor) {
    problems(errors, at, names::qualified_name_errors(at.text()));
}

/// The text must be there.
pub fn require(errors: &mut Errors, at: &Cursor) -> bool {
    if at.text().is_empty() {
        errors.push(at.required(""));
        return false;
    }
    true
}

/// An absent text counts as missing, another than `allowed` as unsupported.
pub fn one_of(errors: &mut Errors, at: &Cursor, allowed: &[&str]) {
    if at.text().is_empty() {
        errors.push(at.required(""));
    } else {
        one_of_or_none(errors, at, allowed);
    }
}

/// An absent text is fine.
pub fn one_of_or_none(errors: &mut Errors, at: &Cursor, allowed: &[&str]) {
    if at.is_some() && !allowed.contains(&at.text()) {
        errors.push(at.not_supported(allowed));
    }
}

/// Refuses a number below zero.
pub fn non_negative(errors: &mut Errors, at: &Cursor) {
    if at.int().is_some_and(|n| n < 0) {
        errors.push(at.invalid("must be greater than or equal to 0"));
    }
}

/// Refuses a number that is not above zero; an absent one counts as zero.
pub fn positive(errors: &mut Errors, at: &Cursor) {
    let n = at.int().unwrap_or(0);
    if n <= 0 {
        errors.push(at.wrong(n, "must be greater than zero"));
    }
}

/// Refuses a number outside the range, both ends included; an absent one counts as zero.
pub fn in_range(errors: &mut Errors, at: &Cursor, least: i64, most: i64) {
    let n = at.int().unwrap_or(0);
    if !(least..=most).contains(&n) {
        errors.push(at.wrong(n, format!("must be between {least} and {most}, inclusive")));
    }
}

/// Refuses a number that is no port.
pub fn port_number(errors: &mut Errors, at: &Cursor) {
    in_range(errors, at, 1, 65535);
}

/// A number or the name of a port.
pub fn port_or_name(errors: &mut Errors, at: &Cursor) {
    match at.value {
        Value::String(name) => problems(errors, at, names::port_name_errors(name)),
        _ => port_number(errors, at),
    }
}

/// A label selector, where there is one.
pub fn label_selector(errors: &mut Errors, at: &Cursor) {
    labels(errors, &at.get("matchLabels"));
    for term in at.get("matchExpressions").items() {
        let (operator, values) = (term.get("operator"), term.get("values"));
        match operator.text() {
            "In" | "NotIn" if values.list().is_empty() => {
                errors.push(values.required("must be specified when `operator` is 'In' or 'NotIn'"));
            }
            "Exists" | "DoesNotExist" if !values.list().is_empty() => {
                errors.push(values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.push(operator.wrong(other, "not a valid selector operator")),
        }
        qualified_name(errors, &term.get("key"));
        for value in values.items() {
            problems(errors, &value, names::label_value_errors(value.text()));
        }
    }
}

/// A map of labels; the errors name the map.
pub fn labels(errors: &mut Errors, at: &Cursor) {
    for (key, value) in at.entries() {
        errors.extend(names::qualified_name_errors(key).into_iter().map(|p| at.wrong(key, p)));
        let text = value.text();
        errors.extend(names::label_value_errors(text).into_iter().map(|p| at.wrong(text, p)));
    }
}

/// Refuses annotations that are too large together or have bad keys.
pub fn annotations(errors: &mut Errors, at: &Cursor) {
    const LIMIT: usize = 256 << 10;
    let mut size = 0;
    for (key, value) in at.entries() {
        size += key.len() + value.text().len();
        let found = names::qualified_name_errors(&key.to_lowercase());
        errors.extend(found.into_iter().map(|p| at.wrong(key, p)));
    }
    if size > LIMIT {
        errors.push(FieldError::too_long(&at.path, LIMIT));
    }
}

/// The metadata of what is made from a template: labels and annotations, and nothing else.
pub fn template_metadata(errors: &mut Errors, at: &Cursor) {
    annotations(errors, &at.get("annotations"));
    labels(errors, &at.get("labels"));
    for (key, value) in at.map().into_iter().flatten() {
        let empty = value.is_null() || value == "" || value.as_array().is_some_and(Vec::is_empty);
        if !matches!(key.as_str(), "annotations" | "labels") && !empty {
            // upstream names the field as Go does, but for the first letter
            let shown = if key == "uid" { "uID" } else { key.as_str() };
            errors.push(
                at.get(key)
                    .named(format!("{}.{shown}", at.path))
                    .forbidden("cannot be set"),
            );
        }
    }
}

/// A relative path that does not climb.
pub fn local_descending_path(errors: &mut Errors, at: &Cursor) {
    if at.text().starts_with('/') {
        errors.push(at.invalid("must be a relative path"));
    }
    no_backsteps(errors, at);
}

/// Refuses a path that climbs.
pub fn no_backsteps(errors: &mut Errors, at: &Cursor) {
    if at.text().split('/').any(|part| part == "..") {
        errors.push(at.invalid("must not contain '..'"));
    }
}

/// A relative path that does not climb and does not start like the kubelet's own entries.
pub fn local_free_path(errors: &mut Errors, at: &Cursor) {
    local_descending_path(errors, at);
    let text = at.text();
    if text.starts_with("..") && text != ".." && !text.starts_with("../") {
        errors.push(at.invalid("must not start with '..'"));
    }
}

/// Refuses a number that is no mode of a file.
pub fn file_mode(errors: &mut Errors, at: &Cursor) {
    if at.int().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        errors.push(at.invalid("must be a number between 0 and 0777 (octal), both inclusive"));
    }
}

/// What a resource is counted in: whole pieces for everything that is not cpu, memory or storage.
fn is_integer_resource(name: &str) -> bool {
    matches!(
        name,
        "pods"
            | "resourcequotas"
            | "services"
            | "replicationcontrollers"
            | "secrets"
            | "configmaps"
            | "persistentvolumeclaims"
            | "services.nodeports"
            | "services.loadbalancers"
    ) || name.starts_with("count/")
        || is_extended_resource(name)
}

/// `kubernetes.io/...` and names without a domain are Kubernetes' own.
pub fn is_native_resource(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether a resource is not Kubernetes' own and can be put into a quota.
pub fn is_extended_resource(name: &str) -> bool {
    !is_native_resource(name)
        && !name.starts_with("requests.")
        && names::qualified_name_errors(&format!("requests.{name}")).is_empty()
}

/// An amount of a resource: not negative, whole where only whole ones exist.
pub fn resource_quantity(errors: &mut Errors, at: &Cursor, name: &str) {
    let Some(quantity) = at.quantity() else { return };
    if quantity.is_negative() {
        errors.push(at.wrong(quantity.to_string(), "must be greater than or equal to 0"));
    }
    if is_integer_resource(name) && quantity.milli_value() % 1000 != 0 {
        errors.push(at.wrong(quantity.to_string(), "must be an integer"));
    }
}

/// A field that is fixed at creation.
pub fn immutable(errors: &mut Errors, new: &Cursor, old: &Cursor) {
    if !equal(new.value, old.value) {
        errors.push(new.invalid("field is immutable"));
    }
}

/// A number of things or a percentage of them, neither negative.
pub fn int_or_percent(errors: &mut Errors, at: &Cursor) {
    match at.value {
        Value::String(text) => errors.extend(names::percent_errors(text).map(|why| at.invalid(why))),
        Value::Number(_) => non_negative(errors, at),
        _ => {}
    }
}

/// A percentage above a hundred.
pub fn not_more_than_all(errors: &mut Errors, at: &Cursor) {
    let percent = at.text().strip_suffix('%').and_then(|n| n.parse::<i64>().ok());
    if percent.is_some_and(|n| n > 100) {
        errors.push(at.invalid("must not be greater than 100%"));
    }
}

/// The number that stands at a place, of a number or a percentage.
pub fn int_or_percent_value(at: &Cursor) -> i64 {
    let text = at.text();
    at.int()
        .or_else(|| text.strip_suffix('%').unwrap_or(text).parse().ok())
        .unwrap_or(0)
}

/// An address that must be one; one that was there before may stay as it was.
pub fn ip(errors: &mut Errors, at: &Cursor, before: &[&str]) {
    if !before.contains(&at.text()) {
        problems(errors, at, names::ip_errors(at.text()));
    }
}

/// Refuses a text that is no subnet; one that was there before may stay.
pub fn cidr(errors: &mut Errors, at: &Cursor, before: &[&str]) {
    if !before.contains(&at.text()) {
        problems(errors, at, names::cidr_errors(at.text()));
    }
}

/// A struct as Go shows those without JSON names: all fields in order. Of each field its Go name, its key here, and its
/// zero value as JSON.
pub fn go_struct(at: &Cursor, fields: &[(&str, &str, &str)]) -> String {
    let shown: Vec<String> = fields
        .iter()
        .map(|(name, key, zero)| match at.value.get(*key).filter(|v| !v.is_null()) {
            Some(value) => format!("\"{name}\":{value}"),
            None => format!("\"{name}\":{zero}"),
        })
        .collect();
    format!("{{{}}}", shown.join(","))
}
