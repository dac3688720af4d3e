//! APIServices with servers of their own: an extension server of the test's, behind a Service that leads to this machine.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::common::Server;
use crate::extension::{AVAILABLE, Extension, MESSAGE, REASON, service, until};

fn raw(s: &Server, path: &str) -> Result<String, String> {
    s.try_with(&["get", "--raw", path], "")
}

/// What curl says, as an administrator or as nobody, of the headers and the answer.
fn curl(s: &Server, admin: bool, args: &[&str], path: &str) -> String {
    let config = std::fs::read_to_string(s.kubeconfig()).unwrap();
    let url = config
        .lines()
        .find_map(|line| line.trim().strip_prefix("server: "))
        .unwrap();
    let mut command = std::process::Command::new("curl");
    command
        .args(["-sik", "--max-time", "60"])
        .args(args)
        .arg(format!("{url}{path}"));
    if admin {
        let tls = s.data().join("server/tls");
        command.arg("--cert").arg(tls.join("client-admin.crt"));
        command.arg("--key").arg(tls.join("client-admin.key"));
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{path}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A connection to the server as an administrator.
fn connect(s: &Server) -> BufReader<rustls::StreamOwned<rustls::ClientConnection, TcpStream>> {
    let tls = s.data().join("server/tls");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pki::AcceptAny(provider)))
        .with_client_auth_cert(
            vec![rustls_pki_types::CertificateDer::from_pem_file(tls.join("client-admin.crt")).unwrap()],
            rustls_pki_types::PrivateKeyDer::from_pem_file(tls.join("client-admin.key")).unwrap(),
        )
        .unwrap();
    let config_file = std::fs::read_to_string(s.kubeconfig()).unwrap();
    let address = config_file
        .lines()
        .find_map(|line| line.trim().strip_prefix("server: https://"))
        .unwrap();
    let session = rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    BufReader::new(rustls::StreamOwned::new(session, TcpStream::connect(address).unwrap()))
}

const THINGS: &str = "/apis/ext.example.org/v1/namespaces/default/things";

