//! HorizontalPodAutoscaler, in its two versions.

use api::names;
use serde_json::{Value, json};

use crate::kinds::autoscaling::round_trip::{self, Kept};
use crate::kinds::columns::{AGE, BuiltinColumn, NAME, count, int_or, list_at, or, text_at};
use crate::kinds::pod_template::resources;
use crate::kinds::rules::{dns_label, non_negative, one_of_or_none, problems};
use crate::kinds::{Check, Cursor, Errors, Generation, Kind, Stored};
use crate::tree::{put, take};

pub(in crate::kinds) const KIND: Kind = Kind {
    generation: Generation::Counted,
    stored: Some(Stored {
        version: "autoscaling/v2",
        convert,
    }),
    read,
    columns: COLUMNS,
    ..Kind::new("autoscaling", "horizontalpodautoscalers", validate)
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Reference", "string", 0, |h| {
        json!(format!(
            "{}/{}",
            text_at(h, "/spec/scaleTargetRef/kind"),
            text_at(h, "/spec/scaleTargetRef/name")
        ))
    }),
    ("Targets", "string", 0, metrics),
    ("MinPods", "string", 0, |h| int_or(h, "/spec/minReplicas", "<unset>")),
    ("MaxPods", "string", 0, |h| json!(count(h, "/spec/maxReplicas"))),
    ("Replicas", "string", 0, |h| json!(count(h, "/status/currentReplicas"))),
    AGE,
];

/// No version but v1 has annotations for parts of an autoscaler, and v1 shows the metric that one without any has.
fn read(tree: &mut Value) {
    if tree["apiVersion"] != "autoscaling/v1" {
        return round_trip::drop_from(tree);
    }
    if tree
        .pointer("/spec/targetCPUUtilizationPercentage")
        .is_none_or(Value::is_null)
        && Kept::metrics_of(tree).is_none_or(|metrics| metrics.is_empty())
        && tree.get("spec").is_some_and(Value::is_object)
    {
        tree["spec"]["targetCPUUtilizationPercentage"] = json!(CPU);
    }
}

/// What an autoscaler measures, each as now/target.
fn metrics(autoscaler: &Value) -> Value {
    let current = |i: usize| {
        autoscaler
            .pointer(&format!("/status/currentMetrics/{i}"))
            .unwrap_or(&Value::Null)
    };
    let mut all = Vec::new();
    for (i, metric) in list_at(autoscaler, "/spec/metrics").enumerate() {
        let now = current(i);
        let known = |path: &str| or(now, path, "<unknown>").as_str().unwrap_or_default().to_owned();
        let utilization = |kind: &str| {
            let percent =
                |tree: &Value, path: &str| tree.pointer(path).and_then(Value::as_i64).map(|p| format!("{p}%"));
            let have = percent(now, &format!("/{kind}/current/averageUtilization"));
            let want = percent(metric, &format!("/{kind}/target/averageUtilization"));
            format!(
                "{}/{}",
                have.unwrap_or_else(|| "<unknown>".into()),
                want.unwrap_or_else(|| "<auto>".into())
            )
        };
        let average = |kind: &str| text_at(metric, &format!("/{kind}/target/averageValue")).to_owned();
        all.push(match text_at(metric, "/type") {
            "Resource" | "ContainerResource" => {
                let kind = if metric["type"] == "Resource" {
                    "resource"
                } else {
                    "containerResource"
                };
                let name = text_at(metric, &format!("/{kind}/name"));
                match average(kind) {
                    target if target.is_empty() => format!("{name}: {}", utilization(kind)),
                    target => format!("{name}: {}/{target}", known(&format!("/{kind}/current/averageValue"))),
                }
            }
            "Pods" => format!("{}/{}", known("/pods/current/averageValue"), average("pods")),
            other @ ("Object" | "External") => {
                let kind = other.to_lowercase();
                match average(&kind) {
                    target if target.is_empty() => {
                        let target = text_at(metric, &format!("/{kind}/target/value"));
                        format!("{}/{target}", known(&format!("/{kind}/current/value")))
                    }
                    target => format!("{}/{target} (avg)", known(&format!("/{kind}/current/averageValue"))),
                }
            }
            _ => "<unknown type>".into(),
        });
    }
    json!(match all.len() {
        0 => "<none>".into(),
        n if n > 2 => format!("{} + {} more...", all[..2].join(", "), n - 2),
        _ => all.join(", "),
    })
}

