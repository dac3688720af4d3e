//! The cluster's DNS server: the names of Services and pods by the Kubernetes DNS specification 1.1, all other names
//! from the host's resolvers.
//!
//! `request` reads what clients send, `index` holds what the API says, `zone` answers from it, `answer` makes the message (all pure),
//! `forward` and `cache` ask others, `server` speaks UDP and TCP, `run` follows the API.
#![deny(missing_docs)]

mod answer;
mod cache;
pub mod command;
mod forward;
#[doc(hidden)]
pub mod fuzzing;
mod index;
mod metrics;
mod request;
mod run;
mod server;
#[cfg(test)]
mod tests;
mod upstreams;
mod zone;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

pub use run::{DnsError, run};

/// What the DNS server answers, where, and whom it asks for the rest.
#[derive(Debug, Clone)]
pub struct DnsConfig {
    /// Without trailing dot.
    pub cluster_domain: String,
    /// UDP and TCP on each.
    pub listen: Vec<SocketAddr>,
    /// Who is asked for names outside the cluster.
    pub upstreams: Upstreams,
    /// Addresses that lead to this server, as the cluster address of its Service: never an upstream.
    pub own_addresses: Vec<IpAddr>,
    /// Of answers about the cluster, in seconds.
    pub ttl: u32,
    /// Where what it counts is shown.
    pub metrics: ::metrics::Registry,
}

/// Who answers for names outside the cluster.
#[derive(Debug, Clone)]
pub enum Upstreams {
    /// The name servers of a resolv.conf, read again when it changes.
    ResolvConf(PathBuf),
    /// These servers, in this order.
    Servers(Vec<SocketAddr>),
}

impl DnsConfig {
    /// The configuration of a cluster's domain, with the resolvers of `/etc/resolv.conf` for other names and answers
    /// that are good for five seconds.
    pub fn new(cluster_domain: &str, listen: Vec<SocketAddr>) -> DnsConfig {
        DnsConfig {
            cluster_domain: cluster_domain.trim_end_matches('.').to_lowercase(),
            listen,
            upstreams: Upstreams::ResolvConf("/etc/resolv.conf".into()),
            own_addresses: Vec::new(),
            ttl: 5,
            metrics: ::metrics::Registry::default(),
        }
    }

    /// Returns the addresses that clients reach this server at, where they are known.
    fn local_addresses(&self) -> Vec<IpAddr> {
        let listened = self.listen.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified());
        let own = self.own_addresses.iter().copied();
        let mut all: Vec<IpAddr> = listened.chain(own).collect();
        all.dedup();
        all
    }
}
