//! The phase of a pod.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};

use crate::pod::{PodExt, is_sidecar, restarts};

pub(super) fn end_of(status: &ContainerStatus) -> Option<i32> {
    let code = |s: &Option<ContainerState>| s.as_ref().and_then(|s| s.terminated.as_ref()).map(|t| t.exit_code);
    code(&status.state).or_else(|| code(&status.last_state))
}

/// Upstream: `getPhase` in `pkg/kubelet/kubelet_pods.go`.
pub(super) fn phase(
    pod: &Pod,
    init: &[ContainerStatus],
    regular: &[ContainerStatus],
    terminal: bool,
    initialized: bool,
) -> &'static str {
    let has = |s: &ContainerStatus, f: fn(&ContainerState) -> bool| s.state.as_ref().is_some_and(f);
    let is_running = |s: &ContainerStatus| has(s, |x| x.running.is_some());
    let (mut pending_init, mut pending_sidecars, mut init_failed) = (0, 0, 0);
    let (mut running, mut waiting, mut stopped, mut stopped_for_good, mut succeeded) = (0, 0, 0, 0, 0);
    for (container, status) in pod.init_containers().iter().zip(init) {
        if is_sidecar(container) {
            if is_running(status) {
                running += 1;
                pending_sidecars += i32::from(status.started != Some(true));
            } else if end_of(status).is_none() {
                pending_sidecars += 1;
                waiting += 1;
            }
            continue;
        }
        match end_of(status).filter(|_| !is_running(status)) {
            None => pending_init += 1,
            Some(code) => init_failed += i32::from(code != 0 && !restarts(pod, container, code)),
        }
    }
    for (container, status) in pod.containers().iter().zip(regular) {
        if is_running(status) {
            running += 1;
            continue;
        }
        let Some(code) = end_of(status) else {
            waiting += 1;
            continue;
        };
        stopped += 1;
        stopped_for_good += i32::from(!restarts(pod, container, code));
        succeeded += i32::from(code == 0 && has(status, |x| x.terminated.is_some()));
    }
    let ended = if stopped == succeeded { "Succeeded" } else { "Failed" };
    if init_failed > 0 {
        return "Failed";
    }
    if terminal && running == 0 {
        // Containers that never ran count as failed.
        return if waiting == 0 && pending_init == 0 {
            ended
        } else {
            "Failed"
        };
    }
    if pending_init > 0 || pending_sidecars > 0 && !initialized || waiting > 0 {
        return "Pending";
    }
    if running > 0 {
        return "Running";
    }
    match (stopped > 0, stopped == stopped_for_good) {
        (false, _) => "Pending",
        (true, false) => "Running",
        (true, true) => ended,
    }
}
