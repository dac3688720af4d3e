//! `skiff kube-proxy`: upstream's main flags.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use api::object::Object;
use client::{Client, WatchEvent};
use cni::link::Net;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::conntrack_settings::ConntrackSettings;
use crate::{ProxyConfig, ProxyError};

/// Flags of kube-proxy as a program of its own.
#[derive(Debug, clap::Parser)]
#[command(name = "kube-proxy", about = "Makes Services answer on this node")]
pub struct Args {
    /// How to reach the API server
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Features that are switched on or off: A=true,B=false
    #[arg(long, value_parser = api::features::check)]
    pub feature_gates: Vec<String>,
    /// A KubeProxyConfiguration file. Flags that are given win over it
    #[arg(long)]
    pub config: Option<PathBuf>,
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
    #[arg(long, value_delimiter = ',')]
    pub nodeport_addresses: Vec<String>,
    /// How Services are made to answer
    #[arg(long, value_parser = ["nftables"])]
    pub proxy_mode: Option<String>,
    /// Gives all traffic to cluster addresses the node's address
    #[arg(long)]
    pub masquerade_all: bool,
    /// The bit of the packet mark that asks for masquerading
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..32))]
    pub iptables_masquerade_bit: Option<u32>,
    #[command(flatten)]
    conntrack: ConntrackSettings,
    /// Where /healthz is served; "" is nowhere
    #[arg(long)]
    pub healthz_bind_address: Option<String>,
    /// Where /metrics and /proxyMode are served; "" is nowhere
    #[arg(long)]
    pub metrics_bind_address: Option<String>,
    /// Removes the rules and ends
    #[arg(long)]
    pub cleanup: bool,
}

/// Why the program ends.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The kubeconfig cannot be used.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// The proxy ended with an error.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// A flag, or the field of the file that stands for it, has a value that it does not take.
    #[error("--{flag}: {value:?} is no {what}")]
    Flag {
        /// The flag's name, without dashes.
        flag: &'static str,
        /// What was given.
        value: String,
        /// What it should be, as `address`.
        what: &'static str,
    },
    /// The configuration file cannot be read, or has another shape.
    #[error("{path}: {message}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// A feature gate is unknown or cannot be set so.
    #[error("--feature-gates: {0}")]
    FeatureGates(#[from] api::features::GateError),
    /// Neither the flag nor the file names a kubeconfig.
    #[error("no way to the API server: give --kubeconfig")]
    NoKubeconfig,
}