#[test]
fn an_extension_server_is_asked_in_the_name_of_who_asks() {
    let s = Server::start();
    let e = Extension::start(&s, "ext.default.svc");
    let name = "apiservice/v1.ext.example.org";
    s.ok_with(&["create", "-f", "-"], &e.api_service("v1", "ext"));
    until(
        "without its Service",
        || s.ok(&["get", name, "-o", REASON]),
        "ServiceNotFound",
    );
    assert_eq!(
        s.ok(&["get", name, "-o", MESSAGE]),
        r#"service/ext in "default" is not present"#
    );
    assert!(s.ok(&["get", name]).contains("False (ServiceNotFound)"));
    let refused = raw(&s, THINGS).unwrap_err();
    assert!(
        refused.contains("the server is currently unable to handle the request"),
        "{refused}"
    );
    service(&s, "ext");
    s.ok(&["wait", name, "--for=condition=Available", "--timeout=60s"]);
    assert_eq!(s.ok(&["get", name, "-o", MESSAGE]), "all checks passed");

    // as whom, and that this is the server that says so
    e.take();
    s.ok(&["get", "--raw", &format!("{THINGS}/a%2Fb?z=1&a=%20x")]);
    let seen = e.take().remove(0);
    assert_eq!(seen.line, format!("GET {THINGS}/a/b?a=+x&z=1"));
    assert!(seen.proved);
    assert_eq!(seen.all("x-remote-user"), ["system:admin"]);
    assert_eq!(seen.all("x-remote-group"), ["system:masters", "system:authenticated"]);
    assert_eq!(
        seen.all("x-remote-extra-authentication.kubernetes.io%2fcredential-id")
            .len(),
        1
    );
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["https"]);
    assert_eq!(seen.all("x-forwarded-host"), [format!("localhost:{}", e.port())]);
    assert_eq!(seen.all("host"), [format!("localhost:{}", e.port())]);

    // whom an administrator acts as, if he may; nothing tells the server that he does
    s.ok(&[
        "get",
        "--raw",
        THINGS,
        "--as=jane",
        "--as-uid=7",
        "--as-group=system:masters",
    ]);
    let seen = e.take().remove(0);
    assert_eq!(seen.all("x-remote-user"), ["jane"]);
    assert_eq!(seen.all("x-remote-uid"), ["7"]);
    assert!(seen.all("impersonate-user").is_empty() && seen.all("impersonate-group").is_empty());
    let refused = s.fails(&["get", "--raw", THINGS, "--as=jane"], "");
    assert!(
        refused.contains("cannot list resource \"things\" in API group \"ext.example.org\""),
        "{refused}"
    );
    assert!(e.take().is_empty(), "authorization comes first");

    // a token is nobody else's
    s.ok(&["create", "serviceaccount", "default", "-n", "kube-system"]);
    let token = s.ok(&["create", "token", "default", "-n", "kube-system"]);
    s.ok(&[
        "create",
        "clusterrole",
        "things",
        "--verb=*",
        "--resource=things.ext.example.org",
    ]);
    s.ok(&[
        "create",
        "clusterrolebinding",
        "things",
        "--clusterrole=things",
        "--serviceaccount=kube-system:default",
    ]);
    let body = json!({ "kind": "Thing", "apiVersion": "ext.example.org/v1", "spec": "x" }).to_string();
    let token = format!("Authorization: Bearer {token}");
    let said = curl(
        &s,
        false,
        &["-H", &token, "-H", "X-Remote-Group: system:masters", "-d", &body],
        THINGS,
    );
    assert!(
        said.contains("x-mine: yes") && !said.contains("access-control-allow-origin"),
        "{said}"
    );
    let seen = e.take().remove(0);
    assert_eq!(
        (seen.line.as_str(), seen.body.as_slice()),
        (&*format!("POST {THINGS}"), body.as_bytes())
    );
    assert_eq!(seen.all("x-remote-user"), ["system:serviceaccount:kube-system:default"]);
    assert!(!seen.all("x-remote-group").contains(&"system:masters"));
    assert!(seen.all("authorization").is_empty());

    let away = curl(&s, true, &[], &format!("{THINGS}/away"));
    assert!(
        away.contains("502") && away.contains("the backend attempted to redirect this request, which is not permitted"),
        "{away}"
    );

    // an event is passed on when it comes
    let watch = format!("{THINGS}?watch=true");
    let (mut child, mut lines) = s.going_on(&["get", "--raw", &watch]);
    assert_eq!(lines.next().unwrap().unwrap(), r#"{"type":"ADDED"}"#);
    child.kill().unwrap();
    child.wait().unwrap();

    // and both sides may go on in another protocol
    let mut stream = connect(&s);
    let request = format!("GET {THINGS}/switch HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
    stream.get_mut().write_all(request.as_bytes()).unwrap();
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 101 "), "{line}");
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).unwrap();
    }
    stream.get_mut().write_all(b"hello\n").unwrap();
    line.clear();
    stream.read_line(&mut line).unwrap();
    assert_eq!(line, "HELLO\n");
}

