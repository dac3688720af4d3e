//! The strategy of pods.

use api::pod::qos_class;
use serde_json::{Value, json};

use crate::strategy::{DEFAULT, Generation, Strategy, text};

pub static POD: Strategy = Strategy {
    generation: Generation::Counted,
    read: |pod| {
        // in templates it stays, with a warning
        if let Some(grace) = pod.pointer_mut("/spec/terminationGracePeriodSeconds")
            && grace.as_i64().is_some_and(|seconds| seconds < 0)
        {
            *grace = json!(1);
        }
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
        let ended = api::pod::has_ended(pod);
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
