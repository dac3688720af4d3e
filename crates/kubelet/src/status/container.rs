//! The status of one container.

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    ContainerUser, LinuxContainerUser, ResourceRequirements, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Known;
use crate::lifecycle::timestamp;
use crate::pod::{Kind, PodExt, is_sidecar, restarts, restarts_all};
use crate::resources;
use crate::runtime_pod::{RuntimeContainer, RuntimeLimits, State};

/// The reason of containers that were removed because another one's end calls for all to start anew.
pub const RESTARTING_ALL: &str = "RestartingAllContainers";
/// The message of containers that were removed so that all start again.
pub const REMOVED_TO_RESTART: &str = "The container is removed because RestartAllContainers in place";

/// Whatever did not end as far as anybody knows has ended, and not well: containers of a pod that was initialized, and
/// the init containers up to the last one that ever ran. Those that were never to start yet still wait.
/// Upstream: `TerminatePod` of the status manager.
pub(super) fn nobody_knows(
    pod: &k8s_openapi::api::core::v1::Pod,
    init: &mut [ContainerStatus],
    regular: &mut [ContainerStatus],
) {
    let is = |s: &ContainerStatus, f: fn(&ContainerState) -> bool| s.state.as_ref().is_some_and(f);
    let waits = |s: &ContainerStatus| is(s, |x| x.waiting.is_some());
    let ended_before = |s: &ContainerStatus| s.last_state.as_ref().is_some_and(|x| x.terminated.is_some());
    let unknown = |statuses: &mut [ContainerStatus]| {
        for status in statuses.iter_mut().filter(|s| !is(s, |x| x.terminated.is_some())) {
            status.state = Some(ContainerState {
                terminated: Some(ContainerStateTerminated {
                    exit_code: 137,
                    reason: Some("ContainerStatusUnknown".to_owned()),
                    message: Some("The container could not be located when the pod was terminated".to_owned()),
                    ..ContainerStateTerminated::default()
                }),
                ..ContainerState::default()
            });
        }
    };
    let completed = |s: &ContainerStatus| {
        let code = |x: &Option<ContainerState>| x.as_ref()?.terminated.as_ref().map(|t| t.exit_code);
        code(&s.state) == Some(0) || code(&s.last_state) == Some(0)
    };
    let last_init = pod.init_containers().last().zip(init.last());
    let initialized = last_init.is_none_or(|(container, status)| {
        if is_sidecar(container) {
            status.started == Some(true) && is(status, |x| x.running.is_some())
        } else {
            completed(status)
        }
    });
    if initialized || regular.iter().any(|s| ended_before(s) || !waits(s)) {
        unknown(regular);
    }
    let ran = init
        .iter()
        .rposition(|s| ended_before(s) || !waits(s))
        .map_or(1, |i| i + 1);
    let ran = ran.min(init.len());
    unknown(&mut init[..ran]);
}

fn time(nanoseconds: i64) -> Option<Time> {
    (nanoseconds != 0).then(|| Time(timestamp(nanoseconds)))
}

fn terminated(s: &RuntimeContainer, runtime_name: &str) -> ContainerStateTerminated {
    let reason = match (s.reason.as_str(), s.exit_code) {
        ("", 0) => "Completed",
        ("", _) => "Error",
        (reason, _) => reason,
    };
    ContainerStateTerminated {
        container_id: Some(format!("{runtime_name}://{}", s.id)),
        exit_code: s.exit_code,
        // also of one that never began: upstream writes the beginning of time
        finished_at: Some(Time(timestamp(s.finished_at))),
        message: (!s.message.is_empty()).then(|| s.message.clone()),
        reason: Some(reason.to_owned()),
        signal: None,
        started_at: Some(Time(timestamp(s.started_at))),
    }
}

