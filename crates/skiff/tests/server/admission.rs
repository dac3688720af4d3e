//! What admission adds and refuses, as a user of kubectl sees it.

use crate::common::Server;

/// A namespace with a level to enforce, and the service account that its pods run as.
fn namespace(s: &Server, name: &str, level: &str) {
    s.ok(&["create", "namespace", name]);
    s.ok(&[
        "label",
        "namespace",
        name,
        &format!("pod-security.kubernetes.io/enforce={level}"),
    ]);
    s.ok(&["create", "serviceaccount", "default", "-n", name]);
}

/// What kubectl prints, warnings before all.
fn told(s: &Server, args: &[&str]) -> String {
    let output = s.run(args, "");
    let (err, out) = (
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout),
    );
    format!("{err}{out}").trim_end().to_owned()
}

#[test]
fn a_namespaces_level_refuses_pods_and_warns_of_workloads_and_of_pods_that_are_there() {
    let s = Server::start();
    namespace(&s, "guarded", "baseline");
    let in_guarded = |args: &[&str]| told(&s, &[args, &["-n", "guarded"]].concat());
    let refused = in_guarded(&["run", "host", "--image=x", r#"--overrides={"spec":{"hostPID":true}}"#]);
    assert_eq!(
        refused,
        r#"Error from server (Forbidden): pods "host" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostPID=true)"#
    );
    assert_eq!(in_guarded(&["run", "plain", "--image=x"]), "pod/plain created");

    let label = |value: &str| {
        told(
            &s,
            &[
                "label",
                "--overwrite",
                "namespace",
                "guarded",
                &format!("pod-security.kubernetes.io/{value}"),
            ],
        )
    };
    let unreadable = label("enforce=strict");
    assert!(
        unreadable.contains(r#"Invalid value: "strict": must be one of privileged, baseline, restricted"#),
        "{unreadable}"
    );
    let reasons = "allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile";
    let existing = [
        r#"Warning: existing pods in namespace "guarded" violate the new PodSecurity enforce level "restricted:latest""#,
        &format!("Warning: plain: {reasons}"),
        "namespace/guarded labeled",
    ];
    assert_eq!(label("enforce=restricted"), existing.join("\n"));
    let deployed = in_guarded(&["create", "deployment", "d", "--image=x"]);
    assert!(
        deployed.starts_with(r#"Warning: would violate PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "x" must"#)
            && deployed.ends_with("deployment.apps/d created"),
        "{deployed}"
    );
    // what does not change a pod's rights is left alone
    assert_eq!(in_guarded(&["label", "pod", "plain", "a=b"]), "pod/plain labeled");
    let other = in_guarded(&["set", "image", "pod/plain", "plain=y"]);
    assert!(other.contains(r#"violates PodSecurity "restricted:latest""#), "{other}");
}

#[test]
fn an_ingress_without_a_class_gets_the_default_one() {
    let s = Server::start();
    s.ok_with(
        &["create", "-f", "-"],
        r#"{"apiVersion":"networking.k8s.io/v1","kind":"IngressClass","metadata":{"name":"usual",
            "annotations":{"ingressclass.kubernetes.io/is-default-class":"true"}},"spec":{"controller":"example.com/a"}}"#,
    );
    s.ok(&["create", "ingress", "a", "--default-backend=s:80"]);
    s.ok(&["create", "ingress", "b", "--default-backend=s:80", "--class=own"]);
    let class = |name| s.ok(&["get", "ingress", name, "-o", "jsonpath={.spec.ingressClassName}"]);
    assert_eq!([class("a"), class("b")], ["usual", "own"]);
}

#[test]
fn a_claim_grows_when_it_is_bound_and_its_class_lets_it() {
    let s = Server::start();
    for (class, grows) in [("grows", true), ("stays", false)] {
        s.ok_with(
            &["create", "-f", "-"],
            &format!(
                r#"{{"apiVersion":"storage.k8s.io/v1","kind":"StorageClass","metadata":{{"name":"{class}"}},
                "provisioner":"example.com/p","allowVolumeExpansion":{grows}}}"#
            ),
        );
        s.ok_with(
            &["create", "-f", "-"],
            &format!(
                r#"{{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{{"name":"{class}"}},"spec":{{"storageClassName":"{class}",
                "volumeName":"v","accessModes":["ReadWriteOnce"],"resources":{{"requests":{{"storage":"1Gi"}}}}}}}}"#
            ),
        );
        let bound = r#"{"status":{"phase":"Bound","capacity":{"storage":"1Gi"}}}"#;
        s.ok(&["patch", "pvc", class, "--subresource=status", "-p", bound]);
    }
    let more = r#"{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}"#;
    s.ok(&["patch", "pvc", "grows", "-p", more]);
    let refused = s.fails(&["patch", "pvc", "stays", "-p", more], "");
    assert!(
        refused.contains("only dynamically provisioned pvc can be resized"),
        "{refused}"
    );
}

