//! Upstream's kubectl against a server of ours.

use crate::common::Server;

#[test]
fn kubectl_drives_the_built_in_kinds() {
    let s = Server::start();
    assert!(
        s.ok(&["version"])
            .contains(concat!("Server Version: ", api::kubernetes_version!(), "+skiff"))
    );
    assert_eq!(s.ok(&["get", "ns", "-o", "name"]).lines().count(), 4);
    let endpoint = "jsonpath={.subsets[0].addresses[0].ip}:{.subsets[0].ports[0].port}";
    let endpoint = s.ok(&["get", "endpoints", "kubernetes", "-o", endpoint]);
    assert!(
        s.ok(&["config", "view"])
            .contains(&endpoint.rsplit(':').next().unwrap().to_owned()),
        "{endpoint}"
    );
    assert_eq!(
        s.ok(&["create", "deployment", "web", "--image=nginx", "--replicas=3"]),
        "deployment.apps/web created"
    );
    assert_eq!(
        s.ok(&["scale", "deploy", "web", "--replicas=5"]),
        "deployment.apps/web scaled"
    );
    assert_eq!(
        s.ok(&[
            "get",
            "deploy",
            "web",
            "-o",
            "jsonpath={.spec.replicas} {.metadata.generation}"
        ]),
        "5 2"
    );
    s.ok(&["set", "image", "deploy/web", "nginx=nginx:1.27"]);
    assert_eq!(
        s.ok(&[
            "get",
            "deploy",
            "web",
            "-o",
            "jsonpath={.spec.template.spec.containers[0].image}"
        ]),
        "nginx:1.27"
    );
    assert_eq!(s.ok(&["expose", "deploy", "web", "--port=80"]), "service/web exposed");
    assert!(
        s.ok(&["get", "svc", "web", "-o", "jsonpath={.spec.clusterIP}"])
            .starts_with("10.43.")
    );
    s.ok(&["label", "svc", "web", "tier=front"]);
    s.ok(&["annotate", "svc", "web", "note=x"]);
    assert_eq!(s.ok(&["get", "svc", "-l", "tier=front", "-o", "name"]), "service/web");
    for (kind, patch) in [
        ("merge", r#"{"metadata":{"labels":{"a":"1"}}}"#),
        ("strategic", r#"{"metadata":{"labels":{"b":"2"}}}"#),
        ("json", r#"[{"op":"add","path":"/metadata/labels/c","value":"3"}]"#),
    ] {
        s.ok(&["patch", "svc", "web", "--type", kind, "-p", patch]);
    }
    assert_eq!(
        s.ok(&[
            "get",
            "svc",
            "web",
            "-o",
            "jsonpath={.metadata.labels.a}{.metadata.labels.b}{.metadata.labels.c}"
        ]),
        "123"
    );
    assert!(
        s.ok(&["get", "deploy"])
            .starts_with("NAME   READY   UP-TO-DATE   AVAILABLE   AGE")
    );
    assert!(
        s.ok(&["explain", "deployment.spec.strategy", "--recursive"])
            .contains("maxSurge")
    );
    let columns = "custom-columns=NAME:.metadata.name,IMAGE:.spec.template.spec.containers[*].image";
    let table = s.ok(&["get", "deploy", "-o", columns]);
    assert_eq!(
        table
            .lines()
            .map(|l| l.split_whitespace().collect::<Vec<_>>())
            .collect::<Vec<_>>(),
        [["NAME", "IMAGE"], ["web", "nginx:1.27"]]
    );
    s.ok(&["autoscale", "deployment", "web", "--min=1", "--max=3", "--cpu=80%"]);
    let scaler = s.ok(&["get", "hpa", "web"]);
    assert!(scaler.contains("Deployment/web") && scaler.contains("80%"), "{scaler}");
    let only = ["get", "ns", "--field-selector=metadata.name=default", "-o", "name"];
    assert_eq!(s.ok(&only), "namespace/default");
    assert_eq!(s.ok(&["auth", "can-i", "delete", "nodes"]), "yes");
    assert!(
        s.ok(&["api-resources", "-o", "name"])
            .contains("poddisruptionbudgets.policy")
    );
    s.ok(&["create", "serviceaccount", "robot"]);
    assert_eq!(s.ok(&["create", "token", "robot"]).split('.').count(), 3);
    let refused = s.fails(&["get", "pods", "--as=system:serviceaccount:default:robot"], "");
    assert!(
        refused.contains("cannot list resource \"pods\" in API group \"\" in the namespace \"default\""),
        "{refused}"
    );
    assert!(s.ok(&["delete", "deploy", "web"]).contains("deleted"));
    assert!(
        s.fails(&["get", "deploy", "web"], "")
            .contains("deployments.apps \"web\" not found")
    );
}

pub const CONFIG: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\ndata:\n  a: \"1\"\n";

#[test]
fn apply_works_on_the_client_and_on_the_server_and_shows_conflicts() {
    let s = Server::start();
    assert_eq!(s.ok_with(&["apply", "-f", "-"], CONFIG), "configmap/c created");
    let changed = CONFIG.replace("\"1\"", "\"2\"");
    assert_eq!(s.ok_with(&["apply", "-f", "-"], &changed), "configmap/c configured");
    assert_eq!(s.ok_with(&["apply", "-f", "-"], &changed), "configmap/c unchanged");
    let other = CONFIG.replace("\"1\"", "\"3\"");
    let conflict = s.fails(&["apply", "--server-side", "--field-manager=other", "-f", "-"], &other);
    assert!(
        conflict.contains("conflict with \"kubectl-client-side-apply\" using v1: .data.a"),
        "{conflict}"
    );
    let difference = s.run(&["diff", "-f", "-"], &other);
    assert_eq!(difference.status.code(), Some(1));
    let failure = s.run(&["diff", "-f", "/nowhere.yaml"], "");
    assert_eq!(failure.status.code(), Some(2), "a failure is no difference");
    let shown = String::from_utf8_lossy(&difference.stdout).into_owned();
    assert!(
        shown.contains("-  a: \"2\"") && shown.contains("+  a: \"3\""),
        "{shown}"
    );
    s.ok_with(
        &[
            "apply",
            "--server-side",
            "--force-conflicts",
            "--field-manager=other",
            "-f",
            "-",
        ],
        &other,
    );
    assert_eq!(s.ok(&["get", "cm", "c", "-o", "jsonpath={.data.a}"]), "3");
}

const DATABASE: &str = r"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: databases.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: databases, singular: database, kind: Database, shortNames: [db]}
  versions:
  - name: v1
    served: true
    storage: true
    additionalPrinterColumns: [{name: Engine, type: string, jsonPath: .spec.engine}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [engine]
            properties:
              engine: {type: string, enum: [postgres, mysql]}
              replicas: {type: integer, minimum: 1, default: 1}
";

#[test]
fn a_custom_resource_works_as_soon_as_it_is_defined() {
    let mut s = Server::start();
    s.ok_with(&["create", "-f", "-"], DATABASE);
    s.ok(&[
        "wait",
        "--for=condition=Established",
        "crd/databases.stable.example.com",
        "--timeout=10s",
    ]);
    let object =
        "apiVersion: stable.example.com/v1\nkind: Database\nmetadata: {name: orders}\nspec: {engine: postgres}\n";
    assert_eq!(
        s.ok_with(&["create", "-f", "-"], object),
        "database.stable.example.com/orders created"
    );
    assert!(s.ok(&["get", "databases"]).contains("orders   postgres"));
    assert_eq!(s.ok(&["get", "db", "orders", "-o", "jsonpath={.spec.replicas}"]), "1");
    let (mut watch, mut seen) = s.going_on(&["get", "databases", "-w", "--no-headers", "--output-watch-events"]);
    let mut next = || seen.next().unwrap().unwrap();
    assert!(next().starts_with("ADDED      orders   postgres"));
    s.ok(&[
        "patch",
        "db",
        "orders",
        "--type=merge",
        "-p",
        r#"{"spec":{"engine":"mysql"}}"#,
    ]);
    assert!(next().starts_with("MODIFIED   orders   mysql"));
    s.ok_with(&["create", "-f", "-"], &object.replace("orders", "bills"));
    assert!(next().starts_with("ADDED      bills    postgres"));
    s.ok(&["delete", "db", "bills"]);
    assert!(next().starts_with("DELETED    bills    postgres"));
    watch.kill().unwrap();
    watch.wait().unwrap();
    let bad = s.fails(
        &["create", "-f", "-"],
        &object.replace("orders", "x").replace("postgres", "oracle"),
    );
    assert!(
        bad.contains("spec.engine: Unsupported value: \"oracle\": supported values: \"postgres\", \"mysql\""),
        "{bad}"
    );
    s.kill();
    s.restart();
    // it listens on another port than before, and says so
    let slice = "jsonpath={.ports[0].port}";
    let port = s.ok(&["get", "endpointslice", "kubernetes", "-o", slice]);
    assert!(s.ok(&["config", "view"]).contains(&format!(":{port}")), "{port}");
    assert_eq!(
        s.ok(&["get", "databases", "-o", "name"]),
        "database.stable.example.com/orders"
    );
    let finalizers = |list: &str| format!("{{\"metadata\":{{\"finalizers\":{list}}}}}");
    s.ok(&[
        "patch",
        "db",
        "orders",
        "--type=merge",
        "-p",
        &finalizers("[\"a.b/c\"]"),
    ]);
    s.ok(&["delete", "crd", "databases.stable.example.com", "--wait=false"]);
    let held = ["get", "db", "orders", "-o", "jsonpath={.metadata.deletionTimestamp}"];
    assert!(
        !s.ok(&held).is_empty(),
        "an object with finalizers outlives the deletion of its definition"
    );
    s.ok(&["patch", "db", "orders", "--type=merge", "-p", &finalizers("[]")]);
    s.fails(&["get", "crd", "databases.stable.example.com"], "");
    let gone = s.fails(&["get", "--raw", "/apis/stable.example.com/v1/databases"], "");
    assert!(
        gone.contains("the server could not find the requested resource"),
        "{gone}"
    );
}

#[test]
fn manifests_of_the_data_directory_are_applied_when_they_come_and_change() {
    let s = Server::start();
    let dir = s.data().join("server/manifests");
    let until = |what: &str, expected: &str| {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let seen = s.try_with(
                &[
                    "get",
                    what,
                    "--ignore-not-found",
                    "-o",
                    "jsonpath={.data.a}{.spec.engine}",
                ],
                "",
            );
            if seen.as_deref() == Ok(expected) {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "{what}: {seen:?}\n{}", s.log());
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    };
    // the object before its kind: it is tried again
    let object =
        "apiVersion: stable.example.com/v1\nkind: Database\nmetadata: {name: orders}\nspec: {engine: postgres}\n";
    std::fs::write(dir.join("a.yaml"), format!("{CONFIG}---\n{object}")).unwrap();
    until("configmap/c", "1");
    std::fs::write(dir.join("b.yaml.skip"), "").unwrap();
    std::fs::write(dir.join("b.yaml"), CONFIG.replace("name: c", "name: skipped")).unwrap();
    std::fs::write(dir.join("c.yaml"), DATABASE).unwrap();
    until("databases.stable.example.com/orders", "postgres");
    std::fs::write(dir.join("a.yaml"), CONFIG.replace("\"1\"", "\"2\"")).unwrap();
    until("configmap/c", "2");
    until("configmap/skipped", "");
    let deep = dir.join("one/two");
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("d.yaml"), CONFIG.replace("name: c", "name: deep")).unwrap();
    until("configmap/deep", "1");
    std::fs::write(
        deep.join("d.yaml"),
        CONFIG.replace("name: c", "name: deep").replace("\"1\"", "\"2\""),
    )
    .unwrap();
    until("configmap/deep", "2");
}
