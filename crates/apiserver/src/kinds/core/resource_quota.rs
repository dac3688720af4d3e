//! ResourceQuota.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::kinds::columns::{AGE, BuiltinColumn, NAME};
use crate::kinds::cursor::quantity;
use crate::kinds::pod_template::resources;
use crate::kinds::pod_template::resources::QUOTA_RESOURCES;
use crate::kinds::rules::resource_quantity;
use crate::kinds::{Check, Cursor, Errors, Kind};

pub(in crate::kinds) const KIND: Kind = Kind {
    warn: |told, new, old| {
        if old.is_none() {
            warn(told, new);
        }
    },
    returns_deleted: true,
    columns: COLUMNS,
    ..Kind::new("", "resourcequotas", validate)
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Request", "string", 0, |q| sums(q, false)),
    ("Limit", "string", 0, |q| sums(q, true)),
    AGE,
];

fn sums(quota: &Value, limits: bool) -> Value {
    let hard = quota.pointer("/status/hard").and_then(Value::as_object);
    let used = |name: &str| {
        quota
            .pointer("/status/used")
            .and_then(|u| u.get(name))
            .and_then(Value::as_str)
            .unwrap_or("0")
    };
    let of_kind = hard
        .into_iter()
        .flatten()
        .filter(|(name, _)| name.starts_with("limits.") == limits);
    let all: Vec<String> = of_kind
        .map(|(name, hard)| format!("{name}: {}/{}", used(name), hard.as_str().unwrap_or("0")))
        .collect();
    json!(all.join(", "))
}

fn warn(told: &mut Vec<String>, object: &Value) {
    let hard = |name: &str| quantity(object["spec"]["hard"].get(name)?);
    for resource in ["cpu", "memory", "storage", "ephemeral-storage"] {
        let named = |name: String| hard(&name).map(|amount| (name, amount));
        let bare = || named(resource.to_owned()).filter(|_| matches!(resource, "cpu" | "memory"));
        let request = named(format!("requests.{resource}")).or_else(bare);
        let limit = named(format!("limits.{resource}"));
        if let (Some((request, least)), Some((limit, most))) = (request, limit)
            && least > most
        {
            told.push(format!(
                "ResourceQuota {request} ({least}) should be less than {limit} ({most})"
            ));
        }
    }
}

const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];

/// Scopes that can only be there or not.
const PLAIN_SCOPES: [&str; 5] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "CrossNamespacePodAffinity",
];

const CONFLICTS: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];

/// A resource that quotas of Kubernetes' own know.
fn is_quota_resource(name: &str) -> bool {
    QUOTA_RESOURCES.contains(&name) || name.starts_with("hugepages-") || name.starts_with("requests.hugepages-")
}

fn scope_fits(scope: &str, resource: &str) -> bool {
    let compute = matches!(
        resource,
        "pods" | "cpu" | "memory" | "requests.cpu" | "requests.memory" | "limits.cpu" | "limits.memory"
    );
    match scope {
        "BestEffort" => resource == "pods",
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => compute,
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    }
}

fn amounts(errors: &mut Errors, map: &Cursor) {
    for (name, amount) in map.entries() {
        let count = errors.len();
        resources::known(errors, &amount, name);
        if errors.len() == count && !name.contains('/') && !is_quota_resource(name) {
            errors.push(amount.wrong(name, "must be a standard resource for quota"));
        }
        resource_quantity(errors, &amount, name);
    }
}

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    let (spec, status) = (root.get("spec"), root.get("status"));
    if check.is_status() {
        amounts(&mut errors, &status.get("hard"));
        amounts(&mut errors, &status.get("used"));
        return errors;
    }
    let hard = spec.get("hard");
    amounts(&mut errors, &hard);
    let scopes = spec.get("scopes");
    let names: Vec<&str> = scopes.items().map(|s| s.text()).collect();
    let unfit = |scope: &str| {
        let of_quota = hard.entries().filter(|(name, _)| is_quota_resource(name));
        of_quota.filter(|(name, _)| !scope_fits(scope, name)).count()
    };
    for scope in &names {
        if !SCOPES.contains(scope) {
            errors.push(scopes.invalid("unsupported scope"));
        }
        for _ in 0..unfit(scope) {
            errors.push(scopes.invalid("unsupported scope applied to resource"));
        }
    }
    for pair in CONFLICTS {
        if pair.iter().all(|s| names.contains(s)) {
            errors.push(scopes.invalid("conflicting scopes"));
        }
    }
    scope_selector(&mut errors, &spec, &unfit);
    if let Some(old) = check.before() {
        let were: BTreeSet<&str> = old.at(&["spec", "scopes"]).items().map(|s| s.text()).collect();
        if were != names.iter().copied().collect() {
            errors.push(scopes.invalid("field is immutable"));
        }
    }
    errors
}

fn scope_selector(errors: &mut Errors, spec: &Cursor, unfit: &dyn Fn(&str) -> usize) {
    let selector = spec.get("scopeSelector");
    let list = selector.get("matchExpressions");
    // errors name the list and not the item, as upstream's
    let list = list.named(format!("{}.matchExpressions", selector.path));
    let mut names = Vec::new();
    for term in list.items() {
        let of_list = |field: &'static str| term.get(field).named(list.get(field).path);
        let [scope, operator, values] = ["scopeName", "operator", "values"].map(of_list);
        if !SCOPES.contains(&scope.text()) {
            errors.push(scope.wrong(scope.text(), "unsupported scope"));
        }
        for _ in 0..unfit(scope.text()) {
            errors.push(list.wrong(selector.value.clone(), "unsupported scope applied to resource"));
        }
        if PLAIN_SCOPES.contains(&scope.text()) && operator.text() != "Exists" {
            let why = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                       ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort \
                       or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.push(operator.wrong(operator.text(), why));
        }
        match operator.text() {
            "In" | "NotIn" if values.list().is_empty() => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.push(values.required(why));
            }
            "Exists" | "DoesNotExist" if !values.list().is_empty() => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.push(values.invalid(why));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.push(operator.wrong(other, "not a valid selector operator")),
        }
        names.push(scope.text());
    }
    for pair in CONFLICTS {
        if pair.iter().all(|s| names.contains(s)) {
            errors.push(list.wrong(spec.get("scopes").value.clone(), "conflicting scopes"));
        }
    }
}
