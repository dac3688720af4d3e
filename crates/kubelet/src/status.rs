//! The status of a pod for the API: a function of its spec, its old status, what the runtime says and the probes' results.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    ContainerUser, HostIP, LinuxContainerUser, Pod, PodCondition, PodIP, PodStatus, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::lifecycle::{Probed, timestamp};
use crate::pod::{Kind, PodExt, is_sidecar, restarts};
use crate::resources::qos_class;
use crate::runtime_pod::{RuntimeContainer, RuntimePod, State};

/// Why a container is not running yet: reason and message by container name.
pub type Waiting = HashMap<String, (String, String)>;

/// The kubelet's own verdict on a pod: phase, reason, message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub reason: String,
    pub message: String,
}

/// All that the status is made of.
#[derive(Debug)]
pub struct Known<'a> {
    pub pod: &'a Pod,
    pub runtime: &'a RuntimePod,
    pub probed: &'a Probed,
    pub waiting: &'a Waiting,
    pub host_ips: &'a [String],
    /// As in `containerd://...`.
    pub runtime_name: &'a str,
    /// The containers have been stopped for good.
    pub terminal: bool,
    /// The pod was refused or ended by the kubelet.
    pub failed: Option<&'a Verdict>,
    pub now: Timestamp,
}

pub fn pod_status(known: &Known) -> PodStatus {
    let pod = known.pod;
    let old = pod.status.clone().unwrap_or_default();
    let initialized = condition(&old, "Initialized").is_some_and(|c| c.status == "True");
    let old_of =
        |list: &Option<Vec<ContainerStatus>>, name: &str| list.iter().flatten().find(|c| c.name == name).cloned();
    let init: Vec<_> = pod
        .init_containers()
        .iter()
        .map(|c| container_status(known, Kind::Init, c, old_of(&old.init_container_statuses, &c.name)))
        .collect();
    let regular: Vec<_> = pod
        .containers()
        .iter()
        .map(|c| container_status(known, Kind::Regular, c, old_of(&old.container_statuses, &c.name)))
        .collect();
    let ephemeral: Vec<_> = pod
        .ephemeral_containers()
        .iter()
        .map(|c| {
            container_status(
                known,
                Kind::Ephemeral,
                c,
                old_of(&old.ephemeral_container_statuses, &c.name),
            )
        })
        .collect();
    let old_phase = old.phase.as_deref().unwrap_or("Pending");
    let mut phase = match known.failed {
        Some(_) if known.terminal => "Failed",
        _ => phase(pod, &init, &regular, known.terminal, initialized),
    };
    if matches!(old_phase, "Failed" | "Succeeded") {
        phase = if old_phase == "Failed" { "Failed" } else { "Succeeded" };
    }
    let ips: Vec<String> = if pod.host_network() {
        known.host_ips.to_vec()
    } else {
        known.runtime.sandbox().map(|s| s.ips.clone()).unwrap_or_default()
    };
    let ips = if ips.is_empty() && known.terminal {
        old.pod_ips.iter().flatten().map(|p| p.ip.clone()).collect()
    } else {
        ips
    };
    let conditions = conditions(known, &old, phase, &init, &regular);
    PodStatus {
        conditions: Some(conditions),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect()),
        host_ip: known.host_ips.first().cloned(),
        host_ips: (!known.host_ips.is_empty())
            .then(|| known.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        qos_class: Some(qos_class(pod).as_str().to_owned()),
        phase: Some(phase.to_owned()),
        reason: known.failed.map(|f| f.reason.clone()).or(old.reason.clone()),
        message: known.failed.map(|f| f.message.clone()).or(old.message.clone()),
        start_time: old.start_time.clone().or(Some(Time(known.now))),
        observed_generation: pod.metadata.generation,
        init_container_statuses: (!init.is_empty()).then_some(init),
        container_statuses: Some(regular),
        ephemeral_container_statuses: (!ephemeral.is_empty()).then_some(ephemeral),
        ..PodStatus {
            nominated_node_name: old.nominated_node_name,
            resource_claim_statuses: old.resource_claim_statuses,
            resize: old.resize,
            ..PodStatus::default()
        }
    }
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
        finished_at: time(s.finished_at),
        message: (!s.message.is_empty()).then(|| s.message.clone()),
        reason: Some(reason.to_owned()),
        signal: None,
        started_at: time(s.started_at),
    }
}

