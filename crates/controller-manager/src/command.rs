//! `skiff kube-controller-manager`: upstream's main flags.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use component::{Check, Page, Server, ServingFlags};
use tokio_util::sync::CancellationToken;

use crate::{ControllerConfig, ControllerSwitch, Error};

/// Where health and metrics are served unless flags say another port.
const PORT: u16 = 10257;

/// Flags of the controller manager as a program of its own.
#[derive(Debug, clap::Parser)]
#[command(
    name = "kube-controller-manager",
    about = "Runs the controllers that bring the cluster to its wanted state"
)]
pub struct Args {
    /// How to reach the API server
    #[arg(long)]
    pub kubeconfig: PathBuf,
    /// Features that are switched on or off: A=true,B=false
    #[arg(long, value_parser = api::features::check)]
    pub feature_gates: Vec<String>,
    /// Controllers to run: '*' all, 'foo' this one, '-foo' not this one
    #[arg(long, value_delimiter = ',', default_value = "*", allow_hyphen_values = true)]
    pub controllers: Vec<String>,
    /// Act only while holding the Lease kube-system/kube-controller-manager
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub leader_elect: bool,
    /// The addresses of pods
    #[arg(long)]
    pub cluster_cidr: Option<String>,
    /// Give every node its part of the cluster CIDR
    #[arg(long, default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub allocate_node_cidrs: bool,
    /// The prefix length of a node's part
    #[arg(long, default_value_t = 24)]
    pub node_cidr_mask_size: u8,
    /// The authority that pods trust, published to every namespace
    #[arg(long)]
    pub root_ca_file: Option<PathBuf>,
    /// The authority that signs certificate requests
    #[arg(long, requires = "cluster_signing_key_file")]
    pub cluster_signing_cert_file: Option<PathBuf>,
    #[arg(long, requires = "cluster_signing_cert_file")]
    pub cluster_signing_key_file: Option<PathBuf>,
    /// Let every controller act under its own ServiceAccount (not built yet: the kubeconfig's user needs the rights)
    #[arg(long, default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub use_service_account_credentials: bool,
    /// Seconds that a silent node stays Ready
    #[arg(long, default_value_t = 50)]
    pub node_monitor_grace_period_seconds: u64,
    #[command(flatten)]
    pub serving: ServingFlags,
    /// Ended pods kept before the oldest are deleted
    #[arg(long, default_value_t = 12500)]
    pub terminated_pod_gc_threshold: usize,
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|e| Error::Config(format!("{}: {e}", path.display())))
}

/// Runs until `shutdown`.
pub async fn run(args: Args, shutdown: CancellationToken) -> Result<(), Error> {
    api::features::set(&args.feature_gates.join(","))?;
    if args.use_service_account_credentials {
        let message = "--use-service-account-credentials is not built yet: leave it out and give a kubeconfig whose user may do what the controllers do";
        return Err(Error::Config(message.to_owned()));
    }
    let signing = match (&args.cluster_signing_cert_file, &args.cluster_signing_key_file) {
        (Some(certificate), Some(key)) => Some(Arc::new(pki::Authority::from_pem(read(certificate)?, &read(key)?)?)),
        _ => None,
    };
    let config = ControllerConfig {
        controllers: ControllerSwitch::new(&args.controllers, &crate::manager::names())?,
        cluster_cidr: args.cluster_cidr,
        allocate_node_cidrs: args.allocate_node_cidrs,
        node_cidr_mask_size: args.node_cidr_mask_size,
        root_ca: args.root_ca_file.as_deref().map(read).transpose()?.unwrap_or_default(),
        signing,
        node_monitor_grace_period: Duration::from_secs(args.node_monitor_grace_period_seconds),
        terminated_pod_gc_threshold: args.terminated_pod_gc_threshold,
        leader_elect: args.leader_elect,
        ..ControllerConfig::default()
    };
    let client = client::Kubeconfig::load(&args.kubeconfig)?
        .config(None)?
        .client("skiff-controller-manager")?;
    let stopping = shutdown.clone();
    let page = Page {
        metrics: config.metrics.clone(),
        resources: None,
        ready: vec![Check {
            name: "shutdown",
            passes: Box::new(move || !stopping.is_cancelled()),
        }],
    };
    let _server = Server::start(&args.serving, "kube-controller-manager", PORT, page).await?;
    crate::run(config, client, shutdown).await
}
