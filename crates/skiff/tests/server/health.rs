//! What monitors ask a server: health checks, what came of them, and how its components are.

use crate::common::Server;

#[test]
fn checks_bear_upstreams_names_and_are_counted() {
    let s = Server::start();
    for path in ["healthz", "livez", "readyz"] {
        let told = s.ok(&["get", "--raw", &format!("/{path}?verbose")]);
        assert!(told.starts_with("[+]ping ok\n[+]log ok\n[+]etcd ok\n"), "{told}");
        assert!(told.ends_with(&format!("{path} check passed")), "{told}");
        assert!(
            told.lines()
                .all(|l| l.starts_with("[+]") || l.ends_with("check passed")),
            "{told}"
        );
        assert_eq!(told.contains("[+]informer-sync ok\n"), path == "readyz", "{told}");
    }
    let excluded = s.ok(&["get", "--raw", "/readyz?verbose&exclude=etcd&exclude=nope"]);
    assert!(excluded.contains("[+]etcd excluded: ok\n"), "{excluded}");
    let warned = "warn: some health checks cannot be excluded: no matches for \"nope\"\nreadyz check passed";
    assert!(excluded.ends_with(warned), "{excluded}");
    assert_eq!(
        s.ok(&["get", "--raw", "/livez/poststarthook/rbac/bootstrap-roles"]),
        "ok"
    );
    s.fails(&["get", "--raw", "/livez/shutdown"], "");
    let counted = s.ok(&["get", "--raw", "/metrics/slis"]);
    for line in [
        "# TYPE kubernetes_healthcheck gauge",
        "kubernetes_healthcheck{name=\"etcd\",type=\"livez\"} 1",
        "# TYPE kubernetes_healthchecks_total counter",
        "kubernetes_healthchecks_total{name=\"etcd\",status=\"success\",type=\"livez\"} 1",
    ] {
        assert!(counted.lines().any(|l| l == line), "{line}: {counted}");
    }
    let paths = s.ok(&["get", "--raw", "/"]);
    for path in [
        "/apis/apps/v1",
        "/readyz/informer-sync",
        "/metrics/slis",
        "/.well-known/openid-configuration",
    ] {
        assert!(paths.contains(&format!("{path:?}")), "{path}: {paths}");
    }
}

#[test]
fn components_are_asked_how_they_are() {
    let s = Server::start_with(&["--disable-agent", "--disable-scheduler"]);
    let jsonpath =
        r#"jsonpath={range .items[*]}{.metadata.name} {.conditions[0].status} {.conditions[0].message}{"\n"}{end}"#;
    let refused = "Get \"https://127.0.0.1:10259/healthz\": dial tcp 127.0.0.1:10259: connect: connection refused";
    let told = s.ok(&["get", "cs", "-o", jsonpath]);
    assert_eq!(
        told,
        format!("controller-manager True ok\netcd-0 True ok\nscheduler False {refused}")
    );
    let table = s.ok(&["get", "componentstatuses", "etcd-0"]);
    assert_eq!(table, "NAME     STATUS    MESSAGE   ERROR\netcd-0   Healthy   ok");
    let missing = s.fails(&["get", "cs", "nope"], "");
    assert!(missing.contains("componentstatus \"nope\" not found"), "{missing}");
    let list = s.ok(&[
        "get",
        "--raw",
        "/api/v1/componentstatuses?fieldSelector=metadata.name%3Detcd-0",
    ]);
    assert!(
        list.contains("\"metadata\":{},\"items\":[{\"metadata\":{\"name\":\"etcd-0\"}"),
        "{list}"
    );
}

const DEFINITION: &str = r#"{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "foos.ex.io"},
  "spec": {"group": "ex.io", "scope": "Namespaced", "names": {"plural": "foos", "kind": "Foo"}, "versions": [
    {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}},
    {"name": "v2", "served": false, "storage": false, "schema": {"openAPIV3Schema": {"type": "object"}}}]}}"#;

#[test]
fn what_the_server_serves_has_its_api_services() {
    let mut s = Server::start();
    let services = |s: &Server| s.ok(&["get", "apiservices", "--no-headers"]);
    let first = services(&s);
    assert_eq!(first.lines().count(), 22, "{first}");
    assert!(
        first
            .lines()
            .all(|l| l.split_whitespace().skip(1).take(2).eq(["Local", "True"])),
        "{first}"
    );
    s.ok_with(&["create", "-f", "-"], DEFINITION);
    let of = |name: &'static str| ["get", "apiservice", name, "-o", "jsonpath={.metadata.labels.*} {.spec}"];
    let custom = r#"true {"group":"ex.io","groupPriorityMinimum":1000,"version":"v1","versionPriority":100}"#;
    assert_eq!(s.ok(&of("v1.ex.io")), custom);
    assert_eq!(services(&s).lines().count(), 23);
    // it follows the custom resource, whoever deletes or changes it
    s.ok(&["delete", "apiservice", "v1.ex.io"]);
    assert_eq!(s.ok(&of("v1.ex.io")), custom);
    s.ok(&[
        "patch",
        "apiservice",
        "v1.ex.io",
        "--type=merge",
        "-p",
        r#"{"spec": {"versionPriority": 7}}"#,
    ]);
    assert_eq!(s.ok(&of("v1.ex.io")), custom);
    let serve = r#"[{"op": "replace", "path": "/spec/versions/1/served", "value": true}]"#;
    s.ok(&["patch", "crd", "foos.ex.io", "--type=json", "-p", serve]);
    assert_eq!(services(&s).lines().count(), 24);
    s.ok(&["delete", "crd", "foos.ex.io"]);
    assert_eq!(services(&s).lines().count(), 22);
    // the built-in ones are made at start, and deleting one does no harm
    s.ok(&["delete", "apiservice", "v1.", "v1.apps"]);
    assert_eq!(services(&s).lines().count(), 20);
    assert_eq!(s.ok(&["get", "--raw", "/livez"]), "ok");
    s.kill();
    s.restart();
    assert_eq!(services(&s).lines().count(), 22);
}
