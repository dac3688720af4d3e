//! Flow schemas and priority levels: kept, told of each other, and what their limits do to requests.

use std::time::{Duration, Instant};

use client::{Client, Kubeconfig};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::common::Server;

const FLOW: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";

struct Asker(Client);

impl Asker {
    fn of(server: &Server) -> Asker {
        let config = Kubeconfig::load(server.kubeconfig()).unwrap().config(None).unwrap();
        Asker(config.client("test").unwrap())
    }

    /// The code, the uids of the schema and the level, and the text of an answer to a user.
    async fn ask(&self, user: &str, method: &str, path: &str, body: &Value) -> (u16, [String; 2], String) {
        let mut builder = http::Request::builder().method(method).uri(path);
        if !user.is_empty() {
            builder = builder.header("impersonate-user", user);
        }
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let kind = if method == "PATCH" {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let request = builder.header("content-type", kind).body(body.into()).unwrap();
        let response = self.0.send(request).await.unwrap();
        let header = |name: &str| {
            let value = response.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let class = [
            header("x-kubernetes-pf-flowschema-uid"),
            header("x-kubernetes-pf-prioritylevel-uid"),
        ];
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (code, class, String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let (code, _, text) = self.ask("", "GET", path, &Value::Null).await;
        (code, serde_json::from_str(&text).unwrap_or_default())
    }

    async fn must(&self, method: &str, path: &str, body: Value) {
        let (code, _, text) = self.ask("", method, path, &body).await;
        assert!((200..300).contains(&code), "{method} {path}: {text}");
    }

    /// An object once it fits.
    async fn until(&self, path: &str, fits: impl Fn(u16, &Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let (code, tree) = self.get(path).await;
            if fits(code, &tree) {
                return tree;
            }
            assert!(Instant::now() < deadline, "{path}: {tree:#}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn dangling(tree: &Value) -> &Value {
    let conditions = tree["status"]["conditions"].as_array();
    let found = conditions.into_iter().flatten().find(|one| one["type"] == "Dangling");
    found.map_or(&Value::Null, |one| &one["status"])
}

#[tokio::test]
async fn what_every_server_has_is_kept_and_schemas_know_of_their_levels() {
    let server = Server::start();
    let asker = Asker::of(&server);
    let schemas = asker.get(&format!("{FLOW}/flowschemas")).await.1;
    assert_eq!(schemas["items"].as_array().unwrap().len(), 11);
    let levels = asker.get(&format!("{FLOW}/prioritylevelconfigurations")).await.1;
    assert_eq!(levels["items"].as_array().unwrap().len(), 8);
    // a mandatory one that is deleted is there again
    let path = format!("{FLOW}/flowschemas/catch-all");
    let before = asker.get(&path).await.1["metadata"]["uid"].clone();
    asker.must("DELETE", &path, Value::Null).await;
    asker
        .until(&path, |code, tree| code == 200 && tree["metadata"]["uid"] != before)
        .await;
    // a suggested one is as the server makes it, until its user says that it is hers
    let path = format!("{FLOW}/prioritylevelconfigurations/workload-low");
    let shares = |count: u64| json!({ "spec": { "limited": { "nominalConcurrencyShares": count } } });
    asker.must("PATCH", &path, shares(7)).await;
    asker
        .until(&path, |_, tree| {
            tree["spec"]["limited"]["nominalConcurrencyShares"] == 100
        })
        .await;
    let mut own = shares(7);
    own["metadata"] = json!({ "annotations": { "apf.kubernetes.io/autoupdate-spec": "false" } });
    asker.must("PATCH", &path, own).await;
    // a schema without its level is told so, and again when it comes
    let schema = json!({ "metadata": { "name": "odd" }, "spec": {
        "priorityLevelConfiguration": { "name": "odd" }, "matchingPrecedence": 5,
        "rules": [{ "subjects": [{ "kind": "User", "user": { "name": "odd" } }],
                    "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }] }],
    } });
    asker.must("POST", &format!("{FLOW}/flowschemas"), schema).await;
    let path = format!("{FLOW}/flowschemas/odd");
    asker.until(&path, |_, tree| dangling(tree) == "True").await;
    let level = json!({ "metadata": { "name": "odd" }, "spec": { "type": "Limited", "limited": {
        "nominalConcurrencyShares": 5, "limitResponse": { "type": "Reject" },
    } } });
    asker
        .must("POST", &format!("{FLOW}/prioritylevelconfigurations"), level)
        .await;
    let schema = asker.until(&path, |_, tree| dangling(tree) == "False").await;
    let level = asker.get(&format!("{FLOW}/prioritylevelconfigurations/odd")).await.1;
    // requests name their class, also those that are refused for other reasons
    let (_, class, _) = asker.ask("odd", "GET", "/version", &Value::Null).await;
    assert_eq!(
        class,
        [&schema, &level].map(|tree| tree["metadata"]["uid"].as_str().unwrap())
    );
    let low = asker
        .get(&format!("{FLOW}/prioritylevelconfigurations/workload-low"))
        .await
        .1;
    assert_eq!(low["spec"]["limited"]["nominalConcurrencyShares"], 7);
}

#[tokio::test]
async fn levels_are_shown_and_counted() {
    let flags = [
        "--disable-agent",
        "--disable-scheduler",
        "--disable-controller-manager",
        "--max-requests-inflight=40",
        "--max-mutating-requests-inflight=9",
    ];
    let server = Server::start_with(&flags);
    let asker = Asker::of(&server);
    let (_, _, text) = asker
        .ask(
            "",
            "GET",
            "/debug/api_priority_and_fairness/dump_priority_levels",
            &Value::Null,
        )
        .await;
    let names: Vec<&str> = text.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    let all = [
        "catch-all",
        "exempt",
        "global-default",
        "leader-election",
        "node-high",
        "system",
        "workload-high",
        "workload-low",
    ];
    assert_eq!(names, all);
    let (_, _, metrics) = asker.ask("", "GET", "/metrics", &Value::Null).await;
    assert!(
        metrics.contains("apiserver_flowcontrol_nominal_limit_seats{priority_level=\"catch-all\"} 1"),
        "{metrics}"
    );
    assert!(
        metrics.contains(
            "apiserver_flowcontrol_dispatched_requests_total{flow_schema=\"exempt\",priority_level=\"exempt\"}"
        )
    );
}
