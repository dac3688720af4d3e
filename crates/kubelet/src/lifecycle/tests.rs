use super::*;
use crate::runtime_pod::Sandbox;
use jiff::SignedDuration;

fn pod(json: &str) -> Pod {
    serde_json::from_str(&format!(
        r#"{{"metadata":{{"name":"p","namespace":"n","uid":"u"}},"spec":{json}}}"#
    ))
    .unwrap()
}

fn container(name: &str, state: State, exit_code: i32) -> RuntimeContainer {
    RuntimeContainer {
        id: format!("id-{name}"),
        name: name.into(),
        sandbox_id: "s".into(),
        state,
        exit_code,
        finished_at: 1_000_000_000,
        ..Default::default()
    }
}

fn runtime(containers: Vec<RuntimeContainer>) -> RuntimePod {
    let sandbox = Sandbox {
        id: "s".into(),
        ready: true,
        ips: vec!["10.0.0.1".into()],
        ..Default::default()
    };
    RuntimePod {
        sandboxes: vec![sandbox],
        containers,
    }
}

fn backoffs() -> Backoffs {
    Backoffs::new(SignedDuration::from_secs(10), SignedDuration::from_secs(300))
}

fn plan(pod: &Pod, runtime: &RuntimePod, probed: &Probed) -> Plan {
    let now = Timestamp::from_second(2).unwrap();
    next_steps(pod, runtime, probed, &backoffs(), &PodResources::of(pod), now)
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.start.iter().map(|s| s.name.as_str()).collect()
}

const ORDERED: &str = r#"{"initContainers":[{"name":"i1"},{"name":"side","restartPolicy":"Always"},{"name":"i2"}],"containers":[{"name":"a"},{"name":"b"}]}"#;

