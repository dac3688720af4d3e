//! Upstream's own programs in place of some of ours.

use std::path::PathBuf;

use crate::cluster::{Cluster, NODE, tag};

/// The folder that `tests/upstream/build.sh` filled.
fn programs() -> PathBuf {
    let dir = std::env::var("SKIFF_TEST_UPSTREAM").expect("SKIFF_TEST_UPSTREAM names the folder that build.sh filled");
    PathBuf::from(dir)
}

fn program(name: &str) -> String {
    programs().join(name).to_str().unwrap().to_owned()
}

fn roll_out(c: &Cluster) {
    c.kubectl(&["create", "deployment", "web", "--image=nginx:1", "--replicas=3"]);
    c.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    c.kubectl(&["set", "image", "deployment/web", "nginx=nginx:2"]);
    c.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    c.kubectl(&["rollout", "undo", "deployment/web"]);
    c.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    c.kubectl(&["delete", "deployment", "web", "--cascade=foreground", "--timeout=60s"]);
    assert_eq!(c.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"]), "");
}

fn start_scheduler(c: &mut Cluster) {
    let kubeconfig = c.dir.join("data/server/cred/scheduler.kubeconfig");
    let flags = ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"]
        .map(|flag| format!("--{flag}={}", kubeconfig.display()));
    let mut flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    flags.push("--bind-address=127.0.0.1");
    c.daemon("kube-scheduler", &program("kube-scheduler"), &flags);
}

fn start_controller_manager(c: &mut Cluster) {
    let server = c.dir.join("data/server");
    let file = |name: &str| server.join(name).display().to_string();
    let kubeconfig = file("cred/controller.kubeconfig");
    let flags = [
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        format!("--root-ca-file={}", file("tls/server-ca.crt")),
        format!("--service-account-private-key-file={}", file("tls/service.key")),
        format!("--cluster-signing-cert-file={}", file("tls/client-ca.crt")),
        format!("--cluster-signing-key-file={}", file("tls/client-ca.key")),
        "--bind-address=127.0.0.1".to_owned(),
        "--use-service-account-credentials=true".to_owned(),
        "--allocate-node-cidrs=true".to_owned(),
        "--cluster-cidr=10.42.0.0/16".to_owned(),
        "--service-cluster-ip-range=10.43.0.0/16".to_owned(),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    c.daemon("kube-controller-manager", &program("kube-controller-manager"), &flags);
}

#[test]
fn upstreams_scheduler_and_controllers_drive_our_api_server_each_alone_and_both() {
    for (name, scheduler, controllers) in [("us", true, false), ("uc", false, true), ("usc", true, true)] {
        let mut flags = Vec::new();
        if scheduler {
            flags.push("--disable-scheduler");
        }
        if controllers {
            flags.push("--disable-controller-manager");
        }
        let mut c = Cluster::start_with(name, &["nginx"], &flags);
        if scheduler {
            start_scheduler(&mut c);
        }
        if controllers {
            start_controller_manager(&mut c);
        }
        c.until_ready();
        roll_out(&c);
    }
}

#[test]
fn our_scheduler_controllers_and_kubelet_work_against_upstreams_api_server() {
    let mut c = Cluster::empty("ua", &["nginx"]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/upstream/cluster.sh");
    for step in ["prepare", "start"] {
        let done = c
            .inside("bash")
            .arg(script)
            .arg(step)
            .arg(programs())
            .arg(&c.dir)
            .arg("api-server")
            .status();
        assert!(done.unwrap().success(), "{}", c.log());
    }
    let kubeconfig = c.kubeconfig();
    std::fs::create_dir_all(kubeconfig.parent().unwrap()).unwrap();
    std::fs::copy(c.dir.join("admin.conf"), &kubeconfig).unwrap();
    let file = |name: &str| c.dir.join(name).display().to_string();
    let with = |name: &str| format!("--kubeconfig={}", file(name));
    let (scheduler, admin, node) = (with("scheduler.conf"), with("admin.conf"), with("kubelet.conf"));
    let root_ca = format!("--root-ca-file={}", file("pki/ca.crt"));
    let data = format!("--data-dir={}", file("data"));
    let socket = format!("--listen={}", file("cri.sock"));
    let endpoint = format!("--container-runtime-endpoint=unix://{}", file("cri.sock"));
    let (root, own_ip) = (
        format!("--root-dir={}", file("data/agent/kubelet")),
        format!("--node-ip={NODE}"),
    );
    // the one that killall empties
    let cgroup = format!("--cgroup-root=/skiff-{}", tag(&c.dir));
    let resolv = format!("--resolv-conf={}", file("resolv.conf"));
    let skiff = env!("CARGO_BIN_EXE_skiff");
    c.daemon("kube-scheduler", skiff, &["kube-scheduler", &scheduler]);
    let controllers = [
        "kube-controller-manager",
        &admin,
        &root_ca,
        "--allocate-node-cidrs",
        "--cluster-cidr=10.42.0.0/16",
    ];
    c.daemon("kube-controller-manager", skiff, &controllers);
    c.daemon(
        "runtime",
        skiff,
        &["container-runtime", &data, &socket, "--pod-cidr=10.42.0.0/24"],
    );
    c.until("the runtime answers", |c| c.dir.join("cri.sock").exists());
    let kubelet = [
        "kubelet",
        &node,
        "--hostname-override=node",
        &own_ip,
        &endpoint,
        &root,
        &cgroup,
        &resolv,
        // how full the machine's disk is says nothing of what is tested
        "--eviction-hard=memory.available<100Mi",
    ];
    c.daemon("kubelet", skiff, &kubelet);
    c.until_ready();
    roll_out(&c);
}
