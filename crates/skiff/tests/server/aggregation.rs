//! APIServices with servers of their own: an extension server of the test's, behind a Service that leads to this machine.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::common::Server;

const AVAILABLE: &str = r#"jsonpath={.status.conditions[?(@.type=="Available")].status}"#;
const REASON: &str = r#"jsonpath={.status.conditions[?(@.type=="Available")].reason}"#;
const MESSAGE: &str = r#"jsonpath={.status.conditions[?(@.type=="Available")].message}"#;

/// A request as the extension server saw it.
#[derive(Debug, Clone)]
struct Seen {
    /// `GET /path?query`.
    line: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Whether the connection showed a certificate that the authority of proxies vouches for.
    proved: bool,
}

impl Seen {
    fn all(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(n, _)| n == name);
        named.map(|(_, value)| value.as_str()).collect()
    }
}

/// An HTTPS server that answers as an extension server does.
struct Extension {
    port: u16,
    authority: pki::Authority,
    seen: Arc<Mutex<Vec<Seen>>>,
    down: Arc<AtomicBool>,
}

fn now() -> time::OffsetDateTime {
    time::OffsetDateTime::now_utc()
}

type Stream = BufReader<rustls::StreamOwned<rustls::ServerConnection, TcpStream>>;

impl Extension {
    fn start(s: &Server, name: &str) -> Extension {
        let dir = tempfile::tempdir().unwrap();
        let authority = pki::Authority::load_or_create(dir.path(), "ca", now()).unwrap();
        let identity = pki::Identity {
            common_name: "extension",
            organizations: &[],
        };
        let usage = pki::Usage::Server(vec![name.to_owned()]);
        let (certificate, key) = authority
            .issue(&identity, &usage, time::Duration::days(1), now())
            .unwrap();
        let chain = vec![rustls_pki_types::CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = rustls_pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        // whom to believe is in the cluster, as real ones find it
        let map = [
            "get",
            "configmap",
            "-n",
            "kube-system",
            "extension-apiserver-authentication",
            "-o",
            "json",
        ];
        let map: Value = serde_json::from_str(&s.ok(&map)).unwrap();
        assert_eq!(map["data"]["requestheader-allowed-names"], r#"["system:auth-proxy"]"#);
        let mut roots = rustls::RootCertStore::empty();
        let pem = map["data"]["requestheader-client-ca-file"].as_str().unwrap();
        roots
            .add(rustls_pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()
            .unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let extension = Extension {
            port: listener.local_addr().unwrap().port(),
            authority,
            seen: Arc::default(),
            down: Arc::default(),
        };
        let (seen, down) = (extension.seen.clone(), extension.down.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (config, seen, down) = (config.clone(), seen.clone(), down.clone());
                if down.load(Ordering::SeqCst) {
                    continue;
                }
                std::thread::spawn(move || serve(stream.unwrap(), config, &seen, &down));
            }
        });
        extension
    }

    fn api_service(&self, version: &str, service: &str) -> String {
        use base64::Engine;
        let bundle = base64::engine::general_purpose::STANDARD.encode(self.authority.certificate());
        json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": { "name": format!("{version}.ext.example.org") },
            "spec": {
                "group": "ext.example.org", "version": version, "groupPriorityMinimum": 1500, "versionPriority": 20, "caBundle": bundle,
                "service": { "namespace": "default", "name": service, "port": self.port },
            },
        })
        .to_string()
    }

    /// Requests about things that it has seen since this was last asked: not those of who looks whether it is there.
    fn take(&self) -> Vec<Seen> {
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        seen.into_iter().filter(|seen| seen.line.contains("/things")).collect()
    }
}

/// Answers requests of one connection until its client ends it.
fn serve(stream: TcpStream, config: Arc<rustls::ServerConfig>, seen: &Mutex<Vec<Seen>>, down: &AtomicBool) {
    let session = rustls::ServerConnection::new(config).unwrap();
    let mut stream = BufReader::new(rustls::StreamOwned::new(session, stream));
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line == "\r\n" {
                break;
            }
            lines.push(line.trim_end().to_owned());
        }
        let line = lines.remove(0).trim_end_matches(" HTTP/1.1").to_owned();
        let headers = lines.iter().filter_map(|line| line.split_once(": "));
        let headers: Vec<(String, String)> = headers.map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned())).collect();
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let mut body = vec![0; length.map_or(0, |(_, n)| n.parse().unwrap())];
        stream.read_exact(&mut body).unwrap();
        // who was there before is not any more
        if down.load(Ordering::SeqCst) {
            return;
        }
        let request = Seen {
            line,
            headers,
            body,
            proved: stream.get_ref().conn.peer_certificates().is_some(),
        };
        seen.lock().unwrap().push(request.clone());
        if !answer(&mut stream, &request) {
            return;
        }
    }
}

