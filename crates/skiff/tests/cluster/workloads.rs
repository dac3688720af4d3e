//! What people do with kubectl, against real containers.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::cluster::Cluster;

const ECHO: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: echo }
spec:
  restartPolicy: Never
  containers:
    - name: echo
      image: busybox:1
      stdin: true
      stdinOnce: true
      command: [sh, -c, 'while read line; do echo "read $line"; done']
"#;

#[test]
fn kubectl_drives_a_deployment_and_its_containers() {
    let c = Cluster::start("kubectl", &["busybox", "nginx"]);
    c.kubectl(&["create", "deployment", "web", "--image=nginx:1", "--replicas=3"]);
    c.kubectl(&["expose", "deployment", "web", "--port=80"]);
    c.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    c.kubectl(&["scale", "deployment", "web", "--replicas=2"]);
    c.until("two are left", |c| {
        c.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"])
            .lines()
            .count()
            == 2
    });
    c.kubectl(&["set", "image", "deployment/web", "nginx=nginx:2"]);
    c.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    assert_eq!(c.kubectl(&["rollout", "history", "deployment/web"]).lines().count(), 4);
    c.kubectl(&["rollout", "undo", "deployment/web"]);
    c.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    let wide = c.kubectl(&["get", "deployments", "-o", "wide"]);
    assert!(wide.contains("nginx:1") && wide.contains("app=web"), "{wide}");
    let ip = c.kubectl(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]);
    c.until("the Service answers", |c| c.http(&format!("http://{ip}/")).is_ok());

    // logs, exec, cp, port-forward
    c.kubectl(&[
        "run",
        "box",
        "--image=busybox:1",
        "--restart=Never",
        "--",
        "sh",
        "-c",
        "echo one; echo two >&2; trap 'exit 0' TERM; sleep 1000 & wait",
    ]);
    c.kubectl(&["wait", "--for=condition=Ready", "pod/box", "--timeout=60s"]);
    c.until("it has written", |c| c.kubectl(&["logs", "box"]).lines().count() == 2);
    assert_eq!(c.kubectl(&["logs", "box", "--tail=1"]), "two");
    assert!(c.kubectl(&["logs", "box", "--timestamps"]).starts_with("20"));
    assert_eq!(c.exec("box", &["sh", "-c", "echo $HOSTNAME"]).unwrap(), "box");
    let failed = c.exec("box", &["sh", "-c", "exit 42"]).unwrap_err();
    assert!(failed.contains("exit code 42"), "{failed}");
    let mut cat = c
        .kubectl_command(&["exec", "-i", "box", "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    cat.stdin.take().unwrap().write_all(b"through\n").unwrap();
    assert_eq!(cat.wait_with_output().unwrap().stdout, b"through\n");
    // a terminal: what is typed comes back, the command's end is kubectl's
    let mut typed = c
        .terminal(&[
            "exec",
            "-it",
            "box",
            "--",
            "sh",
            "-c",
            "read line; tty; echo got $line; exit 3",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    typed.stdin.as_mut().unwrap().write_all(b"word\n").unwrap();
    let ended = typed.wait_with_output().unwrap();
    let shown = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(shown.contains("/dev/pts/") && shown.contains("got word"), "{shown}");
    assert_eq!(ended.status.code(), Some(3), "{shown}");
    c.apply(ECHO);
    c.kubectl(&["wait", "--for=condition=Ready", "pod/echo", "--timeout=60s"]);
    let mut follow = c
        .kubectl_command(&["logs", "-f", "echo"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut attached = c
        .kubectl_command(&["attach", "-i", "echo"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    attached.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    // stdinOnce: the container reads the end of the attached side, says what it read and ends
    assert_eq!(attached.wait_with_output().unwrap().stdout, b"read hello\n");
    let mut followed = String::new();
    let mut out = follow.stdout.take().unwrap();
    std::io::Read::read_to_string(&mut out, &mut followed).unwrap();
    assert!(follow.wait().unwrap().success());
    assert_eq!(followed, "read hello\n");
    std::fs::write(c.dir.join("file"), "copied").unwrap();
    c.kubectl(&["cp", "file", "box:/tmp/file"]);
    assert_eq!(c.exec("box", &["cat", "/tmp/file"]).unwrap(), "copied");
    let mut forward = c
        .kubectl_command(&["port-forward", "service/web", "18080:80"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    c.until("the forwarded port answers", |c| {
        c.http("http://127.0.0.1:18080/").is_ok()
    });
    forward.kill().unwrap();
    forward.wait().unwrap();

    // an ephemeral container beside the first one
    c.kubectl(&[
        "debug",
        "box",
        "--image=busybox:1",
        "-c",
        "debugger",
        "--target=box",
        "--",
        "sh",
        "-c",
        "ps; echo seen",
    ]);
    c.until("the debugger has seen", |c| {
        c.try_kubectl(&["logs", "box", "-c", "debugger"])
            .is_ok_and(|l| l.contains("sleep 1000") && l.contains("seen"))
    });

    // the node's life
    c.kubectl(&["cordon", "node"]);
    assert!(c.kubectl(&["get", "nodes"]).contains("Ready,SchedulingDisabled"));
    c.kubectl(&["drain", "node", "--force", "--ignore-daemonsets", "--timeout=60s"]);
    let left = c.kubectl(&["get", "pods", "--field-selector=spec.nodeName=node", "-o", "name"]);
    assert_eq!(left, "");
    c.kubectl(&["uncordon", "node"]);
    c.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    c.kubectl(&["taint", "nodes", "node", "key=value:NoExecute"]);
    c.until("the taint drives pods away", |c| {
        let running = c.kubectl(&["get", "pods", "--field-selector=status.phase=Running", "-o", "name"]);
        running.is_empty()
    });
    c.kubectl(&["taint", "nodes", "node", "key-"]);
    c.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);

    // deletion, and what it leaves
    c.kubectl(&["delete", "deployment", "web", "--cascade=orphan"]);
    assert_ne!(c.kubectl(&["get", "replicasets", "-o", "name"]), "");
    let sets = c.kubectl(&["get", "replicasets", "-o", "name"]);
    for set in sets.lines() {
        c.kubectl(&["delete", set, "--cascade=foreground", "--timeout=60s"]);
    }
    assert_eq!(c.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"]), "");
}

/// A CNI plugin that takes its time and notes what it is called for.
const SLOW_PLUGIN: &str = r#"#!/bin/sh
echo "$CNI_COMMAND" >>"$(dirname "$0")/slow.calls"
[ "$CNI_COMMAND" != ADD ] || {
  sleep 3
  echo '{ "cniVersion": "1.0.0", "interfaces": [], "ips": [{ "address": "10.99.0.2/24" }] }'
}
"#;

#[test]
fn a_pod_that_is_deleted_while_its_sandbox_is_made_leaves_none() {
    let c = Cluster::start("hasty", &["busybox"]);
    let agent = c.dir.join("data/agent");
    let plugin = agent.join("bin/slow");
    std::fs::create_dir_all(agent.join("bin")).unwrap();
    std::fs::write(&plugin, SLOW_PLUGIN).unwrap();
    std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755)).unwrap();
    let network = r#"{ "cniVersion": "1.0.0", "name": "slow", "plugins": [{ "type": "slow" }] }"#;
    std::fs::write(agent.join("etc/cni/net.d/00-slow.conflist"), network).unwrap();
    let calls = || std::fs::read_to_string(agent.join("bin/slow.calls")).unwrap_or_default();
    c.kubectl(&["run", "hasty", "--image=busybox:1", "--", "sleep", "1000"]);
    c.until("its network is being made", |_| calls().contains("ADD"));
    c.kubectl(&["delete", "pod", "hasty", "--now"]);
    c.until("its network is taken down", |_| calls() == "ADD\nDEL\n");
}

#[test]
fn what_cannot_run_says_why_as_upstream_does() {
    let c = Cluster::start("errors", &["busybox"]);
    c.kubectl(&["run", "no-image", "--image=127.0.0.1:1/nothing:1", "--restart=Never"]);
    c.kubectl(&[
        "run",
        "no-command",
        "--image=busybox:1",
        "--restart=Never",
        "--command",
        "--",
        "/no/such/command",
    ]);
    c.kubectl(&[
        "run",
        "crash",
        "--image=busybox:1",
        "--",
        "sh",
        "-c",
        "echo dying; exit 7",
    ]);
    let waiting = |c: &Cluster, pod: &str| {
        c.kubectl(&[
            "get",
            "pod",
            pod,
            "-o",
            "jsonpath={.status.containerStatuses[0].state.waiting.reason}",
        ])
    };
    c.until("the image is not found", |c| {
        matches!(&*waiting(c, "no-image"), "ErrImagePull" | "ImagePullBackOff")
    });
    c.until("the command is not found", |c| {
        let state = c.kubectl(&[
            "get",
            "pod",
            "no-command",
            "-o",
            "jsonpath={.status.containerStatuses[0].state.terminated}",
        ]);
        state.contains("StartError") && state.contains("no such file or directory") && state.contains("128")
    });
    c.until("the crash is backed off from", |c| {
        waiting(c, "crash") == "CrashLoopBackOff"
    });
    assert_eq!(c.kubectl(&["logs", "crash", "--previous"]), "dying");
    c.kubectl(&[
        "run",
        "too-big",
        "--image=busybox:1",
        "--restart=Never",
        "--overrides",
        r#"{"spec":{"containers":[{"name":"c","image":"busybox:1","resources":{"requests":{"cpu":"1000"}}}]}}"#,
    ]);
    c.until("the scheduler says what is missing", |c| {
        c.kubectl(&["get", "events"])
            .contains("0/1 nodes are available: 1 Insufficient cpu.")
    });
}

#[test]
fn a_static_pod_is_shown_as_its_nodes_and_a_pod_grows_as_the_node_declares() {
    let c = Cluster::start("static", &["busybox"]);
    let name = c.kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
    let container = r#"{"name":"c","image":"busybox:1","command":["sleep","3600"]}"#;
    let manifest = format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"fixed"}},"spec":{{"terminationGracePeriodSeconds":0,"containers":[{container}]}}}}"#
    );
    std::fs::write(c.dir.join("data/agent/pod-manifests/fixed.yaml"), manifest).unwrap();
    let mirror = format!("fixed-{name}");
    let owner = "jsonpath={.status.phase} {.metadata.ownerReferences[*].kind} {.metadata.ownerReferences[*].name}";
    c.until("the mirror pod runs", |c| {
        c.try_kubectl(&["get", "pod", &mirror, "-o", owner]) == Ok(format!("Running Node {name}"))
    });

    c.apply(&format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"level"}},"spec":{{"terminationGracePeriodSeconds":0,
        "resources":{{"requests":{{"cpu":"10m"}},"limits":{{"cpu":"500m"}}}},"containers":[{container}]}}}}"#
    ));
    c.kubectl(&["wait", "pod/level", "--for=condition=Ready", "--timeout=60s"]);
    let more = r#"{"spec":{"resources":{"requests":{"cpu":"20m"}}}}"#;
    c.kubectl(&["patch", "pod", "level", "--subresource=resize", "-p", more]);
    let grown = [
        "get",
        "events",
        "--field-selector=reason=ResizeCompleted,involvedObject.name=level",
        "-o",
        "name",
    ];
    c.until("the pod has grown", |c| !c.kubectl(&grown).is_empty());
}

