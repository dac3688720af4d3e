//! The objects that loads make.

use serde_json::{Value, json};

/// The image whose program waits, on both sides upstream's.
pub const PAUSE: &str = "registry.k8s.io/pause:3.10.2";
pub const NGINX: &str = "docker.io/library/nginx:1";
pub const DNSUTILS: &str = "docker.io/library/dnsutils:1";

pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// Some 600 bytes when stored.
pub fn config_map(name: &str, turn: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"app": "bench"}},
        "data": {"turn": turn.to_string(), "text": "x".repeat(256)},
    })
}

fn spec(image: &str) -> Value {
    json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": image, "imagePullPolicy": "IfNotPresent"}],
    })
}

/// A pod that runs.
pub fn pod(name: &str, image: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "bench"}}, "spec": spec(image)})
}

/// A pod as applications have them, some 3.9 kB when listed; nobody schedules it.
pub fn idle_pod(name: &str) -> Value {
    let environment: Vec<Value> = (0..3)
        .map(|i| json!({"name": format!("VARIABLE_{i}"), "value": format!("the value of variable {i} of the application")}))
        .collect();
    let probe = json!({"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 10});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {"app": "bench", "tier": "backend", "pod-template-hash": "7d4b9c6f85"},
            "annotations": {"bench.example.com/checksum": "a".repeat(64)},
        },
        "spec": {
            "schedulerName": "nobody",
            "containers": [{
                "name": "application", "image": "registry.example.com/team/application:1.2.3",
                "args": ["--port=8080", "--verbose=false"], "env": environment,
                "ports": [{"name": "http", "containerPort": 8080}],
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
                "livenessProbe": probe, "readinessProbe": probe,
                "volumeMounts": [{"name": "config", "mountPath": "/etc/application"}],
            }],
            "volumes": [{"name": "config", "configMap": {"name": "application"}}],
        },
    })
}

pub fn deployment(name: &str, image: &str, replicas: usize) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": spec(image)},
        },
    })
}

pub fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80}]},
    })
}
