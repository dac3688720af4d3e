//! What is recorded of requests: in a log, and at a server that events are sent to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::Server;

const POLICY: &str = r"
apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- {level: None, userGroups: ['system:nodes', 'system:serviceaccounts']}
- {level: RequestResponse, resources: [{group: '', resources: [configmaps]}], omitStages: [RequestReceived]}
- {level: Metadata, verbs: [create, update, patch, delete, deletecollection]}
";

fn start(folder: &Path, flags: &[String]) -> Server {
    let policy = folder.join("policy.yaml");
    std::fs::write(&policy, POLICY).unwrap();
    let mut all = vec![
        "--disable-agent".to_owned(),
        "--disable-scheduler".into(),
        "--disable-controller-manager".into(),
        format!("--kube-apiserver-arg=audit-policy-file={}", policy.display()),
    ];
    all.extend(flags.iter().map(|flag| format!("--kube-apiserver-arg={flag}")));
    Server::start_with(&all.iter().map(String::as_str).collect::<Vec<_>>())
}

fn events(log: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The events once there is one that fits.
fn until(log: &Path, fits: impl Fn(&Value) -> bool) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let events = events(log);
        if events.iter().any(&fits) {
            return events;
        }
        assert!(Instant::now() < deadline, "{events:#?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn every_write_is_in_the_log_with_what_the_policy_wants_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("audit.log");
    let server = start(folder.path(), &[format!("audit-log-path={}", log.display())]);
    for n in 0..5 {
        server.ok(&["create", "configmap", &format!("c{n}"), "--from-literal=a=b"]);
        server.ok(&["label", "configmap", &format!("c{n}"), "x=y"]);
        server.ok(&["create", "serviceaccount", &format!("s{n}")]);
        server.ok(&["delete", "configmap", &format!("c{n}")]);
    }
    server.ok(&["get", "pods"]);
    let events = until(&log, |event| {
        event["verb"] == "delete" && event["objectRef"]["name"] == "c4" && event["stage"] == "ResponseComplete"
    });
    let of = |verb: &str, name: &str| -> Vec<&Value> {
        let by = |event: &&Value| event["verb"] == verb && event["objectRef"]["name"] == name;
        events.iter().filter(by).collect()
    };
    for n in 0..5 {
        let name = format!("c{n}");
        for (verb, code) in [("create", 201), ("patch", 200), ("delete", 200)] {
            let found = of(verb, &name);
            // its first stage is left out
            assert_eq!(found.len(), 1, "{verb} {name}: {found:#?}");
            assert_eq!(found[0]["stage"], "ResponseComplete");
            assert_eq!(found[0]["level"], "RequestResponse");
            assert_eq!(found[0]["responseStatus"]["code"], code);
            assert!(found[0]["responseObject"].is_object(), "{found:#?}");
        }
        let made = of("create", &name)[0];
        assert_eq!(made["requestObject"]["data"]["a"], "b");
        assert_eq!(made["responseObject"]["metadata"]["name"], name.as_str());
        assert_eq!(made["annotations"]["authorization.k8s.io/decision"], "allow");
        assert_eq!(made["sourceIPs"][0], "127.0.0.1");
        // what is made has its name in the body alone
        let made = of("create", &format!("s{n}"))[0];
        let account: Vec<&Value> = events
            .iter()
            .filter(|event| event["auditID"] == made["auditID"])
            .collect();
        let stages: Vec<&str> = account.iter().filter_map(|event| event["stage"].as_str()).collect();
        assert_eq!(stages, ["RequestReceived", "ResponseComplete"]);
        assert!(
            account
                .iter()
                .all(|event| event["level"] == "Metadata" && event["requestObject"].is_null())
        );
    }
    assert!(
        events.iter().all(|event| event["verb"] != "list"),
        "nothing is said of lists"
    );
}

#[test]
fn a_policy_that_is_none_keeps_the_server_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = start(folder.path(), &["audit-log-path=-".to_owned()]);
    server.kill();
    std::fs::write(
        folder.path().join("policy.yaml"),
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Much}]\n",
    )
    .unwrap();
    let (well, said) = server.try_command(&[]);
    assert!(!well);
    assert!(said.contains("rules[0].level: Unsupported value: \"Much\""), "{said}");
}

/// Reads one request with its body, and answers it.
fn serve(listener: &TcpListener) -> Value {
    let (mut stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = text.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .unwrap();
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn events_are_sent_to_a_webhook_in_batches() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = folder.path().join("webhook.yaml");
    let address = listener.local_addr().unwrap();
    std::fs::write(
        &config,
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters:\n- {{name: c, cluster: {{server: 'http://{address}/events'}}}}\n\
             contexts:\n- {{name: c, context: {{cluster: c}}}}\n"
        ),
    )
    .unwrap();
    let flags = [
        format!("audit-webhook-config-file={}", config.display()),
        "audit-webhook-batch-max-wait=100ms".to_owned(),
    ];
    let server = start(folder.path(), &flags);
    server.ok(&["create", "configmap", "c", "--from-literal=a=b"]);
    loop {
        let list = serve(&listener);
        assert_eq!(
            (&list["kind"], &list["apiVersion"]),
            (&"EventList".into(), &"audit.k8s.io/v1".into())
        );
        let items = list["items"].as_array().unwrap();
        if items
            .iter()
            .any(|event| event["objectRef"]["name"] == "c" && event["verb"] == "create")
        {
            return;
        }
    }
}
