//! Trust bundles and certificates in pods; the signer is the test.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pki::{Authority, Request};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use crate::cluster::Cluster;

const SIGNER: &str = "example.org/signer";

fn authority(c: &Cluster, name: &str) -> Authority {
    Authority::load_or_create(&c.dir.join("authorities"), name, OffsetDateTime::now_utc()).unwrap()
}

fn bundle(c: &Cluster, name: &str, signer: Option<&str>, certificates: &str) {
    let tree = json!({ "apiVersion": "certificates.k8s.io/v1", "kind": "ClusterTrustBundle",
        "metadata": { "name": name, "labels": { "kind": "test" } },
        "spec": { "signerName": signer, "trustBundle": certificates } });
    c.apply(&tree.to_string());
}

fn pod(c: &Cluster, name: &str, sources: &Value) {
    let tree = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "terminationGracePeriodSeconds": 0,
            "containers": [{ "name": "c", "image": "busybox:1", "command": ["sleep", "100000"],
                "volumeMounts": [{ "name": "v", "mountPath": "/v" }] }],
            "volumes": [{ "name": "v", "projected": { "sources": sources } }] } });
    c.apply(&tree.to_string());
}

/// The requests of a pod that nobody has answered.
fn open_requests(c: &Cluster, pod: &str) -> Vec<Value> {
    let list: Value = serde_json::from_str(&c.kubectl(&["get", "podcertificaterequests", "-o", "json"])).unwrap();
    let all = list["items"].as_array().unwrap().clone();
    let of_pod = all.into_iter().filter(|r| r["spec"]["podName"] == pod);
    of_pod.filter(|r| r["status"]["conditions"].is_null()).collect()
}

fn answer(c: &Cluster, request: &Value, status: &Value) {
    let name = request["metadata"]["name"].as_str().unwrap();
    let patch = json!({ "status": status }).to_string();
    c.kubectl(&[
        "patch",
        "podcertificaterequest",
        name,
        "--subresource=status",
        "--type=merge",
        "-p",
        &patch,
    ]);
}

/// As the API has it, in whole seconds.
fn text(at: OffsetDateTime) -> String {
    jiff::Timestamp::from_second(at.unix_timestamp()).unwrap().to_string()
}

fn condition(kind: &str) -> Value {
    json!([{ "type": kind, "status": "True", "reason": "Test", "message": "by the test",
        "lastTransitionTime": text(OffsetDateTime::now_utc()) }])
}

/// Issues what a request asks for; the chain.
fn sign(c: &Cluster, authority: &Authority, request: &Value) -> String {
    let stub = request["spec"]["stubPKCS10Request"].as_str().unwrap();
    let pem = format!("-----BEGIN CERTIFICATE REQUEST-----\n{stub}\n-----END CERTIFICATE REQUEST-----\n");
    // certificates begin five minutes before they are made
    let now = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap() + Duration::minutes(5);
    let lifetime = Duration::seconds(request["spec"]["maxExpirationSeconds"].as_i64().unwrap()) - Duration::minutes(5);
    let chain = authority.sign(Request::from_pem(&pem).unwrap(), lifetime, now).unwrap();
    let at = |minutes: i64| text(now + Duration::minutes(minutes));
    let status = json!({ "conditions": condition("Issued"), "certificateChain": chain,
        "notBefore": at(-5), "notAfter": text(now + lifetime), "beginRefreshAt": at(20) });
    answer(c, request, &status);
    chain
}

fn events(c: &Cluster, pod: &str) -> String {
    let field = format!("involvedObject.name={pod}");
    c.kubectl(&[
        "get",
        "events",
        "--field-selector",
        &field,
        "-o",
        "jsonpath={range .items[*]}{.reason}: {.message}{\"\\n\"}{end}",
    ])
}

