//! `skiff container-runtime`: the runtime alone, for a kubelet of another process.

use std::path::PathBuf;

use clap::Args;

use crate::node::{self, NodeError};
use crate::node_paths::{DEFAULT_DATA_DIR, NodePaths};
use crate::server::{self, ServerError};

/// The flags of `skiff container-runtime`.
#[derive(Debug, Args)]
pub struct RuntimeArgs {
    /// Folder that holds the node's state; archives in its agent/images are imported.
    #[arg(short = 'd', long, default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    /// Where registries' settings are, as k3s's registries.yaml.
    #[arg(long, default_value = "/etc/skiff/registries.yaml")]
    private_registry: PathBuf,
    /// Socket to answer on; `cri.sock` of the node's run directory unless given.
    #[arg(long)]
    listen: Option<PathBuf>,
    /// Configure skiff's default network with pods' addresses from here; without, agent/etc/cni/net.d says what there is.
    #[arg(long)]
    pod_cidr: Option<cni::link::Net>,
}

/// Why the runtime alone cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ContainerRuntimeError {
    #[error(transparent)]
    Lock(#[from] ServerError),
    #[error(transparent)]
    Open(#[from] NodeError),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("container runtime: {0}")]
    Serve(#[from] runtime::RuntimeError),
    #[error("signals: {0}")]
    Signals(std::io::Error),
}

/// Runs until SIGTERM or SIGINT; containers go on.
pub async fn run(args: RuntimeArgs) -> Result<(), ContainerRuntimeError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(NodeError::NotRoot.into());
    }
    let _lock = server::lock(&args.data_dir)?;
    let paths = NodePaths::of(&args.data_dir);
    let at = |path: PathBuf| move |source| ContainerRuntimeError::File { path, source };
    for dir in [paths.cni_conf(), paths.images()] {
        std::fs::create_dir_all(&dir).map_err(at(dir.clone()))?;
    }
    if let Some(net) = args.pod_cidr {
        let conf = paths.cni_conf();
        node::network::default_network(&paths, net)
            .install(&conf)
            .map_err(at(conf))?;
    }
    let registries = node::container_runtime::registries(&args.private_registry)?;
    let runtime = node::container_runtime::open(&paths, registries, Some(paths.images())).await?;
    let socket = args.listen.unwrap_or_else(|| paths.socket());
    tracing::info!(socket = %socket.display(), "the container runtime is ready");
    let stop = crate::stop::at_signal().map_err(ContainerRuntimeError::Signals)?;
    runtime::serve(runtime, &socket, async move { stop.cancelled().await }).await?;
    Ok(())
}
