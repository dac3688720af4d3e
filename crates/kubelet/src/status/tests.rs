use super::*;
use crate::runtime_pod::{RuntimeContainer, RuntimeLimits, Sandbox, State};
use k8s_openapi::api::core::v1::PodCondition;

fn known<'a>(pod: &'a Pod, runtime: &'a RuntimePod, probed: &'a Probed, waiting: &'a Waiting) -> Known<'a> {
    static NOTHING: std::sync::LazyLock<(PodResources, ResizeConditions)> = std::sync::LazyLock::new(Default::default);
    let now = Timestamp::from_second(100).unwrap();
    Known {
        actuated: &NOTHING.0,
        resize: &NOTHING.1,
        recursive_read_only: true,
        pod,
        runtime,
        probed,
        waiting,
        host_ips: &[],
        runtime_name: "skiff",
        terminal: false,
        failed: None,
        disruption: None,
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

#[test]
fn a_running_container_has_what_the_runtime_says_beside_what_it_was_given() {
    let spec = r#"{"containers":[{"name":"a","resources":{"requests":{"cpu":"20m","memory":"30Mi"},"limits":{"cpu":"30m","memory":"40Mi"}}}]}"#;
    let pod = pod(spec);
    let mut running = container("a", State::Running, 0);
    running.limits = Some(RuntimeLimits {
        cpu_shares: 10,
        cpu_quota: 1500,
        cpu_period: 100_000,
        memory: 20 << 20,
    });
    let (probed, waiting) = (Probed::default(), Waiting::new());
    let used = |running: &RuntimeContainer| {
        let runtime = runtime(vec![running.clone()]);
        let status = pod_status(&known(&pod, &runtime, &probed, &waiting))
            .container_statuses
            .unwrap()
            .remove(0);
        (
            serde_json::to_value(status.resources).unwrap(),
            serde_json::to_value(status.allocated_resources).unwrap(),
        )
    };
    let given = serde_json::json!({"cpu": "20m", "memory": "30Mi"});
    let before =
        serde_json::json!({"requests": {"cpu": "10m", "memory": "30Mi"}, "limits": {"cpu": "15m", "memory": "20Mi"}});
    assert_eq!(used(&running), (before, given.clone()));
    running.limits = None;
    let same = serde_json::json!({"requests": given, "limits": {"cpu": "30m", "memory": "40Mi"}});
    assert_eq!(used(&running), (same, given));
}

#[test]
fn a_resize_is_said_while_it_waits_or_runs_and_its_conditions_are_deleted() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let deferred = Verdict {
        reason: "Deferred".into(),
        message: "no room".into(),
    };
    let mut resize = ResizeConditions::default();
    assert!(resize.set_pending(&deferred, Some(2), at(1)));
    assert!(!resize.set_pending(&deferred, Some(2), at(2)), "nothing new");
    assert!(resize.set_pending(&deferred, Some(3), at(3)), "another wish");
    let said: Vec<_> = resize.conditions().collect();
    assert_eq!(
        (said[0].type_.as_str(), said[0].observed_generation),
        ("PodResizePending", Some(3))
    );
    assert_eq!(said[0].last_transition_time, Some(Time(at(1))));
    resize.clear_pending();
    resize.start(Some(3), at(4));
    assert!(resize.fail("below usage", Some(9), at(5)));
    assert!(!resize.fail("below usage", Some(9), at(6)));
    resize.go_on(Some(9), at(7));
    let said: Vec<_> = resize.conditions().collect();
    assert_eq!(
        (said[0].reason.as_deref(), said[0].observed_generation),
        (Some("Error"), Some(3))
    );
    let status = |conditions| PodStatus {
        conditions: Some(conditions),
        ..PodStatus::default()
    };
    assert_eq!(resize.complete(), Some(3));
    assert_eq!(resize.complete(), None);
    let patch = status_patch("u", &status(said), &status(Vec::new())).unwrap();
    assert_eq!(
        patch["status"]["conditions"],
        serde_json::json!([{"type": "PodResizeInProgress", "$patch": "delete"}])
    );
}

#[test]
fn what_never_could_start_behind_a_failed_init_container_still_waits() {
    let pod =
        pod(r#"{"restartPolicy":"Never","initContainers":[{"name":"i"},{"name":"j"}],"containers":[{"name":"c"}]}"#);
    let runtime = runtime(vec![container("i", State::Exited, 4)]);
    let (probed, waiting) = (Probed::default(), Waiting::new());
    let status = pod_status(&Known {
        terminal: true,
        ..known(&pod, &runtime, &probed, &waiting)
    });
    let reason = |s: &ContainerStatus| {
        let waiting = s.state.as_ref().and_then(|s| s.waiting.as_ref());
        waiting.and_then(|w| w.reason.clone()).unwrap_or_default()
    };
    assert_eq!(
        reason(&status.container_statuses.as_ref().unwrap()[0]),
        "PodInitializing"
    );
    assert_eq!(
        reason(&status.init_container_statuses.as_ref().unwrap()[1]),
        "PodInitializing"
    );
    let initialized = condition(&status, "Initialized").unwrap();
    assert_eq!(
        (initialized.status.as_str(), initialized.message.as_deref()),
        ("False", Some("containers with incomplete status: [i j]"))
    );
    assert_eq!(status.phase.as_deref(), Some("Failed"));
}

#[test]
fn a_container_that_nobody_finds_at_the_end_has_failed() {
    let pod = pod(r#"{"containers":[{"name":"a"}]}"#);
    let (probed, waiting) = (Probed::default(), Waiting::new());
    let runtime = runtime(vec![]);
    let status = pod_status(&Known {
        terminal: true,
        ..known(&pod, &runtime, &probed, &waiting)
    });
    let statuses = status.container_statuses.unwrap();
    let ended = statuses[0].state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!(
        (ended.exit_code, ended.reason.as_deref()),
        (137, Some("ContainerStatusUnknown"))
    );
}
