//! The cluster's DNS in this process: its Service, the endpoint behind it, and the server.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use client::{Client, Patch};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Where the node answers; the Service's port 53 leads here.
const PORT: u16 = 10053;
const MANAGER: &str = "skiff";

/// Serves names until `stop`.
pub async fn run(
    client: Client,
    domain: String,
    service: IpAddr,
    node: Vec<IpAddr>,
    resolv_conf: PathBuf,
    metrics: metrics::Registry,
    stop: CancellationToken,
) {
    if let Err(error) = announce(&client, service, &node).await {
        tracing::error!(%error, "the DNS Service cannot be made");
    }
    let listens = node.iter().map(|ip| SocketAddr::new(*ip, PORT)).collect();
    let mut config = dns::DnsConfig::new(&domain, listens);
    config.own_addresses = node;
    config.own_addresses.insert(0, service);
    config.upstreams = dns::Upstreams::ResolvConf(resolv_conf);
    config.metrics = metrics;
    if let Err(error) = dns::run(config, client, stop).await {
        tracing::error!(%error, "the cluster's DNS ended");
    }
}

/// The Service `kube-system/kube-dns` under its well-known address, and of each family the endpoint that is this process.
async fn announce(client: &Client, service: IpAddr, node: &[IpAddr]) -> Result<(), client::Error> {
    let labels = json!({ "k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS" });
    let port =
        |name: &str, protocol: &str| json!({ "name": name, "port": 53, "targetPort": PORT, "protocol": protocol });
    let front = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "kube-dns", "labels": labels },
        "spec": { "clusterIP": service, "ipFamilyPolicy": "PreferDualStack", "ports": [port("dns", "UDP"), port("dns-tcp", "TCP")] },
    });
    let behind = |name: &str, protocol: &str| json!({ "name": name, "port": PORT, "protocol": protocol });
    let back = |name: &str, ip: IpAddr| {
        json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "labels": { "kubernetes.io/service-name": "kube-dns", "endpointslice.kubernetes.io/managed-by": MANAGER },
        },
        "addressType": if ip.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{ "addresses": [ip], "conditions": { "ready": true, "serving": true, "terminating": false } }],
        "ports": [behind("dns", "UDP"), behind("dns-tcp", "TCP")],
        })
    };
    let mut objects = vec![("/api/v1/namespaces/kube-system/services/kube-dns".to_owned(), front)];
    for ip in node {
        // the name that it has always had is the family's that the cluster has always had
        let name = match ip.is_ipv4() == service.is_ipv4() {
            true => "kube-dns",
            false => "kube-dns-secondary",
        };
        let path = format!("/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/{name}");
        objects.push((path, back(name, *ip)));
    }
    for (path, object) in &objects {
        let patch = Patch::Apply {
            manager: MANAGER.into(),
            force: true,
            object: object.clone(),
        };
        client.patch_path::<Value>(path, &patch).await?;
    }
    Ok(())
}
