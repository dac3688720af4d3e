//! CSIDriver.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, flag, list_at, text_at};
use crate::kinds::rules::{immutable, one_of_or_none};
use crate::kinds::storage::GROUP;
use crate::kinds::warnings::{has, items};
use crate::kinds::{Check, Errors, Generation, Kind};

pub(in crate::kinds) const KIND: Kind = Kind {
    unconditional_update: false,
    generation: Generation::Changes,
    warn,
    returns_deleted: true,
    columns: COLUMNS,
    ..Kind::plain(GROUP, "csidrivers", validate)
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("AttachRequired", "boolean", 0, |d| {
        json!(d.pointer("/spec/attachRequired") != Some(&Value::Bool(false)))
    }),
    ("PodInfoOnMount", "boolean", 0, |d| {
        json!(flag(d, "/spec/podInfoOnMount"))
    }),
    ("StorageCapacity", "boolean", 0, |d| {
        json!(flag(d, "/spec/storageCapacity"))
    }),
    ("TokenRequests", "string", 0, |d| {
        match d.pointer("/spec/tokenRequests") {
            Some(_) => {
                let all: Vec<&str> = list_at(d, "/spec/tokenRequests")
                    .map(|t| text_at(t, "/audience"))
                    .collect();
                json!(all.join(","))
            }
            None => json!("<unset>"),
        }
    }),
    ("RequiresRepublish", "boolean", 0, |d| {
        json!(flag(d, "/spec/requiresRepublish"))
    }),
    ("Modes", "string", 0, |d| {
        let all: Vec<&str> = list_at(d, "/spec/volumeLifecycleModes")
            .filter_map(Value::as_str)
            .collect();
        json!(if all.is_empty() {
            "<none>".to_owned()
        } else {
            all.join(",")
        })
    }),
    AGE,
];

fn warn(told: &mut Vec<String>, driver: &Value, old: Option<&Value>) {
    let requests = |driver: &Value| items(driver.pointer("/spec/tokenRequests")).to_vec();
    let asked = requests(driver);
    let new = !asked.is_empty() && old.is_none_or(|old| requests(old) != asked);
    if new && !has(&driver["spec"], "serviceAccountTokenInSecrets") {
        told.push(
            "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible \
             logging of tokens in volume attributes"
                .to_owned(),
        );
    }
}

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let spec = check.root().get("spec");
    for (field, shown) in [
        ("attachRequired", "attachedRequired"),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
    ] {
        let at = spec.get(field).named(format!("{}.{shown}", spec.path));
        if !at.is_some() {
            errors.push(at.required(""));
        }
    }
    let policy = spec.get("fsGroupPolicy");
    one_of_or_none(&mut errors, &policy, &["File", "None", "ReadWriteOnceWithFSType"]);
    let mut audiences = HashSet::new();
    for request in spec.get("tokenRequests").items() {
        let audience = request.get("audience");
        if !audiences.insert(audience.text()) {
            errors.push(audience.duplicate(audience.text()));
        }
        let seconds = request.get("expirationSeconds");
        if seconds.int().is_some_and(|n| n < 600) {
            errors.push(seconds.invalid("may not specify a duration less than 10 minutes"));
        }
        if seconds.int().is_some_and(|n| n > 1 << 32) {
            errors.push(seconds.invalid("may not specify a duration larger than 2^32 seconds"));
        }
    }
    let modes = spec.get("volumeLifecycleModes");
    for mode in modes
        .items()
        .filter(|m| !matches!(m.text(), "Persistent" | "Ephemeral"))
    {
        errors.push(mode.named(&modes.path).not_supported(&["Ephemeral", "Persistent"]));
    }
    let period = spec.get("nodeAllocatableUpdatePeriodSeconds");
    if period.int().is_some_and(|seconds| seconds < 10) {
        errors.push(period.invalid("must be greater than or equal to 10 seconds"));
    }
    let secrets = spec.get("serviceAccountTokenInSecrets");
    if secrets.is_some() && spec.get("tokenRequests").list().is_empty() {
        errors.push(secrets.invalid("serviceAccountTokenInSecrets is set but no tokenRequests are specified"));
    }
    if let Some(old) = check.before() {
        let before = old.get("spec");
        let attach = spec
            .get("attachRequired")
            .named(format!("{}.attachedRequired", spec.path));
        immutable(&mut errors, &attach, &before.get("attachRequired"));
        immutable(&mut errors, &modes, &before.get("volumeLifecycleModes"));
    }
    errors
}