#[test]
fn pods_show_trust_bundles_and_follow_them() {
    let c = Cluster::start("bundles", &["busybox"]);
    let (one, two) = (authority(&c, "one"), authority(&c, "two"));
    bundle(&c, "plain", None, &format!("said before\n{}", one.certificate()));
    bundle(&c, "example.org:signer:a", Some(SIGNER), two.certificate());
    let selected =
        json!({ "signerName": SIGNER, "labelSelector": { "matchLabels": { "kind": "test" } }, "path": "selected.pem" });
    pod(
        &c,
        "reader",
        &json!([
            { "clusterTrustBundle": { "name": "plain", "path": "plain.pem" } },
            { "clusterTrustBundle": selected },
            { "clusterTrustBundle": { "signerName": SIGNER, "optional": true, "path": "none.pem" } },
            { "clusterTrustBundle": { "name": "missing", "optional": true, "path": "missing.pem" } },
        ]),
    );
    c.kubectl(&["wait", "--for=condition=Ready", "pod/reader", "--timeout=60s"]);
    let shown = |file: &str| c.exec("reader", &["cat", &format!("/v/{file}")]).unwrap();
    assert_eq!(shown("plain.pem"), one.certificate().trim());
    assert_eq!(shown("selected.pem"), two.certificate().trim());
    // no selector selects nothing, as upstream
    assert_eq!(
        (shown("none.pem"), shown("missing.pem")),
        (String::new(), String::new())
    );

    bundle(&c, "example.org:signer:b", Some(SIGNER), one.certificate());
    bundle(&c, "missing", None, two.certificate());
    c.until("both certificates are shown once", |_| {
        let text = shown("selected.pem");
        text.matches("BEGIN CERTIFICATE").count() == 2
            && text.contains(one.certificate().trim())
            && text.contains(two.certificate().trim())
    });
    c.until("what was missing is shown", |_| {
        shown("missing.pem") == two.certificate().trim()
    });

    // without what it must have a pod waits
    pod(
        &c,
        "waiter",
        &json!([{ "clusterTrustBundle": { "name": "later", "path": "later.pem" } }]),
    );
    let why = r#"MountVolume.SetUp failed for volume "v" : while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io "later" not found"#;
    c.until("it is told why", |c| events(c, "waiter").contains(why));
    bundle(&c, "later", None, one.certificate());
    c.kubectl(&["wait", "--for=condition=Ready", "pod/waiter", "--timeout=60s"]);
}

#[test]
fn pods_get_certificates_of_a_signer_with_keys_of_their_own() {
    let c = Cluster::start("certificates", &["busybox"]);
    let authority = authority(&c, "signer");
    let source = |key_type: &str| {
        json!([{ "podCertificate": { "signerName": SIGNER, "keyType": key_type, "maxExpirationSeconds": 3600,
            "credentialBundlePath": "bundle.pem", "keyPath": "key.pem", "certificateChainPath": "chain.pem",
            "userAnnotations": { "example.org/note": "n" } } }])
    };
    for (name, key_type) in [("p256", "ECDSAP256"), ("ed25519", "ED25519")] {
        pod(&c, name, &source(key_type));
        c.until("it asks", |c| open_requests(c, name).len() == 1);
        let request = open_requests(&c, name).remove(0);
        assert_eq!(
            request["spec"]["unverifiedUserAnnotations"],
            json!({ "example.org/note": "n" })
        );
        assert_eq!(request["metadata"]["ownerReferences"][0]["name"], name);
        assert_eq!(request["spec"]["serviceAccountName"], "default");
        let why = r#"MountVolume.SetUp failed for volume "v" : credential bundle is not issued yet"#;
        c.until("it is told why it waits", |c| events(c, name).contains(why));
        let chain = sign(&c, &authority, &request);
        c.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=60s"]);
        let shown = |file: &str| c.exec(name, &["cat", &format!("/v/{file}")]).unwrap();
        assert_eq!(shown("chain.pem"), chain.trim());
        let key = shown("key.pem");
        assert!(key.starts_with("-----BEGIN PRIVATE KEY-----\n"), "{key}");
        assert_eq!(shown("bundle.pem"), format!("{key}\n{}", chain.trim()));
        assert!(open_requests(&c, name).is_empty(), "asked for once");
    }

    // the other types of keys are asked for as well; a signer may refuse
    for (name, key_type) in [("p384", "ECDSAP384"), ("p521", "ECDSAP521"), ("rsa", "RSA3072")] {
        pod(&c, name, &source(key_type));
        c.until("it asks", |c| open_requests(c, name).len() == 1);
        let request = open_requests(&c, name).remove(0);
        let stub = STANDARD
            .decode(request["spec"]["stubPKCS10Request"].as_str().unwrap())
            .unwrap();
        assert!(stub.len() > 100, "{name}");
        answer(&c, &request, &json!({ "conditions": condition("Denied") }));
        c.until("it is told", |c| {
            let told = events(c, name);
            told.contains(r#"was denied, reason="Test", message="by the test""#)
                && told.contains(r#"PodCertificateRequest was permanently denied: reason="Test" message="by the test""#)
        });
    }
}
