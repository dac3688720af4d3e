//! Defaults of the kinds that make pods or are about them, and of a few others.

use serde_json::{Map, Value, json};

use crate::defaults::core::{claim_spec, template};
use crate::defaults::{items, made, object, set};
use crate::features;

type Object = Map<String, Value>;

pub(crate) fn default(kind: &str, top: &mut Object) {
    let version = top
        .get("apiVersion")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let Some(spec) = made(top, "spec") else { return };
    match kind {
        "Deployment" => {
            set(spec, "replicas", 1);
            set(spec, "revisionHistoryLimit", 10);
            set(spec, "progressDeadlineSeconds", 600);
            if let Some(strategy) = made(spec, "strategy") {
                set(strategy, "type", "RollingUpdate");
                if strategy.get("type").is_some_and(|t| t == "RollingUpdate")
                    && let Some(rolling) = made(strategy, "rollingUpdate")
                {
                    set(rolling, "maxUnavailable", "25%");
                    set(rolling, "maxSurge", "25%");
                }
            }
            template(spec);
        }
        "ReplicaSet" => {
            set(spec, "replicas", 1);
            template(spec);
        }
        "DaemonSet" => {
            set(spec, "revisionHistoryLimit", 10);
            if let Some(strategy) = made(spec, "updateStrategy") {
                set(strategy, "type", "RollingUpdate");
                if strategy.get("type").is_some_and(|t| t == "RollingUpdate")
                    && let Some(rolling) = made(strategy, "rollingUpdate")
                {
                    set(rolling, "maxUnavailable", 1);
                    set(rolling, "maxSurge", 0);
                }
            }
            template(spec);
        }
        "StatefulSet" => {
            set(spec, "podManagementPolicy", "OrderedReady");
            set(spec, "replicas", 1);
            set(spec, "revisionHistoryLimit", 10);
            if let Some(strategy) = made(spec, "updateStrategy") {
                // who names the type says all of the strategy
                if strategy.get("type").is_none_or(|t| t.is_null() || t == "") {
                    strategy.insert("type".into(), json!("RollingUpdate"));
                    made(strategy, "rollingUpdate");
                }
                if strategy.get("type").is_some_and(|t| t == "RollingUpdate")
                    && let Some(rolling) = object(strategy, "rollingUpdate")
                {
                    set(rolling, "partition", 0);
                    if features::enabled("MaxUnavailableStatefulSet") {
                        set(rolling, "maxUnavailable", 1);
                    }
                }
            }
            if let Some(policy) = made(spec, "persistentVolumeClaimRetentionPolicy") {
                set(policy, "whenDeleted", "Retain");
                set(policy, "whenScaled", "Retain");
            }
            for claim in items(spec, "volumeClaimTemplates") {
                // whatever it says of itself
                claim.insert("apiVersion".to_owned(), "v1".into());
                claim.insert("kind".to_owned(), "PersistentVolumeClaim".into());
                if let Some(spec) = made(claim, "spec") {
                    claim_spec(spec);
                }
                if let Some(status) = made(claim, "status") {
                    set(status, "phase", "Pending");
                }
            }
            template(spec);
        }
        "Job" => {
            job(spec);
            set(spec, "manualSelector", false);
            let labels = spec
                .get("template")
                .and_then(|t| t.pointer("/metadata/labels"))
                .cloned();
            own_labels(top, labels);
        }
        "CronJob" => {
            set(spec, "concurrencyPolicy", "Allow");
            set(spec, "suspend", false);
            set(spec, "successfulJobsHistoryLimit", 3);
            set(spec, "failedJobsHistoryLimit", 1);
            if let Some(inner) = object(spec, "jobTemplate").and_then(|t| object(t, "spec")) {
                template(inner);
            }
        }
        "HorizontalPodAutoscaler" => autoscaler(spec, &version),
        _ => {}
    }
}

/// An object without labels has those of its template.
fn own_labels(top: &mut Object, labels: Option<Value>) {
    let Some(labels) = labels.filter(|l| l.as_object().is_some_and(|m| !m.is_empty())) else {
        return;
    };
    let Some(metadata) = made(top, "metadata") else { return };
    if metadata
        .get("labels")
        .and_then(Value::as_object)
        .is_none_or(Map::is_empty)
    {
        metadata.insert("labels".into(), labels);
    }
}

