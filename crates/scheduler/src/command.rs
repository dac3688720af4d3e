//! `skiff kube-scheduler`: upstream's main flags.

use std::path::PathBuf;

use client::{Client, LeaderElector, LeaderError};
use component::{Check, Page, ServeError, Server, ServingFlags};
use tokio_util::sync::CancellationToken;

use crate::SchedulerConfig;

/// Where health and metrics are served unless flags say another port.
const PORT: u16 = 10259;

/// Flags of the scheduler as a program of its own.
#[derive(Debug, clap::Parser)]
#[command(name = "kube-scheduler", about = "Gives every pod a node")]
pub struct Args {
    /// How to reach the API server
    #[arg(long)]
    pub kubeconfig: PathBuf,
    /// Features that are switched on or off: A=true,B=false
    #[arg(long, value_parser = api::features::check)]
    pub feature_gates: Vec<String>,
    /// How health and metrics are served.
    #[command(flatten)]
    pub serving: ServingFlags,
    /// Schedule only while elected among several instances
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub leader_elect: bool,
    /// Namespace of the election's Lease
    #[arg(long, default_value = "kube-system")]
    pub leader_elect_resource_namespace: String,
    /// Name of the election's Lease
    #[arg(long, default_value = "kube-scheduler")]
    pub leader_elect_resource_name: String,
}

/// Why the program ends.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The API server cannot be reached.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// The lease cannot be used.
    #[error(transparent)]
    Leader(#[from] LeaderError),
    /// Health and metrics cannot be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// `--feature-gates` names what there is not.
    #[error("--feature-gates: {0}")]
    FeatureGates(#[from] api::features::GateError),
}

/// Runs until `shutdown`.
pub async fn run(args: Args, shutdown: CancellationToken) -> Result<(), CommandError> {
    api::features::set(&args.feature_gates.join(","))?;
    let client = client::Kubeconfig::load(&args.kubeconfig)?
        .config(None)?
        .client("kube-scheduler")?;
    let config = SchedulerConfig::default();
    let stopping = shutdown.clone();
    let page = Page {
        metrics: config.metrics.clone(),
        resources: Some(config.resources.clone()),
        ready: vec![Check {
            name: "shutdown",
            passes: Box::new(move || !stopping.is_cancelled()),
        }],
    };
    let _server = Server::start(&args.serving, "kube-scheduler", PORT, page).await?;
    if !args.leader_elect {
        crate::run(config, client, shutdown).await;
        return Ok(());
    }
    let (namespace, name) = (&args.leader_elect_resource_namespace, &args.leader_elect_resource_name);
    elector(client.clone(), namespace, name)
        .run(shutdown, |lead| crate::run(config, client, lead))
        .await?;
    Ok(())
}

fn elector(client: Client, namespace: &str, name: &str) -> LeaderElector {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let random = getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()));
    LeaderElector::new(client, namespace, name, &format!("{}_{random:016x}", host.trim()))
}
