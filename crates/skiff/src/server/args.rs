//! The flags of `skiff server`, named as k3s names them.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

pub use super::config_file::with_config;

#[derive(Debug, Args)]
pub struct ServerArgs {
    /// How the user started this server, for advice.
    #[arg(skip = "skiff server")]
    pub command: &'static str,
    /// Cut the datastore's log at the last good record before a damage, then exit. Everything written after it is given up; what
    /// is cut off is kept beside the log. Only when there is no backup.
    #[arg(long)]
    pub unsafe_truncate_log: bool,
    /// Let requests without credentials ask for anything, as `system:anonymous`. Without it they may ask for health alone.
    #[arg(long, hide = true)]
    pub anonymous_auth: bool,
    /// YAML file of flags, with more in the folder of its name and .d; what the command line says wins. /etc/skiff/config.yaml is
    /// read if it is there.
    #[arg(short = 'c', long)]
    pub config: Option<PathBuf>,
    /// Folder that holds state.
    #[arg(short = 'd', long, default_value = crate::node_paths::DEFAULT_DATA_DIR)]
    pub data_dir: PathBuf,
    /// Address to listen on.
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// Port to listen on.
    #[arg(long, default_value_t = 6443)]
    pub https_listen_port: u16,
    /// Address that members of the cluster reach the server by; the node's own unless given.
    #[arg(long)]
    pub advertise_address: Option<IpAddr>,
    /// More names and addresses for the server's certificate.
    #[arg(long, value_delimiter = ',')]
    pub tls_san: Vec<String>,
    /// IPv4 network of pods.
    #[arg(long, default_value = "10.42.0.0/16")]
    pub cluster_cidr: String,
    /// IPv4 network of Services.
    #[arg(long, default_value = "10.43.0.0/16")]
    pub service_cidr: String,
    /// Ports of Services of type NodePort.
    #[arg(long, default_value = "30000-32767")]
    pub service_node_port_range: String,
    /// Address of the cluster's DNS; the tenth of the Service network unless given.
    #[arg(long)]
    pub cluster_dns: Option<IpAddr>,
    /// Domain of the cluster.
    #[arg(long, default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Where to write the administrator's kubeconfig; `<data-dir>/server/cred/admin.kubeconfig` unless given.
    #[arg(short = 'o', long)]
    pub write_kubeconfig: Option<PathBuf>,
    /// Mode of that file, octal.
    #[arg(long, default_value = "600")]
    pub write_kubeconfig_mode: String,
    /// The cluster's secret; made on first start unless given, and kept in `<data-dir>/server/token`. Agents cannot join yet.
    #[arg(short = 't', long)]
    pub token: Option<String>,
    /// Built-in parts to leave out: coredns (the cluster's DNS).
    #[arg(long, value_delimiter = ',')]
    pub disable: Vec<String>,
    /// Run no node beside the control plane.
    #[arg(long)]
    pub disable_agent: bool,
    /// Run no scheduler.
    #[arg(long)]
    pub disable_scheduler: bool,
    /// Run no controllers.
    #[arg(long)]
    pub disable_controller_manager: bool,
    /// Run no kube-proxy.
    #[arg(long)]
    pub disable_kube_proxy: bool,
    /// A flag of the API server, as flag=value.
    #[arg(long)]
    pub kube_apiserver_arg: Vec<String>,
    /// What the API server offers; by --kube-apiserver-arg.
    #[arg(skip)]
    pub tls: serving::TlsSettings,
    #[command(flatten)]
    pub limits: LimitArgs,
    #[command(flatten)]
    pub node: NodeArgs,
}

/// What the API server takes on at a time, by upstream's names.
#[derive(Debug, Clone, Args)]
pub struct LimitArgs {
    /// Requests that are answered at a time and change nothing; 0 is no limit. Administrators' do not count.
    #[arg(long, default_value_t = 400)]
    pub max_requests_inflight: usize,
    /// Requests that are answered at a time and change something; 0 is no limit.
    #[arg(long, default_value_t = 200)]
    pub max_mutating_requests_inflight: usize,
    /// How long a request may take, as 1m0s; watches, logs and the like may last.
    #[arg(long, default_value = "1m0s", value_parser = duration)]
    pub request_timeout: std::time::Duration,
}

/// A Go duration, as 1m0s.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    let nanos = api::time::parse_duration(text).and_then(|nanos| u64::try_from(nanos).ok());
    nanos
        .map(std::time::Duration::from_nanos)
        .ok_or_else(|| "is not a duration, such as 1m0s".to_owned())
}

impl LimitArgs {
    pub fn limits(&self) -> apiserver::server::limits::Limits {
        apiserver::server::limits::Limits::new(
            self.max_requests_inflight,
            self.max_mutating_requests_inflight,
            self.request_timeout,
            crate::memory::give_back,
        )
    }
}

/// Flags of the node's side.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// The node's name; the host's unless given.
    #[arg(long)]
    pub node_name: Option<String>,
    /// The node's address; the one its default route uses unless given.
    #[arg(short = 'i', long)]
    pub node_ip: Option<IpAddr>,
    /// Labels the node registers with, as key=value.
    #[arg(long, value_delimiter = ',')]
    pub node_label: Vec<String>,
    /// Taints the node registers with, as key=value:effect.
    #[arg(long, value_delimiter = ',')]
    pub node_taint: Vec<String>,
    /// A kubelet's setting, as flag=value.
    #[arg(long)]
    pub kubelet_arg: Vec<String>,
    /// Where registries' settings are, as k3s's registries.yaml.
    #[arg(long, default_value = "/etc/skiff/registries.yaml")]
    pub private_registry: PathBuf,
    /// resolv.conf that pods and the cluster's DNS start from.
    #[arg(long)]
    pub resolv_conf: Option<PathBuf>,
    /// Use this CRI runtime in place of skiff's own.
    #[arg(long)]
    pub container_runtime_endpoint: Option<String>,
}
