//! What lasts when skiff does not.

use crate::cluster::{Cluster, traces};

#[test]
fn fifty_pods_and_their_service_outlive_a_killed_skiff() {
    let mut c = Cluster::start("survival", &["busybox"]);
    let dir = c.dir.clone();
    let httpd = "mkdir /www; hostname > /www/index.html; exec httpd -f -p 80 -h /www";
    c.apply(&format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: many }}
spec:
  replicas: 50
  selector: {{ matchLabels: {{ app: many }} }}
  template:
    metadata: {{ labels: {{ app: many }} }}
    spec:
      containers: [{{ name: c, image: busybox:1, command: [sh, -c, "{httpd}"] }}]
---
apiVersion: v1
kind: Service
metadata: {{ name: many }}
spec: {{ selector: {{ app: many }}, ports: [{{ port: 80 }}] }}
"#
    ));
    c.kubectl(&["rollout", "status", "deployment/many", "--timeout=90s"]);
    let service = c.kubectl(&["get", "service", "many", "-o", "jsonpath={.spec.clusterIP}"]);
    let url = format!("http://{service}/");
    c.until("the Service answers", |c| c.http(&url).is_ok());
    let containers = |c: &Cluster| {
        let mut all: Vec<String> = c
            .kubectl(&["get", "pods", "-o", "jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount} {.status.podIP}{'\\n'}{end}"])
            .lines()
            .map(str::to_owned)
            .collect();
        all.sort();
        all
    };
    let processes = || {
        let mut pids = Vec::new();
        let mut parents = std::collections::HashMap::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if !command.starts_with(b"httpd\0-f\0-p\x0080\0-h\0/www\0") {
                continue;
            }
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
                continue;
            };
            let after_name = stat.rsplit(") ").next().unwrap_or_default();
            let parent = after_name.split(' ').nth(1).unwrap_or_default().to_owned();
            let pid = entry.file_name().to_string_lossy().into_owned();
            parents.insert(pid.clone(), parent);
            pids.push(pid);
        }
        // httpd answers each connection by a child, which may live a little longer than its answer takes
        pids.retain(|pid| !parents.contains_key(&parents[pid]));
        pids.sort();
        pids
    };
    let (before, running) = (containers(&c), processes());
    assert_eq!((before.len(), running.len()), (50, 50));

    c.kill();
    for _ in 0..20 {
        assert!(c.http(&url).is_ok(), "the Service must answer while skiff is gone");
    }
    assert_eq!(processes(), running);
    c.restart();
    c.until("all pods are known again", |c| {
        c.try_kubectl(&["get", "deployment", "many", "-o", "jsonpath={.status.readyReplicas}"])
            .as_deref()
            == Ok("50")
    });
    // something new gets its place beside them
    c.kubectl(&["run", "new", "--image=busybox:1", "--", "sleep", "1000"]);
    c.kubectl(&["wait", "--for=condition=Ready", "pod/new", "--timeout=60s"]);
    c.kubectl(&["delete", "pod", "new", "--now"]);
    assert_eq!(containers(&c), before);
    assert_eq!(processes(), running);

    // a stop in good order leaves the pods, too; killall ends them
    c.stop();
    assert_eq!(processes(), running);
    drop(c);
    assert_eq!(processes().len(), 0);
    assert_eq!(traces(&dir), Vec::<String>::new());
}
