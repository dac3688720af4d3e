//! Admission webhooks: a server of the test's own that skiff asks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::common::Server;

type Answers = Arc<dyn Fn(&str, &Value) -> (u16, String) + Send + Sync>;

/// An HTTPS server that answers reviews by their path.
pub struct Webhook {
    port: u16,
    authority: pki::Authority,
    reviews: Arc<Mutex<Vec<Value>>>,
    connections: Arc<Mutex<usize>>,
}

fn now() -> time::OffsetDateTime {
    time::OffsetDateTime::now_utc()
}

impl Webhook {
    pub fn start(answers: impl Fn(&str, &Value) -> (u16, String) + Send + Sync + 'static) -> Webhook {
        let dir = tempfile::tempdir().unwrap();
        let authority = pki::Authority::load_or_create(dir.path(), "ca", now()).unwrap();
        let identity = pki::Identity {
            common_name: "webhook",
            organizations: &[],
        };
        let usage = pki::Usage::Server(vec!["127.0.0.1".into(), "localhost".into()]);
        let (certificate, key) = authority
            .issue(&identity, &usage, time::Duration::days(1), now())
            .unwrap();
        let chain = vec![rustls_pki_types::CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = rustls_pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let (config, answers): (_, Answers) = (Arc::new(config), Arc::new(answers));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let webhook = Webhook {
            port: listener.local_addr().unwrap().port(),
            authority,
            reviews: Arc::default(),
            connections: Arc::default(),
        };
        let (reviews, connections) = (webhook.reviews.clone(), webhook.connections.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (config, answers, reviews) = (config.clone(), answers.clone(), reviews.clone());
                *connections.lock().unwrap() += 1;
                std::thread::spawn(move || serve(stream.unwrap(), config, &answers, &reviews));
            }
        });
        webhook
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.port)
    }

    pub fn bundle(&self) -> String {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(self.authority.certificate())
    }

    /// A webhook for writes of configmaps in namespaces that ask for it.
    fn hook(&self, name: &str, path: &str, more: &Value) -> Value {
        let mut hook = json!({
            "name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": { "url": self.url(path), "caBundle": self.bundle() },
            "rules": [{ "operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"] }],
            "namespaceSelector": { "matchLabels": { "hooked": "yes" } },
        });
        for (key, value) in more.as_object().unwrap() {
            hook[key] = value.clone();
        }
        hook
    }

    pub fn take(&self) -> Vec<Value> {
        std::mem::take(&mut self.reviews.lock().unwrap())
    }
}