/// The status of a container that the runtime does not have: it waits, or it ended and was cleaned away. `removed` is for one that
/// was taken away so that all start anew.
fn without_container(
    mut status: ContainerStatus,
    old: Option<ContainerStatus>,
    waiting: ContainerState,
    removed: bool,
) -> ContainerStatus {
    if removed {
        // It is told so once, and then waits for its turn.
        let told = old
            .as_ref()
            .is_some_and(|o| o.state.as_ref().is_some_and(|s| s.waiting.is_some()));
        status.restart_count += i32::from(!told);
        status.last_state = Some(ContainerState {
            terminated: Some(ContainerStateTerminated {
                exit_code: 137,
                reason: Some(RESTARTING_ALL.to_owned()),
                message: Some(REMOVED_TO_RESTART.to_owned()),
                ..ContainerStateTerminated::default()
            }),
            ..ContainerState::default()
        });
        status.state = Some(waiting);
        status.started = Some(false);
        return status;
    }
    let old_end = old
        .as_ref()
        .and_then(|o| o.state.as_ref())
        .filter(|s| s.terminated.is_some());
    if let Some(state) = old_end {
        // Its container has been cleaned away; what was said of it stands.
        return ContainerStatus {
            state: Some(state.clone()),
            ..old.unwrap_or(status)
        };
    }
    status.last_state = old.as_ref().and_then(|o| o.last_state.clone());
    status.state = Some(waiting);
    status.started = Some(false);
    status
}

/// The state of a container that waits: for what the worker says of it, or for its turn.
fn waiting(known: &Known, kind: Kind, name: &str) -> ContainerState {
    let waiting_state = |reason: &str, message: &str| ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message: (!message.is_empty()).then(|| message.to_owned()),
        }),
        ..ContainerState::default()
    };
    let has_init = !known.pod.init_containers().is_empty() && kind != Kind::Ephemeral;
    let default_reason = if has_init {
        "PodInitializing"
    } else {
        "ContainerCreating"
    };
    match known.waiting.get(name) {
        Some((reason, message)) => waiting_state(reason, message),
        None => waiting_state(default_reason, ""),
    }
}

pub(super) fn container_status(
    known: &Known,
    kind: Kind,
    container: &Container,
    old: Option<ContainerStatus>,
) -> ContainerStatus {
    let name = &container.name;
    let newest = known.runtime.newest(name);
    let previous = known.runtime.containers.iter().filter(|c| c.name == *name).nth(1);
    let ended = |s: &RuntimeContainer| ContainerState {
        terminated: Some(terminated(s, known.runtime_name)),
        ..ContainerState::default()
    };
    let reason = known.waiting.get(name);
    let wait = || waiting(known, kind, name);
    let old_restarts = old.as_ref().map_or(0, |o| o.restart_count);
    let old_last = old.as_ref().and_then(|o| o.last_state.clone());
    let mut status = ContainerStatus {
        name: name.clone(),
        image: container.image.clone().unwrap_or_default(),
        image_id: String::new(),
        restart_count: old_restarts,
        volume_mounts: volume_mounts(container, known.recursive_read_only),
        ..ContainerStatus::default()
    };
    let Some(s) = newest else {
        let removed = reason.is_some_and(|(reason, _)| reason == RESTARTING_ALL);
        return without_container(status, old, wait(), removed);
    };
    status.container_id = Some(format!("{}://{}", known.runtime_name, s.id));
    status.image = s.image.clone();
    status.image_id = s.image_id.clone();
    status.user = s.user.as_ref().map(|(uid, gid, groups)| ContainerUser {
        linux: Some(LinuxContainerUser {
            uid: *uid,
            gid: *gid,
            supplemental_groups: Some(groups.clone()),
        }),
    });
    status.restart_count = i32::try_from(s.attempt).unwrap_or(i32::MAX).max(if known.terminal {
        0
    } else {
        old_restarts.min(i32::try_from(s.attempt).unwrap_or(0))
    });
    status.last_state = previous.filter(|p| p.state == State::Exited).map(ended).or(old_last);
    let memory = known
        .actuated
        .containers
        .get(name)
        .and_then(|r| r.requests.as_ref()?.get("memory"));
    let given = container.resources.clone().unwrap_or_default();
    status.allocated_resources.clone_from(&given.requests);
    status.resources = Some(match s.limits.filter(|_| s.state == State::Running) {
        Some(limits) => in_use(given, &limits, memory),
        None => given,
    });
    set_state(&mut status, known, kind, container, s);
    status
}