/// KubeProxyConfiguration as far as it is used here.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    client_connection: ClientConnection,
    hostname_override: String,
    bind_address: String,
    #[serde(rename = "clusterCIDR")]
    cluster_cidr: String,
    node_port_addresses: Option<Vec<String>>,
    mode: String,
    nftables: Nftables,
    conntrack: ConntrackSettings,
    healthz_bind_address: Option<String>,
    metrics_bind_address: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ClientConnection {
    kubeconfig: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Nftables {
    masquerade_all: bool,
    masquerade_bit: Option<u32>,
}

impl File {
    fn read(path: &Path) -> Result<File, CommandError> {
        let failed = |message: String| CommandError::File {
            path: path.display().to_string(),
            message,
        };
        let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
        let file: File = serde_saphyr::from_str(&text).map_err(|e| failed(e.to_string()))?;
        // Empty is the default of the program, which is not upstream's.
        if !file.mode.is_empty() && file.mode != "nftables" {
            return Err(failed(format!("mode {:?} is not there, only \"nftables\"", file.mode)));
        }
        if file.nftables.masquerade_bit.is_some_and(|b| b > 31) {
            return Err(failed("nftables.masqueradeBit is not within 0 to 31".into()));
        }
        Ok(file)
    }
}

/// An address with or without port. Empty is nowhere.
fn listen(flag: &'static str, value: &str, port: u16) -> Result<Option<SocketAddr>, CommandError> {
    if value.is_empty() {
        return Ok(None);
    }
    let without_port = || value.parse().map(|ip: IpAddr| SocketAddr::new(ip, port));
    let parsed = value.parse().or_else(|_| without_port());
    parsed.map(Some).map_err(|_| bad(flag, value, "address"))
}

fn bad(flag: &'static str, value: &str, what: &'static str) -> CommandError {
    CommandError::Flag {
        flag,
        value: value.to_owned(),
        what,
    }
}

fn nets(flag: &'static str, values: &[String]) -> Result<Vec<Net>, CommandError> {
    let parse = |v: &String| v.trim().parse().map_err(|_| bad(flag, v, "network"));
    values
        .iter()
        .filter(|v| *v != "primary" && !v.is_empty())
        .map(parse)
        .collect()
}

/// All but the node's addresses.
fn configure(args: &Args, file: &File, host: &str) -> Result<ProxyConfig, CommandError> {
    let mut name = args
        .hostname_override
        .clone()
        .unwrap_or_else(|| file.hostname_override.clone());
    if name.is_empty() {
        name = host.trim().to_lowercase();
    }
    let mut config = ProxyConfig::new(&name, Vec::new());
    config.cluster_cidrs.clone_from(&args.cluster_cidr);
    if config.cluster_cidrs.is_empty() {
        let cidrs: Vec<String> = file.cluster_cidr.split(',').map(str::to_owned).collect();
        config.cluster_cidrs = nets("cluster-cidr", &cidrs)?;
    }
    let of_file = file.node_port_addresses.clone().unwrap_or_default();
    let nodeport = if args.nodeport_addresses.is_empty() {
        &of_file
    } else {
        &args.nodeport_addresses
    };
    config.nodeport_addresses = nets("nodeport-addresses", nodeport)?;
    config.masquerade_all = args.masquerade_all || file.nftables.masquerade_all;
    let bit = args.iptables_masquerade_bit.or(file.nftables.masquerade_bit);
    config.masquerade_bit = bit.unwrap_or(config.masquerade_bit);
    config.conntrack = args.conntrack.over(&file.conntrack);
    let pick = |flag: &Option<String>, file: &Option<String>, default: &str| {
        let file = file.clone().filter(|v| !v.is_empty());
        flag.clone().or(file).unwrap_or_else(|| default.to_owned())
    };
    let healthz = pick(&args.healthz_bind_address, &file.healthz_bind_address, "0.0.0.0:10256");
    config.healthz_bind_address = listen("healthz-bind-address", &healthz, 10256)?;
    let metrics = pick(
        &args.metrics_bind_address,
        &file.metrics_bind_address,
        "127.0.0.1:10249",
    );
    config.metrics_bind_address = listen("metrics-bind-address", &metrics, 10249)?;
    config.node_ips.clone_from(&args.bind_address);
    if config.node_ips.is_empty() {
        config.node_ips.extend(file.bind_address.parse::<IpAddr>());
    }
    config.node_ips.retain(|ip| !ip.is_unspecified());
    Ok(config)
}

/// Runs until `shutdown`.
pub async fn run(args: Args, shutdown: CancellationToken) -> Result<(), CommandError> {
    api::features::set(&args.feature_gates.join(","))?;
    if args.cleanup {
        return Ok(crate::cleanup()?);
    }
    let file = args.config.as_deref().map(File::read).transpose()?.unwrap_or_default();
    let of_file = Some(PathBuf::from(&file.client_connection.kubeconfig)).filter(|p| !p.as_os_str().is_empty());
    let kubeconfig = args.kubeconfig.clone().or(of_file).ok_or(CommandError::NoKubeconfig)?;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut config = configure(&args, &file, &host)?;
    let client = client::Kubeconfig::load(&kubeconfig)?
        .config(None)?
        .client("skiff-kube-proxy")?;
    if config.node_ips.is_empty() {
        config.node_ips = tokio::select! {
            found = addresses(&client, &config.node_name) => found,
            () = shutdown.cancelled() => return Ok(()),
        };
    }
    Ok(crate::run(config, client, shutdown).await?)
}

/// The internal addresses of the Node object; kube-proxy may start before the kubelet has made it.
async fn addresses(client: &Client, name: &str) -> Vec<IpAddr> {
    let nodes = Client::collection::<Node>("").fields(format!("metadata.name={name}"));
    let mut events = client.list_watch(nodes);
    let mut told = false;
    while let Some(event) = events.next().await {
        let found = match event {
            WatchEvent::Restarted(found) => found.into_iter().next(),
            WatchEvent::Applied(found) => Some(found),
            WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => None,
        };
        let ips = found.map(|node| internal(&node)).unwrap_or_default();
        if !ips.is_empty() {
            return ips;
        }
        if !told {
            tracing::info!(node = name, "waiting for the node and its address");
            told = true;
        }
    }
    Vec::new()
}

fn internal(node: &Object) -> Vec<IpAddr> {
    let node = match node.decode::<Node>() {
        Ok(node) => node,
        Err(error) => {
            tracing::warn!(node = &*node.meta.name, %error, "the node cannot be read");
            return Vec::new();
        }
    };
    let addresses = node.status.and_then(|status| status.addresses).unwrap_or_default();
    let internal = addresses.iter().filter(|a| a.type_ == "InternalIP");
    internal.filter_map(|a| a.address.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::time::Duration;

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let text = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: nftables\n\
            clusterCIDR: 10.42.0.0/16,fd42::/48\nhostnameOverride: of-file\nbindAddress: 0.0.0.0\nnodePortAddresses: null\n\
            conntrack: {min: 1, maxPerCore: 2, tcpCloseWaitTimeout: 5s}\n\
            healthzBindAddress: 127.0.0.1\nmetricsBindAddress: \"\"\nnftables: {masqueradeAll: true, masqueradeBit: 15}\n";
        let file: File = serde_saphyr::from_str(text).unwrap();
        let args = Args::parse_from([
            "kube-proxy",
            "--hostname-override=of-flag",
            "--nodeport-addresses=192.0.2.0/24",
            "--conntrack-min=3",
            "--conntrack-tcp-timeout-established=0",
        ]);
        let config = configure(&args, &file, "host\n").unwrap();
        assert_eq!((config.node_name.as_str(), config.cluster_cidrs.len()), ("of-flag", 2));
        assert_eq!((config.masquerade_all, config.masquerade_bit), (true, 15));
        assert_eq!(config.healthz_bind_address, Some("127.0.0.1:10256".parse().unwrap()));
        assert_eq!(config.metrics_bind_address, Some("127.0.0.1:10249".parse().unwrap()));
        assert_eq!(config.nodeport_addresses.len(), 1);
        let tracking = config.conntrack;
        assert_eq!((tracking.max_per_core, tracking.min), (2, 3));
        assert_eq!(
            (tracking.tcp_established_timeout, tracking.tcp_close_wait_timeout),
            (Duration::ZERO, Duration::from_secs(5))
        );
        assert!(config.node_ips.is_empty());
        let config = configure(
            &Args::parse_from(["kube-proxy", "--healthz-bind-address="]),
            &File::default(),
            "Host\n",
        );
        let config = config.unwrap();
        assert_eq!((config.node_name.as_str(), config.healthz_bind_address), ("host", None));
    }
}
