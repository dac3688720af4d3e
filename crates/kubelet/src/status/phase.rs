//! The phase of a pod.

use k8s_openapi::api::core::v1::{Container, ContainerState, ContainerStatus, Pod};

use super::container::RESTARTING_ALL;
use crate::pod::{PodExt, is_sidecar, restarts, restarts_all};

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
    // Those that were removed for all to start anew come again, as do those that wait to.
    let comes_again = |container: &Container, status: &ContainerStatus, code: i32| {
        let removed = |s: &Option<ContainerState>| {
            let end = s.as_ref().and_then(|s| s.terminated.as_ref());
            end.is_some_and(|t| t.reason.as_deref() == Some(RESTARTING_ALL))
        };
        restarts(pod, container, code)
            || restarts_all(container, code)
            || removed(&status.last_state) && has(status, |x| x.terminated.is_none())
            || has(status, |x| {
                x.waiting
                    .as_ref()
                    .is_some_and(|w| w.reason.as_deref() == Some("CrashLoopBackOff"))
            })
    };
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
            Some(code) => init_failed += i32::from(code != 0 && !comes_again(container, status, code)),
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
        stopped_for_good += i32::from(!comes_again(container, status, code));
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
