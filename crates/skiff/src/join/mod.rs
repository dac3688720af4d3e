//! What agents and servers agree on: how a node joins, by k3s's paths and headers under our own name.

pub mod token;

use k8s_openapi::api::discovery::v1::EndpointSlice;

pub use token::{JoinToken, TokenError};

/// The cluster's authority, for those who know it by its digest only.
pub const CA_CERTS: &str = "/cacerts";
/// Answers anybody.
pub const PING: &str = "/ping";
/// What only members of the cluster are answered is below this.
pub const PREFIX: &str = "/v1-skiff/";
/// Signs the certificate that a node's kubelet serves with.
pub const SERVING_KUBELET: &str = "/v1-skiff/serving-kubelet.crt";
/// Signs the certificate that a node's kubelet asks with.
pub const CLIENT_KUBELET: &str = "/v1-skiff/client-kubelet.crt";
/// Signs the certificate that a node's kube-proxy asks with.
pub const CLIENT_KUBE_PROXY: &str = "/v1-skiff/client-kube-proxy.crt";
/// Signs the certificate of what follows the cluster's objects on a node.
pub const CLIENT_CONTROLLER: &str = "/v1-skiff/client-skiff-controller.crt";
/// The authority of clients.
pub const CLIENT_CA: &str = "/v1-skiff/client-ca.crt";
/// The authority of the server.
pub const SERVER_CA: &str = "/v1-skiff/server-ca.crt";
/// The addresses of all servers, as a JSON list of `host:port`.
pub const API_SERVERS: &str = "/v1-skiff/apiservers";
/// The cluster's settings, as JSON.
pub const CONFIG: &str = "/v1-skiff/config";
/// Becomes the tunnel of the node that asks, if the server needs one.
pub const CONNECT: &str = "/v1-skiff/connect";
/// Whether the server is ready.
pub const READYZ: &str = "/v1-skiff/readyz";
/// Takes a new token, by PUT.
pub const TOKEN: &str = "/v1-skiff/token";

/// The node that a certificate is asked for.
pub const NODE_NAME: &str = "skiff-node-name";
/// By what it proves that the name is its own.
pub const NODE_PASSWORD: &str = "skiff-node-password";
/// The addresses that its serving certificate is to be for, with commas between them.
pub const NODE_IP: &str = "skiff-node-ip";

/// The user of agents, and that of servers, whose password is the token's secret.
pub const AGENT_USER: &str = "node";
/// The name by which servers show the token.
pub const SERVER_USER: &str = "server";
/// What follows the cluster's objects on each node, as k3s's controller of that kind.
pub const CONTROLLER_USER: &str = "system:skiff-controller";
/// The group of all bootstrap tokens.
pub const BOOTSTRAPPERS: &str = "system:bootstrappers";

/// The addresses of servers in the slices of the Service `kubernetes`, as `host:port`, sorted.
pub fn endpoints(slices: &[EndpointSlice]) -> Vec<String> {
    let mut found = Vec::new();
    for slice in slices {
        let ports = slice.ports.iter().flatten();
        let port = ports
            .clone()
            .find(|p| p.name.as_deref() == Some("https"))
            .and_then(|p| p.port);
        let Some(port) = port else { continue };
        for endpoint in slice.endpoints.iter().flatten() {
            let ready = endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
            for address in endpoint.addresses.iter().filter(|_| ready) {
                found.push(match address.contains(':') {
                    true => format!("[{address}]:{port}"),
                    false => format!("{address}:{port}"),
                });
            }
        }
    }
    found.sort();
    found.dedup();
    found
}
