//! What agents ask of a server, without one: curl asks.

use std::process::Command;

use pki::Request;

use crate::common::Server;

const FLAGS: [&str; 5] = [
    "--disable-agent",
    "--disable-scheduler",
    "--disable-controller-manager",
    "--token=secret",
    "--agent-token=agents",
];

/// The code and body of an answer over verified TLS.
fn ask(s: &Server, path: &str, args: &[&str]) -> (u16, String) {
    let config = std::fs::read_to_string(s.kubeconfig()).unwrap();
    let url = config.lines().find_map(|line| line.trim().strip_prefix("server: "));
    let output = Command::new("curl")
        // over HTTP/2 curl takes the end of a body that nobody read for an error of the answer
        .args([
            "-sS",
            "--http1.1",
            "--max-time",
            "30",
            "-w",
            "\n%{http_code}",
            "--cacert",
        ])
        .arg(s.data().join("server/tls/server-ca.crt"))
        .args(args)
        .arg(format!("{}{path}", url.unwrap()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{path}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, code) = text.rsplit_once('\n').unwrap();
    (code.parse().unwrap(), body.to_owned())
}

/// A request for a certificate of a node; the code, and the certificate or why there is none.
fn certificate(s: &Server, what: &str, by: &[&str], node: &str, password: &str, ip: &str) -> (u16, String) {
    let (_, request) = pki::key_and_request().unwrap();
    let file = s.data().join("request.der");
    std::fs::write(&file, request).unwrap();
    let headers = [
        format!("Skiff-Node-Name: {node}"),
        format!("Skiff-Node-Password: {password}"),
        format!("Skiff-Node-IP: {ip}"),
    ];
    let body = format!("@{}", file.display());
    let mut args = by.to_vec();
    args.extend(headers.iter().flat_map(|header| ["-H", header.as_str()]));
    args.extend(["-H", "Content-Type: application/octet-stream", "--data-binary", &body]);
    ask(s, &format!("/v1-skiff/{what}"), &args)
}

#[test]
fn certificates_are_for_who_holds_a_token_and_the_nodes_own_password() {
    let s = Server::start_with(&FLAGS);
    assert_eq!(ask(&s, "/ping", &[]), (200, "pong".into()));
    let authority = std::fs::read_to_string(s.data().join("server/tls/server-ca.crt")).unwrap();
    assert_eq!(ask(&s, "/cacerts", &[]), (200, authority));

    let agent = ["-u", "node:agents"];
    for (who, code) in [
        (&["-u", "node:agents"][..], 200),
        (&["-u", "node:secret"], 401),
        (&["-u", "server:secret"], 403),
        (&["-u", "server:agents"], 401),
        (&["-H", "Authorization: Bearer abcdef.0123456789abcdef"], 401),
        (&[], 401),
    ] {
        assert_eq!(ask(&s, "/v1-skiff/config", who).0, code, "{who:?}");
    }
    let (_, config) = ask(&s, "/v1-skiff/config", &agent);
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!(
        (&config["clusterCidr"], &config["clusterDns"]),
        (&"10.42.0.0/16".into(), &"10.43.0.10".into())
    );
    assert_eq!(ask(&s, "/v1-skiff/nothing", &agent).0, 404);
    assert_eq!(ask(&s, "/v1-skiff/client-kubelet.crt", &agent).0, 405);

    // a bootstrap token does as well
    let secret = [
        "-n",
        "kube-system",
        "create",
        "secret",
        "generic",
        "bootstrap-token-abcdef",
    ];
    let data = [
        "--type=bootstrap.kubernetes.io/token",
        "--from-literal=token-id=abcdef",
        "--from-literal=token-secret=0123456789abcdef",
        "--from-literal=usage-bootstrap-authentication=true",
    ];
    s.ok(&[&secret[..], &data].concat());
    let bearer = ["-H", "Authorization: Bearer abcdef.0123456789abcdef"];
    let issued =
        |what: &str, by: &[&str], node: &str, password: &str| certificate(&s, what, by, node, password, "192.0.2.1");
    assert_eq!(issued("client-kubelet.crt", &bearer, "one", "p").0, 200);
    assert_eq!(issued("client-kube-proxy.crt", &bearer, "one", "p").0, 200);

    // the name is its first holder's
    let (code, said) = issued("client-kubelet.crt", &agent, "one", "other");
    assert!(
        code == 403 && said.contains("unable to verify password for node one"),
        "{said}"
    );
    assert_eq!(issued("serving-kubelet.crt", &agent, "ONE", "p").0, 200);
    for (node, password, ip, why) in [
        ("", "p", "", "node name not set"),
        ("two", "", "", "node password not set"),
        ("t/wo", "p", "", "node name \\\"t/wo\\\""),
        ("two", "p", "here", "invalid node IP address here"),
        ("two", "p", "10.43.0.1", "10.43.0.1 is the API server's own address"),
        ("two", "p", "127.0.0.1", "127.0.0.1 is the API server's own address"),
        ("kubernetes.default.svc", "p", "", "the name is the server's own"),
    ] {
        let (code, said) = certificate(&s, "serving-kubelet.crt", &agent, node, password, ip);
        assert!(
            (400..404).contains(&code) && said.contains(why),
            "{node:?} {ip}: {code} {said}"
        );
    }
    let (code, said) = ask(
        &s,
        "/v1-skiff/client-kubelet.crt",
        &["-u", "node:agents", "-d", "no request"],
    );
    assert_eq!(code, 400, "{said}");

    // whom the certificate names is not the request's to say
    let file = s.data().join("node.crt");
    let (key, request) = pki::key_and_request().unwrap();
    assert_eq!(Request::from_der(&request).unwrap().common_name(), "");
    std::fs::write(s.data().join("node.key"), key).unwrap();
    std::fs::write(s.data().join("request.der"), request).unwrap();
    let body = format!("@{}", s.data().join("request.der").display());
    let headers = [
        "-H",
        "Skiff-Node-Name: one",
        "-H",
        "Skiff-Node-Password: p",
        "--data-binary",
        &body,
    ];
    let (code, pem) = ask(&s, "/v1-skiff/client-kubelet.crt", &[&agent[..], &headers].concat());
    assert_eq!(code, 200, "{pem}");
    std::fs::write(&file, &pem).unwrap();

    // the certificate says who asks, for its own name, and as long as there is its Node
    let certificate_file = file.display().to_string();
    let key_file = s.data().join("node.key").display().to_string();
    let own = ["--cert", &certificate_file, "--key", &key_file];
    assert_eq!(ask(&s, "/v1-skiff/config", &own).0, 200);
    assert_eq!(issued("client-kubelet.crt", &own, "one", "p").0, 401);
    s.ok_with(
        &["create", "-f", "-"],
        r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"one"}}"#,
    );
    assert_eq!(issued("client-kubelet.crt", &own, "one", "p").0, 200);
    let (code, said) = issued("client-kubelet.crt", &own, "two", "p");
    assert!(
        code == 400 && said.contains("header node name does not match auth node name"),
        "{said}"
    );
    assert!(ask(&s, "/api/v1/nodes/one", &own).1.contains("\"Node\""));

    // the token is a server's to change
    let put = |who: &str, body: &str| ask(&s, "/v1-skiff/token", &["-X", "PUT", "-u", who, "-d", body]);
    assert_eq!(put("node:agents", "{}").0, 403);
    assert_eq!(put("server:secret", r#"{"newToken":"two words"}"#).0, 400);
    assert_eq!(put("server:secret", r#"{"newToken":"changed"}"#).0, 200);
    assert_eq!(
        (put("server:secret", "{}").0, ask(&s, "/v1-skiff/config", &agent).0),
        (401, 200)
    );
    assert_eq!(put("server:changed", "{}").0, 200);
    let token = std::fs::read_to_string(s.data().join("server/token")).unwrap();
    assert!(token.starts_with("K10") && !token.contains("changed"), "{token}");
}
