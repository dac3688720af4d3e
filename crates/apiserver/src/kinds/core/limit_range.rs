//! LimitRange.

use std::collections::{BTreeSet, HashSet};

use api::names;
use api::quantity::Quantity;

use crate::kinds::pod_template::resources;
use crate::kinds::rules::{is_native_resource, problems};
use crate::kinds::{Again, Asked, Check, Cursor, Errors, Kind};

pub(in crate::kinds) const KIND: Kind = Kind {
    create_on_update: true,
    metadata: Asked::on_update(Again::WHOLE),
    ..Kind::plain("", "limitranges", validate)
};

fn validate(check: &Check) -> Errors {
    const KINDS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];
    let mut errors = Errors::new();
    let mut seen = HashSet::new();
    for limit in check.root().at(&["spec", "limits"]).items() {
        let kind = limit.get("type");
        let found = names::qualified_name_errors(kind.text());
        if found.is_empty()
            && !kind.text().contains('/')
            && !matches!(kind.text(), "Pod" | "Container" | "PersistentVolumeClaim")
        {
            errors.push(kind.wrong(kind.text(), "must be a standard limit type or fully qualified"));
        }
        problems(&mut errors, &kind, found);
        if !seen.insert(kind.text()) {
            errors.push(kind.duplicate(kind.text()));
        }
        let of_pods = kind.text() == "Pod";
        let mut keys: BTreeSet<&str> = BTreeSet::new();
        for field in KINDS {
            let map = limit.get(field);
            if of_pods && field.starts_with("default") {
                if map.map().is_some_and(|m| !m.is_empty()) {
                    errors.push(map.forbidden("may not be specified when `type` is 'Pod'"));
                }
                continue;
            }
            if field == "maxLimitRequestRatio" {
                claims_have_a_size(&mut errors, &limit);
            }
            for (name, at) in map.entries() {
                if matches!(kind.text(), "Pod" | "Container") {
                    resources::container_name(&mut errors, &at, name);
                } else {
                    resources::known(&mut errors, &at, name);
                }
                keys.insert(name);
            }
        }
        for key in keys {
            compare(&mut errors, &limit, key);
        }
    }
    errors
}

fn claims_have_a_size(errors: &mut Errors, limit: &Cursor) {
    let has = |field: &'static str| limit.at(&[field, "storage"]).is_some();
    if limit.get("type").text() == "PersistentVolumeClaim" && !has("min") && !has("max") {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(limit.get("limits").required(why));
    }
}

/// What the limits of one resource say of each other.
fn compare<'a>(errors: &mut Errors, limit: &Cursor<'a>, key: &'a str) {
    let at = |field: &'static str| limit.get(field).key(key);
    let [min, max, default, request, ratio] =
        ["min", "max", "default", "defaultRequest", "maxLimitRequestRatio"].map(|f| at(f).quantity());
    // of each: the smaller, the larger, whose field is named, which value is shown, and the words
    let pairs = [
        (min, max, "min", true, "min", "max"),
        (min, request, "defaultRequest", false, "min", "default request"),
        (request, max, "defaultRequest", true, "default request", "max"),
        (
            request,
            default,
            "defaultRequest",
            true,
            "default request",
            "default limit",
        ),
        (min, default, "default", true, "min", "default"),
        (default, max, "default", false, "default", "max"),
    ];
    for (small, large, field, first, a, b) in pairs {
        let (Some(small), Some(large)) = (small, large) else {
            continue;
        };
        if small > large {
            let shown = if first { small } else { large };
            let why = format!("{a} value {small} is greater than {b} value {large}");
            errors.push(at(field).wrong(shown.to_string(), why));
        }
    }
    let Some(ratio) = ratio else {
        overcommit(errors, &at("defaultRequest"), key, default, request);
        return;
    };
    let place = at("maxLimitRequestRatio");
    if ratio.as_f64() < 1.0 {
        errors.push(place.wrong(ratio.to_string(), format!("ratio {ratio} is less than 1")));
    }
    if let (Some(min), Some(max)) = (min, max) {
        let most = max.as_f64() / min.as_f64();
        if ratio.as_f64() > most {
            let why = format!("ratio {ratio} is greater than max/min = {most:.6}");
            errors.push(place.wrong(ratio.to_string(), why));
        }
    }
    overcommit(errors, &at("defaultRequest"), key, default, request);
}

fn overcommit(errors: &mut Errors, at: &Cursor, key: &str, default: Option<Quantity>, request: Option<Quantity>) {
    let (Some(default), Some(request)) = (default, request) else {
        return;
    };
    let whole = !is_native_resource(key) || key.starts_with("hugepages-");
    if whole && default != request {
        let why = format!("default value {default} must equal to defaultRequest value {request} in {key}");
        errors.push(at.wrong(request.to_string(), why));
    }
}
