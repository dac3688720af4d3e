//! What the proxy is told about its node.

use std::net::{IpAddr, SocketAddr};

use cni::link::Net;

use crate::conntrack_settings::ConntrackConfig;

/// What the proxy has to know about its node and the cluster, with upstream's defaults for the rest.
#[derive(Debug, Clone)]
pub struct ProxyConfig {
    /// The node's name as its Node object has it: endpoints on this node are local.
    pub node_name: String,
    /// The node's addresses: those that accept NodePort traffic. Rules are made for the families that occur.
    pub node_ips: Vec<IpAddr>,
    /// The pods' networks of the whole cluster, to tell traffic of pods from traffic of others. May be empty.
    pub cluster_cidrs: Vec<Net>,
    /// Networks of the node's addresses that accept NodePort traffic in place of `node_ips`. Empty: `node_ips`.
    pub nodeport_addresses: Vec<Net>,
    /// All traffic to cluster addresses gets the node's address, and not only that from outside the pods' networks.
    pub masquerade_all: bool,
    /// The bit of the packet mark that asks for masquerading.
    pub masquerade_bit: u32,
    /// What is set of the kernel's connection tracking.
    pub conntrack: ConntrackConfig,
    /// `/healthz` and `/livez` of the proxy itself.
    pub healthz_bind_address: Option<SocketAddr>,
    /// `/proxyMode` and `/metrics`.
    pub metrics_bind_address: Option<SocketAddr>,
}

impl ProxyConfig {
    /// The configuration of a node with upstream's defaults: the mark's bit is 14, and nothing is served.
    pub fn new(node_name: &str, node_ips: Vec<IpAddr>) -> ProxyConfig {
        ProxyConfig {
            node_name: node_name.to_owned(),
            node_ips,
            cluster_cidrs: Vec::new(),
            nodeport_addresses: Vec::new(),
            masquerade_all: false,
            masquerade_bit: 14,
            conntrack: ConntrackConfig::default(),
            healthz_bind_address: None,
            metrics_bind_address: None,
        }
    }
}
