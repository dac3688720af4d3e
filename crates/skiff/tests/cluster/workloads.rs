//! What people do with kubectl, against real containers.

use std::io::Write;
use std::process::Stdio;

use crate::cluster::Cluster;

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
