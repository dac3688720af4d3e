//! Columns of pods.

use serde_json::{Value, json};

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, count, flag, has_condition, list_at, or, since, text_at};

/// The columns of pods.
pub const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Ready", "string", 0, |p| json!(Summary::of(p).ready)),
    ("Status", "string", 0, |p| json!(Summary::of(p).reason)),
    ("Restarts", "string", 0, |p| json!(Summary::of(p).restarts)),
    AGE,
    ("IP", "string", 1, |p| or(p, "/status/podIPs/0/ip", "<none>")),
    ("Node", "string", 1, |p| or(p, "/spec/nodeName", "<none>")),
    ("Nominated Node", "string", 1, |p| {
        or(p, "/status/nominatedNodeName", "<none>")
    }),
    ("Readiness Gates", "string", 1, readiness_gates),
];

fn readiness_gates(pod: &Value) -> Value {
    let gates = list_at(pod, "/spec/readinessGates");
    let total = gates.clone().count();
    let open = gates
        .filter(|g| has_condition(pod, text_at(g, "/conditionType")))
        .count();
    json!(if total == 0 {
        "<none>".into()
    } else {
        format!("{open}/{total}")
    })
}

/// What a pod's row says about its containers.
struct Summary {
    ready: String,
    reason: String,
    restarts: String,
}

/// How a container ended, in one word.
fn ended(state: &Value) -> Option<String> {
    let terminated = state.get("terminated")?;
    let (reason, signal) = (text_at(terminated, "/reason"), count(terminated, "/signal"));
    Some(if !reason.is_empty() {
        reason.into()
    } else if signal != 0 {
        format!("Signal:{signal}")
    } else {
        format!("ExitCode:{}", count(terminated, "/exitCode"))
    })
}

/// Restarts, and the end of the last run before the present one.
#[derive(Default)]
struct Restarts<'a> {
    count: i64,
    last: &'a str,
}

impl<'a> Restarts<'a> {
    fn add(&mut self, status: &'a Value) {
        self.count += count(status, "/restartCount");
        // RFC 3339 in UTC orders as text
        self.last = self.last.max(text_at(status, "/lastState/terminated/finishedAt"));
    }
}

impl Summary {
    fn of(pod: &Value) -> Summary {
        let phase = text_at(pod, "/status/phase");
        let mut reason = match text_at(pod, "/status/reason") {
            "" => phase.to_owned(),
            reason => reason.to_owned(),
        };
        let gated = |c: &Value| c["type"] == "PodScheduled" && c["reason"] == "SchedulingGated";
        if list_at(pod, "/status/conditions").any(gated) {
            reason = "SchedulingGated".into();
        }
        let is_sidecar = |name: &str| {
            list_at(pod, "/spec/initContainers").any(|c| c["name"] == name && c["restartPolicy"] == "Always")
        };
        let sidecars = list_at(pod, "/spec/initContainers")
            .filter(|c| c["restartPolicy"] == "Always")
            .count();
        let total = list_at(pod, "/spec/containers").count() + sidecars;
        let (mut ready, mut initializing) = (0, false);
        let (mut restarts, mut sidecar_restarts) = (Restarts::default(), Restarts::default());
        for (i, status) in list_at(pod, "/status/initContainerStatuses").enumerate() {
            let sidecar = is_sidecar(text_at(status, "/name"));
            restarts.add(status);
            if sidecar {
                sidecar_restarts.add(status);
            }
            let state = &status["state"];
            let exited = state.get("terminated");
            if exited.is_some_and(|t| count(t, "/exitCode") == 0) {
                continue;
            }
            if sidecar && flag(status, "/started") {
                ready += usize::from(flag(status, "/ready"));
                continue;
            }
            reason = match (ended(state), text_at(state, "/waiting/reason")) {
                (Some(end), _) => format!("Init:{end}"),
                (None, waiting) if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
                _ => format!("Init:{i}/{}", list_at(pod, "/spec/initContainers").count()),
            };
            initializing = true;
            break;
        }
        if !initializing || has_condition(pod, "Initialized") {
            restarts = sidecar_restarts;
            let (mut running, mut failure) = (false, String::new());
            for status in list_at(pod, "/status/containerStatuses").rev() {
                restarts.add(status);
                let state = &status["state"];
                let waiting = text_at(state, "/waiting/reason");
                if !waiting.is_empty() {
                    waiting.clone_into(&mut reason);
                } else if let Some(end) = ended(state) {
                    reason = end;
                    if count(state, "/terminated/exitCode") != 0 {
                        failure.clone_from(&reason);
                    }
                } else if flag(status, "/ready") && state.get("running").is_some() {
                    running = true;
                    ready += 1;
                }
            }
            if reason == "Completed" {
                if running && has_condition(pod, "Ready") {
                    reason = "Running".into();
                } else if !failure.is_empty() {
                    reason = failure;
                } else if running {
                    reason = "NotReady".into();
                }
            }
        }
        if !text_at(pod, "/metadata/deletionTimestamp").is_empty() {
            if text_at(pod, "/status/reason") == "NodeLost" {
                reason = "Unknown".into();
            } else if !matches!(phase, "Succeeded" | "Failed") {
                reason = "Terminating".into();
            }
        }
        let ago = since(restarts.last);
        Summary {
            ready: format!("{ready}/{total}"),
            reason,
            restarts: match restarts.count {
                n if n > 0 && !restarts.last.is_empty() => format!("{n} ({} ago)", ago.as_str().unwrap_or_default()),
                n => n.to_string(),
            },
        }
    }
}

