//! `skiff dev`: throw-away clusters on this machine. Each node is in namespaces of its own; no container engine is needed.

mod contexts;
mod file;
mod network;
pub mod node;
mod record;
mod start;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::node_paths::NodePaths;
use file::EnvFile;
use record::{Port, Record};
use start::Wanted;

/// How long a node that is asked to end may take.
const LAST: Duration = Duration::from_secs(10);

/// The flags of `skiff dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    #[command(subcommand)]
    command: DevCommand,
}

#[derive(Debug, Subcommand)]
enum DevCommand {
    /// Starts a cluster, new or stopped, and waits until its nodes are Ready. kubectl's current context is then this cluster's.
    Start {
        #[arg(default_value = DEFAULT_NAME)]
        name: String,
        /// Nodes of a new cluster, the server among them.
        #[arg(long)]
        nodes: Option<u8>,
        /// Hollow nodes of a new cluster besides: their containers are only pretended.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=i64::from(crate::node::hollow::MOST)))]
        hollow: Option<u16>,
        /// Servers of a new cluster.
        #[arg(long, default_value_t = 1)]
        servers: u8,
        /// Archive of images that each node imports; may be repeated.
        #[arg(long = "image")]
        images: Vec<PathBuf>,
        /// Port of this machine that leads to one of the server, as 8080:30080 or 53:30053/udp; may be repeated.
        #[arg(short, long = "port")]
        ports: Vec<Port>,
        /// Manifest that the server applies; may be repeated.
        #[arg(long = "manifest")]
        manifests: Vec<PathBuf>,
        /// Flag of the server, as --disable=coredns; may be repeated.
        #[arg(long = "server-arg", allow_hyphen_values = true)]
        server_args: Vec<String>,
        /// Flag of each node, as --kubelet-arg=max-pods=50; may be repeated.
        #[arg(long = "node-arg", allow_hyphen_values = true)]
        node_args: Vec<String>,
        /// How long to wait for the nodes, as 1m0s.
        #[arg(long, default_value = PATIENCE, value_parser = api::time::flag_duration)]
        timeout: Duration,
    },
    /// Ends a cluster's nodes and pods. What it has stored stays, and start goes on from there.
    Stop {
        #[arg(default_value = DEFAULT_NAME)]
        name: String,
    },
    /// Ends a cluster and removes all that is there of it.
    Delete {
        #[arg(default_value = DEFAULT_NAME)]
        name: String,
    },
    /// Lists the clusters.
    Ls,
    /// Imports archives of images, as docker save and skopeo make them, on each node.
    Load {
        #[arg(required = true)]
        archives: Vec<PathBuf>,
        #[arg(long, default_value = DEFAULT_NAME)]
        name: String,
    },
    /// Prints the administrator's kubeconfig.
    Kubeconfig {
        #[arg(default_value = DEFAULT_NAME)]
        name: String,
    },
    /// Starts the cluster that a file describes: its name, nodes, ports, images and manifests.
    Up {
        #[arg(short, long, default_value = file::DEFAULT)]
        file: PathBuf,
        /// How long to wait for the nodes, as 1m0s.
        #[arg(long, default_value = PATIENCE, value_parser = api::time::flag_duration)]
        timeout: Duration,
    },
    /// Deletes the cluster that a file describes.
    Down {
        #[arg(short, long, default_value = file::DEFAULT)]
        file: PathBuf,
    },
}

const DEFAULT_NAME: &str = "dev";
/// How long nodes are waited for.
const PATIENCE: &str = "1m0s";

