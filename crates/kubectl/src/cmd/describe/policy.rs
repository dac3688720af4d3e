//! `describe` of what limits and scales: autoscalers, budgets, quotas, ranges and priorities.

use serde_json::Value;

use super::plain::{RANGE_HEADS, limits};
use super::text::{Text, date, entries, head, in_one_line, int, items, selector, str_of};
use crate::print::go;

pub(crate) fn autoscaler(w: &mut Text, object: &Value) {
    let (spec, status) = (&object["spec"], &object["status"]);
    head(w, object);
    w.pair(0, "CreationTimestamp", &date(&object["metadata"]["creationTimestamp"]));
    let target = &spec["scaleTargetRef"];
    let kind = str_of(&target["kind"]);
    w.pair(0, "Reference", &format!("{kind}/{}", str_of(&target["name"])));
    w.pair(0, "Metrics", "( current / target )");
    for (at, metric) in items(&spec["metrics"]).enumerate() {
        self::metric(w, metric, &status["currentMetrics"][at]);
    }
    let min = spec["minReplicas"]
        .as_i64()
        .map_or("<unset>".to_owned(), |m| m.to_string());
    w.pair(0, "Min replicas", &min);
    w.pair(0, "Max replicas", &int(&spec["maxReplicas"]).to_string());
    let behavior = &spec["behavior"];
    if behavior.is_object() {
        w.line(0, "Behavior:");
        direction(w, "Scale Up", &behavior["scaleUp"]);
        direction(w, "Scale Down", &behavior["scaleDown"]);
    }
    let (current, desired) = (int(&status["currentReplicas"]), int(&status["desiredReplicas"]));
    w.line(0, &format!("{kind} pods:\t{current} current / {desired} desired"));
    if items(&status["conditions"]).next().is_some() {
        w.line(0, "Conditions:");
        w.line(1, "Type\tStatus\tReason\tMessage");
        w.line(1, "----\t------\t------\t-------");
        for c in items(&status["conditions"]) {
            let text = |field: &str| str_of(&c[field]);
            w.line(
                1,
                &[text("type"), text("status"), text("reason"), text("message")].join("\t"),
            );
        }
    }
}

/// One line: of what, where it is, where it should be.
fn metric(w: &mut Text, metric: &Value, now: &Value) {
    let shown = |value: &Value| match value {
        Value::Null => "<unknown>".to_owned(),
        value => go::sprint(value),
    };
    let kind = str_of(&metric["type"]);
    let (of, source) = match kind {
        "Resource" => ("resource", &metric["resource"]),
        "ContainerResource" => ("containerResource", &metric["containerResource"]),
        "Pods" => ("pods", &metric["pods"]),
        "Object" => ("object", &metric["object"]),
        "External" => ("external", &metric["external"]),
        other => {
            w.line(1, &format!("<unknown metric type {}>", go::quote(other)));
            return;
        }
    };
    let (target, current) = (&source["target"], &now[of]["current"]);
    let name = go::quote(str_of(&source["metric"]["name"]));
    let average = format!(
        "{} / {}",
        shown(&current["averageValue"]),
        shown(&target["averageValue"])
    );
    let value = format!("{} / {}", shown(&current["value"]), shown(&target["value"]));
    let line = match kind {
        "Pods" => format!("{name} on pods:\t{average}"),
        "External" if target["averageValue"].is_null() => format!("{name} (target value):\t{value}"),
        "External" => format!("{name} (target average value):\t{average}"),
        "Object" => {
            let object = &source["describedObject"];
            let object = format!("{}/{}", str_of(&object["kind"]), str_of(&object["name"]));
            if target["type"] == "AverageValue" {
                format!("{name} on {object} (target average value):\t{average}")
            } else {
                format!("{name} on {object} (target value):\t{value}")
            }
        }
        _ => {
            let resource = str_of(&source["name"]);
            let container = match source["container"].as_str() {
                Some(container) => format!(" of container \"{container}\""),
                None => String::new(),
            };
            if target["averageValue"].is_null() {
                let current = match current["averageUtilization"].as_i64() {
                    Some(percent) => format!("{percent}% ({})", str_of(&current["averageValue"])),
                    None => "<unknown>".to_owned(),
                };
                let target = target["averageUtilization"]
                    .as_i64()
                    .map_or("<auto>".to_owned(), |t| format!("{t}%"));
                // the indent of a line stands in its middle
                format!("resource {resource}{container} on pods  (as a percentage of request):\t{current} / {target}")
            } else {
                format!("resource {resource}{container} on pods:\t{average}")
            }
        }
    };
    w.line(1, &line);
}