fn container_status(known: &Known, kind: Kind, container: &Container, old: Option<ContainerStatus>) -> ContainerStatus {
    let name = &container.name;
    let newest = known.runtime.newest(name);
    let previous = known.runtime.containers.iter().filter(|c| c.name == *name).nth(1);
    let waiting_state = |reason: &str, message: &str| ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message: (!message.is_empty()).then(|| message.to_owned()),
        }),
        ..ContainerState::default()
    };
    let ended = |s: &RuntimeContainer| ContainerState {
        terminated: Some(terminated(s, known.runtime_name)),
        ..ContainerState::default()
    };
    let has_init = !known.pod.init_containers().is_empty() && kind != Kind::Ephemeral;
    let default_reason = if has_init {
        "PodInitializing"
    } else {
        "ContainerCreating"
    };
    let reason = known.waiting.get(name);
    let wait = || match reason {
        Some((reason, message)) => waiting_state(reason, message),
        None => waiting_state(default_reason, ""),
    };
    let old_restarts = old.as_ref().map_or(0, |o| o.restart_count);
    let old_last = old.as_ref().and_then(|o| o.last_state.clone());
    let mut status = ContainerStatus {
        name: name.clone(),
        image: container.image.clone().unwrap_or_default(),
        image_id: String::new(),
        restart_count: old_restarts,
        ..ContainerStatus::default()
    };
    let Some(s) = newest else {
        let was_running = old
            .as_ref()
            .is_some_and(|o| o.state.as_ref().is_some_and(|s| s.running.is_some()));
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
        status.last_state = old_last;
        if known.terminal && (was_running || reason.is_none()) && known.failed.is_none() {
            status.state = Some(ContainerState {
                terminated: Some(ContainerStateTerminated {
                    exit_code: 137,
                    reason: Some("ContainerStatusUnknown".to_owned()),
                    message: Some("The container could not be located when the pod was terminated".to_owned()),
                    ..ContainerStateTerminated::default()
                }),
                ..ContainerState::default()
            });
        } else {
            status.state = Some(wait());
        }
        status.started = Some(false);
        return status;
    };
    status.container_id = Some(format!("{}://{}", known.runtime_name, s.id));
    status.image = s.image.clone();
    status.image_id = s.image_id.clone();
    status.restart_count = i32::try_from(s.attempt).unwrap_or(i32::MAX).max(if known.terminal {
        0
    } else {
        old_restarts.min(i32::try_from(s.attempt).unwrap_or(0))
    });
    status.last_state = previous.filter(|p| p.state == State::Exited).map(ended).or(old_last);
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
            if kind != Kind::Ephemeral {
                status.resources = Some(container.resources.clone().unwrap_or_default());
                status.allocated_resources = container.resources.as_ref().and_then(|r| r.requests.clone());
            }
            status.user = s.user.as_ref().map(|(uid, gid, groups)| ContainerUser {
                linux: Some(LinuxContainerUser {
                    uid: *uid,
                    gid: *gid,
                    supplemental_groups: Some(groups.clone()),
                }),
            });
        }
        State::Exited if reason.is_some() && !known.terminal => {
            status.state = Some(wait());
            status.last_state = Some(ended(s));
            status.started = Some(false);
        }
        State::Exited => {
            status.state = Some(ended(s));
            status.ready = plain_init && s.exit_code == 0;
            status.started = Some(false);
        }
        State::Created | State::Unknown => {
            status.state = Some(wait());
            status.started = Some(false);
        }
    }
    status.volume_mounts = container
        .volume_mounts
        .as_ref()
        .filter(|m| !m.is_empty())
        .map(|mounts| {
            let of = |m: &k8s_openapi::api::core::v1::VolumeMount| VolumeMountStatus {
                name: m.name.clone(),
                mount_path: m.mount_path.clone(),
                read_only: m.read_only,
                recursive_read_only: m.read_only.filter(|r| *r).map(|_| "Disabled".to_owned()),
                ..VolumeMountStatus::default()
            };
            mounts.iter().map(of).collect()
        });
    status
}

