//! Upstream's sample API server behind this one.

use std::net::TcpListener;

use serde_json::json;

use crate::common::Server;
use crate::extension::{MESSAGE, REASON, service, until};
use crate::https;

/// A program of upstream's that ends with the test.
struct Program(std::process::Child);

impl Program {
    fn start(name: &str, dir: &std::path::Path, flags: &[String]) -> Program {
        let programs = std::env::var("SKIFF_TEST_UPSTREAM");
        let programs = programs.expect("SKIFF_TEST_UPSTREAM names the folder that build.sh filled");
        let log = std::fs::File::create(dir.join(format!("{name}.log"))).unwrap();
        let mut command = std::process::Command::new(std::path::Path::new(&programs).join(name));
        command
            .args(flags)
            .current_dir(dir)
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        Program(command.spawn().unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn upstream_s_sample_api_server_is_used_as_if_its_resources_were_ours() {
    let s = Server::start_with(&["--disable-agent", "--disable-scheduler"]);
    let dir = tempfile::tempdir().unwrap();
    let authority = https::authority();
    let (certificate, key) = https::certificate(&authority, &["sample.default.svc"]);
    std::fs::write(dir.path().join("tls.crt"), certificate).unwrap();
    std::fs::write(dir.path().join("tls.key"), key).unwrap();
    let (client, peer, port) = (free_port(), free_port(), free_port());
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let _etcd = Program::start(
        "etcd",
        dir.path(),
        &[
            format!("--listen-client-urls={}", url(client)),
            format!("--advertise-client-urls={}", url(client)),
            format!("--listen-peer-urls={}", url(peer)),
            format!("--initial-advertise-peer-urls={}", url(peer)),
            format!("--initial-cluster=default={}", url(peer)),
        ],
    );
    let kubeconfig = s.kubeconfig().display().to_string();
    let sample = Program::start(
        "sample-apiserver",
        dir.path(),
        &[
            format!("--kubeconfig={kubeconfig}"),
            format!("--authentication-kubeconfig={kubeconfig}"),
            format!("--authorization-kubeconfig={kubeconfig}"),
            format!("--etcd-servers={}", url(client)),
            format!("--secure-port={port}"),
            "--tls-cert-file=tls.crt".into(),
            "--tls-private-key-file=tls.key".into(),
        ],
    );
    service(&s, "sample");
    let bundle = {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(authority.certificate())
    };
    let registered = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": { "name": "v1alpha1.wardle.example.com" },
        "spec": {
            "group": "wardle.example.com", "version": "v1alpha1", "groupPriorityMinimum": 2000, "versionPriority": 200, "caBundle": bundle,
            "service": { "namespace": "default", "name": "sample", "port": port },
        },
    });
    s.ok_with(&["create", "-f", "-"], &registered.to_string());
    s.ok(&[
        "wait",
        "apiservice/v1alpha1.wardle.example.com",
        "--for=condition=Available",
        "--timeout=120s",
    ]);
    let resources = || {
        s.ok(&[
            "api-resources",
            "--api-group=wardle.example.com",
            "--no-headers",
            "-o",
            "name",
            "--cached=false",
        ])
    };
    until(
        "discovery",
        resources,
        "fischers.wardle.example.com\nflunders.wardle.example.com",
    );

    let flunder = |name: &str| {
        let spec = json!({ "reference": "a" });
        json!({ "apiVersion": "wardle.example.com/v1alpha1", "kind": "Flunder", "metadata": { "name": name, "labels": { "l": name } }, "spec": spec })
    };
    s.ok_with(&["create", "-f", "-"], &flunder("one").to_string());
    s.ok_with(&["apply", "--server-side", "-f", "-"], &flunder("two").to_string());
    let names = s.ok(&["get", "flunders", "-o", "jsonpath={.items[*].metadata.name}"]);
    assert_eq!(names, "one two");
    assert!(
        s.ok(&["get", "flunders"]).starts_with("NAME   CREATED AT"),
        "a table of its own"
    );
    // who may is asked of us, by the server that answers
    let refused = s.fails(&["get", "flunders", "--as=jane"], "");
    assert!(
        refused.contains("User \"jane\" cannot list resource \"flunders\""),
        "{refused}"
    );
    s.ok(&[
        "patch",
        "flunder",
        "one",
        "--type=merge",
        "-p",
        r#"{"spec":{"reference":"b"}}"#,
    ]);
    let (mut child, mut lines) = s.going_on(&["get", "flunders", "-w", "-o", "name"]);
    let seen: Vec<String> = (0..2).map(|_| lines.next().unwrap().unwrap()).collect();
    assert_eq!(
        seen,
        ["flunder.wardle.example.com/one", "flunder.wardle.example.com/two"]
    );
    s.ok(&["label", "flunder", "two", "changed=yes"]);
    assert_eq!(lines.next().unwrap().unwrap(), "flunder.wardle.example.com/two");
    child.kill().unwrap();
    child.wait().unwrap();
    let schema = || String::from_utf8_lossy(&s.run(&["explain", "flunder.spec"], "").stdout).into_owned();
    until("the schema", schema, "referenceType");

    // what is in a namespace goes with it, and what an object owns with the object, wherever they are
    s.ok(&["create", "namespace", "going"]);
    s.ok_with(&["create", "-n", "going", "-f", "-"], &flunder("three").to_string());
    s.ok(&["delete", "namespace", "going", "--timeout=60s"]);
    let left = s.ok(&["get", "flunders", "-A", "-o", "jsonpath={.items[*].metadata.name}"]);
    assert_eq!(left, "one two");
    s.ok(&["create", "configmap", "owner"]);
    let uid = s.ok(&["get", "configmap", "owner", "-o", "jsonpath={.metadata.uid}"]);
    let owner = json!({ "metadata": { "ownerReferences": [{ "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid }] } });
    s.ok(&["patch", "flunder", "two", "--type=merge", "-p", &owner.to_string()]);
    s.ok(&["delete", "configmap", "owner"]);
    s.ok(&["wait", "flunder/two", "--for=delete", "--timeout=60s"]);

    drop(sample);
    s.ok(&["annotate", "service", "sample", "looked=again"]);
    let name = "apiservice/v1alpha1.wardle.example.com";
    until(
        "it ended",
        || s.ok(&["get", name, "-o", REASON]),
        "FailedDiscoveryCheck",
    );
    let url = format!("https://localhost:{port}/apis/wardle.example.com/v1alpha1");
    let message = s.ok(&["get", name, "-o", MESSAGE]);
    let why = format!("failing or missing response from {url}: Get \"{url}\": dial tcp ");
    assert!(
        message.starts_with(&why) && message.ends_with(": connect: connection refused"),
        "{message}"
    );
}
