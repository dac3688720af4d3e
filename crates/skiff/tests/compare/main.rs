//! The same requests against upstream's API server and ours: status, reason, field paths and the stored object must
//! be the same. `requests.jsonl` holds the requests, `answers.jsonl` upstream's answers to them, `differences.txt` the
//! requests that are answered differently, each with the cause.
//!
//! Upstream's answers are recorded with `SKIFF_COMPARE_RECORD=<kubeconfig of its API server> cargo test -p skiff --test
//! compare`; without that our server is asked and compared. `SKIFF_COMPARE_SHOW` shows the known differences too.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../server/common.rs"]
mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use client::{Client, Kubeconfig};
use http_body_util::BodyExt;
use serde_json::{Value, json};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compare")
}

fn lines(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder().join(file)).unwrap();
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

async fn ask(client: &Client, request: &Value) -> Value {
    let text = |key: &str| request[key].as_str();
    let method = text("method").unwrap();
    let mut builder = http::Request::builder().method(method).uri(text("path").unwrap());
    builder = builder.header("accept", text("accept").unwrap_or("application/json"));
    let body = match (&request["body"], text("raw")) {
        (Value::Null, raw) => raw.unwrap_or_default().to_owned(),
        (tree, _) => tree.to_string(),
    };
    let has_body = !body.is_empty() || text("raw").is_some();
    if has_body {
        builder = builder.header("content-type", text("type").unwrap_or("application/json"));
    }
    let response = client.send(builder.body(body.into()).unwrap()).await.unwrap();
    let code = response.status().as_u16();
    let warnings: Vec<String> = response
        .headers()
        .get_all("warning")
        .iter()
        .map(|w| w.to_str().unwrap().to_owned())
        .collect();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let body = if request["stream"] == json!(true) {
        let text = String::from_utf8_lossy(&bytes);
        text.lines()
            .map(|l| serde_json::from_str(l).unwrap_or(json!(l)))
            .collect()
    } else {
        serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)))
    };
    let mut answer = json!({ "code": code, "body": body });
    if !warnings.is_empty() {
        answer["warnings"] = json!(warnings);
    }
    answer
}

/// Puts in place what differs from run to run.
fn normalize(value: &mut Value) {
    match value {
        Value::Object(map) => {
            let is_meta = map.contains_key("uid") || map.contains_key("resourceVersion");
            let generated = map.get("generateName").and_then(Value::as_str).map(str::to_owned);
            for (key, value) in map.iter_mut() {
                let masked = matches!(
                    key.as_str(),
                    "uid"
                        | "resourceVersion"
                        | "creationTimestamp"
                        | "deletionTimestamp"
                        | "time"
                        | "continue"
                        | "lastTransitionTime"
                        | "token"
                        | "expirationTimestamp"
                        | "clusterIP"
                        | "audit-id"
                        | "remainingItemCount"
                        | "serverAddress"
                );
                // the words that describe a column are upstream's own and shown by no client
                if key == "columnDefinitions" {
                    for column in value.as_array_mut().into_iter().flatten() {
                        column["description"] = json!("");
                    }
                }
                match value {
                    Value::String(s) if masked && !s.is_empty() && s != "None" => *s = format!("<{key}>"),
                    Value::Array(list) if key == "clusterIPs" && list.iter().all(|v| v != "None") => {
                        *value = json!("<clusterIPs>");
                    }
                    Value::Number(_) if masked => *value = json!(format!("<{key}>")),
                    Value::Array(list) if key == "managedFields" => {
                        for entry in list.iter_mut() {
                            entry.as_object_mut().map(|e| e.remove("time"));
                        }
                        // they are ordered by time, of which a second is the unit
                        list.sort_by_key(|e| format!("{} {} {}", e["manager"], e["operation"], e["subresource"]));
                        normalize(value);
                    }
                    Value::Number(_) if matches!(key.as_str(), "nodePort" | "healthCheckNodePort") => {}
                    Value::String(s) if key == "name" && is_meta && generated.is_some() => {
                        *s = format!("{}<generated>", generated.as_deref().unwrap_or_default());
                    }
                    other => normalize(other),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(normalize),
        Value::String(s) => *s = plain(s),
        _ => {}
    }
}

/// Words that look like uids, times and generated names are named for what they are.
fn plain(text: &str) -> String {
    let patterns = [
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uid>"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"),
        (r"kube-api-access-[a-z0-9]{5}", "kube-api-access-<generated>"),
        (r"gen-[a-z0-9]{5}\b", "gen-<generated>"),
        (r"^\d+[smh]$", "<age>"),
        (r"X509SHA256=[0-9a-f]{64}", "<credential>"),
        (r"10\.96\.\d+\.\d+", "<ip>"),
        (r#"(resourceVersion\\?":\\?")\d+"#, "${1}<resourceVersion>"),
        (r"(Too large resource version: \d+, current: )\d+", "${1}<revision>"),
        // what upstream appends to a change that it refuses: the difference of two Go structs
        (r"(?s)\n@@ .*", ""),
    ];
    patterns.iter().fold(text.to_owned(), |text, (pattern, name)| {
        regex::Regex::new(pattern)
            .unwrap()
            .replace_all(&text, *name)
            .into_owned()
    })
}

/// A kubeconfig of the user that upstream was asked by: an administrator by a binding, who is no master.
async fn administrator(server: &common::Server) -> std::path::PathBuf {
    let masters = Kubeconfig::load(server.kubeconfig()).unwrap();
    let client = masters.config(None).unwrap().client("compare").unwrap();
    let group = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "kubeadm:cluster-admins" });
    let role = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": { "name": "kubeadm:cluster-admins" }, "roleRef": role, "subjects": [group],
    });
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    let answer = ask(&client, &json!({ "method": "POST", "path": path, "body": binding })).await;
    assert_eq!(answer["code"], 201, "{answer}");
    let tls = server.data().join("server/tls");
    let now = time::OffsetDateTime::now_utc();
    let authority = pki::Authority::load_or_create(&tls, "client-ca", now).unwrap();
    let who = pki::Identity {
        common_name: "kubernetes-admin",
        organizations: &["kubeadm:cluster-admins"],
    };
    let (certificate, key) = authority
        .issue(&who, &pki::Usage::Client, time::Duration::days(1), now)
        .unwrap();
    let root = std::fs::read_to_string(tls.join("server-ca.crt")).unwrap();
    let path = server.data().join("kubernetes-admin.kubeconfig");
    let config = masters.config(None).unwrap();
    let text = pki::kubeconfig("default", &config.server, &root, &certificate, &key);
    std::fs::write(&path, text).unwrap();
    path
}