const DRAINING: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: draining, labels: { app: draining } }
spec:
  terminationGracePeriodSeconds: 600
  containers:
    - name: server
      image: busybox:1
      command: [sh, -c, 'trap "rm /tmp/ready" TERM; touch /tmp/ready; until [ -e /tmp/end ]; do sleep 0.1; done']
      readinessProbe: { exec: { command: [test, -e, /tmp/ready] }, periodSeconds: 1, failureThreshold: 1 }
      livenessProbe: { exec: { command: [test, -e, /tmp/ready] }, periodSeconds: 1, failureThreshold: 1 }
---
apiVersion: v1
kind: Service
metadata: { name: draining }
spec: { selector: { app: draining }, ports: [{ port: 80 }] }
"#;

/// What leads traffic to a server that drains its connections hears of its readiness until it ends.
#[test]
fn a_pod_that_ends_is_still_asked_whether_it_is_ready() {
    let c = Cluster::start("draining", &["busybox"]);
    c.apply(DRAINING);
    c.kubectl(&["wait", "--for=condition=Ready", "pod/draining", "--timeout=60s"]);
    c.kubectl(&["delete", "pod", "draining", "--wait=false"]);
    c.kubectl(&["wait", "--for=condition=Ready=false", "pod/draining", "--timeout=60s"]);
    c.until("its endpoint does not serve", |c| {
        let path = "-o=jsonpath={.items[0].endpoints[0].conditions}";
        let slices = c.kubectl(&[
            "get",
            "endpointslices",
            "-l",
            "kubernetes.io/service-name=draining",
            path,
        ]);
        slices.contains(r#""serving":false"#) && slices.contains(r#""terminating":true"#)
    });
    // the liveness probe fails as well, and no longer counts
    let restarts =
        "-o=jsonpath={.status.containerStatuses[0].restartCount}{.status.containerStatuses[0].state.running.startedAt}";
    let shown = c.kubectl(&["get", "pod", "draining", restarts]);
    assert!(shown.starts_with("02"), "{shown}");
    c.exec("draining", &["touch", "/tmp/end"]).unwrap();
    c.kubectl(&["wait", "--for=delete", "pod/draining", "--timeout=60s"]);
}
