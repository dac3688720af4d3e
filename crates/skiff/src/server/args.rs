//! The flags of `skiff server`, named as k3s names them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use apiserver::flow_control::FlowControl;
use apiserver::registry::Registry;
use apiserver::server::in_flight::{self, InFlight};
use apiserver::server::limits::Limits;
use clap::Args;

use crate::node::ClusterSettings;
use crate::node::args::NodeArgs;

pub use super::config_file::with_config;
pub use super::supervisor::EgressSelectorMode;

/// The flags of `skiff server`.
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
    /// Network of pods, or one of each family: 10.42.0.0/16,fd00:42::/56.
    #[arg(long, default_value = "10.42.0.0/16")]
    pub cluster_cidr: String,
    /// Network of Services, or one of each family: 10.43.0.0/16,fd00:43::/112.
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
    /// How pods on different nodes reach each other: vxlan, host-gw, or none for a network of your own.
    #[arg(long, default_value_t)]
    pub flannel_backend: cni::overlay::Backend,
    /// How the API server reaches agents and their pods: auto is directly, and through a tunnel that the agent opens where that is not
    /// possible; agent and pod always go through tunnels.
    #[arg(long, value_enum, default_value = "auto")]
    pub egress_selector_mode: EgressSelectorMode,
    /// The cluster's secret, by which servers and agents join; made on first start unless given, and kept in
    /// `<data-dir>/server/token`.
    #[arg(short = 't', long, env = "SKIFF_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// File with that secret.
    #[arg(long, env = "SKIFF_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// A secret of their own for agents, by which no server joins; kept in `<data-dir>/server/agent-token`.
    #[arg(long, env = "SKIFF_AGENT_TOKEN", hide_env_values = true)]
    pub agent_token: Option<String>,
    /// File with that secret.
    #[arg(long, env = "SKIFF_AGENT_TOKEN_FILE")]
    pub agent_token_file: Option<PathBuf>,
    /// How long the certificates are valid that the server issues, its own and its agents', for tests of their renewal.
    #[arg(long, hide = true, default_value = "8760h", value_parser = api::time::flag_duration)]
    pub certificate_lifetime: std::time::Duration,
    /// Whether agents are answered.
    #[arg(skip = true)]
    pub joinable: bool,
    /// Built-in parts to leave out: coredns (the cluster's DNS), servicelb (addresses for Services of type LoadBalancer). The other names are
    /// k3s's, of parts that skiff does not have.
    #[arg(long, value_delimiter = ',', value_parser = ["coredns", "servicelb", "traefik", "local-storage", "metrics-server", "runtimes"])]
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
    /// Hold pods to no network policies.
    #[arg(long)]
    pub disable_network_policy: bool,
    /// A flag of the API server, as flag=value.
    #[arg(long)]
    pub kube_apiserver_arg: Vec<String>,
    /// A flag of the controller manager, as flag=value.
    #[arg(long)]
    pub kube_controller_manager_arg: Vec<String>,
    /// What the API server offers; by --kube-apiserver-arg.
    #[arg(skip)]
    pub tls: serving::TlsSettings,
    /// How it asks extension servers; by --kube-apiserver-arg.
    #[arg(skip)]
    pub aggregation: crate::aggregation_flags::AggregationFlags,
    #[command(flatten)]
    pub limits: LimitArgs,
    /// What is recorded of requests; by --kube-apiserver-arg.
    #[arg(skip)]
    pub audit: Option<crate::audit_flags::AuditFlags>,
    /// Which admission plugins are on; by --kube-apiserver-arg.
    #[arg(skip)]
    pub admission: crate::admission_flags::AdmissionFlags,
    #[command(flatten)]
    pub node: NodeArgs,
}

/// What the API server takes on at a time, by upstream's names.
#[derive(Debug, Clone, Args)]
pub struct LimitArgs {
    /// Requests are answered by their priority levels, fairly among flows.
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub enable_priority_and_fairness: bool,
    /// Requests that are answered at a time and change nothing. With priority and fairness, the sum of this and the next is shared by
    /// all levels; without, 0 is no limit.
    #[arg(long, default_value_t = 400)]
    pub max_requests_inflight: usize,
    /// Requests that are answered at a time and change something.
    #[arg(long, default_value_t = 200)]
    pub max_mutating_requests_inflight: usize,
    /// How long a request may take, as 1m0s; watches, logs and the like may last.
    #[arg(long, default_value = "1m0s", value_parser = api::time::flag_duration)]
    pub request_timeout: std::time::Duration,
}

impl ServerArgs {
    /// Whether a built-in part is left out.
    pub fn disables(&self, part: &str) -> bool {
        self.disable.iter().any(|name| name == part)
    }

    /// What nodes are told.
    pub fn cluster_settings(&self, cluster_dns: IpAddr) -> ClusterSettings {
        ClusterSettings {
            cluster_cidr: self.cluster_cidr.clone(),
            service_cidr: self.service_cidr.clone(),
            cluster_dns,
            cluster_domain: self.cluster_domain.clone(),
            disable_kube_proxy: self.disable_kube_proxy,
            disable_network_policy: self.disable_network_policy,
            flannel_backend: self.flannel_backend.to_string(),
        }
    }
}

impl LimitArgs {
    /// The limits of a server over this registry.
    pub fn limits(&self, registry: &Arc<Registry>) -> Limits {
        let (reading, writing) = (self.max_requests_inflight, self.max_mutating_requests_inflight);
        let in_flight = match self.enable_priority_and_fairness {
            true => {
                let seats = u32::try_from(reading.saturating_add(writing)).unwrap_or(u32::MAX);
                InFlight::Fair(FlowControl::new(registry, seats))
            }
            false => InFlight::Plain(in_flight::Limits::new(reading, writing)),
        };
        Limits::new(in_flight, self.request_timeout, crate::memory::give_back)
    }
}