#[test]
fn discovery_and_schemas_tell_of_extension_servers_while_they_answer() {
    let s = Server::start_with(&["--disable-agent", "--disable-scheduler"]);
    let e = Extension::start(&s, "ext.default.svc");
    service(&s, "ext");
    for version in ["v1", "v2beta1"] {
        s.ok_with(&["create", "-f", "-"], &e.api_service(version, "ext"));
        let name = format!("apiservice/{version}.ext.example.org");
        s.ok(&["wait", &name, "--for=condition=Available", "--timeout=60s"]);
    }
    let resources = || {
        s.ok(&[
            "api-resources",
            "--api-group=ext.example.org",
            "--no-headers",
            "--cached=false",
        ])
    };
    until(
        "discovery",
        resources,
        "things   th    ext.example.org/v1   true   Thing",
    );
    let groups: Value = serde_json::from_str(&s.ok(&["get", "--raw", "/apis"])).unwrap();
    let groups = groups["groups"].as_array().unwrap();
    assert_eq!(groups[0]["name"], "apiregistration.k8s.io");
    let version = |v: &str| json!({ "groupVersion": format!("ext.example.org/{v}"), "version": v });
    // of those with the same priority the stable one comes first
    let ours = json!({ "name": "ext.example.org", "versions": [version("v1"), version("v2beta1")], "preferredVersion": version("v1") });
    assert_eq!(groups.last(), Some(&ours));
    assert_eq!(s.ok(&["get", "th"]), "");
    until(
        "the schema",
        || {
            s.run(&["explain", "things"], "")
                .stdout
                .iter()
                .map(|b| char::from(*b))
                .collect()
        },
        "A thing of the test's.",
    );
    until(
        "version 2",
        || {
            let document: Value = serde_json::from_str(&s.ok(&["get", "--raw", "/openapi/v2"])).unwrap();
            assert!(document["paths"].get("/other").is_none());
            document["definitions"]["org.example.Thing"]["description"].to_string()
        },
        "A thing of the test's.",
    );

    // one that is down is told, and hinders nobody else
    s.ok(&["create", "namespace", "going"]);
    s.ok(&["create", "configmap", "a", "-n", "going"]);
    e.down.store(true, Ordering::SeqCst);
    s.ok(&["annotate", "service", "ext", "looked=again"]);
    let name = "apiservice/v1.ext.example.org";
    until("down", || s.ok(&["get", name, "-o", REASON]), "FailedDiscoveryCheck");
    let message = s.ok(&["get", name, "-o", MESSAGE]);
    let url = format!("https://localhost:{}/apis/ext.example.org/v1", e.port());
    let why = format!("failing or missing response from {url}: Get \"{url}\": ");
    assert!(message.starts_with(&why), "{message}");
    let aggregated = || {
        let accept = "Accept: application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        curl(&s, true, &["-H", accept], "/apis")
    };
    until("stale", aggregated, r#"{"freshness":"Stale","version":"v1"}"#);
    s.ok(&["delete", "namespace", "going", "--wait=false"]);
    let condition = r#"jsonpath={.status.conditions[?(@.type=="NamespaceDeletionDiscoveryFailure")].message}"#;
    until(
        "the namespace",
        || s.ok(&["get", "namespace", "going", "-o", condition]),
        "unable to retrieve the complete list of server APIs: ext.example.org/v1: stale GroupVersion discovery: ext.example.org/v1",
    );
    until(
        "its content",
        || {
            s.ok(&[
                "get",
                "configmap",
                "-n",
                "going",
                "--ignore-not-found",
                "a",
                "-o",
                "name",
            ]) + "."
        },
        ".",
    );
    s.ok(&["delete", "apiservice", "v1.ext.example.org", "v2beta1.ext.example.org"]);
    s.ok(&["wait", "namespace/going", "--for=delete", "--timeout=60s"]);
    assert!(
        raw(&s, "/apis/ext.example.org/v1")
            .unwrap_err()
            .contains("could not find the requested resource")
    );
    assert_eq!(s.ok(&["get", "apiservice", "v1.apps", "-o", AVAILABLE]), "True");
}

#[test]
fn a_custom_resource_s_group_version_is_given_to_an_extension_server_and_back() {
    let s = Server::start();
    let e = Extension::start(&s, "ext.default.svc");
    service(&s, "ext");
    let names = json!({ "plural": "things", "singular": "thing", "kind": "Thing" });
    let version =
        json!({ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": { "type": "object" } } });
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": { "name": "things.ext.example.org" },
        "spec": { "group": "ext.example.org", "scope": "Namespaced", "names": names, "versions": [version] },
    });
    s.ok_with(&["create", "-f", "-"], &definition.to_string());
    s.ok(&[
        "wait",
        "crd/things.ext.example.org",
        "--for=condition=Established",
        "--timeout=60s",
    ]);
    let name = "apiservice/v1.ext.example.org";
    let label = r"jsonpath={.metadata.labels.kube-aggregator\.kubernetes\.io/automanaged}";
    assert_eq!(s.ok(&["get", name, "-o", label]), "true");
    assert_eq!(s.ok(&["get", name, "-o", REASON]), "Local");

    // somebody's own takes its place while it carries no label
    let mut own: Value = serde_json::from_str(&e.api_service("v1", "ext")).unwrap();
    own["metadata"]["labels"] = json!({ "kube-aggregator.kubernetes.io/automanaged": null });
    s.ok_with(
        &["patch", name, "--type=merge", "--patch-file=/dev/stdin"],
        &own.to_string(),
    );
    until("another server's", || s.ok(&["get", name, "-o", REASON]), "Passed");
    s.ok(&["get", "--raw", THINGS]);
    assert_eq!(e.take().last().unwrap().line, format!("GET {THINGS}"));

    // without it the server serves its own again
    s.ok(&["delete", name]);
    until("its own", || s.ok(&["get", name, "-o", REASON]), "Local");
    until("its own", || raw(&s, THINGS).unwrap_or_default(), "\"resourceVersion\"");
    assert!(e.take().is_empty());
}
