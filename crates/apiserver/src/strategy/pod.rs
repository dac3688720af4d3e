//! The strategy of pods.

use serde_json::{Value, json};

use crate::strategy::{DEFAULT, Generation, Strategy, text};

pub static POD: Strategy = Strategy {
    generation: Generation::Counted,
    read: |pod| {
        // the one address of old is the first of the many of today
        let Some(status) = pod.get_mut("status").and_then(Value::as_object_mut) else {
            return;
        };
        let one = status
            .get("podIP")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let first = status
            .get("podIPs")
            .and_then(|all| all.pointer("/0/ip"))
            .and_then(Value::as_str);
        if !one.is_empty() && first != Some(one.as_str()) {
            status.insert("podIPs".into(), json!([{ "ip": one }]));
        } else if one.is_empty()
            && let Some(first) = first.map(str::to_owned)
        {
            status.insert("podIP".into(), json!(first));
        }
    },
    prepare_create: |pod, now| {
        let gated = pod
            .pointer("/spec/schedulingGates")
            .and_then(Value::as_array)
            .is_some_and(|g| !g.is_empty());
        let mut status = json!({ "phase": "Pending", "qosClass": qos_class(pod) });
        if gated {
            status["conditions"] = json!([{
                "type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "lastTransitionTime": now,
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            }]);
        }
        pod["status"] = status;
    },
    grace: |pod, asked| {
        // what never ran or has ended needs no time to end
        let scheduled = text(pod, &["spec", "nodeName"]).is_some_and(|n| !n.is_empty());
        let ended = matches!(text(pod, &["status", "phase"]), Some("Succeeded" | "Failed"));
        if !scheduled || ended {
            return Some(0);
        }
        let own = pod
            .pointer("/spec/terminationGracePeriodSeconds")
            .and_then(Value::as_i64);
        // a negative period is read as one second
        Some(asked.or(own).unwrap_or(30)).map(|s| if s < 0 { 1 } else { s })
    },
    absent: |path| match path {
        "spec.hostNetwork" => "false",
        _ => "",
    },
    ..DEFAULT
};

const COMPUTE: [&str; 2] = ["cpu", "memory"];

/// `Guaranteed`, `Burstable` or `BestEffort`, from the requests and limits of all containers.
pub fn qos_class(pod: &Value) -> &'static str {
    let list = |field: &str| {
        pod.pointer(&format!("/spec/{field}"))
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    let mut any = false;
    let mut guaranteed = true;
    // what a pod asks for as a whole counts in place of what its containers ask for
    let whole = pod.pointer("/spec").filter(|s| {
        let resources = s.get("resources");
        ["requests", "limits"].iter().any(|k| {
            resources
                .and_then(|r| r.get(*k))
                .and_then(Value::as_object)
                .is_some_and(|m| !m.is_empty())
        })
    });
    let parts: Vec<&Value> = match whole {
        Some(spec) => vec![spec],
        None => list("containers").chain(list("initContainers")).collect(),
    };
    let mut containers = parts.into_iter().peekable();
    if containers.peek().is_none() {
        guaranteed = false;
    }
    for container in containers {
        for resource in COMPUTE {
            let get = |kind: &str| {
                let value = container
                    .pointer(&format!("/resources/{kind}/{resource}"))
                    .and_then(Value::as_str);
                value
                    .and_then(|v| v.parse::<api::quantity::Quantity>().ok())
                    .filter(|q| !q.is_zero())
            };
            let (request, limit) = (get("requests"), get("limits"));
            any |= request.is_some() || limit.is_some();
            let equal = match (&request, &limit) {
                (Some(r), Some(l)) => r == l,
                (None, Some(_)) => true,
                _ => false,
            };
            guaranteed &= equal;
        }
    }
    match (any, guaranteed) {
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
        (false, _) => "BestEffort",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quality_of_service_follows_requests_and_limits() {
        let pod = |resources: Value| json!({ "spec": { "containers": [{ "resources": resources }] } });
        let both = json!({ "cpu": "1", "memory": "1Gi" });
        assert_eq!(qos_class(&pod(json!({}))), "BestEffort");
        assert_eq!(qos_class(&pod(json!({ "requests": { "cpu": "1" } }))), "Burstable");
        assert_eq!(qos_class(&pod(json!({ "limits": both }))), "Guaranteed");
        assert_eq!(
            qos_class(&pod(
                json!({ "limits": both, "requests": { "cpu": "1000m", "memory": "1Gi" } })
            )),
            "Guaranteed"
        );
        assert_eq!(
            qos_class(&pod(json!({ "limits": both, "requests": { "cpu": "1m" } }))),
            "Burstable"
        );
    }
}