/// Whether `autoscaling/v1` has a field for the metric.
fn is_cpu(metric: &Value) -> bool {
    metric["type"] == "Resource"
        && metric["resource"]["name"] == "cpu"
        && metric
            .pointer("/resource/target/averageUtilization")
            .is_some_and(|percent| !percent.is_null())
}

/// `autoscaling/v1` knows one metric, CPU utilization; v2 knows all. The parts that v1 has no field for travel in annotations.
fn convert(mut tree: Value, to: &str) -> Value {
    if to == "autoscaling/v1" {
        let mut kept = Kept::default();
        if let Some(spec) = tree.get_mut("spec") {
            if let Some(Value::Array(metrics)) = take(spec, "metrics") {
                let (cpu, others) = metrics.into_iter().partition::<Vec<_>, _>(is_cpu);
                let target = cpu
                    .first()
                    .and_then(|cpu| cpu.pointer("/resource/target/averageUtilization"));
                put(spec, "targetCPUUtilizationPercentage", target.cloned());
                kept.metrics = Some(others);
            }
            kept.behavior = take(spec, "behavior");
        }
        if let Some(status) = tree.get_mut("status") {
            if let Some(Value::Array(current)) = take(status, "currentMetrics") {
                let used = current.iter().rev().find_map(|metric| {
                    let is_cpu = metric["type"] == "Resource" && metric["resource"]["name"] == "cpu";
                    metric
                        .pointer("/resource/current/averageUtilization")
                        .filter(|_| is_cpu)
                });
                put(status, "currentCPUUtilizationPercentage", used.cloned());
                kept.current = Some(current);
            }
            kept.conditions = take(status, "conditions");
        }
        kept.write(&mut tree);
    } else {
        let kept = Kept::take(&mut tree);
        if let Some(spec) = tree.get_mut("spec") {
            let mut all = kept.metrics.unwrap_or_default();
            if let Some(percent) = take(spec, "targetCPUUtilizationPercentage") {
                all.push(cpu_utilization(&percent));
            }
            if all.is_empty() {
                all.push(cpu_utilization(&json!(CPU)));
            }
            put(spec, "metrics", Some(Value::Array(all)));
            put(spec, "behavior", kept.behavior);
        }
        if let Some(status) = tree.get_mut("status") {
            let used = take(status, "currentCPUUtilizationPercentage").map(|used| {
                let current = json!({ "averageUtilization": used });
                vec![json!({ "type": "Resource", "resource": { "name": "cpu", "current": current } })]
            });
            put(status, "currentMetrics", kept.current.or(used).map(Value::Array));
            put(status, "conditions", kept.conditions);
        }
    }
    tree["apiVersion"] = json!(to);
    tree
}

/// The utilization, in percent, that an autoscaler without metrics aims at.
const CPU: i64 = 80;

fn cpu_utilization(percent: &Value) -> Value {
    let target = json!({ "type": "Utilization", "averageUtilization": percent });
    json!({ "type": "Resource", "resource": { "name": "cpu", "target": target } })
}

const WINDOW: i64 = 3600;

const PERIOD: i64 = 1800;

const METRICS: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];