fn end_of(status: &ContainerStatus) -> Option<i32> {
    let code = |s: &Option<ContainerState>| s.as_ref().and_then(|s| s.terminated.as_ref()).map(|t| t.exit_code);
    code(&status.state).or_else(|| code(&status.last_state))
}

/// Upstream: `getPhase` in `pkg/kubelet/kubelet_pods.go`.
fn phase(
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

pub fn condition<'a>(status: &'a PodStatus, type_: &str) -> Option<&'a PodCondition> {
    status.conditions.iter().flatten().find(|c| c.type_ == type_)
}

fn conditions(
    known: &Known,
    old: &PodStatus,
    phase: &str,
    init: &[ContainerStatus],
    regular: &[ContainerStatus],
) -> Vec<PodCondition> {
    let pod = known.pod;
    let names = |list: &[&str]| format!("[{}]", list.join(" "));
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
    let initialized = match phase {
        "Succeeded" => make("Initialized", true, "PodCompleted", String::new()),
        _ if started_before || incomplete.is_empty() => make("Initialized", true, "", String::new()),
        _ => make(
            "Initialized",
            false,
            "ContainersNotInitialized",
            format!("containers with incomplete status: {}", names(&incomplete)),
        ),
    };
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
    let gates: Vec<String> = pod
        .spec
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
        .collect();
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
    let others = old
        .conditions
        .iter()
        .flatten()
        .filter(|c| all.iter().all(|o| o.type_ != c.type_))
        .cloned()
        .collect::<Vec<_>>();
    all.extend(others);
    all
}

/// A strategic merge patch from one status to the next; fields that are gone become null.
pub fn status_patch(uid: &str, old: &PodStatus, new: &PodStatus) -> Result<serde_json::Value, serde_json::Error> {
    let mut patch = serde_json::to_value(new)?;
    let before = serde_json::to_value(old)?;
    if let (Some(patch), Some(before)) = (patch.as_object_mut(), before.as_object()) {
        for key in before
            .keys()
            .filter(|k| !patch.contains_key(*k))
            .cloned()
            .collect::<Vec<_>>()
        {
            patch.insert(key, serde_json::Value::Null);
        }
        patch.retain(|key, value| before.get(key) != Some(value));
        if let Some(conditions) = patch.get_mut("conditions").and_then(|c| c.as_array_mut()) {
            conditions.retain(|c| !old_has(before.get("conditions"), c));
            for fields in conditions.iter_mut().filter_map(|c| c.as_object_mut()) {
                for key in ["reason", "message"] {
                    fields.entry(key).or_insert(serde_json::Value::Null);
                }
            }
        }
        for key in ["podIPs", "hostIPs"] {
            if let Some(list) = patch.get_mut(key).and_then(|l| l.as_array_mut()) {
                list.insert(0, serde_json::json!({"$patch": "replace"}));
            }
        }
    }
    Ok(serde_json::json!({"metadata": {"uid": uid}, "status": patch}))
}

