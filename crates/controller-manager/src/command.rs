//! `skiff kube-controller-manager`: upstream's main flags.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use component::{Check, Page, Server, ServingFlags};
use tokio_util::sync::CancellationToken;

use crate::flags::ControllerFlags;
use crate::{ControllerConfig, Error, Signing};

/// Where health and metrics are served unless flags say another port.
const PORT: u16 = 10257;

/// Flags of the controller manager as a program of its own.
#[derive(Debug, clap::Parser)]
#[command(
    name = "kube-controller-manager",
    about = "Runs the controllers that bring the cluster to its wanted state"
)]
/// The flags of `kube-controller-manager`.
pub struct Args {
    /// How to reach the API server
    #[arg(long)]
    pub kubeconfig: PathBuf,
    /// Act only while holding the Lease kube-system/kube-controller-manager
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub leader_elect: bool,
    /// The addresses of pods
    #[arg(long)]
    pub cluster_cidr: Option<String>,
    /// Give every node its part of the cluster CIDR
    #[arg(long, default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub allocate_node_cidrs: bool,
    /// The authority that pods trust, published to every namespace
    #[arg(long)]
    pub root_ca_file: Option<PathBuf>,
    /// The authority that signs certificate requests
    #[arg(long, requires = "cluster_signing_key_file")]
    pub cluster_signing_cert_file: Option<PathBuf>,
    /// The key of that authority
    #[arg(long, requires = "cluster_signing_cert_file")]
    pub cluster_signing_key_file: Option<PathBuf>,
    /// Let every controller act under its own ServiceAccount (not built yet: the kubeconfig's user needs the rights)
    #[arg(long, default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub use_service_account_credentials: bool,
    /// How health and metrics are served.
    #[command(flatten)]
    pub serving: ServingFlags,
    /// How the controllers work.
    #[command(flatten)]
    pub controlling: ControllerFlags,
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|e| Error::Config(format!("{}: {e}", path.display())))
}

/// Runs until `shutdown`.
pub async fn run(args: Args, shutdown: CancellationToken) -> Result<(), Error> {
    if args.use_service_account_credentials {
        let message = "--use-service-account-credentials is not built yet: leave it out and give a kubeconfig whose user may do what the controllers do";
        return Err(Error::Config(message.to_owned()));
    }
    let signing = match (&args.cluster_signing_cert_file, &args.cluster_signing_key_file) {
        (Some(certificate), Some(key)) => Some(Signing::by(Arc::new(pki::Authority::from_pem(
            read(certificate)?,
            &read(key)?,
        )?))),
        _ => None,
    };
    let mut config = ControllerConfig {
        cluster_cidr: args.cluster_cidr,
        allocate_node_cidrs: args.allocate_node_cidrs,
        root_ca: args.root_ca_file.as_deref().map(read).transpose()?.unwrap_or_default(),
        signing,
        leader_elect: args.leader_elect,
        ..ControllerConfig::default()
    };
    args.controlling.apply(&mut config)?;
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
