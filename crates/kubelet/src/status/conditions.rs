//! The conditions of a pod.

use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Known;
use super::phase::end_of;
use super::resize::{IN_PROGRESS, PENDING};
use crate::pod::{PodExt, is_sidecar, restarts_all};
use crate::runtime_pod::State;

/// All containers are removed to start anew.
const RESTARTING: &str = "AllContainersRestarting";

/// The condition of a type.
pub fn condition<'a>(status: &'a PodStatus, type_: &str) -> Option<&'a PodCondition> {
    status.conditions.iter().flatten().find(|c| c.type_ == type_)
}

/// The reason of a pod whose init containers have not all done their work.
const UNINITIALIZED: &str = "ContainersNotInitialized";

fn names(list: &[&str]) -> String {
    format!("[{}]", list.join(" "))
}

/// Reason and message of the condition `Initialized`.
fn why_uninitialized(
    known: &Known,
    phase: &str,
    init: &[ContainerStatus],
    regular: &[ContainerStatus],
) -> (&'static str, String) {
    let pod = known.pod;
    let incomplete: Vec<&str> = pod
        .init_containers()
        .iter()
        .zip(init)
        .filter(|(c, s)| {
            if is_sidecar(c) {
                s.started != Some(true)
            } else {
                !s.ready
            }
        })
        .map(|(c, _)| c.name.as_str())
        .collect();
    let started_before = regular.iter().any(|s| s.started == Some(true) || end_of(s).is_some());
    match phase {
        "Succeeded" => ("PodCompleted", String::new()),
        _ if started_before || incomplete.is_empty() => ("", String::new()),
        _ => (
            UNINITIALIZED,
            format!("containers with incomplete status: {}", names(&incomplete)),
        ),
    }
}

/// What keeps the gates of a pod's readiness from being met.
fn unmet_gates(known: &Known, old: &PodStatus) -> Vec<String> {
    let pod = known.pod;
    pod.spec
        .iter()
        .flat_map(|s| s.readiness_gates.iter().flatten())
        .filter_map(|gate| match condition(old, &gate.condition_type) {
            None => Some(format!(
                "corresponding condition of pod readiness gate {:?} does not exist.",
                gate.condition_type
            )),
            Some(c) if c.status == "True" => None,
            Some(c) => Some(format!(
                "the status of pod readiness gate {:?} is not \"True\", but {}",
                gate.condition_type, c.status
            )),
        })
        .collect()
}

pub(super) fn conditions(
    known: &Known,
    old: &PodStatus,
    phase: &str,
    init: &[ContainerStatus],
    regular: &[ContainerStatus],
) -> Vec<PodCondition> {
    let pod = known.pod;
    let make = |type_: &str, ok: bool, reason: &str, message: String| {
        let status = if ok { "True" } else { "False" };
        let before = condition(old, type_).filter(|c| c.status == status);
        PodCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: (!reason.is_empty()).then(|| reason.to_owned()),
            message: (!message.is_empty()).then_some(message),
            last_transition_time: before
                .and_then(|c| c.last_transition_time.clone())
                .or(Some(Time(known.now))),
            last_probe_time: None,
            observed_generation: pod.metadata.generation,
        }
    };
    let sandbox = known
        .runtime
        .sandbox()
        .is_some_and(|s| s.ready && (pod.host_network() || !s.ips.is_empty()));
    let (reason, message) = why_uninitialized(known, phase, init, regular);
    let initialized = make("Initialized", reason != UNINITIALIZED, reason, message);
    let sidecars = pod
        .init_containers()
        .iter()
        .zip(init)
        .filter(|(c, _)| is_sidecar(c))
        .map(|(_, s)| s);
    let unready: Vec<&str> = sidecars
        .chain(regular)
        .filter(|s| !s.ready)
        .map(|s| s.name.as_str())
        .collect();
    let (ok, reason, message) = match phase {
        "Succeeded" => (false, "PodCompleted", String::new()),
        "Failed" => (false, "PodFailed", String::new()),
        _ if !unready.is_empty() => (
            false,
            "ContainersNotReady",
            format!("containers with unready status: {}", names(&unready)),
        ),
        _ => (true, "", String::new()),
    };
    let gates = unmet_gates(known, old);
    let ready = if ok && !gates.is_empty() {
        make("Ready", false, "ReadinessGatesNotReady", gates.join(", "))
    } else {
        make("Ready", ok, reason, message.clone())
    };
    let scheduled = make("PodScheduled", true, "", String::new());
    let containers_ready = make("ContainersReady", ok, reason, message);
    let mut all = vec![
        make("PodReadyToStartContainers", sandbox, "", String::new()),
        initialized,
        ready,
        containers_ready,
        scheduled,
    ];
    let restarting = pod.init_containers().iter().chain(pod.containers()).any(|c| {
        let newest = known.runtime.newest(&c.name).filter(|s| s.state == State::Exited);
        newest.is_some_and(|s| restarts_all(c, s.exit_code))
    });
    if restarting {
        let message = "container exited with restart policy rule".to_owned();
        all.push(make(RESTARTING, true, "RestartAllContainersStarted", message));
    } else if condition(old, RESTARTING).is_some() {
        all.push(make(RESTARTING, false, "", String::new()));
    }
    if let Some(message) = known.disruption {
        all.push(make(
            "DisruptionTarget",
            true,
            "TerminationByKubelet",
            message.to_owned(),
        ));
    }
    let others = old
        .conditions
        .iter()
        .flatten()
        .filter(|c| all.iter().all(|o| o.type_ != c.type_))
        .filter(|c| c.type_ != PENDING && c.type_ != IN_PROGRESS)
        .cloned()
        .collect::<Vec<_>>();
    all.extend(others);
    if !known.terminal {
        all.extend(known.resize.conditions());
    }
    all
}
