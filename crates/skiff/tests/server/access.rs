//! Who may do what, as requests meet it: the forms that once went around a check.

use client::{Client, Kubeconfig};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::common::Server;

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

struct Asker(Client);

impl Asker {
    /// The code and the message of an answer. A user of the form `name,group,...` is impersonated; empty is the administrator.
    async fn ask(&self, user: &str, method: &str, path: &str, body: Value) -> (u16, String) {
        let mut builder = http::Request::builder().method(method).uri(path);
        let mut parts = user.split(',').filter(|part| !part.is_empty());
        if let Some(name) = parts.next() {
            builder = builder.header("impersonate-user", name);
        }
        for group in parts {
            builder = builder.header("impersonate-group", group);
        }
        let kind = match (method, path.contains("fieldManager")) {
            ("PATCH", true) => "application/apply-patch+yaml",
            ("PATCH", false) => "application/merge-patch+json",
            _ => "application/json",
        };
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let request = builder.header("content-type", kind).body(body.into()).unwrap();
        let response = self.0.send(request).await.unwrap();
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let tree: Value = serde_json::from_str(&text).unwrap_or_default();
        (code, tree["message"].as_str().unwrap_or(&text).to_owned())
    }

    async fn make(&self, path: &str, body: Value) {
        let (code, message) = self.ask("", "POST", path, body).await;
        assert_eq!(code, 201, "{path}: {message}");
    }