/// Answers requests of one connection until its client ends it.
fn serve(stream: TcpStream, config: Arc<rustls::ServerConfig>, answers: &Answers, reviews: &Mutex<Vec<Value>>) {
    let session = rustls::ServerConnection::new(config).unwrap();
    let mut stream = BufReader::new(rustls::StreamOwned::new(session, stream));
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
            if head.is_empty() {
                head = line;
            }
        }
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        let review: Value = serde_json::from_slice(&body).unwrap();
        reviews.lock().unwrap().push(review.clone());
        let path = head.split([' ', '?']).nth(1).unwrap().to_owned();
        let (code, text) = answers(&path, &review);
        let length = text.len();
        let answer =
            format!("HTTP/1.1 {code} x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{text}");
        if stream.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn answer(review: &Value, response: &Value) -> (u16, String) {
    let mut response = response.clone();
    response["uid"] = review["request"]["uid"].clone();
    let answer = json!({ "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response });
    (200, answer.to_string())
}

fn patch(operations: &Value) -> Value {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(operations.to_string());
    json!({ "allowed": true, "patchType": "JSONPatch", "patch": text })
}

fn configure(s: &Server, kind: &str, name: &str, hooks: &[Value]) {
    let tree = json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": { "name": name }, "webhooks": hooks });
    s.ok_with(&["apply", "-f", "-"], &tree.to_string());
}

fn namespace(s: &Server) {
    s.ok(&["create", "namespace", "hooked"]);
    s.ok(&["label", "namespace", "hooked", "hooked=yes"]);
}

fn create(s: &Server, name: &str) -> Result<String, String> {
    s.try_with(&["create", "configmap", name, "--from-literal=a=b", "-n", "hooked"], "")
}

#[test]
fn webhooks_change_warn_of_and_refuse_what_is_written() {
    let s = Server::start();
    let w = Webhook::start(|path, review| match path {
        "/label" if review["request"]["operation"] == "DELETE" => answer(review, &json!({ "allowed": true })),
        "/label" => answer(
            review,
            &patch(&json!([{ "op": "add", "path": "/metadata/labels", "value": { "by": "hook" } }])),
        ),
        "/refuse" => answer(
            review,
            &json!({ "allowed": review["request"]["object"]["metadata"]["name"] != "bad", "warnings": ["mind the gap"],
                "status": { "code": 451, "reason": "Because", "message": "no" } }),
        ),
        _ => (404, String::new()),
    });
    namespace(&s);
    configure(
        &s,
        "MutatingWebhookConfiguration",
        "m",
        &[w.hook("label.example.org", "/label", &json!({}))],
    );
    configure(
        &s,
        "ValidatingWebhookConfiguration",
        "v",
        &[w.hook("refuse.example.org", "/refuse", &json!({}))],
    );

    assert_eq!(create(&s, "good").unwrap(), "configmap/good created");
    let labels = s.ok(&[
        "get",
        "configmap",
        "good",
        "-n",
        "hooked",
        "-o",
        "jsonpath={.metadata.labels}",
    ]);
    assert_eq!(labels, r#"{"by":"hook"}"#);
    let refused = create(&s, "bad").unwrap_err();
    assert!(
        refused.contains(r#"admission webhook "refuse.example.org" denied the request: no"#)
            && refused.contains("Warning: mind the gap"),
        "{refused}"
    );

    // the validating webhook sees what will be stored
    let reviews = w.take();
    let request = &reviews[1]["request"];
    assert_eq!(request["object"]["metadata"]["labels"], json!({ "by": "hook" }));
    assert_eq!(
        request["kind"],
        json!({ "group": "", "version": "v1", "kind": "ConfigMap" })
    );
    assert_eq!(
        (
            &request["operation"],
            &request["name"],
            &request["namespace"],
            &request["dryRun"]
        ),
        (&json!("CREATE"), &json!("good"), &json!("hooked"), &json!(false))
    );
    assert_eq!(request["options"]["kind"], "CreateOptions");
    assert!(reviews[0]["request"]["object"]["metadata"].get("uid").is_none());
    assert!(request["object"]["metadata"].get("uid").is_some());
    assert!(*w.connections.lock().unwrap() <= 2, "connections are not kept");

    // other namespaces are not asked about
    s.ok(&["create", "configmap", "bad", "-n", "default"]);
    assert!(w.take().is_empty());
    s.ok(&["delete", "configmap", "good", "-n", "hooked"]);
    let reviews = w.take();
    assert_eq!(reviews.len(), 2);
    assert_eq!(reviews[0]["request"]["object"], Value::Null);
    assert_eq!(reviews[0]["request"]["oldObject"]["metadata"]["name"], "good");

    // a configuration that is gone asks nobody
    s.ok(&["delete", "validatingwebhookconfiguration", "v"]);
    assert_eq!(create(&s, "bad").unwrap(), "configmap/bad created");
}

#[test]
fn a_webhook_that_cannot_be_asked_or_answers_rubbish_refuses_unless_it_is_ignored() {
    let s = Server::start();
    let w = Webhook::start(|path, review| match path {
        "/rubbish" => (200, "<html>".into()),
        "/broken" => (500, "{}".into()),
        "/uid" => {
            let answer = json!({ "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": { "uid": "x", "allowed": true } });
            (200, answer.to_string())
        }
        "/slow" => {
            // longer than any webhook is waited for
            std::thread::sleep(Duration::from_secs(60));
            answer(review, &json!({ "allowed": true }))
        }
        _ => answer(review, &patch(&json!([{ "op": "remove", "path": "/nothing" }]))),
    });
    namespace(&s);
    let nobody = Webhook::start(|_, _| (200, String::new()));
    let url = w.url("/ok");
    for (path, more, want) in [
        ("/rubbish", json!({}), "failed to call webhook: couldn't get version/kind; json parse error: json: cannot unmarshal string into Go value of type struct".to_owned()),
        ("/broken", json!({}), r#"failed to call webhook: an error on the server ("unknown") has prevented the request from succeeding"#.to_owned()),
        ("/uid", json!({}), r#"received invalid webhook response: expected response.uid=""#.to_owned()),
        ("/slow", json!({ "timeoutSeconds": 1 }), format!("Post \"{}?timeout=1s\": context deadline exceeded", w.url("/slow"))),
        ("/ok", json!({ "clientConfig": { "url": url, "caBundle": nobody.bundle() } }), "tls: failed to verify certificate: x509: certificate signed by unknown authority".to_owned()),
        ("/ok", json!({ "clientConfig": { "url": "https://127.0.0.1:1/x" } }), "Post \"https://127.0.0.1:1/x?timeout=10s\": dial tcp 127.0.0.1:1: connect: connection refused".to_owned()),
        ("/ok", json!({ "clientConfig": { "service": { "name": "x", "namespace": "hooked" } } }), "Post \"https://x.hooked.svc:443/?timeout=10s\": service \"x\" not found".to_owned()),
    ] {
        configure(&s, "MutatingWebhookConfiguration", "m", &[w.hook("a.example.org", path, &more)]);
        let began = Instant::now();
        let told = create(&s, "x").unwrap_err();
        assert!(told.contains(r#"Internal error occurred: failed calling webhook "a.example.org": "#) && told.contains(&want), "{path} {more}: {told}");
        assert!(began.elapsed() < Duration::from_secs(20));
        let mut ignored = more.clone();
        ignored["failurePolicy"] = json!("Ignore");
        configure(&s, "MutatingWebhookConfiguration", "m", &[w.hook("a.example.org", path, &ignored)]);
        create(&s, "x").unwrap();
        s.ok(&["delete", "mutatingwebhookconfiguration", "m"]);
        s.ok(&["delete", "configmap", "x", "-n", "hooked"]);
    }
    // a patch that does not fit is no failure to call: it is not ignored
    configure(
        &s,
        "MutatingWebhookConfiguration",
        "m",
        &[w.hook("a.example.org", "/ok", &json!({ "failurePolicy": "Ignore" }))],
    );
    let told = create(&s, "x").unwrap_err();
    assert!(
        told.contains("Internal error occurred: error in remove for path"),
        "{told}"
    );
}

#[test]
fn webhooks_are_asked_only_about_what_their_conditions_and_selectors_choose() {
    let s = Server::start();
    let w = Webhook::start(|_, review| answer(review, &json!({ "allowed": false })));
    namespace(&s);
    let conditions = |text: &str| json!({ "matchConditions": [{ "name": "c", "expression": text }] });
    for (more, asked) in [
        (conditions("object.metadata.name == 'x'"), true),
        (conditions("object.metadata.name == 'y'"), false),
        (
            conditions(
                "request.userInfo.username == 'kubernetes-admin' || 'system:masters' in request.userInfo.groups",
            ),
            true,
        ),
        (
            conditions("authorizer.group('').resource('pods').namespace('hooked').check('create').allowed()"),
            true,
        ),
        (json!({ "objectSelector": { "matchLabels": { "a": "b" } } }), false),
        (
            json!({ "objectSelector": { "matchExpressions": [{ "key": "a", "operator": "DoesNotExist" }] } }),
            true,
        ),
        (
            json!({ "namespaceSelector": { "matchLabels": { "hooked": "no" } } }),
            false,
        ),
    ] {
        configure(
            &s,
            "ValidatingWebhookConfiguration",
            "v",
            &[w.hook("a.example.org", "/", &more)],
        );
        let told = s.try_with(&["create", "configmap", "x", "-n", "hooked", "--dry-run=server"], "");
        match asked {
            true => assert!(
                told.as_ref()
                    .is_err_and(|e| e.contains("denied the request without explanation")),
                "{more}: {told:?}"
            ),
            false => assert!(told.is_ok(), "{more}: {told:?}"),
        }
    }
    let broken = conditions("object.nothing == 1");
    configure(
        &s,
        "ValidatingWebhookConfiguration",
        "v",
        &[w.hook("a.example.org", "/", &broken)],
    );
    let told = create(&s, "x").unwrap_err();
    assert!(
        told.contains(
            r#"configmaps "x" is forbidden: expression 'object.nothing == 1' resulted in error: no such key: nothing"#
        ),
        "{told}"
    );
    assert!(w.take().iter().all(|review| review["request"]["dryRun"] == true));
}

fn converted(review: &Value, convert: impl Fn(&Value) -> Value) -> (u16, String) {
    let request = &review["request"];
    let objects: Vec<Value> = request["objects"].as_array().unwrap().iter().map(convert).collect();
    let response = json!({ "uid": request["uid"], "result": { "status": "Success" }, "convertedObjects": objects });
    let answer = json!({ "kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "response": response });
    (200, answer.to_string())
}

/// Moves `spec.size` of version v1 to `spec.length` of version v2 and back.
fn convert(review: &Value) -> (u16, String) {
    let to = review["request"]["desiredAPIVersion"].clone();
    converted(review, |object| {
        let mut made = object.clone();
        made["apiVersion"] = to.clone();
        let (from, into) = if to == "example.org/v2" {
            ("size", "length")
        } else {
            ("length", "size")
        };
        let spec = made["spec"].as_object_mut().unwrap();
        if let Some(value) = spec.remove(from) {
            spec.insert(into.to_owned(), value);
        }
        // what a webhook makes of other metadata does not count
        made["metadata"]["generation"] = json!(99);
        made
    })
}

/// A definition of Ropes in two versions, of which one is stored.
fn ropes(w: &Webhook, path: &str, stored: &str) -> String {
    let version = |name: &str, field: &str| {
        let spec = json!({ "type": "object", "properties": { field: { "type": "integer" } } });
        let schema = json!({ "type": "object", "properties": { "spec": spec } });
        json!({ "name": name, "served": true, "storage": name == stored, "schema": { "openAPIV3Schema": schema } })
    };
    let webhook =
        json!({ "conversionReviewVersions": ["v1"], "clientConfig": { "url": w.url(path), "caBundle": w.bundle() } });
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": { "name": "ropes.example.org" },
        "spec": {
            "group": "example.org", "scope": "Namespaced", "names": { "plural": "ropes", "kind": "Rope" },
            "versions": [version("v1", "size"), version("v2", "length")],
            "conversion": { "strategy": "Webhook", "webhook": webhook },
        },
    });
    definition.to_string()
}

#[test]
fn a_webhook_converts_custom_objects_many_at_once_and_each_once() {
    let s = Server::start();
    let w = Webhook::start(|path, review| match path {
        "/convert" => convert(review),
        _ => (500, String::new()),
    });
    s.ok_with(&["apply", "-f", "-"], &ropes(&w, "/convert", "v1"));
    s.ok(&["wait", "--for=condition=Established", "crd/ropes.example.org"]);
    let rope = |n: usize| json!({ "apiVersion": "example.org/v1", "kind": "Rope", "metadata": { "name": format!("r{n:02}") }, "spec": { "size": n } });
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": (0..20).map(rope).collect::<Vec<_>>() });
    s.ok_with(&["create", "-f", "-"], &list.to_string());
    assert!(w.take().is_empty(), "what is stored as it is sent is not converted");

    let read = |of: &str, path: &str| s.ok(&["get", of, "-o", &format!("jsonpath={path}")]);
    let all = "{.items[*].spec.length}";
    let numbers: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    assert_eq!(read("ropes.v2.example.org", all), numbers.join(" "));
    let reviews = w.take();
    assert_eq!(reviews.len(), 1);
    assert_eq!(reviews[0]["request"]["objects"].as_array().unwrap().len(), 20);
    assert_eq!(reviews[0]["request"]["desiredAPIVersion"], "example.org/v2");
    assert_eq!(read("ropes.v2.example.org", all), numbers.join(" "));
    assert!(w.take().is_empty(), "what was converted is kept");

    // a write in the other version is stored in that of the definition
    let mut other = rope(7);
    other["apiVersion"] = json!("example.org/v2");
    other["spec"] = json!({ "length": 70 });
    s.ok_with(&["replace", "-f", "-"], &other.to_string());
    let seventh = |version: &str, path: &str| {
        let of = format!("ropes.{version}.example.org/r07");
        s.ok(&["get", &of, "-o", &format!("jsonpath={path}")])
    };
    assert_eq!(seventh("v1", "{.spec.size} {.metadata.generation}"), "70 2");
    assert_eq!(seventh("v2", "{.spec.length} {.metadata.generation}"), "70 2");

    // what was stored before stays readable when another version is stored, and is stored anew when it is written
    s.ok_with(&["apply", "-f", "-"], &ropes(&w, "/convert", "v2"));
    let stored = s.ok(&[
        "get",
        "crd",
        "ropes.example.org",
        "-o",
        "jsonpath={.status.storedVersions}",
    ]);
    assert_eq!(stored, r#"["v1","v2"]"#);
    assert_eq!(
        read("ropes.v2.example.org", all),
        numbers.join(" ").replace(" 7 ", " 70 ")
    );
    assert_eq!(
        read("ropes.v1.example.org", "{.items[*].spec.size}"),
        numbers.join(" ").replace(" 7 ", " 70 ")
    );

    // a webhook that fails is told of
    s.ok_with(&["apply", "-f", "-"], &ropes(&w, "/broken", "v2"));
    let told = s.fails(&["get", "ropes.v2.example.org", "r08"], "");
    assert!(
        told.contains("conversion webhook for example.org/v1, Kind=Rope failed: an error on the server"),
        "{told}"
    );
}

#[test]
fn a_slow_conversion_holds_up_nobody_who_wants_another_object() {
    let s = Server::start();
    // each of two conversions is answered once both are asked for
    let (both, asked) = (Arc::new(std::sync::Barrier::new(2)), Arc::new(Mutex::new(0)));
    let (met, counted) = (both.clone(), asked.clone());
    let w = Webhook::start(move |_, review| {
        *counted.lock().unwrap() += 1;
        met.wait();
        convert(review)
    });
    s.ok_with(&["apply", "-f", "-"], &ropes(&w, "/convert", "v1"));
    s.ok(&["wait", "--for=condition=Established", "crd/ropes.example.org"]);
    let rope = |name: &str| json!({ "apiVersion": "example.org/v1", "kind": "Rope", "metadata": { "name": name }, "spec": { "size": 1 } });
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": [rope("a"), rope("b")] });
    s.ok_with(&["create", "-f", "-"], &list.to_string());

    let get = |name: &str| s.ok(&["get", "ropes.v2.example.org", name, "-o", "jsonpath={.spec.length}"]);
    let found = std::thread::scope(|threads| {
        let other = threads.spawn(|| get("a"));
        (get("b"), other.join().unwrap())
    });
    assert_eq!(found, ("1".to_owned(), "1".to_owned()));
    assert_eq!(*asked.lock().unwrap(), 2);
}

/// Splits `hostPort` of version v1 into `host` and `port` of version v2, and joins them; a label names the version.
fn convert_place(review: &Value) -> (u16, String) {
    let to = review["request"]["desiredAPIVersion"].clone();
    converted(review, |object| {
        let mut made = json!({ "apiVersion": to, "kind": object["kind"], "metadata": object["metadata"] });
        made["metadata"]["labels"] = json!({ "version": to.as_str().unwrap().trim_start_matches("example.org/") });
        match object["hostPort"].as_str() {
            Some(joined) => {
                let (host, port) = joined.split_once(':').unwrap();
                made["host"] = json!(host);
                made["port"] = json!(port);
            }
            None => {
                let part = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
                made["hostPort"] = json!(format!("{}:{}", part("host"), part("port")));
            }
        }
        made
    })
}

#[test]
fn selectors_of_a_version_choose_by_what_a_webhook_makes_of_objects_for_it() {
    let s = Server::start();
    let w = Webhook::start(|_, review| convert_place(review));
    let version = |name: &str, fields: &[&str]| {
        let properties: Value = fields
            .iter()
            .map(|f| ((*f).to_owned(), json!({ "type": "string" })))
            .collect();
        let selectable: Vec<Value> = fields.iter().map(|f| json!({ "jsonPath": format!(".{f}") })).collect();
        json!({ "name": name, "served": true, "storage": name == "v1", "selectableFields": selectable,
            "schema": { "openAPIV3Schema": { "type": "object", "properties": properties } } })
    };
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": { "name": "places.example.org" },
        "spec": {
            "group": "example.org", "scope": "Namespaced", "names": { "plural": "places", "kind": "Place" },
            "versions": [version("v1", &["hostPort"]), version("v2", &["host", "port"])],
            "conversion": { "strategy": "Webhook", "webhook": {
                "conversionReviewVersions": ["v1"], "clientConfig": { "url": w.url("/"), "caBundle": w.bundle() },
            } },
        },
    });
    s.ok_with(&["apply", "-f", "-"], &definition.to_string());
    s.ok(&["wait", "--for=condition=Established", "crd/places.example.org"]);
    let list: Value = serde_json::from_str(&s.ok(&["get", "--raw", "/apis/example.org/v2/places"])).unwrap();
    let start = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    for (name, host, port) in [("a", "one", "80"), ("b", "one", "8080"), ("c", "two", "80")] {
        let place = json!({ "apiVersion": "example.org/v2", "kind": "Place", "metadata": { "name": name }, "host": host, "port": port });
        s.ok_with(&["create", "-f", "-"], &place.to_string());
    }
    let selected = |of: &str, by: &[&str]| {
        let arguments = [&["get", of, "-o", "jsonpath={.items[*].metadata.name}"], by].concat();
        s.ok(&arguments)
    };
    let by_field = |of: &str, fields: &str| selected(of, &["--field-selector", fields]);
    assert_eq!(by_field("places.v2.example.org", "host=one"), "a b");
    assert_eq!(by_field("places.v2.example.org", "host=one,port=80"), "a");
    assert_eq!(by_field("places.v2.example.org", "port!=80"), "b");
    assert_eq!(by_field("places.v1.example.org", "hostPort=one:8080"), "b");
    assert_eq!(selected("places.v2.example.org", &["-l", "version=v2"]), "a b c");
    assert_eq!(selected("places.v2.example.org", &["-l", "version=v1"]), "");
    // pages of what is selected
    let page = s.ok(&[
        "get",
        "--raw",
        "/apis/example.org/v2/namespaces/default/places?fieldSelector=port%3D80&limit=1",
    ]);
    let page: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(page["items"][0]["metadata"]["name"], "a");
    let rest = page["metadata"]["continue"].as_str().unwrap();
    let rest = s.ok(&[
        "get",
        "--raw",
        &format!("/apis/example.org/v2/namespaces/default/places?fieldSelector=port%3D80&limit=1&continue={rest}"),
    ]);
    let rest: Value = serde_json::from_str(&rest).unwrap();
    assert_eq!(
        (
            rest["items"].as_array().unwrap().len(),
            &rest["items"][0]["metadata"]["name"]
        ),
        (1, &json!("c"))
    );
    let told = s.fails(
        &["get", "places.v2.example.org", "--field-selector", "hostPort=one:80"],
        "",
    );
    assert!(told.contains("field label not supported: hostPort"), "{told}");

    // one is deleted by its fields, one leaves what is selected
    let gone = s.ok(&[
        "delete",
        "places.v2.example.org",
        "--field-selector",
        "host=one,port=80",
    ]);
    assert_eq!(gone, "place.example.org \"a\" deleted from default namespace");
    s.ok(&[
        "patch",
        "places.v2.example.org",
        "b",
        "--type=merge",
        "-p",
        r#"{"host":"two"}"#,
    ]);
    assert_eq!(by_field("places.v2.example.org", "host=two"), "b c");
    let watched = |version: &str, fields: &str| {
        // all has happened: what is told of the past comes before the end of the watch
        let path = format!(
            "/apis/example.org/{version}/namespaces/default/places?watch=1&timeoutSeconds=1&resourceVersion={start}&fieldSelector={fields}"
        );
        let told = s.ok(&["get", "--raw", &path]);
        let events = told.lines().map(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            format!(
                "{} {} {}",
                event["type"].as_str().unwrap(),
                event["object"]["metadata"]["name"].as_str().unwrap(),
                event["object"]["host"]
            )
        });
        events.collect::<Vec<_>>().join(", ")
    };
    assert_eq!(
        watched("v2", "host%3Done"),
        r#"ADDED a "one", ADDED b "one", DELETED a "one", DELETED b "one""#
    );
    assert_eq!(
        watched("v2", "host%3Done,port%3D80"),
        r#"ADDED a "one", DELETED a "one""#
    );
    assert_eq!(watched("v1", "hostPort%3Done:80"), "ADDED a null, DELETED a null");
}