fn autoscaler(spec: &mut Object, version: &str) {
    set(spec, "minReplicas", 1);
    if version != "autoscaling/v2" {
        return;
    }
    if spec.get("metrics").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        let target = json!({ "type": "Utilization", "averageUtilization": 80 });
        let metrics = json!([{ "type": "Resource", "resource": { "name": "cpu", "target": target } }]);
        spec.insert("metrics".into(), metrics);
    }
    let Some(behavior) = object(spec, "behavior") else {
        return;
    };
    let percent = json!({ "type": "Percent", "value": 100, "periodSeconds": 15 });
    let pods = json!({ "type": "Pods", "value": 4, "periodSeconds": 15 });
    if let Some(up) = made(behavior, "scaleUp") {
        set(up, "stabilizationWindowSeconds", 0);
        set(up, "selectPolicy", "Max");
        set(up, "policies", json!([pods, percent]));
    }
    if let Some(down) = made(behavior, "scaleDown") {
        set(down, "selectPolicy", "Max");
        set(down, "policies", json!([percent]));
    }
}

fn job(spec: &mut Object) {
    let given = |spec: &Object, key: &str| spec.get(key).is_some_and(|v| !v.is_null());
    if !given(spec, "completions") && !given(spec, "parallelism") {
        set(spec, "completions", 1);
    }
    set(spec, "parallelism", 1);
    if given(spec, "backoffLimitPerIndex") {
        set(spec, "backoffLimit", i32::MAX);
    } else {
        set(spec, "backoffLimit", 6);
    }
    set(spec, "completionMode", "NonIndexed");
    set(spec, "suspend", false);
    let policy = if given(spec, "podFailurePolicy") {
        "Failed"
    } else {
        "TerminatingOrFailed"
    };
    set(spec, "podReplacementPolicy", policy);
    if let Some(failure) = object(spec, "podFailurePolicy") {
        for rule in items(failure, "rules") {
            items(rule, "onPodConditions").for_each(|c| set(c, "status", "True"));
        }
    }
    template(spec);
}

/// A policy without types is for ingress, and for egress if it has such rules.
pub fn network_policy(top: &mut Object) {
    let Some(spec) = object(top, "spec") else { return };
    let egress = spec
        .get("egress")
        .and_then(Value::as_array)
        .is_some_and(|e| !e.is_empty());
    let types = if egress {
        json!(["Ingress", "Egress"])
    } else {
        json!(["Ingress"])
    };
    set(spec, "policyTypes", types);
    for (rules, _) in [("ingress", "from"), ("egress", "to")] {
        for rule in items(spec, rules) {
            items(rule, "ports").for_each(|p| set(p, "protocol", "TCP"));
        }
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";

pub(crate) fn binding(top: &mut Object) {
    if let Some(role) = object(top, "roleRef") {
        set(role, "apiGroup", RBAC);
        if role.get("apiGroup").is_some_and(|g| g == "") {
            role.insert("apiGroup".into(), json!(RBAC));
        }
    }
    for subject in items(top, "subjects") {
        let kind = subject.get("kind").and_then(Value::as_str).unwrap_or_default();
        if matches!(kind, "User" | "Group") {
            set(subject, "apiGroup", RBAC);
        }
    }
}

pub(crate) fn endpoint_slice(top: &mut Object) {
    for port in items(top, "ports") {
        set(port, "name", "");
        set(port, "protocol", "TCP");
    }
}

pub(crate) fn definition(top: &mut Object) {
    let versions = top
        .get("spec")
        .and_then(|spec| spec.get("versions"))
        .and_then(Value::as_array);
    let stored = versions
        .into_iter()
        .flatten()
        .find(|v| v["storage"] == true)
        .map(|v| v["name"].clone());
    let said = top.get("status").and_then(|status| status.get("storedVersions"));
    let none = said.and_then(Value::as_array).is_none_or(Vec::is_empty);
    if let Some(stored) = stored.filter(|_| none)
        && let Some(status) = made(top, "status")
    {
        status.insert("storedVersions".to_owned(), Value::Array(vec![stored]));
    }
    let Some(spec) = object(top, "spec") else { return };
    if let Some(names) = made(spec, "names") {
        let kind = names.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        if !kind.is_empty() {
            set(names, "singular", kind.to_lowercase());
            set(names, "listKind", format!("{kind}List"));
        }
    }
    if let Some(conversion) = made(spec, "conversion") {
        set(conversion, "strategy", "None");
        let client = object(conversion, "webhook").and_then(|webhook| object(webhook, "clientConfig"));
        if let Some(service) = client.and_then(|client| object(client, "service")) {
            set(service, "port", 443);
        }
    }
}