    /// Gives a user rules everywhere.
    async fn grant(&self, user: &str, rules: Value) {
        let (of, role) = (format!("{RBAC}/clusterroles"), format!("{RBAC}/clusterrolebindings"));
        self.make(&of, json!({ "metadata": { "name": user }, "rules": rules }))
            .await;
        let subject = json!({ "kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user });
        let to = json!({ "kind": "ClusterRole", "apiGroup": "rbac.authorization.k8s.io", "name": user });
        let binding = json!({ "metadata": { "name": user }, "subjects": [subject], "roleRef": to });
        self.make(&role, binding).await;
    }
}

fn rule(verbs: &[&str], groups: &[&str], resources: &[&str]) -> Value {
    json!({ "verbs": verbs, "apiGroups": groups, "resources": resources })
}

/// The right values are upstream's: `tests/differential` asks it the same.
#[tokio::test]
async fn nobody_gets_around_a_check() {
    let server = Server::start();
    let config = Kubeconfig::load(server.kubeconfig()).unwrap().config(None).unwrap();
    let a = Asker(config.client("test").unwrap());
    a.make("/api/v1/namespaces", json!({ "metadata": { "name": "a" } }))
        .await;
    a.make("/api/v1/namespaces", json!({ "metadata": { "name": "b" } }))
        .await;
    let roles = ["roles", "clusterroles", "rolebindings", "clusterrolebindings"];
    let writes = ["create", "update", "patch"];
    a.grant("author", json!([rule(&writes, &["rbac.authorization.k8s.io"], &roles)]))
        .await;
    a.grant(
        "patcher",
        json!([rule(&["patch", "update"], &["*"], &["leases", "configmaps"])]),
    )
    .await;
    let named = json!({ "verbs": ["deletecollection", "watch"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["s"] });
    a.grant("named", json!([named])).await;
    a.make("/api/v1/namespaces/a/secrets", json!({ "metadata": { "name": "s" } }))
        .await;
    a.make("/api/v1/nodes", json!({ "metadata": { "name": "n" } })).await;
    let pod = json!({ "metadata": { "name": "p", "labels": {} }, "spec": { "nodeName": "n", "containers": [{ "name": "c", "image": "i" }] } });
    a.make(
        "/api/v1/namespaces/a/serviceaccounts",
        json!({ "metadata": { "name": "default" } }),
    )
    .await;
    a.make("/api/v1/namespaces/a/pods", pod).await;
    let status = json!({ "status": { "podIP": "127.0.0.1", "podIPs": [{ "ip": "127.0.0.1" }] } });
    assert_eq!(
        a.ask("", "PATCH", "/api/v1/namespaces/a/pods/p/status", status).await.0,
        200
    );

    let all = |more: Value| {
        let mut rule = rule(&["*"], &["*"], &["*"]);
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "metadata": { "name": "author" }, "rules": [rule] })
    };
    let node = "system:node:n,system:nodes";
    let lease = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "l" } });
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "m" } });
    let none = || Value::Null;
    for (user, method, path, body, code, said) in [
        // what cannot be read is not nothing
        (
            "author",
            "PUT",
            &*format!("{RBAC}/clusterroles/author"),
            all(json!({ "resourceNames": null })),
            403,
            "attempting to grant",
        ),
        (
            "author",
            "PUT",
            &format!("{RBAC}/clusterroles/author"),
            all(json!({ "nonResourceURLs": null })),
            403,
            "attempting to grant",
        ),
        (
            "author",
            "PATCH",
            &format!("{RBAC}/clusterroles/author"),
            all(json!({ "resourceNames": null })),
            403,
            "attempting to grant",
        ),
        // who makes must be allowed to create
        (
            "patcher",
            "PUT",
            "/apis/coordination.k8s.io/v1/namespaces/a/leases/l",
            lease,
            403,
            "cannot create resource",
        ),
        (
            "patcher",
            "PATCH",
            "/api/v1/namespaces/a/configmaps/m?fieldManager=m",
            map,
            403,
            "cannot create resource",
        ),
        // an empty scope is not a scope, and a name narrows only what it narrows
        (
            node,
            "GET",
            "/api/v1/secrets?fieldSelector=metadata.name%3Ds",
            none(),
            403,
            "can only read namespaced object",
        ),
        (
            node,
            "GET",
            "/api/v1/pods",
            none(),
            403,
            "can only list/watch pods with spec.nodeName field selector",
        ),
        (
            node,
            "GET",
            "/api/v1/pods?fieldSelector=spec.nodeName%3Dn",
            none(),
            200,
            "",
        ),
        (node, "GET", "/api/v1/nodes", none(), 403, "cannot read all nodes"),
        (
            "system:node:,system:nodes",
            "GET",
            "/api/v1/nodes",
            none(),
            403,
            "unknown node for user",
        ),
        (
            "named",
            "DELETE",
            "/api/v1/namespaces/a/secrets?fieldSelector=metadata.name%3Ds",
            none(),
            403,
            "cannot deletecollection",
        ),
        (
            "named",
            "GET",
            "/api/v1/watch/namespaces/a/secrets?fieldSelector=metadata.name%3Ds",
            none(),
            403,
            "cannot watch",
        ),
        (
            "named",
            "GET",
            "/api/v1/namespaces/a/secrets?watch=1&fieldSelector=%20metadata.name%3Ds",
            none(),
            403,
            "cannot watch",
        ),
        (
            "named",
            "GET",
            "/api/v1/namespaces/a%2fpods/p",
            none(),
            403,
            "in the namespace \"a\"",
        ),
        (
            node,
            "PATCH",
            "/api/v1/namespaces/a/pods/p/status",
            json!({ "metadata": { "labels": { "x": "y" } } }),
            403,
            "cannot update labels through pod status",
        ),
        // namespaces without which there is no cluster
        (
            "",
            "DELETE",
            "/api/v1/namespaces/default",
            none(),
            403,
            "this namespace may not be deleted",
        ),
        (
            "",
            "DELETE",
            "/api/v1/namespaces/kube-system?dryRun=All",
            none(),
            403,
            "this namespace may not be deleted",
        ),
        ("", "DELETE", "/api/v1/namespaces/b?dryRun=All", none(), 200, ""),
        // a pod that calls this machine its own
        (
            "",
            "GET",
            "/api/v1/namespaces/a/pods/p:6443/proxy/",
            none(),
            400,
            "address not allowed",
        ),
        (
            "",
            "GET",
            "/api/v1/nodes?timeout=5",
            none(),
            400,
            "missing unit in duration",
        ),
    ] {
        let (got, message) = a.ask(user, method, path, body).await;
        assert_eq!(got, code, "{user:?} {method} {path}: {message}");
        assert!(message.contains(said), "{user:?} {method} {path}: {message}");
    }
}
