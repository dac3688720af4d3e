//! The example application.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::cluster::{Cluster, NODE, traces};

const SHOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/shop/shop.yaml");

fn visit(cluster: &Cluster) -> Result<u64, String> {
    let answer = cluster.http(&format!("http://{NODE}:30080/api/"))?;
    let answer: serde_json::Value = serde_json::from_str(&answer).map_err(|e| format!("{e}: {answer}"))?;
    answer["visits"].as_u64().ok_or_else(|| answer.to_string())
}

#[test]
fn the_shop_comes_up_survives_and_is_updated_under_load() {
    let cluster = Cluster::start("shop", &["redis", "shop-api", "shop-web"]);
    let dir = cluster.dir.clone();
    cluster.kubectl(&["apply", "-f", SHOP]);
    cluster.kubectl(&[
        "wait",
        "--for=condition=Available",
        "deployment",
        "--all",
        "--timeout=90s",
    ]);
    cluster.until("the shop answers", |c| visit(c).is_ok());
    assert!(
        cluster
            .http(&format!("http://{NODE}:30080/"))
            .unwrap()
            .contains("<h1>Shop</h1>")
    );

    // every container's process is killed; all come back, the database with its data
    let before = visit(&cluster).unwrap();
    let killed = ["database", "api", "web"].map(|app| {
        let pods = cluster.kubectl(&["get", "pods", "-l", &format!("app={app}"), "-o", "name"]);
        for pod in pods.lines() {
            // the signal comes from outside of the container: process 1 there ignores its own kind's
            let id = cluster.kubectl(&["get", pod, "-o", "jsonpath={.metadata.uid}"]);
            kill_containers_of(&id);
        }
        pods.lines().count()
    });
    assert_eq!(killed, [1, 2, 2]);
    cluster.until("every container was restarted", |c| {
        let counts = c.kubectl(&[
            "get",
            "pods",
            "-o",
            "jsonpath={.items[*].status.containerStatuses[*].restartCount}",
        ]);
        counts.split(' ').all(|n| n == "1")
    });
    cluster.until("the shop answers again", |c| visit(c).is_ok());
    assert!(visit(&cluster).unwrap() > before);

    // a rolling update, while somebody visits all the time
    cluster.until("all are ready", |c| {
        let ready = c.kubectl(&["get", "deploy", "-o", "jsonpath={.items[*].status.readyReplicas}"]);
        ready == "2 1 2"
    });
    let done = AtomicBool::new(false);
    let visits = AtomicUsize::new(0);
    let failures = std::thread::scope(|scope| {
        let visitor = scope.spawn(|| {
            let mut failures = Vec::new();
            while !done.load(Ordering::Relaxed) {
                match visit(&cluster) {
                    Ok(_) => visits.fetch_add(1, Ordering::Relaxed),
                    Err(error) => {
                        failures.push(error);
                        0
                    }
                };
            }
            failures
        });
        for image in ["shop-api:2", "shop-api:1"] {
            let set = format!("api={image}");
            cluster.kubectl(&["set", "image", "deployment/api", &set]);
            cluster.kubectl(&["rollout", "status", "deployment/api", "--timeout=90s"]);
        }
        cluster.kubectl(&["rollout", "restart", "deployment/web"]);
        cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
        cluster.kubectl(&["rollout", "undo", "deployment/api"]);
        cluster.kubectl(&["rollout", "status", "deployment/api", "--timeout=90s"]);
        done.store(true, Ordering::Relaxed);
        visitor.join().unwrap()
    });
    assert!(failures.is_empty(), "{failures:?}");
    assert!(visits.load(Ordering::Relaxed) > 10);
    let image = cluster.kubectl(&[
        "get",
        "deploy",
        "api",
        "-o",
        "jsonpath={.spec.template.spec.containers[0].image}",
    ]);
    assert_eq!(image, "shop-api:2");

    drop(cluster);
    assert_eq!(traces(&dir), Vec::<String>::new());
}

/// Kills what runs in the pod's cgroups.
fn kill_containers_of(uid: &str) {
    fn groups(dir: &std::path::Path, out: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                groups(&entry.path(), out);
                out.push(entry.path());
            }
        }
    }
    let mut all = Vec::new();
    groups(std::path::Path::new("/sys/fs/cgroup"), &mut all);
    let mut pids = std::collections::BTreeSet::new();
    for group in all.iter().filter(|g| g.to_string_lossy().contains(uid)) {
        let procs = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        pids.extend(procs.lines().map(str::to_owned));
    }
    assert!(!pids.is_empty(), "no process of pod {uid}");
    for pid in pids {
        // a child goes with its parent
        let _ = std::process::Command::new("kill").args(["-9", &pid]).status();
    }
}
