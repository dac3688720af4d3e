//! Bad input and bad circumstances: the error upstream gives, and nothing is lost.

use std::process::{Command, Stdio};

use crate::common::Server;
use crate::kubectl::CONFIG;

#[test]
fn bad_input_gets_upstreams_errors_and_loses_nothing() {
    let s = Server::start();
    s.ok_with(&["create", "-f", "-"], CONFIG);
    let manifest =
        |name: &str, rest: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n{rest}");
    let capitals = s.fails(&["create", "-f", "-"], &manifest("Big", ""));
    assert!(
        capitals.contains("metadata.name: Invalid value: \"Big\": a lowercase RFC 1123 subdomain must consist of"),
        "{capitals}"
    );
    let unknown = s.fails(&["create", "--validate=strict", "-f", "-"], &manifest("u", "foo: 1\n"));
    assert!(unknown.contains("unknown field \"foo\""), "{unknown}");
    let wrong = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {replicas: lots}\n";
    let wrong = s.fails(&["create", "-f", "-"], wrong);
    assert!(
        wrong.contains("cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"),
        "{wrong}"
    );
    let twice = s.fails(&["create", "-f", "-"], CONFIG);
    assert!(twice.contains("configmaps \"c\" already exists"), "{twice}");
    let nowhere = s.fails(&["create", "-n", "nowhere", "-f", "-"], CONFIG);
    assert!(nowhere.contains("namespaces \"nowhere\" not found"), "{nowhere}");
    let stale = CONFIG.replace("  name: c\n", "  name: c\n  resourceVersion: \"1\"\n");
    let stale = s.fails(&["replace", "-f", "-"], &stale);
    assert!(
        stale.contains("the object has been modified; please apply your changes to the latest version"),
        "{stale}"
    );
    assert_eq!(s.ok(&["get", "cm", "c", "-o", "jsonpath={.data.a}"]), "1");
}

#[test]
fn bodies_that_are_no_objects_are_refused_whole() {
    let s = Server::start();
    let create = ["create", "--raw", "/api/v1/namespaces/default/configmaps", "-f", "-"];
    let cut = s.fails(
        &create,
        r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x""#,
    );
    assert!(cut.starts_with("Error from server (BadRequest): "), "{cut}");
    let yaml = s.fails(&["create", "-f", "-"], "apiVersion: v1\nkind: ConfigMap\n bad: [\n");
    assert!(yaml.contains("error converting YAML to JSON"), "{yaml}");
    let strict = "/api/v1/namespaces/default/configmaps?fieldValidation=Strict";
    let twice = s.fails(
        &["create", "--raw", strict, "-f", "-"],
        r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x","name":"y"}}"#,
    );
    assert!(
        twice.contains("strict decoding error") && twice.contains("duplicate field \"metadata.name\""),
        "{twice}"
    );
    let map = |bytes: usize| {
        let value = "x".repeat(bytes);
        format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"x"}},"data":{{"a":"{value}"}}}}"#)
    };
    let large = s.fails(&create, &map(4 << 20));
    assert_eq!(
        large,
        "Error from server (RequestEntityTooLarge): Request entity too large: limit is 3145728"
    );
    let above = s.fails(&["create", "-f", "-"], &map(2 << 20));
    assert!(
        above.contains("Too long: may not be more than 1048576 bytes"),
        "{above}"
    );
    assert!(!s.ok(&["get", "configmaps", "-o", "name"]).contains("/x"));
}

#[test]
fn a_full_disk_refuses_writes_and_loses_nothing() {
    let s = Server::start_on_disk_of("24m");
    // room that is given back afterwards
    let ballast = s.data().join("ballast");
    std::fs::write(&ballast, vec![1u8; 8 << 20]).unwrap();
    let value = "x".repeat(900 << 10);
    let map = |name: usize| {
        format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"c{name}"}},"data":{{"a":"{value}"}}}}"#)
    };
    let create = ["create", "--raw", "/api/v1/namespaces/default/configmaps", "-f", "-"];
    let mut written = 0;
    let refused = loop {
        assert!(written < 30, "the disk is never full");
        match s.try_with(&create, &map(written)) {
            Ok(_) => written += 1,
            Err(said) => break said,
        }
    };
    assert!(
        written > 0 && refused.contains("No space left on device"),
        "{written}: {refused}"
    );
    let names = |s: &Server| {
        let all = s.ok(&["get", "configmaps", "-o", "name"]);
        all.lines().filter(|l| l.starts_with("configmap/c")).count()
    };
    assert_eq!(names(&s), written);
    std::fs::remove_file(&ballast).unwrap();
    s.ok_with(&create, &map(written));
    assert_eq!(names(&s), written + 1);
}

