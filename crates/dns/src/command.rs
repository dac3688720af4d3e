//! The DNS server as a program of its own.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use crate::{DnsConfig, DnsError, Upstreams};

/// Flags of the DNS server.
#[derive(Debug, clap::Parser)]
#[command(name = "dns", about = "Answers the names of the cluster")]
pub struct Args {
    /// How to reach the API server
    #[arg(long)]
    pub kubeconfig: PathBuf,
    /// The domain of the cluster's names
    #[arg(long, default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Addresses to answer on, over UDP and TCP
    #[arg(long, value_delimiter = ',', default_value = "0.0.0.0:53")]
    pub listen: Vec<SocketAddr>,
    /// Where the name servers for all other names are listed
    #[arg(long, default_value = "/etc/resolv.conf")]
    pub resolv_conf: PathBuf,
    /// Address to serve metrics on by HTTP; empty serves none
    #[arg(long, default_value = "0.0.0.0:9153")]
    pub metrics_bind_address: String,
    /// The cluster address that leads to this server: never asked for other names
    #[arg(long, value_delimiter = ',')]
    pub cluster_dns: Vec<IpAddr>,
}

/// Why the program ends.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The kubeconfig cannot be read or used.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// The server ended with an error.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// The flag is not an address with a port.
    #[error("--metrics-bind-address {text:?}: {source}")]
    Address {
        /// What was given.
        text: String,
        /// Why it is none.
        source: std::net::AddrParseError,
    },
    /// The metrics cannot be served.
    #[error(transparent)]
    Serve(#[from] component::ServeError),
}

/// Runs until `shutdown`.
pub async fn run(args: Args, shutdown: CancellationToken) -> Result<(), CommandError> {
    let client = client::Kubeconfig::load(&args.kubeconfig)?
        .config(None)?
        .client("skiff-dns")?;
    let mut config = DnsConfig::new(&args.cluster_domain, args.listen);
    config.upstreams = Upstreams::ResolvConf(args.resolv_conf);
    config.own_addresses = args.cluster_dns;
    let _server = match args.metrics_bind_address.as_str() {
        "" => None,
        text => {
            let address = text.parse().map_err(|source| CommandError::Address {
                text: text.to_owned(),
                source,
            })?;
            Some(component::Plain::start(address, config.metrics.clone()).await?)
        }
    };
    Ok(crate::run(config, client, shutdown).await?)
}
