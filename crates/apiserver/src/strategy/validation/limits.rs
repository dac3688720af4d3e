//! Rules of LimitRanges, ResourceQuotas, PodDisruptionBudgets and HorizontalPodAutoscalers.

use std::collections::{BTreeSet, HashSet};

use api::names;
use api::quantity::Quantity;

use super::{Check, pod};
use crate::strategy::validation::common::{
    Errors, dns_label, go_struct, int_or_percent, is_native_resource, label_selector, non_negative, not_more_than_all,
    one_of_or_none, problems, resource_quantity,
};
use crate::strategy::validation::cursor::Cursor;

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
const WINDOW: i64 = 3600;
const PERIOD: i64 = 1800;
const METRICS: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];

pub fn limit_range(check: &Check) -> Errors {
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
                    pod::container_resource(&mut errors, &at, name);
                } else {
                    pod::known_resource(&mut errors, &at, name);
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

/// What quotas of Kubernetes' own know, beside huge pages.
pub const QUOTA_RESOURCES: [&str; 19] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];

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
        pod::known_resource(errors, &amount, name);
        if errors.len() == count && !name.contains('/') && !is_quota_resource(name) {
            errors.push(amount.wrong(name, "must be a standard resource for quota"));
        }
        resource_quantity(errors, &amount, name);
    }
}

pub fn quota(check: &Check) -> Errors {
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

pub fn disruption_budget(check: &Check) -> Errors {
    const FIELDS: [(&str, &str, &str); 4] = [
        ("MinAvailable", "minAvailable", "null"),
        ("Selector", "selector", "null"),
        ("MaxUnavailable", "maxUnavailable", "null"),
        ("UnhealthyPodEvictionPolicy", "unhealthyPodEvictionPolicy", "null"),
    ];
    let mut errors = Errors::new();
    let root = check.root();
    if check.is_status() {
        for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
            non_negative(&mut errors, &root.at(&["status", field]));
        }
        return errors;
    }
    let spec = root.get("spec");
    let (least, most) = (spec.get("minAvailable"), spec.get("maxUnavailable"));
    if least.is_some() && most.is_some() {
        let error = spec.invalid("minAvailable and maxUnavailable cannot be both set");
        errors.push(error.shown(&go_struct(&spec, &FIELDS)));
    }
    for at in [&least, &most] {
        int_or_percent(&mut errors, at);
        not_more_than_all(&mut errors, at);
    }
    label_selector(&mut errors, &spec.get("selector"));
    let policy = spec.get("unhealthyPodEvictionPolicy");
    one_of_or_none(&mut errors, &policy, &["AlwaysAllow", "IfHealthyBudget"]);
    errors
}

pub fn autoscaler(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    if check.is_status() {
        for field in ["currentReplicas", "desiredReplicas"] {
            non_negative(&mut errors, &root.at(&["status", field]));
        }
        return errors;
    }
    let spec = root.get("spec");
    let (least, most) = (spec.get("minReplicas"), spec.get("maxReplicas"));
    let old = check.before().map(|old| old.get("spec"));
    // nothing at all is off by default, and stays where it is
    let bound = i64::from(old.as_ref().and_then(|old| old.get("minReplicas").int()) != Some(0));
    if least.int().is_some_and(|n| n < bound) {
        errors.push(least.invalid(format!("must be greater than or equal to {bound}")));
    }
    match most.int().unwrap_or(0) {
        0 => errors.push(most.required("must be set and greater than 0")),
        n if n < 0 => errors.push(most.invalid("must be greater than or equal to 1")),
        _ => {}
    }
    if least.int().is_some_and(|n| n > most.int().unwrap_or(0)) {
        errors.push(most.invalid("must be greater than or equal to `minReplicas`"));
    }
    let target = spec.get("scaleTargetRef");
    let kept = |old: &Cursor| {
        let was = old.get("scaleTargetRef");
        ["apiVersion", "kind"]
            .iter()
            .all(|field| was.get(field).text() == target.get(field).text())
    };
    let group = match target.get("kind").text() {
        _ if old.as_ref().is_some_and(kept) => Group::Kept,
        "ReplicationController" => Group::Any,
        _ => Group::Named,
    };
    reference(&mut errors, &target, group);
    let wrong = |metric: Cursor| {
        let version = metric.at(&["object", "describedObject", "apiVersion"]);
        metric.get("type").text() == "Object" && version.text().matches('/').count() > 1
    };
    let objects = match old.is_some_and(|old| old.get("metrics").items().any(wrong)) {
        true => Group::Kept,
        false => Group::Any,
    };
    for metric in spec.get("metrics").items() {
        metric_source(&mut errors, &metric, objects);
    }
    for direction in ["scaleUp", "scaleDown"] {
        let rules = spec.at(&["behavior", direction]);
        if rules.is_some() {
            scaling_rules(&mut errors, &rules);
        }
    }
    errors
}

/// Of which group the kind of a reference is.
#[derive(Debug, Clone, Copy)]
enum Group {
    /// One with a name.
    Named,
    /// The core group too.
    Any,
    /// Whatever it was.
    Kept,
}

fn reference(errors: &mut Errors, at: &Cursor, group: Group) {
    for field in ["kind", "name"] {
        let part = at.get(field);
        if part.text().is_empty() {
            errors.push(part.required(""));
        } else {
            problems(errors, &part, names::path_segment_errors(part.text()));
        }
    }
    let version = at.get("apiVersion");
    match version.text().matches('/').count() {
        _ if matches!(group, Group::Kept) => {}
        0 if matches!(group, Group::Named) => {
            errors.push(version.wrong(version.text(), "apiVersion must specify API group"));
        }
        0 | 1 => {}
        _ => {
            let why = format!("unexpected GroupVersion string: {}", version.text());
            errors.push(version.invalid(why));
        }
    }
}

