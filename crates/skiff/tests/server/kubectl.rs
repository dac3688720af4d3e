//! Upstream's kubectl v1.36.3 against a server of ours.

use crate::common::Server;

#[test]
fn kubectl_drives_the_built_in_kinds() {
    let s = Server::start();
    assert!(s.ok(&["version"]).contains("Server Version: v1.36.3+skiff"));
    assert_eq!(s.ok(&["get", "ns", "-o", "name"]).lines().count(), 4);
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

const CONFIG: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\ndata:\n  a: \"1\"\n";

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
        conflict.contains("conflict with \"kubectl-client-side-apply\" using v1 at ") && conflict.contains(": .data.a"),
        "{conflict}"
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
    let webhook =
        "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata: {name: w}\n";
    assert!(
        s.fails(&["create", "-f", "-"], webhook)
            .contains("not supported by this server")
    );
    assert_eq!(s.ok(&["get", "cm", "c", "-o", "jsonpath={.data.a}"]), "1");
}