/// Why a cluster for development cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    #[error("a cluster needs root: run skiff dev as root")]
    NotRoot,
    #[error("{0:?} is no name for a cluster: up to 40 of a-z, 0-9 and -, with - neither first nor last")]
    Name(String),
    #[error("there is no cluster {0}: skiff dev ls lists them")]
    Unknown(String),
    #[error("cluster {0} has {1}: delete it first to make it anew")]
    Other(String, String),
    #[error("a cluster has 1 to {most} nodes, not {0}", most = record::MOST_NODES)]
    Nodes(u8),
    #[error("several servers need a replicated datastore, which is not built yet: --servers=1")]
    Servers,
    #[error("there are as many clusters as there are networks: delete one first")]
    Full,
    #[error("node {0} did not start:\n{1}")]
    Node(String, String),
    #[error("cluster {0} was not ready after {1:?}; the nodes' logs are beside their data")]
    Late(String, Duration),
    #[error("network: {0}")]
    Network(String),
    #[error("network: {0}")]
    Netlink(#[from] cni::netlink::Error),
    #[error("network: {0}")]
    Rules(#[from] cni::nft::Error),
    #[error("network: {0}")]
    Namespace(#[from] cni::netns::NetnsError),
    #[error("kubeconfig: {0}")]
    Kubeconfig(String),
    #[error("kubeconfig: neither KUBECONFIG nor HOME is set")]
    NoHome,
    #[error("{}: {why}", path.display())]
    EnvFile { path: PathBuf, why: String },
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error(transparent)]
    Image(#[from] crate::image::ImageError),
    #[error(transparent)]
    Killall(#[from] crate::killall::KillallError),
    #[error(transparent)]
    Pki(#[from] pki::PkiError),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
}

impl DevError {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> DevError {
        let path = path.to_owned();
        move |source| DevError::File { path, source }
    }
}

/// Runs `skiff dev`.
///
/// # Errors
/// Without the rights of root, and as the subcommand says.
pub async fn run(args: DevArgs) -> Result<(), DevError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(DevError::NotRoot);
    }
    let home = record::home();
    match args.command {
        DevCommand::Start {
            name,
            nodes,
            hollow,
            servers,
            images,
            ports,
            manifests,
            server_args,
            node_args,
            timeout,
        } => {
            if servers != 1 {
                return Err(DevError::Servers);
            }
            let wanted = Wanted {
                name,
                nodes,
                hollow,
                ports,
                images,
                manifests,
                server_args,
                node_args,
                patience: timeout,
            };
            start::start(&home, &wanted).await
        }
        DevCommand::Stop { name } => stop(&home, &known(&home, &name)?, LAST),
        DevCommand::Delete { name } => delete(&home, &known(&home, &name)?),
        DevCommand::Ls => list(&home),
        DevCommand::Load { archives, name } => load(&home, &known(&home, &name)?, archives).await,
        DevCommand::Kubeconfig { name } => {
            print!("{}", contexts::kubeconfig(&known(&home, &name)?, &home)?);
            Ok(())
        }
        DevCommand::Up { file, timeout } => {
            let file = EnvFile::load(&file)?;
            let wanted = Wanted {
                name: file.name(),
                nodes: file.nodes,
                hollow: None,
                ports: file.ports()?,
                images: file.images(),
                manifests: file.manifests()?,
                server_args: file.server_args.clone(),
                node_args: file.node_args.clone(),
                patience: timeout,
            };
            start::start(&home, &wanted).await
        }
        DevCommand::Down { file } => delete(&home, &known(&home, &EnvFile::load(&file)?.name())?),
    }
}

fn known(home: &Path, name: &str) -> Result<Record, DevError> {
    Record::load(home, name)?.ok_or_else(|| DevError::Unknown(name.to_owned()))
}

/// Ends the nodes, the server last: the others may still tell it that they go.
fn stop(home: &Path, record: &Record, patience: Duration) -> Result<(), DevError> {
    for number in record.processes().rev() {
        let folder = record.node_folder(home, number);
        node::stop(&folder, patience)?;
        clear(&record.data_dir(home, number))?;
    }
    network::lower(record)
}

/// Takes away what a node has made outside of its namespaces: cgroups and the folder of its sockets.
fn clear(data_dir: &Path) -> Result<(), DevError> {
    let paths = NodePaths::of(data_dir);
    crate::killall::remove_cgroups(&paths.cgroup)?;
    match std::fs::remove_dir_all(&paths.run) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DevError::at(&paths.run)(error)),
        _ => Ok(()),
    }
}

fn delete(home: &Path, record: &Record) -> Result<(), DevError> {
    stop(home, record, Duration::ZERO)?;
    contexts::remove(record)?;
    let folder = record.folder(home);
    std::fs::remove_dir_all(&folder).map_err(DevError::at(&folder))?;
    println!("Deleted {}", record.name);
    Ok(())
}

fn list(home: &Path) -> Result<(), DevError> {
    println!("{:<20} {:<6} {:<10} SERVER", "NAME", "NODES", "STATUS");
    for record in Record::all(home)? {
        let running = record
            .processes()
            .filter(|number| node::running(&record.node_folder(home, *number)).is_some())
            .count();
        let status = match running {
            0 => "Stopped".to_owned(),
            all if all == record.processes().len() => "Running".to_owned(),
            some => format!("{some} of {}", record.processes().len()),
        };
        let nodes = u32::from(record.nodes) + u32::from(record.hollow);
        println!("{:<20} {nodes:<6} {status:<10} {}", record.name, record.url());
    }
    Ok(())
}

async fn load(home: &Path, record: &Record, archives: Vec<PathBuf>) -> Result<(), DevError> {
    let absolute = archives
        .iter()
        .map(|path| std::path::absolute(path).map_err(DevError::at(path)));
    let archives: Vec<PathBuf> = absolute.collect::<Result<_, _>>()?;
    for number in 0..record.nodes {
        crate::image::import(&record.data_dir(home, number), archives.clone()).await?;
    }
    Ok(())
}