#[test]
fn a_full_disk_does_not_stop_a_start_that_reads() {
    let mut s = Server::start_on_disk_of("24m");
    s.ok(&["create", "configmap", "before"]);
    s.kill();
    let ballast = s.data().join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    while std::io::Write::write(&mut file, &[1u8; 4096]).is_ok() {}
    drop(file);
    // the server listens on another port now, so its own Endpoints are to be written too
    s.restart();
    assert_eq!(s.ok(&["get", "--raw", "/readyz"]), "ok");
    assert_eq!(s.ok(&["get", "configmap", "before", "-o", "name"]), "configmap/before");
    let map = format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"big"}},"data":{{"a":"{}"}}}}"#,
        "x".repeat(900 << 10)
    );
    let create = ["create", "--raw", "/api/v1/namespaces/default/configmaps", "-f", "-"];
    let refused = (0..30).find_map(|_| {
        let said = s.try_with(&create, &map).err()?;
        (!said.contains("already exists")).then_some(said)
    });
    assert!(
        refused
            .as_ref()
            .is_some_and(|said| said.contains("No space left on device")),
        "{refused:?}"
    );
    s.kill();
    s.restart();
    assert_eq!(s.ok(&["get", "configmap", "before", "-o", "name"]), "configmap/before");
    std::fs::remove_file(&ballast).unwrap();
    s.ok_with(&create, &map);
    let config = std::fs::read_to_string(s.kubeconfig()).unwrap();
    let port = config
        .lines()
        .find_map(|l| l.trim().strip_prefix("server: https://127.0.0.1:"))
        .unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while s.ok(&[
        "get",
        "endpoints",
        "kubernetes",
        "-o",
        "jsonpath={.subsets[0].ports[0].port}",
    ]) != port
    {
        assert!(std::time::Instant::now() < deadline, "{}", s.log());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[test]
fn what_is_in_use_is_named() {
    let s = Server::start();
    let config = std::fs::read_to_string(s.kubeconfig()).unwrap();
    let port = config
        .lines()
        .find_map(|l| l.trim().strip_prefix("server: https://127.0.0.1:"))
        .unwrap();
    let other = tempfile::tempdir().unwrap();
    let second = |port: &str, data: &std::path::Path| {
        let output = Command::new(env!("CARGO_BIN_EXE_skiff"))
            .args([
                "server",
                "--disable-agent",
                "--bind-address=127.0.0.1",
                "--https-listen-port",
                port,
            ])
            .arg("--data-dir")
            .arg(data)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = second(port, other.path());
    assert!(said.contains(&format!("port {port} is in use by pid ")), "{said}");
    assert!(
        !other.path().join("server").exists(),
        "something was written before the port was had"
    );
    let etcd = Command::new(env!("CARGO_BIN_EXE_skiff"))
        .args(["kube-apiserver", "--etcd-servers=http://127.0.0.1:2379"])
        .output()
        .unwrap();
    assert!(!etcd.status.success());
    let refused = String::from_utf8_lossy(&etcd.stderr).into_owned();
    assert!(refused.contains("an external etcd is not supported yet"), "{refused}");
    let said = second("0", &s.data());
    assert!(said.contains("another skiff uses"), "{said}");
}

#[test]
fn a_pattern_as_deep_as_is_allowed_does_not_end_the_server() {
    let s = Server::start();
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions?dryRun=All";
    let define = |depth: usize| {
        let pattern = format!("{}x{}", "(".repeat(depth), ")".repeat(depth));
        let schema =
            serde_json::json!({ "type": "object", "properties": { "p": { "type": "string", "pattern": pattern } } });
        let definition = serde_json::json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": { "name": "ds.deep.test" },
            "spec": { "group": "deep.test", "scope": "Namespaced", "names": { "plural": "ds", "kind": "D" },
                "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema } }] },
        });
        s.try_with(&["create", "--raw", path, "-f", "-"], &definition.to_string())
    };
    define(990).unwrap();
    let refused = define(1100).unwrap_err();
    assert!(refused.contains("expression nests too deeply"), "{refused}");
    assert_eq!(s.ok(&["get", "--raw", "/readyz"]), "ok");
}
