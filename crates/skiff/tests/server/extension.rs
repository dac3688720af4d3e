//! An extension server of the test's, which serves Things of `ext.example.org`.

use std::io::{BufRead, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::Server;
use crate::https::{self, Https, Seen, Stream, reply};

/// Whether an APIService is available.
pub const AVAILABLE: &str = r#"jsonpath={.status.conditions[?(@.type=="Available")].status}"#;
/// The reason why it is or is not.
pub const REASON: &str = r#"jsonpath={.status.conditions[?(@.type=="Available")].reason}"#;
/// The message that tells it.
pub const MESSAGE: &str = r#"jsonpath={.status.conditions[?(@.type=="Available")].message}"#;

/// An HTTPS server that answers as an extension server does.
pub struct Extension {
    https: Https,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// It neither takes connections nor answers.
    pub down: Arc<AtomicBool>,
}

impl Extension {
    /// Starts the server, with a certificate of this name. Whom to believe is in the cluster, as real ones find it.
    pub fn start(s: &Server, name: &str) -> Extension {
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
        let clients = map["data"]["requestheader-client-ca-file"].as_str();
        let (seen, down): (Arc<Mutex<Vec<Seen>>>, Arc<AtomicBool>) = Default::default();
        let (noted, is_down) = (seen.clone(), down.clone());
        let https = Https::start(&[name], clients, move |stream| serve(stream, &noted, &is_down));
        Extension { https, seen, down }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.https.port
    }

    /// An APIService of a version, whose server this is.
    pub fn api_service(&self, version: &str, service: &str) -> String {
        let bundle = self.https.bundle();
        json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": { "name": format!("{version}.ext.example.org") },
            "spec": {
                "group": "ext.example.org", "version": version, "groupPriorityMinimum": 1500, "versionPriority": 20, "caBundle": bundle,
                "service": { "namespace": "default", "name": service, "port": self.port() },
            },
        })
        .to_string()
    }

    /// Requests about things that it has seen since this was last asked: not those of who looks whether it is there.
    pub fn take(&self) -> Vec<Seen> {
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        seen.into_iter().filter(|seen| seen.line.contains("/things")).collect()
    }
}

/// Answers requests of one connection until its client ends it.
fn serve(mut stream: Stream, seen: &Mutex<Vec<Seen>>, down: &AtomicBool) {
    while !down.load(Ordering::SeqCst)
        && let Some(request) = https::read(&mut stream)
    {
        // who was there before is not any more
        if down.load(Ordering::SeqCst) {
            return;
        }
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
    if let Some(document) = document(&request.line) {
        return reply(
            stream,
            "200 OK",
            "content-type: application/json\r\n",
            &document.to_string(),
        );
    }
    if request.line.contains("watch=") {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
        let event = "{\"type\":\"ADDED\"}\n";
        let out = stream.get_mut();
        out.write_all(format!("{head}{:x}\r\n{event}\r\n", event.len()).as_bytes())
            .unwrap();
        out.flush().unwrap();
        // it goes on until the client has enough
        let mut rest = [0; 1];
        let _ended = stream.read(&mut rest);
        return false;
    }
    if request.line.contains("/things/away") {
        return reply(stream, "302 Found", "location: https://elsewhere.example.org/\r\n", "");
    }
    if request.line.contains("/things/switch") && !request.all("upgrade").is_empty() {
        let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: echo\r\n\r\n";
        stream.get_mut().write_all(head.as_bytes()).unwrap();
        stream.get_mut().flush().unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        stream.get_mut().write_all(line.to_uppercase().as_bytes()).unwrap();
        stream.get_mut().flush().unwrap();
        return false;
    }
    if request.line.contains("/things") {
        let headers = "content-type: application/json\r\naccess-control-allow-origin: *\r\nx-mine: yes\r\n";
        let list = json!({ "kind": "ThingList", "apiVersion": "ext.example.org/v1", "metadata": {}, "items": [] });
        return reply(stream, "200 OK", headers, &list.to_string());
    }
    reply(stream, "404 Not Found", "", "")
}

/// Asks until the answer is the one that is wanted.
pub fn until(what: &str, mut ask: impl FnMut() -> String, wanted: &str) {
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

/// Makes a Service that leads to this machine.
pub fn service(s: &Server, name: &str) {
    s.ok(&[
        "create",
        "service",
        "externalname",
        name,
        "--external-name=localhost",
        "--tcp=443",
    ]);
}