fn old_has(conditions: Option<&serde_json::Value>, condition: &serde_json::Value) -> bool {
    let list = conditions.and_then(|c| c.as_array());
    list.is_some_and(|list| list.contains(condition))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime_pod::Sandbox;

    fn known<'a>(pod: &'a Pod, runtime: &'a RuntimePod, probed: &'a Probed, waiting: &'a Waiting) -> Known<'a> {
        let now = Timestamp::from_second(100).unwrap();
        Known {
            pod,
            runtime,
            probed,
            waiting,
            host_ips: &[],
            runtime_name: "skiff",
            terminal: false,
            failed: None,
            now,
        }
    }

    fn pod(spec: &str) -> Pod {
        serde_json::from_str(&format!(
            r#"{{"metadata":{{"name":"p","uid":"u","generation":3}},"spec":{spec}}}"#
        ))
        .unwrap()
    }

    fn container(name: &str, state: State, exit_code: i32) -> RuntimeContainer {
        RuntimeContainer {
            id: name.into(),
            name: name.into(),
            state,
            exit_code,
            started_at: 1,
            ..Default::default()
        }
    }

    fn runtime(containers: Vec<RuntimeContainer>) -> RuntimePod {
        RuntimePod {
            sandboxes: vec![Sandbox {
                ready: true,
                ips: vec!["10.0.0.1".into()],
                ..Default::default()
            }],
            containers,
        }
    }

    #[test]
    fn phases_follow_the_containers() {
        let two = r#""containers":[{"name":"a"},{"name":"b"}]"#;
        use State::{Exited, Running};
        for (policy, a, b, phase) in [
            ("Always", (Running, 0), (Running, 0), "Running"),
            ("Always", (Exited, 0), (Exited, 1), "Running"),
            ("OnFailure", (Exited, 0), (Exited, 0), "Succeeded"),
            ("OnFailure", (Exited, 0), (Exited, 1), "Running"),
            ("Never", (Exited, 0), (Exited, 1), "Failed"),
            ("Never", (Exited, 0), (Running, 0), "Running"),
        ] {
            let pod = pod(&format!(r#"{{"restartPolicy":"{policy}",{two}}}"#));
            let runtime = runtime(vec![container("a", a.0, a.1), container("b", b.0, b.1)]);
            let status = pod_status(&known(&pod, &runtime, &Probed::default(), &Waiting::new()));
            assert_eq!(status.phase.as_deref(), Some(phase), "{policy} {a:?} {b:?}");
        }
    }

    #[test]
    fn a_running_container_without_probes_is_ready_once_started() {
        let pod = pod(r#"{"containers":[{"name":"a"}]}"#);
        let runtime = runtime(vec![container("a", State::Running, 0)]);
        let mut probed = Probed::default();
        let status = pod_status(&known(&pod, &runtime, &probed, &Waiting::new()));
        assert_eq!(
            condition(&status, "Ready").unwrap().message.as_deref(),
            Some("containers with unready status: [a]")
        );
        probed.started.insert("a".into());
        let status = pod_status(&known(&pod, &runtime, &probed, &Waiting::new()));
        let ready = condition(&status, "Ready").unwrap();
        assert_eq!((ready.status.as_str(), ready.observed_generation), ("True", Some(3)));
        assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.1"));
    }

    #[test]
    fn a_crash_loop_shows_why_it_waits_and_how_it_ended() {
        let pod = pod(r#"{"containers":[{"name":"a"}]}"#);
        let waiting = Waiting::from([("a".to_owned(), ("CrashLoopBackOff".to_owned(), "back-off".to_owned()))]);
        let status = pod_status(&known(
            &pod,
            &runtime(vec![container("a", State::Exited, 3)]),
            &Probed::default(),
            &waiting,
        ));
        let c = &status.container_statuses.unwrap()[0];
        assert_eq!(
            c.state.as_ref().unwrap().waiting.as_ref().unwrap().reason.as_deref(),
            Some("CrashLoopBackOff")
        );
        assert_eq!(c.last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 3);
        assert_eq!(status.phase.as_deref(), Some("Running"));
    }

    #[test]
    fn a_patch_holds_only_what_changed() {
        let old = PodStatus {
            phase: Some("Pending".into()),
            reason: Some("x".into()),
            host_ip: Some("1".into()),
            ..Default::default()
        };
        let new = PodStatus {
            phase: Some("Running".into()),
            host_ip: Some("1".into()),
            ..Default::default()
        };
        let patch = status_patch("u", &old, &new).unwrap();
        assert_eq!(
            patch,
            serde_json::json!({"metadata": {"uid": "u"}, "status": {"phase": "Running", "reason": null}})
        );
        let ready = PodCondition {
            type_: "Ready".into(),
            status: "True".into(),
            ..Default::default()
        };
        let first = PodStatus {
            conditions: Some(vec![ready]),
            ..Default::default()
        };
        let patch = status_patch("u", &PodStatus::default(), &first).unwrap();
        assert_eq!(patch["status"]["conditions"][0]["reason"], serde_json::Value::Null);
    }
}
