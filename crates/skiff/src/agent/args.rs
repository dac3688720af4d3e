//! The flags of `skiff agent`, named as k3s names them.

use std::path::PathBuf;

use clap::Args;

use crate::node::args::NodeArgs;
use crate::node::hollow;

/// The flags of `skiff agent`.
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// YAML file of flags, with more in the folder of its name and .d; what the command line says wins. /etc/skiff/config.yaml is
    /// read if it is there.
    #[arg(short = 'c', long)]
    pub config: Option<PathBuf>,
    /// Folder that holds state.
    #[arg(short = 'd', long, default_value = crate::node_paths::DEFAULT_DATA_DIR)]
    pub data_dir: PathBuf,
    /// The server to join, as https://host:6443.
    #[arg(short = 's', long, env = "SKIFF_URL")]
    pub server: Option<String>,
    /// By which the node joins: what the server's file `server/node-token` says, a token of `skiff token create`, or the secret alone.
    /// Not needed any more once the node has joined.
    #[arg(short = 't', long, env = "SKIFF_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// File with the token.
    #[arg(long, env = "SKIFF_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Local port at which all servers of the cluster are reached.
    #[arg(long, env = "SKIFF_LB_SERVER_PORT", default_value_t = 6444)]
    pub lb_server_port: u16,
    /// Be so many nodes, named after this one with a number, whose containers are only pretended: they show what a cluster of that size
    /// costs its servers.
    #[arg(long, conflicts_with = "container_runtime_endpoint", value_parser = clap::value_parser!(u16).range(1..=i64::from(hollow::MOST)))]
    pub hollow: Option<u16>,
    #[command(flatten)]
    pub node: NodeArgs,
}
