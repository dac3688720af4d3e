//! `skiff kube-proxy`: upstream's main flags.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use cni::link::Net;
use tokio_util::sync::CancellationToken;

use crate::{ProxyConfig, ProxyError};

/// Flags of kube-proxy as a program of its own.
#[derive(Debug, clap::Parser)]
#[command(name = "kube-proxy", about = "Makes Services answer on this node")]
pub struct Args {
    /// How to reach the API server
    #[arg(long, required_unless_present = "cleanup")]
    pub kubeconfig: Option<PathBuf>,
    /// The node's name in place of the host's
    #[arg(long)]
    pub hostname_override: Option<String>,
    /// The pods' networks of the whole cluster, one of each family at most
    #[arg(long, value_delimiter = ',')]
    pub cluster_cidr: Vec<Net>,
    /// The node's addresses, in place of those of its Node object
    #[arg(long, value_delimiter = ',')]
    pub bind_address: Vec<IpAddr>,
    /// Networks of addresses that accept NodePort traffic, or "primary" for the node's own addresses
    #[arg(long, value_delimiter = ',', default_value = "primary")]
    pub nodeport_addresses: Vec<String>,
    /// How Services are made to answer
    #[arg(long, default_value = "nftables", value_parser = ["nftables"])]
    pub proxy_mode: String,
    /// Gives all traffic to cluster addresses the node's address
    #[arg(long)]
    pub masquerade_all: bool,
    /// The bit of the packet mark that asks for masquerading
    #[arg(long, default_value_t = 14, value_parser = clap::value_parser!(u32).range(0..32))]
    pub iptables_masquerade_bit: u32,
    /// Where /healthz is served; "" is nowhere
    #[arg(long, default_value = "0.0.0.0:10256")]
    pub healthz_bind_address: String,
    /// Where /metrics and /proxyMode are served; "" is nowhere
    #[arg(long, default_value = "127.0.0.1:10249")]
    pub metrics_bind_address: String,
    /// Removes the rules and ends
    #[arg(long)]
    pub cleanup: bool,
}

/// Why the program ends.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    #[error("--{flag}: {value:?} is no {what}")]
    Flag {
        flag: &'static str,
        value: String,
        what: &'static str,
    },
    #[error("node {0} has no internal address yet: give --bind-address")]
    NoAddress(String),
}

fn listen(flag: &'static str, value: &str) -> Result<Option<SocketAddr>, CommandError> {
    if value.is_empty() {
        return Ok(None);
    }
    let what = "address with a port";
    let bad = |_| CommandError::Flag {
        flag,
        value: value.to_owned(),
        what,
    };
    value.parse().map(Some).map_err(bad)
}

/// Runs until `shutdown`.
pub async fn run(args: Args, shutdown: CancellationToken) -> Result<(), CommandError> {
    let Some(kubeconfig) = args.kubeconfig.as_ref().filter(|_| !args.cleanup) else {
        return Ok(crate::cleanup()?);
    };
    let client = client::Kubeconfig::load(kubeconfig)?
        .config(None)?
        .client("skiff-kube-proxy")?;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = args
        .hostname_override
        .clone()
        .unwrap_or_else(|| host.trim().to_lowercase());
    let mut node_ips = args.bind_address.clone();
    node_ips.retain(|ip| !ip.is_unspecified());
    if node_ips.is_empty() {
        node_ips = addresses(&client, &name).await?;
    }
    let mut config = ProxyConfig::new(&name, node_ips);
    config.cluster_cidrs.clone_from(&args.cluster_cidr);
    for value in args.nodeport_addresses.iter().filter(|v| *v != "primary") {
        config
            .nodeport_addresses
            .push(value.parse().map_err(|_| CommandError::Flag {
                flag: "nodeport-addresses",
                value: value.clone(),
                what: "network",
            })?);
    }
    config.masquerade_all = args.masquerade_all;
    config.masquerade_bit = args.iptables_masquerade_bit;
    config.healthz_bind_address = listen("healthz-bind-address", &args.healthz_bind_address)?;
    config.metrics_bind_address = listen("metrics-bind-address", &args.metrics_bind_address)?;
    Ok(crate::run(config, client, shutdown).await?)
}

/// The internal addresses of the Node object.
async fn addresses(client: &client::Client, name: &str) -> Result<Vec<IpAddr>, CommandError> {
    let node: k8s_openapi::api::core::v1::Node = client.get("", name).await?;
    let addresses = node.status.and_then(|s| s.addresses).unwrap_or_default();
    let internal = addresses.iter().filter(|a| a.type_ == "InternalIP");
    let ips: Vec<IpAddr> = internal.filter_map(|a| a.address.parse().ok()).collect();
    if ips.is_empty() {
        return Err(CommandError::NoAddress(name.to_owned()));
    }
    Ok(ips)
}