fn document(line: &str) -> Option<Value> {
    let list = |version: &str| {
        let verbs = ["create", "delete", "deletecollection", "get", "list", "watch"];
        let thing = json!({ "name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing", "verbs": verbs, "shortNames": ["th"] });
        let version = format!("ext.example.org/{version}");
        json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": [thing] })
    };
    let kind = json!([{ "group": "ext.example.org", "version": "v1", "kind": "Thing" }]);
    let thing = json!({ "type": "object", "description": "A thing of the test's.", "properties": { "spec": { "type": "string" } }, "x-kubernetes-group-version-kind": kind });
    Some(match line {
        "GET /apis/ext.example.org/v1" => list("v1"),
        "GET /apis/ext.example.org/v2beta1" => list("v2beta1"),
        "GET /openapi/v3" => {
            json!({ "paths": { "apis/ext.example.org/v1": { "serverRelativeURL": "/openapi/v3/apis/ext.example.org/v1?hash=1" } } })
        }
        line if line.starts_with("GET /openapi/v3/apis/ext.example.org/v1") => json!({
            "openapi": "3.0.0", "info": {},
            "paths": { "/apis/ext.example.org/v1/namespaces/{namespace}/things": { "get": { "x-kubernetes-group-version-kind": kind[0], "responses": {} } } },
            "components": { "schemas": { "org.example.Thing": thing } },
        }),
        "GET /openapi/v2" => json!({
            "swagger": "2.0", "info": {},
            "paths": { "/apis/ext.example.org/v1/things": { "get": { "schema": { "$ref": "#/definitions/org.example.Thing" } } }, "/other": {} },
            "definitions": { "org.example.Thing": thing },
        }),
        _ => return None,
    })
}

/// Whether the connection goes on.
fn answer(stream: &mut Stream, request: &Seen) -> bool {
    let out = stream.get_mut();
    if let Some(document) = document(&request.line) {
        return reply(
            out,
            "200 OK",
            "content-type: application/json\r\n",
            &document.to_string(),
        );
    }
    if request.line.contains("watch=") {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
        let event = "{\"type\":\"ADDED\"}\n";
        out.write_all(format!("{head}{:x}\r\n{event}\r\n", event.len()).as_bytes())
            .unwrap();
        out.flush().unwrap();
        // it goes on until the client has enough
        let mut rest = [0; 1];
        let _ended = stream.read(&mut rest);
        return false;
    }
    if request.line.contains("/things/away") {
        return reply(out, "302 Found", "location: https://elsewhere.example.org/\r\n", "");
    }
    if request.line.contains("/things/switch") && !request.all("upgrade").is_empty() {
        let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: echo\r\n\r\n";
        out.write_all(head.as_bytes()).unwrap();
        out.flush().unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        stream.get_mut().write_all(line.to_uppercase().as_bytes()).unwrap();
        stream.get_mut().flush().unwrap();
        return false;
    }
    if request.line.contains("/things") {
        let headers = "content-type: application/json\r\naccess-control-allow-origin: *\r\nx-mine: yes\r\n";
        let list = json!({ "kind": "ThingList", "apiVersion": "ext.example.org/v1", "metadata": {}, "items": [] });
        return reply(out, "200 OK", headers, &list.to_string());
    }
    reply(out, "404 Not Found", "", "")
}

fn reply(out: &mut impl Write, status: &str, headers: &str, body: &str) -> bool {
    let length = body.len();
    let text = format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}");
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}

/// Asks until the answer is the one that is wanted.
fn until(what: &str, mut ask: impl FnMut() -> String, wanted: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let said = ask();
        if said.contains(wanted) {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: {said}, not {wanted}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn service(s: &Server, name: &str) {
    s.ok(&[
        "create",
        "service",
        "externalname",
        name,
        "--external-name=localhost",
        "--tcp=443",
    ]);
}

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
    assert_eq!(seen.all("x-forwarded-host"), [format!("localhost:{}", e.port)]);
    assert_eq!(seen.all("host"), [format!("localhost:{}", e.port)]);

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
    let url = format!("https://localhost:{}/apis/ext.example.org/v1", e.port);
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
    let authority = pki::Authority::load_or_create(dir.path(), "ca", now()).unwrap();
    let identity = pki::Identity {
        common_name: "sample",
        organizations: &[],
    };
    let usage = pki::Usage::Server(vec!["sample.default.svc".into()]);
    let (certificate, key) = authority
        .issue(&identity, &usage, time::Duration::days(1), now())
        .unwrap();
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
