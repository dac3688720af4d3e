//! Requests in forms that older or rarer clients use.

use crate::common::Server;

const POD: &str = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}"#;

#[test]
fn a_binding_in_its_collection_gives_a_pod_its_node() {
    let s = Server::start();
    s.ok_with(
        &[
            "create",
            "--raw",
            "/api/v1/namespaces/default/serviceaccounts",
            "-f",
            "-",
        ],
        r#"{"metadata": {"name": "default"}}"#,
    );
    s.ok_with(&["create", "-f", "-"], POD);
    let bindings = ["create", "--raw", "/api/v1/namespaces/default/bindings", "-f", "-"];
    let without = s.fails(&bindings, r#"{"metadata": {"name": "p"}}"#);
    assert!(without.contains("target.name: Required value"), "{without}");
    s.ok_with(&bindings, r#"{"metadata": {"name": "p"}, "target": {"name": "n"}}"#);
    assert_eq!(s.ok(&["get", "pod", "p", "-o", "jsonpath={.spec.nodeName}"]), "n");
}

#[test]
fn what_is_no_options_deletes_nothing() {
    let s = Server::start();
    s.ok(&["create", "configmap", "c"]);
    for path in [
        "/api/v1/namespaces/default/configmaps",
        "/api/v1/namespaces/default/configmaps/c",
    ] {
        let refused = s.fails(&["delete", "--raw", path, "-f", "-"], r#"{"kind": "Pod"}"#);
        let why =
            "no kind \"Pod\" is registered for version \"meta.k8s.io/v1\" in scheme \"pkg/runtime/scheme.go:111\"";
        assert!(refused.contains(why), "{refused}");
        let refused = s.fails(&["delete", "--raw", path, "-f", "-"], "[]");
        assert!(
            refused.contains("couldn't get version/kind; json parse error: json: cannot unmarshal array"),
            "{refused}"
        );
    }
    s.ok(&["get", "configmap", "c"]);
}

#[test]
fn the_namespaces_of_a_fresh_cluster_can_be_selected_by_their_names() {
    let s = Server::start();
    for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
        let selector = format!("kubernetes.io/metadata.name={name}");
        assert_eq!(
            s.ok(&["get", "namespaces", "-l", &selector, "-o", "name"]),
            format!("namespace/{name}")
        );
    }
}
