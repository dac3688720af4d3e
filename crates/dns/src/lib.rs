//! The cluster's DNS server: the names of Services and pods by the Kubernetes DNS specification 1.1, all other names
//! from the host's resolvers.
//!
//! `index` holds what the API says, `zone` answers from it (both pure), `forward` and `cache` ask others, `server`
//! speaks UDP and TCP, `run` follows the API.

mod cache;
pub mod command;
mod forward;
mod index;
mod run;
mod server;
#[cfg(test)]
mod tests;
mod upstreams;
mod zone;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

pub use run::{DnsError, run};

#[derive(Debug, Clone)]
pub struct DnsConfig {
    /// Without trailing dot.
    pub cluster_domain: String,
    /// UDP and TCP on each.
    pub listen: Vec<SocketAddr>,
    pub upstreams: Upstreams,
    /// Addresses that lead to this server, as the cluster address of its Service: never an upstream.
    pub own_addresses: Vec<IpAddr>,
    /// Of answers about the cluster, in seconds.
    pub ttl: u32,
}

/// Who answers for names outside the cluster.
#[derive(Debug, Clone)]
pub enum Upstreams {
    /// The name servers of a resolv.conf, read again when it changes.
    ResolvConf(PathBuf),
    Servers(Vec<SocketAddr>),
}

impl DnsConfig {
    pub fn new(cluster_domain: &str, listen: Vec<SocketAddr>) -> DnsConfig {
        DnsConfig {
            cluster_domain: cluster_domain.trim_end_matches('.').to_lowercase(),
            listen,
            upstreams: Upstreams::ResolvConf("/etc/resolv.conf".into()),
            own_addresses: Vec::new(),
            ttl: 5,
        }
    }
}