fn direction(w: &mut Text, title: &str, rules: &Value) {
    if !rules.is_object() {
        return;
    }
    w.line(1, &format!("{title}:"));
    if let Some(seconds) = rules["stabilizationWindowSeconds"].as_i64() {
        w.line(2, &format!("Stabilization Window: {seconds} seconds"));
    }
    if items(&rules["policies"]).next().is_some() {
        let select = rules["selectPolicy"].as_str().unwrap_or("Max");
        w.line(2, &format!("Select Policy: {select}"));
        w.line(2, "Policies:");
        for p in items(&rules["policies"]) {
            let (kind, value, period) = (str_of(&p["type"]), int(&p["value"]), int(&p["periodSeconds"]));
            w.line(3, &format!("- Type: {kind}\tValue: {value}\tPeriod: {period} seconds"));
        }
    }
}

pub(crate) fn budget(w: &mut Text, object: &Value) {
    let (meta, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    w.pair(0, "Name", str_of(&meta["name"]));
    w.pair(0, "Namespace", str_of(&meta["namespace"]));
    if spec["minAvailable"].is_null() {
        w.some(0, "Max unavailable", &spec["maxUnavailable"]);
    } else {
        w.some(0, "Min available", &spec["minAvailable"]);
    }
    match selector(&spec["selector"]) {
        _ if spec["selector"].is_null() => w.line(0, "Selector:\t<unset>"),
        text => w.pair(0, "Selector", if text.is_empty() { "<none>" } else { &text }),
    }
    w.line(0, "Status:");
    w.pair(
        2,
        "Allowed disruptions",
        &int(&status["disruptionsAllowed"]).to_string(),
    );
    for (title, field) in [
        ("Current", "currentHealthy"),
        ("Desired", "desiredHealthy"),
        ("Total", "expectedPods"),
    ] {
        w.pair(2, title, &int(&status[field]).to_string());
    }
}

pub(crate) fn quota(w: &mut Text, quota: &Value) {
    w.pair(0, "Name", str_of(&quota["metadata"]["name"]));
    w.pair(0, "Namespace", str_of(&quota["metadata"]["namespace"]));
    let mut scopes: Vec<&str> = items(&quota["spec"]["scopes"]).map(str_of).collect();
    scopes.sort_unstable();
    if !scopes.is_empty() {
        w.pair(0, "Scopes", &scopes.join(", "));
    }
    for scope in &scopes {
        if let Some(text) = scope_meaning(scope) {
            w.line(0, &format!(" * {text}"));
        }
    }
    w.line(0, "Resource\tUsed\tHard");
    w.line(0, "--------\t----\t----");
    for (resource, hard) in entries(&quota["status"]["hard"]) {
        let used = quota["status"]["used"][resource].as_str().unwrap_or("0");
        w.line(0, &format!("{resource}\t{used}\t{hard}"));
    }
}

/// Upstream's words about a scope.
pub fn scope_meaning(scope: &str) -> Option<&'static str> {
    Some(match scope {
        "Terminating" => {
            "Matches all pods that have an active deadline. These pods have a limited lifespan on a node before being actively terminated by the system."
        }
        "NotTerminating" => {
            "Matches all pods that do not have an active deadline. These pods usually include long running pods whose container command is not expected to terminate."
        }
        "BestEffort" => {
            "Matches all pods that do not have resource requirements set. These pods have a best effort quality of service."
        }
        "NotBestEffort" => {
            "Matches all pods that have at least one resource requirement set. These pods have a burstable or guaranteed quality of service."
        }
        _ => return None,
    })
}

pub(crate) fn range(w: &mut Text, range: &Value) {
    w.pair(0, "Name", str_of(&range["metadata"]["name"]));
    w.pair(0, "Namespace", str_of(&range["metadata"]["namespace"]));
    RANGE_HEADS.iter().for_each(|line| w.line(0, line));
    limits(w, "", range);
}

pub(crate) fn priority(w: &mut Text, class: &Value) {
    w.pair(0, "Name", str_of(&class["metadata"]["name"]));
    w.pair(0, "Value", &int(&class["value"]).to_string());
    w.pair(0, "GlobalDefault", &(class["globalDefault"] == true).to_string());
    w.pair(0, "PreemptionPolicy", str_of(&class["preemptionPolicy"]));
    w.pair(0, "Description", str_of(&class["description"]));
    w.pair(0, "Annotations", &in_one_line(&class["metadata"]["annotations"]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn metrics_say_where_they_are_and_where_they_should_be() {
        let line = |metric: Value, now: Value| {
            let mut w = Text::raw();
            self::metric(&mut w, &metric, &now);
            w.end()
        };
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 70}}});
        assert_eq!(
            line(cpu.clone(), Value::Null),
            "  resource cpu on pods  (as a percentage of request):\t<unknown> / 70%\n"
        );
        let now = json!({"resource": {"current": {"averageUtilization": 12, "averageValue": "3m"}}});
        assert_eq!(
            line(cpu, now),
            "  resource cpu on pods  (as a percentage of request):\t12% (3m) / 70%\n"
        );
        let hits = json!({"type": "Pods", "pods": {"metric": {"name": "hits"}, "target": {"averageValue": "10"}}});
        assert_eq!(line(hits, Value::Null), "  \"hits\" on pods:\t<unknown> / 10\n");
    }
}