/// The rules of an autoscaler, which are those of v2 in any version.
fn validate(check: &Check) -> Errors {
    if check.new["apiVersion"] == "autoscaling/v1" {
        let in_v2 = |tree: &Value| convert(tree.clone(), "autoscaling/v2");
        let (new, old) = (in_v2(check.new), check.old.map(in_v2));
        return validate(&Check {
            new: &new,
            old: old.as_ref(),
            subresource: check.subresource,
            custom: None,
            now: check.now,
        });
    }
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
    if least.int().is_some_and(|n| n < 0) {
        errors.push(least.invalid("must be greater than or equal to 0"));
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
    let metrics = spec.get("metrics");
    for metric in metrics.items() {
        metric_source(&mut errors, &metric, objects);
    }
    let wakes = |metric: Cursor| matches!(metric.get("type").text(), "Object" | "External");
    if least.int() == Some(0) && !metrics.items().any(wakes) {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.push(metrics.forbidden(why));
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
                resources::container_name(errors, &name, name.text());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn autoscaler(spec: Value, status: Value) -> Value {
        json!({ "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": { "name": "a" },
            "spec": spec, "status": status })
    }

    fn annotation<'a>(v1: &'a Value, name: &str) -> &'a str {
        let annotation = &v1["metadata"]["annotations"][format!("autoscaling.alpha.kubernetes.io/{name}")];
        annotation.as_str().unwrap_or_default()
    }

    /// `pkg/apis/autoscaling/v1/conversion.go`
    #[test]
    fn an_autoscaler_survives_the_way_to_v1_and_back() {
        let selector = json!({ "matchExpressions": [{ "key": "k", "operator": "In", "values": ["v"] }], "matchLabels": { "a": "b" } });
        let policies = json!([{ "type": "Pods", "value": 4, "periodSeconds": 15 }]);
        let v2 = autoscaler(
            json!({ "maxReplicas": 3, "behavior": { "scaleUp": { "selectPolicy": "Max", "policies": policies, "tolerance": "100m" } },
                "metrics": [
                    { "type": "Pods", "pods": { "metric": { "name": "x", "selector": selector },
                        "target": { "type": "AverageValue", "averageValue": "1k" } } },
                    { "type": "Object", "object": { "metric": { "name": "o" }, "describedObject": { "kind": "Pod", "name": "p" },
                        "target": { "type": "Value", "value": "5" } } },
                    { "type": "Resource", "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 70 } } },
                ] }),
            json!({ "conditions": [{ "type": "AbleToScale", "status": "True", "lastTransitionTime": null, "message": "<m>" }],
                "currentMetrics": [{ "type": "Resource", "resource": { "name": "cpu",
                    "current": { "averageValue": "2", "averageUtilization": 9 } } }] }),
        );
        let v1 = convert(v2.clone(), "autoscaling/v1");
        assert_eq!(
            v1["spec"],
            json!({ "maxReplicas": 3, "targetCPUUtilizationPercentage": 70 })
        );
        assert_eq!(v1["status"], json!({ "currentCPUUtilizationPercentage": 9 }));
        assert_eq!(
            annotation(&v1, "metrics"),
            r#"[{"type":"Pods","pods":{"metricName":"x","targetAverageValue":"1k","selector":{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"k","operator":"In","values":["v"]}]}}},{"type":"Object","object":{"target":{"kind":"Pod","name":"p"},"metricName":"o","targetValue":"5"}}]"#
        );
        assert_eq!(
            annotation(&v1, "behavior"),
            r#"{"ScaleUp":{"StabilizationWindowSeconds":null,"SelectPolicy":"Max","Policies":[{"Type":"Pods","Value":4,"PeriodSeconds":15}],"Tolerance":"100m"},"ScaleDown":null}"#
        );
        assert_eq!(
            annotation(&v1, "conditions"),
            r#"[{"type":"AbleToScale","status":"True","lastTransitionTime":null,"message":"\u003cm\u003e"}]"#
        );
        assert_eq!(
            annotation(&v1, "current-metrics"),
            r#"[{"type":"Resource","resource":{"name":"cpu","currentAverageUtilization":9,"currentAverageValue":"2"}}]"#
        );
        assert_eq!(convert(v1, "autoscaling/v2"), v2);
    }

    #[test]
    fn an_annotation_that_is_not_of_its_form_counts_as_none() {
        let mut v1 = autoscaler(json!({ "maxReplicas": 3 }), json!({}));
        v1["metadata"]["annotations"] = json!({ "autoscaling.alpha.kubernetes.io/metrics": "[{\"type\":5}]",
            "autoscaling.alpha.kubernetes.io/behavior": "{}", "a": "b" });
        let v2 = convert(v1, "autoscaling/v2");
        assert_eq!(v2["metadata"]["annotations"], json!({ "a": "b" }));
        assert_eq!(
            v2["spec"],
            json!({ "maxReplicas": 3, "metrics": [cpu_utilization(&json!(80))] })
        );
    }
}