#[test]
fn a_new_pod_gets_a_sandbox_and_all_its_containers() {
    let plan = plan(
        &pod(r#"{"containers":[{"name":"a"},{"name":"b"}]}"#),
        &RuntimePod::default(),
        &Probed::default(),
    );
    assert_eq!(
        (plan.create_sandbox, plan.kill_pod, names(&plan)),
        (Some(0), false, vec!["a", "b"])
    );
}

#[test]
fn init_containers_run_in_order_and_sidecars_let_the_next_begin() {
    let pod = pod(ORDERED);
    let mut probed = Probed::default();
    assert_eq!(names(&plan(&pod, &RuntimePod::default(), &probed)), ["i1"]);
    assert!(plan(&pod, &runtime(vec![container("i1", State::Running, 0)]), &probed).is_idle());
    let mut done = vec![container("i1", State::Exited, 0)];
    assert_eq!(names(&plan(&pod, &runtime(done.clone()), &probed)), ["side"]);
    done.push(container("side", State::Running, 0));
    assert!(plan(&pod, &runtime(done.clone()), &probed).is_idle(), "not started yet");
    probed.started.insert("id-side".into());
    assert_eq!(names(&plan(&pod, &runtime(done.clone()), &probed)), ["i2"]);
    done.push(container("i2", State::Exited, 0));
    assert_eq!(names(&plan(&pod, &runtime(done.clone()), &probed)), ["a", "b"]);
    done.push(container("a", State::Running, 0));
    done.push(container("b", State::Running, 0));
    done[1] = container("side", State::Exited, 1);
    assert_eq!(
        names(&plan(&pod, &runtime(done), &probed)),
        ["side"],
        "a sidecar comes back while the rest runs"
    );
}

#[test]
fn a_failed_init_container_ends_a_pod_that_never_restarts() {
    let never = pod(r#"{"restartPolicy":"Never","initContainers":[{"name":"i"}],"containers":[{"name":"a"}]}"#);
    let failed = runtime(vec![container("i", State::Exited, 1)]);
    assert!(plan(&never, &failed, &Probed::default()).kill_pod);
}

#[test]
fn restart_policies_decide_what_comes_back() {
    for (policy, code, again) in [
        ("Always", 0, true),
        ("OnFailure", 0, false),
        ("OnFailure", 1, true),
        ("Never", 1, false),
    ] {
        let pod = pod(&format!(
            r#"{{"restartPolicy":"{policy}","containers":[{{"name":"a"}}]}}"#
        ));
        let plan = plan(
            &pod,
            &runtime(vec![container("a", State::Exited, code)]),
            &Probed::default(),
        );
        assert_eq!(
            (!plan.start.is_empty(), plan.kill_pod),
            (again, !again),
            "{policy} {code}"
        );
    }
}

#[test]
fn a_crashing_container_waits() {
    let pod = pod(r#"{"containers":[{"name":"a"}]}"#);
    let mut backoffs = backoffs();
    let crashed = runtime(vec![container("a", State::Exited, 1)]);
    backoffs.next(&crash_key(&pod.containers()[0]), timestamp(1_000_000_000), ());
    let plan = next_steps(
        &pod,
        &crashed,
        &Probed::default(),
        &backoffs,
        &PodResources::default(),
        Timestamp::from_second(2).unwrap(),
    );
    assert!(plan.start.is_empty() && !plan.kill_pod);
    assert_eq!(plan.crash_loops[0].until.as_second(), 11);
}

#[test]
fn a_lost_sandbox_is_made_again_after_the_rest_is_killed() {
    let pod = pod(r#"{"containers":[{"name":"a"}]}"#);
    let mut lost = runtime(vec![container("a", State::Running, 0)]);
    lost.sandboxes[0].ready = false;
    let plan = plan(&pod, &lost, &Probed::default());
    assert_eq!(
        (plan.kill_pod, plan.create_sandbox, names(&plan)),
        (true, Some(1), vec!["a"])
    );
}

#[test]
fn failed_probes_and_changed_images_stop_a_container() {
    let pod = pod(r#"{"containers":[{"name":"a","image":"x:2"}]}"#);
    let running = runtime(vec![container("a", State::Running, 0)]);
    let failed = Probed {
        liveness_failed: ["id-a".to_owned()].into(),
        ..Default::default()
    };
    assert_eq!(
        plan(&pod, &running, &failed).stop[0].message,
        "Container a failed liveness probe, will be restarted"
    );
    let mut old = running;
    old.containers[0]
        .annotations
        .insert("io.kubernetes.container.hash".into(), "other".into());
    assert_eq!(plan(&pod, &old, &Probed::default()).stop[0].cause, StopCause::Changed);
}

#[test]
fn an_ephemeral_container_starts_once() {
    let pod = pod(r#"{"containers":[{"name":"a"}],"ephemeralContainers":[{"name":"d","image":"x"}]}"#);
    let mut running = runtime(vec![container("a", State::Running, 0)]);
    assert_eq!(names(&plan(&pod, &running, &Probed::default())), ["d"]);
    running.containers.push(container("d", State::Exited, 0));
    assert!(plan(&pod, &running, &Probed::default()).is_idle());
}

#[test]
fn a_running_container_gets_other_resources_by_its_policy() {
    let spec = |cpu: &str, policy: &str| {
        pod(&format!(
            r#"{{"containers":[{{"name":"a","resources":{{"requests":{{"cpu":"{cpu}","memory":"1Mi"}}}},
                "resizePolicy":[{{"resourceName":"cpu","restartPolicy":"{policy}"}}]}},{{"name":"b"}}]}}"#
        ))
    };
    let running = runtime(vec![
        container("a", State::Running, 0),
        container("b", State::Running, 0),
    ]);
    let (probed, now) = (Probed::default(), Timestamp::from_second(2).unwrap());
    let had = PodResources::of(&spec("1", "NotRequired"));
    let steps = |pod: &Pod| next_steps(pod, &running, &probed, &backoffs(), &had, now);

    let same = spec("1000m", "RestartContainer");
    assert!(steps(&same).is_idle() && !in_progress(&same, &running, &had));

    let more = spec("2", "NotRequired");
    let plan = steps(&more);
    assert_eq!((plan.stop.len(), plan.start.len(), plan.resize_pod), (0, 0, true));
    assert_eq!(
        (plan.resize[0].now.cpu_request, plan.resize[0].wanted.cpu_request),
        (1000, 2000)
    );
    assert!(in_progress(&more, &running, &had));

    let plan = steps(&spec("2", "RestartContainer"));
    assert_eq!(
        (plan.stop[0].cause, plan.stop[0].message.as_str()),
        (StopCause::Resized, "Container a resize requires restart")
    );
    assert_eq!(
        (plan.start[0].name.as_str(), plan.start[0].attempt, plan.resize.len()),
        ("a", 1, 0)
    );

    let stopped = runtime(vec![
        container("a", State::Exited, 0),
        container("b", State::Running, 0),
    ]);
    assert!(!in_progress(&more, &stopped, &had), "it gets them when it starts");
}

#[test]
fn a_container_whose_probe_failed_starts_again_though_it_ends_well() {
    let pod = pod(r#"{"restartPolicy":"OnFailure","containers":[{"name":"a"}]}"#);
    let mut probed = Probed::default();
    probed.liveness_failed.insert("id-a".into());
    let first = plan(&pod, &runtime(vec![container("a", State::Running, 0)]), &probed);
    assert!(first.stop[0].restart && first.stop[0].message.ends_with(", will be restarted"));
    assert_eq!((names(&first), first.start[0].attempt), (vec!["a"], 1));
    // Where the start did not follow at once, as after a failed one.
    let ended = runtime(vec![container("a", State::Exited, 0)]);
    assert!(plan(&pod, &ended, &Probed::default()).kill_pod);
    let probed = Probed {
        to_restart: ["id-a".to_owned()].into(),
        ..Probed::default()
    };
    assert_eq!(names(&plan(&pod, &ended, &probed)), ["a"]);
}

#[test]
fn an_end_that_calls_for_it_removes_every_container_the_caller_last() {
    let pod = pod(
        r#"{"restartPolicy":"Never","initContainers":[{"name":"i"}],"containers":[
        {"name":"w","restartPolicyRules":[{"action":"RestartAllContainers","exitCodes":{"operator":"In","values":[42]}}]},{"name":"side"}]}"#,
    );
    let with = |code| {
        runtime(vec![
            container("w", State::Exited, code),
            container("side", State::Running, 0),
            container("i", State::Exited, 0),
        ])
    };
    let reset = plan(&pod, &with(42), &Probed::default());
    let order: Vec<_> = reset.reset.iter().map(|r| (r.name.as_str(), r.runs)).collect();
    assert_eq!(order, [("side", true), ("i", false), ("w", false)]);
    assert!(!reset.kill_pod && reset.start.is_empty());
    assert!(plan(&pod, &with(1), &Probed::default()).reset.is_empty());
    // Afterwards nothing is there, and the pod begins with its init containers.
    assert_eq!(names(&plan(&pod, &runtime(vec![]), &Probed::default())), ["i"]);
}