/// What the container does: its state, and whether it is started and ready.
fn set_state(status: &mut ContainerStatus, known: &Known, kind: Kind, container: &Container, s: &RuntimeContainer) {
    let ended = || {
        Some(ContainerState {
            terminated: Some(terminated(s, known.runtime_name)),
            ..ContainerState::default()
        })
    };
    let wait = || Some(waiting(known, kind, &container.name));
    let started = known.probed.started.contains(&s.id);
    let plain_init = kind == Kind::Init && !is_sidecar(container);
    match s.state {
        State::Running => {
            status.state = Some(ContainerState {
                running: Some(ContainerStateRunning {
                    started_at: time(s.started_at),
                }),
                ..ContainerState::default()
            });
            status.started = Some(started);
            status.ready = match kind {
                Kind::Init if plain_init => false,
                Kind::Ephemeral => false,
                _ => {
                    started
                        && known
                            .probed
                            .ready
                            .get(&s.id)
                            .copied()
                            .unwrap_or(container.readiness_probe.is_none())
                }
            };
        }
        // One that is not started again has ended, whatever kept it from starting: an image that came to be another one.
        State::Exited
            if known.waiting.contains_key(&container.name)
                && !known.terminal
                && (restarts(known.pod, container, s.exit_code) || restarts_all(container, s.exit_code)) =>
        {
            status.state = wait();
            status.last_state = ended();
            status.started = Some(false);
        }
        State::Exited => {
            status.state = ended();
            status.ready = plain_init && s.exit_code == 0;
            status.started = Some(false);
        }
        State::Created | State::Unknown => {
            status.state = wait();
            status.started = Some(false);
        }
    }
}

/// Where the container's volumes are, as its spec says. Upstream does not ask the runtime, which knows no names of volumes.
fn volume_mounts(container: &Container, recursive_read_only: bool) -> Option<Vec<VolumeMountStatus>> {
    container
        .volume_mounts
        .as_ref()
        .filter(|m| !m.is_empty())
        .map(|mounts| {
            let of = |m: &k8s_openapi::api::core::v1::VolumeMount| VolumeMountStatus {
                name: m.name.clone(),
                mount_path: m.mount_path.clone(),
                read_only: m.read_only,
                recursive_read_only: m.read_only.filter(|r| *r).map(|_| {
                    let on = crate::volumes::recursive_read_only(m, recursive_read_only);
                    if on == Ok(true) { "Enabled" } else { "Disabled" }.to_owned()
                }),
                ..VolumeMountStatus::default()
            };
            mounts.iter().map(of).collect()
        })
}

/// What the kernel gives a CPU request or limit of less than these, in thousandths of a CPU, is more than they are.
pub(super) const LEAST_CPU_REQUEST: i64 = 2;
pub(super) const LEAST_CPU_LIMIT: i64 = 10;

/// What the container was given, with what the runtime says it really has. Upstream: `convertContainerStatusResources`.
fn in_use(
    given: ResourceRequirements,
    limits: &RuntimeLimits,
    memory_request: Option<&Quantity>,
) -> ResourceRequirements {
    let mut used = given;
    let put = |list: &mut std::collections::BTreeMap<String, Quantity>, name: &str, new: Quantity| {
        let same = list
            .get(name)
            .is_some_and(|q| resources::milli(q) == resources::milli(&new));
        if !same {
            list.insert(name.to_owned(), new);
        }
    };
    let cpu = |list: &std::collections::BTreeMap<String, Quantity>| list.get("cpu").map_or(0, resources::milli);
    if let Some(list) = &mut used.limits {
        let actual = if limits.cpu_period > 0 {
            limits.cpu_quota.max(0) * 1000 / limits.cpu_period
        } else {
            0
        };
        if actual > LEAST_CPU_LIMIT || actual > 0 && cpu(list) > LEAST_CPU_LIMIT {
            put(list, "cpu", resources::cpu_quantity(actual));
        }
        if limits.memory > 0 {
            // in the notation of bytes, whatever notation it was asked for in
            list.insert("memory".to_owned(), resources::memory_quantity(limits.memory));
        }
    }
    if let Some(list) = &mut used.requests {
        let actual = resources::milli_of_shares(limits.cpu_shares);
        if actual > LEAST_CPU_REQUEST || actual > 0 && cpu(list) > LEAST_CPU_REQUEST {
            put(list, "cpu", resources::cpu_quantity(actual));
        }
        if let Some(memory) = memory_request {
            put(list, "memory", memory.clone());
        }
    }
    used
}
