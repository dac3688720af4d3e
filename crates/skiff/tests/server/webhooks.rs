//! Admission webhooks: a server of the test's own that skiff asks.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::Server;
use crate::https::{self, Https, Stream, reply};

/// An HTTPS server that answers reviews by their path.
pub struct Webhook {
    https: Https,
    reviews: Arc<Mutex<Vec<Value>>>,
    connections: Arc<Mutex<usize>>,
}

impl Webhook {
    pub fn start(answers: impl Fn(&str, &Value) -> (u16, String) + Send + Sync + 'static) -> Webhook {
        let (reviews, connections): (Arc<Mutex<Vec<Value>>>, Arc<Mutex<usize>>) = Default::default();
        let (noted, counted) = (reviews.clone(), connections.clone());
        let https = Https::start(&["127.0.0.1", "localhost"], None, move |stream| {
            *counted.lock().unwrap() += 1;
            serve(stream, &answers, &noted);
        });
        Webhook {
            https,
            reviews,
            connections,
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.https.port)
    }

    pub fn bundle(&self) -> String {
        self.https.bundle()
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
fn serve(mut stream: Stream, answers: &impl Fn(&str, &Value) -> (u16, String), reviews: &Mutex<Vec<Value>>) {
    while let Some(request) = https::read(&mut stream) {
        let review: Value = serde_json::from_slice(&request.body).unwrap();
        reviews.lock().unwrap().push(review.clone());
        let path = request.line.split([' ', '?']).nth(1).unwrap();
        let (code, text) = answers(path, &review);
        if !reply(
            &mut stream,
            &format!("{code} x"),
            "content-type: application/json\r\n",
            &text,
        ) {
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