async fn answers(kubeconfig: &Path) -> Vec<Value> {
    let config = Kubeconfig::load(kubeconfig).unwrap().config(None).unwrap();
    let client = config.client("compare").unwrap();
    let mut answers = Vec::new();
    for request in lines("requests.jsonl") {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut answer = loop {
            let answer = ask(&client, &request).await;
            let Some(wanted) = request["until_condition"].as_str() else {
                break answer;
            };
            let conditions = answer["body"]["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            if conditions.iter().any(|c| c["type"] == wanted && c["status"] == "True") {
                break answer;
            }
            assert!(Instant::now() < deadline, "{}: {answer}", request["name"]);
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        normalize(&mut answer);
        answer["name"] = request["name"].clone();
        answers.push(answer);
    }
    answers
}

/// Every place where two documents differ.
fn differences(path: &str, ours: &Value, theirs: &Value, out: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let (x, y) = (a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null));
                differences(&format!("{path}.{key}"), x, y, out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (x, y)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}[{i}]"), x, y, out);
            }
        }
        (a, b) if a == b => {}
        (a, b) => out.push(format!("{path}: ours {a}, upstream's {b}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_answered_as_upstream_answers_it() {
    if let Ok(kubeconfig) = std::env::var("SKIFF_COMPARE_RECORD") {
        let answers = answers(Path::new(&kubeconfig)).await;
        let text: String = answers.iter().map(|a| format!("{a}\n")).collect();
        std::fs::write(folder().join("answers.jsonl"), text).unwrap();
        return;
    }
    let flags = [
        "--disable-agent",
        "--disable-scheduler",
        "--disable-controller-manager",
        "--service-cidr=10.96.0.0/16",
    ];
    let server = common::Server::start_with(&flags);
    let ours = answers(&administrator(&server).await).await;
    let mut theirs = lines("answers.jsonl");
    theirs.iter_mut().for_each(normalize);
    let known = std::fs::read_to_string(folder().join("differences.txt")).unwrap();
    let known: BTreeMap<&str, &str> = known
        .lines()
        .filter(|l| !l.starts_with('#') && !l.is_empty())
        .map(|l| l.split_once(" | ").expect("a line is `request | cause`"))
        .collect();
    assert_eq!(ours.len(), theirs.len(), "record upstream's answers again");
    let mut report = String::new();
    let show_known = std::env::var("SKIFF_COMPARE_SHOW").is_ok();
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let name = theirs["name"].as_str().unwrap();
        let mut found = Vec::new();
        differences("", ours, theirs, &mut found);
        match (found.is_empty(), known.contains_key(name)) {
            (false, true) if show_known => report.push_str(&format!("{name}:\n  {}\n", found.join("\n  "))),
            (true, false) | (false, true) => {}
            (true, true) => report.push_str(&format!("{name}: is no longer different\n")),
            (false, false) => report.push_str(&format!("{name}:\n  {}\n", found.join("\n  "))),
        }
    }
    assert!(report.is_empty(), "{report}");
}
