//! `skiff kube-apiserver`: the API server alone, over its own datastore, with upstream's names for the flags it has.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser};

use crate::api_server_flags::{ApiServerFlags, FlagError};
use crate::node_paths::DEFAULT_DATA_DIR;
use crate::server::args::ServerArgs;

/// The flags of `skiff kube-apiserver`.
#[derive(Debug, Args)]
pub struct ApiServerArgs {
    /// Not supported yet: the datastore is embedded, its data is below --data-dir.
    #[arg(long)]
    etcd_servers: Option<String>,
    /// Folder that holds data, certificates, keys and kubeconfigs; what is missing is made.
    #[arg(short = 'd', long, default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    /// Address to listen on.
    #[arg(long, default_value = "0.0.0.0")]
    bind_address: IpAddr,
    /// Port to listen on.
    #[arg(long, default_value_t = 6443)]
    secure_port: u16,
    /// Address that members of the cluster reach the server by.
    #[arg(long)]
    advertise_address: Option<IpAddr>,
    /// IPv4 network of Services.
    #[arg(long, default_value = "10.0.0.0/24")]
    service_cluster_ip_range: String,
    /// Ports of Services of type NodePort.
    #[arg(long, default_value = "30000-32767")]
    service_node_port_range: String,
    /// Cut the datastore's log at the last good record before a damage, then exit. Everything written after it is given up; what
    /// is cut off is kept beside the log. Only when there is no backup.
    #[arg(long)]
    unsafe_truncate_log: bool,
    #[command(flatten)]
    flags: ApiServerFlags,
}

#[derive(Debug, Parser)]
struct Defaults {
    #[command(flatten)]
    server: ServerArgs,
}

impl ApiServerArgs {
    /// The server without everything but its API server.
    ///
    /// # Errors
    /// For flags that ask for what is not there.
    pub fn server(self) -> Result<ServerArgs, FlagError> {
        if self.etcd_servers.is_some() {
            return Err(FlagError::Etcd);
        }
        let alone = [
            "kube-apiserver",
            "--disable-agent",
            "--disable-scheduler",
            "--disable-controller-manager",
        ];
        let mut server = Defaults::try_parse_from(alone)?.server;
        server.command = "skiff kube-apiserver";
        server.joinable = false;
        server.unsafe_truncate_log = self.unsafe_truncate_log;
        server.data_dir = self.data_dir;
        server.bind_address = self.bind_address;
        server.https_listen_port = self.secure_port;
        server.advertise_address = self.advertise_address;
        server.service_cidr = self.service_cluster_ip_range;
        server.service_node_port_range = self.service_node_port_range;
        self.flags.apply(&mut server)?;
        Ok(server)
    }
}