fn metric_source(errors: &mut Errors, metric: &Cursor, objects: Group) {
    const FIELDS: [(&str, &str); 5] = [
        ("object", "Object"),
        ("external", "External"),
        ("pods", "Pods"),
        ("resource", "Resource"),
        ("containerResource", "ContainerResource"),
    ];
    let kind = metric.get("type");
    if kind.text().is_empty() {
        errors.push(kind.required("must specify a metric source type"));
    }
    if !METRICS.contains(&kind.text()) {
        errors.push(kind.not_supported(&METRICS));
    }
    let present: Vec<(&str, Cursor)> = FIELDS
        .iter()
        .map(|(field, _)| (*field, metric.get(field)))
        .filter(|(_, at)| at.is_some())
        .collect();
    if let Some((field, at)) = present.first() {
        one_source(errors, field, at, objects);
    }
    let expected = FIELDS
        .iter()
        .find(|(_, name)| *name == kind.text())
        .map(|(field, _)| *field);
    match expected {
        None => errors.push(kind.not_supported(&METRICS)),
        Some(field) if !metric.get(field).is_some() => {
            let why = "must populate information for the given metric source";
            errors.push(metric.get(field).required(why));
        }
        Some(_) => {}
    }
    if present.len() != 1 {
        for (_, at) in present.iter().filter(|(field, _)| Some(*field) != expected) {
            errors.push(at.forbidden("must populate the given metric source only"));
        }
    }
}

fn one_source(errors: &mut Errors, field: &str, at: &Cursor, objects: Group) {
    let target = at.get("target");
    let has = |field: &'static str| target.get(field).is_some();
    match field {
        "object" => reference(errors, &at.get("describedObject"), objects),
        "resource" | "containerResource" => {
            let name = at.get("name");
            if name.text().is_empty() {
                errors.push(name.required("must specify a resource name"));
            } else if field == "containerResource" {
                pod::container_resource(errors, &name, name.text());
            }
        }
        _ => {}
    }
    if field == "containerResource" {
        let container = at.get("container");
        if container.text().is_empty() {
            errors.push(container.required("must specify a container"));
        } else {
            dns_label(errors, &container);
        }
    }
    if matches!(field, "object" | "external" | "pods") {
        let name = at.at(&["metric", "name"]);
        if name.text().is_empty() {
            errors.push(name.required("must specify a metric name"));
        } else {
            problems(errors, &name, names::path_segment_errors(name.text()));
        }
    }
    metric_target(errors, &target);
    let (average, value, utilization) = (
        target.get("averageValue"),
        target.get("value"),
        target.get("averageUtilization"),
    );
    match field {
        "object" if !has("value") && !has("averageValue") => {
            errors.push(average.required("must set either a target value or averageValue"));
        }
        "external" if !has("value") && !has("averageValue") => {
            errors.push(average.required("must set either a target value for metric or a per-pod target"));
        }
        "external" if has("value") && has("averageValue") => {
            errors.push(value.forbidden("may not set both a target value for metric and a per-pod target"));
        }
        "pods" if !has("averageValue") => {
            errors.push(average.required("must specify a positive target averageValue"));
        }
        "resource" | "containerResource" => match (has("averageUtilization"), has("averageValue")) {
            (false, false) => {
                errors.push(utilization.required("must set either a target raw value or a target utilization"));
            }
            (true, true) => {
                errors.push(average.forbidden("may not set both a target raw value and a target utilization"));
            }
            _ => {}
        },
        _ => {}
    }
}

fn metric_target(errors: &mut Errors, target: &Cursor) {
    let kind = target.get("type");
    if kind.text().is_empty() {
        errors.push(kind.required("must specify a metric target type"));
    }
    if !matches!(kind.text(), "Utilization" | "Value" | "AverageValue") {
        errors.push(kind.wrong(kind.text(), "must be either Utilization, Value, or AverageValue"));
    }
    for field in ["value", "averageValue"] {
        let at = target.get(field);
        if at.quantity().is_some_and(|q| q.is_zero() || q.is_negative()) {
            errors.push(at.invalid("must be positive"));
        }
    }
    let utilization = target.get("averageUtilization");
    if utilization.int().is_some_and(|n| n < 1) {
        errors.push(utilization.invalid("must be greater than 0"));
    }
}

fn scaling_rules(errors: &mut Errors, rules: &Cursor) {
    let window = rules.get("stabilizationWindowSeconds");
    if window.int().is_some_and(|n| n < 0) {
        errors.push(window.invalid("must be greater than or equal to zero"));
    }
    if window.int().is_some_and(|n| n > WINDOW) {
        errors.push(window.invalid(format!("must be less than or equal to {WINDOW}")));
    }
    one_of_or_none(errors, &rules.get("selectPolicy"), &["Disabled", "Max", "Min"]);
    let policies = rules.get("policies");
    if policies.list().is_empty() {
        errors.push(policies.required("must specify at least one Policy"));
    }
    for policy in policies.items() {
        let kind = policy.get("type");
        if !matches!(kind.text(), "Pods" | "Percent") {
            errors.push(kind.not_supported(&["Percent", "Pods"]));
        }
        for field in ["value", "periodSeconds"] {
            let at = policy.get(field);
            let n = at.int().unwrap_or(0);
            if n <= 0 {
                errors.push(at.wrong(n, "must be greater than zero"));
            }
            if field == "periodSeconds" && n > PERIOD {
                errors.push(at.invalid(format!("must be less than or equal to {PERIOD}")));
            }
        }
    }
    let tolerance = rules.get("tolerance");
    if tolerance.quantity().is_some_and(|q| q.is_negative()) {
        errors.push(tolerance.invalid("must be greater than or equal to 0"));
    }
}
