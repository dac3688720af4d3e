//! What the parts of agents that follow the cluster's objects may do, beside the roles that upstream has.

use client::{Client, Patch};
use serde_json::{Value, json};

use crate::join::CONTROLLER_USER;

const MANAGER: &str = "skiff";

/// Makes the role of `system:skiff-controller`, which k3s has for its own, and binds it.
pub async fn announce(client: Client) {
    let rule = |group: &str, resources: Value| json!({ "apiGroups": [group], "resources": resources, "verbs": ["get", "list", "watch"] });
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": CONTROLLER_USER },
        "rules": [
            rule("", json!(["namespaces", "nodes", "pods"])),
            rule("networking.k8s.io", json!(["networkpolicies"])),
            rule("discovery.k8s.io", json!(["endpointslices"])),
        ],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": { "name": CONTROLLER_USER },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": CONTROLLER_USER },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": CONTROLLER_USER }],
    });
    for (kind, object) in [("clusterroles", role), ("clusterrolebindings", binding)] {
        let path = format!("/apis/rbac.authorization.k8s.io/v1/{kind}/{CONTROLLER_USER}");
        let patch = Patch::Apply {
            manager: MANAGER.into(),
            force: true,
            object,
        };
        if let Err(error) = client.patch_path::<Value>(&path, &patch).await {
            tracing::error!(%error, "what agents may see cannot be said");
        }
    }
}
