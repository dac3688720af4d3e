//! The flags of a node, which `skiff server` and `skiff agent` share, named as k3s names them.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

/// Flags of the node's side.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// The node's name; the host's unless given.
    #[arg(long, env = "SKIFF_NODE_NAME")]
    pub node_name: Option<String>,
    /// Append a number of its own to the node's name, made at the first start.
    #[arg(long)]
    pub with_node_id: bool,
    /// The node's addresses, one of each family at most; the one its default route uses unless given.
    #[arg(short = 'i', long, value_delimiter = ',')]
    pub node_ip: Vec<IpAddr>,
    /// Addresses that reach the node from outside of its network.
    #[arg(long, value_delimiter = ',')]
    pub node_external_ip: Vec<IpAddr>,
    /// Labels the node registers with, as key=value.
    #[arg(long, value_delimiter = ',')]
    pub node_label: Vec<String>,
    /// Taints the node registers with, as key=value:effect.
    #[arg(long, value_delimiter = ',')]
    pub node_taint: Vec<String>,
    /// A kubelet's setting, as flag=value.
    #[arg(long)]
    pub kubelet_arg: Vec<String>,
    /// Do not start when kernel settings are others than the kubelet wants.
    #[arg(long)]
    pub protect_kernel_defaults: bool,
    /// Where registries' settings are, as k3s's registries.yaml.
    #[arg(long, default_value = "/etc/skiff/registries.yaml")]
    pub private_registry: PathBuf,
    /// resolv.conf that pods and the cluster's DNS start from.
    #[arg(long, env = "SKIFF_RESOLV_CONF")]
    pub resolv_conf: Option<PathBuf>,
    /// Use this CRI runtime in place of skiff's own.
    #[arg(long)]
    pub container_runtime_endpoint: Option<String>,
}