#[test]
fn a_pod_on_a_node_says_where_that_is_and_grows_to_what_it_has_at_most() {
    let s = Server::start();
    s.ok(&["create", "serviceaccount", "default"]);
    s.ok_with(
        &["create", "-f", "-"],
        r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"n","labels":{"topology.kubernetes.io/zone":"z"}},
            "status":{"allocatable":{"cpu":"1","memory":"1Gi"}}}"#,
    );
    s.ok_with(
        &["create", "-f", "-"],
        r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","labels":{"a":"b"}},"spec":{"nodeName":"n",
            "containers":[{"name":"p","image":"x","resources":{"requests":{"cpu":"100m"}}}]}}"#,
    );
    let labels = s.ok(&["get", "pod", "p", "-o", "jsonpath={.metadata.labels}"]);
    assert_eq!(labels, r#"{"a":"b","topology.kubernetes.io/zone":"z"}"#);
    let resize = |cpu: &str| {
        let patch =
            format!(r#"{{"spec":{{"containers":[{{"name":"p","resources":{{"requests":{{"cpu":"{cpu}"}}}}}}]}}}}"#);
        s.try_with(&["patch", "pod", "p", "--subresource=resize", "-p", &patch], "")
    };
    let refused = resize("1001m").unwrap_err();
    let why = "node didn't have enough allocatable resources: cpu, requested: 1001, allocatable: 1000";
    assert!(refused.contains(why), "{refused}");
    resize("1").unwrap();
}

#[test]
fn a_node_gets_tokens_for_its_pods_and_bound_to_them() {
    let s = Server::start();
    s.ok(&["create", "serviceaccount", "default"]);
    for (pod, node) in [("mine", "n"), ("other", "m")] {
        let overrides = format!(r#"--overrides={{"spec":{{"nodeName":"{node}"}}}}"#);
        s.ok(&["run", pod, "--image=x", &overrides]);
    }
    let token = |flags: &[&str]| {
        let node = [
            "--as=system:node:n",
            "--as-group=system:nodes",
            "create",
            "token",
            "default",
        ];
        s.try_with(&[&node, flags].concat(), "")
    };
    let bound = |pod: &str, more: &[&str]| {
        let uid = s.ok(&["get", "pod", pod, "-o", "jsonpath={.metadata.uid}"]);
        let object = format!("--bound-object-name={pod}");
        let uid = format!("--bound-object-uid={uid}");
        token(&[&["--bound-object-kind=Pod", &object, &uid], more].concat())
    };
    assert!(bound("mine", &[]).is_ok());
    for (refused, why) in [
        (token(&[]), "node requested token not bound to a pod"),
        (
            bound("other", &[]),
            "node requested token bound to a pod scheduled on a different node",
        ),
        (
            bound("mine", &["--audience=vault"]),
            "system:node:n is not authorized to request tokens for audience \"vault\"",
        ),
    ] {
        let refused = refused.unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
}

#[test]
fn a_secret_keeps_a_token_of_its_account_as_long_as_both_are_there() {
    let s = Server::start_with(&["--disable-agent", "--disable-scheduler"]);
    s.ok(&["create", "serviceaccount", "robot"]);
    let secret = serde_json::json!({ "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": { "name": "robot", "annotations": { "kubernetes.io/service-account.name": "robot" } } });
    s.ok_with(&["create", "-f", "-"], &secret.to_string());
    s.ok(&["wait", "secret/robot", "--for=jsonpath={.data.token}", "--timeout=20s"]);
    let template = "-o=go-template={{.data.token | base64decode}}";
    let token = s.ok(&["get", "secret", "robot", template]);
    let who = || {
        let review = serde_json::json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": { "token": token.trim() } });
        s.ok_with(
            &["create", "-f", "-", "-o=jsonpath={.status.user.username}"],
            &review.to_string(),
        )
    };
    assert_eq!(who(), "system:serviceaccount:default:robot");
    let used = "-o=jsonpath={.metadata.labels.kubernetes\\.io/legacy-token-last-used}";
    assert_ne!(s.ok(&["get", "secret", "robot", used]), "");
    s.ok(&[
        "label",
        "secret",
        "robot",
        "kubernetes.io/legacy-token-invalid-since=2020-01-01",
    ]);
    assert_eq!(who(), "");
    s.ok(&["label", "secret", "robot", "kubernetes.io/legacy-token-invalid-since-"]);
    assert_eq!(who(), "system:serviceaccount:default:robot");
    s.ok(&["delete", "serviceaccount", "robot"]);
    s.ok(&["wait", "secret/robot", "--for=delete", "--timeout=20s"]);
    assert_eq!(who(), "");
}

#[test]
fn a_write_that_is_lost_costs_no_quota() {
    let s = Server::start();
    s.ok(&["create", "namespace", "counted"]);
    s.ok(&["create", "quota", "three", "--hard=configmaps=3", "-n", "counted"]);
    s.ok(&["create", "configmap", "one", "-n", "counted"]);
    let again = told(&s, &["create", "configmap", "one", "-n", "counted"]);
    assert!(again.contains("already exists"), "{again}");
    let used = told(
        &s,
        &[
            "get",
            "quota",
            "three",
            "-n",
            "counted",
            "-o",
            "jsonpath={.status.used.configmaps}",
        ],
    );
    assert_eq!(used, "1");
}
