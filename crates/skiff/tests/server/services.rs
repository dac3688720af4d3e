//! Cluster IPs: ServiceCIDRs that they come from, IPAddresses that stand for them.

use crate::common::Server;

const MORE: &str = r#"{"apiVersion":"networking.k8s.io/v1","kind":"ServiceCIDR","metadata":{"name":"more"},
    "spec":{"cidrs":["203.0.113.0/24"]}}"#;
const READY: &str = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
const PARENT: &str = "jsonpath={.spec.parentRef.resource}/{.spec.parentRef.namespace}/{.spec.parentRef.name}";

fn service(s: &Server, name: &str, ip: &str) -> Result<String, String> {
    s.try_with(
        &[
            "create",
            "svc",
            "clusterip",
            name,
            "--tcp=80",
            &format!("--clusterip={ip}"),
        ],
        "",
    )
}

#[test]
fn services_draw_from_every_network_that_is_ready_and_hold_back_its_end() {
    let s = Server::start_with(&["--disable-agent", "--disable-scheduler"]);
    assert_eq!(
        s.ok(&["get", "servicecidr", "kubernetes", "-o", "jsonpath={.spec.cidrs}"]),
        r#"["10.43.0.0/16"]"#
    );
    assert_eq!(
        s.ok(&["get", "ipaddress", "10.43.0.1", "-o", PARENT]),
        "services/default/kubernetes"
    );
    let outside = service(&s, "a", "203.0.113.7").unwrap_err();
    assert!(
        outside.contains("the provided network does not match the current range"),
        "{outside}"
    );

    s.ok_with(&["create", "-f", "-"], MORE);
    s.ok(&["wait", "servicecidr/more", "--for=condition=Ready", "--timeout=30s"]);
    service(&s, "a", "203.0.113.7").unwrap();
    assert_eq!(
        s.ok(&["get", "ipaddress", "203.0.113.7", "-o", PARENT]),
        "services/default/a"
    );
    let taken = service(&s, "b", "203.0.113.7").unwrap_err();
    assert!(taken.contains("provided IP is already allocated"), "{taken}");

    s.ok(&["delete", "servicecidr", "more", "--wait=false"]);
    s.ok(&[
        "wait",
        "servicecidr/more",
        "--for=condition=Ready=false",
        "--timeout=30s",
    ]);
    assert_eq!(s.ok(&["get", "servicecidr", "more", "-o", READY]), "False");
    assert!(service(&s, "b", "203.0.113.8").is_err());
    s.ok(&["delete", "svc", "a"]);
    assert!(s.fails(&["get", "ipaddress", "203.0.113.7"], "").contains("NotFound"));
    s.ok(&["wait", "servicecidr/more", "--for=delete", "--timeout=60s"]);
    assert_eq!(
        s.ok(&["get", "servicecidr", "-o", "name"]),
        "servicecidr.networking.k8s.io/kubernetes"
    );
}

#[test]
fn an_address_follows_its_service_and_is_repaired() {
    let mut s = Server::start();
    s.ok(&["create", "svc", "externalname", "a", "--external-name=x.example"]);
    assert_eq!(s.ok(&["get", "ipaddress", "-o", "name"]).lines().count(), 1);
    let type_is = |s: &Server, spec: &str| s.ok(&["patch", "svc", "a", "-p", &format!(r#"{{"spec":{spec}}}"#)]);
    type_is(&s, r#"{"type":"ClusterIP","externalName":null,"ports":[{"port":80}]}"#);
    let ip = s.ok(&["get", "svc", "a", "-o", "jsonpath={.spec.clusterIP}"]);
    assert_eq!(s.ok(&["get", "ipaddress", &ip, "-o", PARENT]), "services/default/a");

    s.ok(&["delete", "ipaddress", &ip]);
    s.ok(&["wait", &format!("ipaddress/{ip}"), "--for=create", "--timeout=30s"]);
    assert_eq!(s.ok(&["get", "ipaddress", &ip, "-o", PARENT]), "services/default/a");
    // another's labels do not make an address of the allocator's
    s.ok(&["label", "ipaddress", &ip, "ipaddress.kubernetes.io/managed-by-"]);
    s.kill();
    s.restart();
    let label = r"jsonpath={.metadata.labels.ipaddress\.kubernetes\.io/managed-by}";
    assert_eq!(s.ok(&["get", "ipaddress", &ip, "-o", label]), "ipallocator.k8s.io");

    type_is(&s, r#"{"type":"ExternalName","externalName":"x.example"}"#);
    assert!(s.fails(&["get", "ipaddress", &ip], "").contains("NotFound"));
}