/// The fields that they read.
pub const READS: &[&str] = &[
    "metadata/name",
    "metadata/creationTimestamp",
    "metadata/deletionTimestamp",
    "spec/containers/name",
    "spec/initContainers/name",
    "spec/initContainers/restartPolicy",
    "spec/nodeName",
    "spec/readinessGates",
    "status/phase",
    "status/reason",
    "status/podIPs",
    "status/nominatedNodeName",
    "status/conditions/type",
    "status/conditions/status",
    "status/conditions/reason",
    "status/initContainerStatuses/name",
    "status/initContainerStatuses/ready",
    "status/initContainerStatuses/started",
    "status/initContainerStatuses/restartCount",
    "status/initContainerStatuses/state",
    "status/initContainerStatuses/lastState/terminated/finishedAt",
    "status/containerStatuses/ready",
    "status/containerStatuses/restartCount",
    "status/containerStatuses/state",
    "status/containerStatuses/lastState/terminated/finishedAt",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_summed_up_in_a_word() {
        let pod = |phase: &str, state: Value| {
            json!({
                "spec": { "containers": [{ "name": "c" }] },
                "status": { "phase": phase, "containerStatuses": [{ "name": "c", "ready": true, "restartCount": 0, "state": state }] },
            })
        };
        let cases = [
            (pod("Running", json!({ "running": {} })), "Running", "1/1"),
            (
                pod("Pending", json!({ "waiting": { "reason": "ErrImagePull" } })),
                "ErrImagePull",
                "0/1",
            ),
            (
                pod("Failed", json!({ "terminated": { "exitCode": 3 } })),
                "ExitCode:3",
                "0/1",
            ),
            (
                pod(
                    "Succeeded",
                    json!({ "terminated": { "exitCode": 0, "reason": "Completed" } }),
                ),
                "Completed",
                "0/1",
            ),
        ];
        for (pod, reason, ready) in cases {
            let summary = Summary::of(&pod);
            assert_eq!((summary.reason.as_str(), summary.ready.as_str()), (reason, ready));
        }
    }

    #[test]
    fn a_pod_that_initializes_says_how_far_it_is() {
        let pod = json!({
            "spec": { "containers": [{ "name": "c" }], "initContainers": [{ "name": "a" }, { "name": "b" }] },
            "status": { "phase": "Pending", "initContainerStatuses": [
                { "name": "a", "restartCount": 0, "state": { "terminated": { "exitCode": 0 } } },
                { "name": "b", "restartCount": 1, "state": { "running": {} } },
            ] },
        });
        assert_eq!(Summary::of(&pod).reason, "Init:1/2");
    }
}
