//! skiff: Kubernetes as one binary.
#![deny(missing_docs)]

mod admission_flags;
mod agent;
mod aggregation_flags;
mod api_server_flags;
mod audit_flags;
mod audit_webhook;
mod bootstrap;
mod certificate;
mod certificates;
mod container_runtime;
mod dev;
mod image;
mod in_process;
mod join;
mod killall;
mod kube_apiserver;
mod memory;
mod networks;
mod node;
mod node_paths;
mod server;
mod stop;
mod token;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "skiff",
    about = concat!("Kubernetes v", api::kubernetes_minor!(), " as one small binary"),
    disable_version_flag = true,
    args_override_self = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the control plane.
    Server(Box<server::args::ServerArgs>),
    /// Runs a node that joins the cluster of a server.
    Agent(Box<agent::args::AgentArgs>),
    /// Runs the API server alone, over its own datastore.
    KubeApiserver(Box<kube_apiserver::ApiServerArgs>),
    /// Runs a node's kubelet against any API server and CRI runtime.
    Kubelet(Box<kubelet::command::Args>),
    /// Runs the scheduler against any API server.
    KubeScheduler(Box<scheduler::command::Args>),
    /// Runs the controllers against any API server.
    KubeControllerManager(Box<controller_manager::command::Args>),
    /// Makes Services work on a node of any cluster.
    KubeProxy(Box<proxy::command::Args>),
    /// Answers the names of any cluster.
    Dns(dns::command::Args),
    /// Serves the container runtime's CRI socket to any kubelet.
    ContainerRuntime(container_runtime::RuntimeArgs),
    /// Imports, lists and removes the node's images.
    Image(image::ImageArgs),
    /// Ends all pods of a stopped node and takes down what it has made; the data stays.
    Killall(killall::KillallArgs),
    /// Says which certificates a server or agent has and when they expire.
    Certificate(certificate::CertificateArgs),
    /// Makes, lists and deletes the tokens by which nodes join.
    Token(token::TokenArgs),
    /// Starts and ends throw-away clusters of several nodes on this machine.
    Dev(dev::DevArgs),
    /// Controls a cluster, as kubectl does; a link to this program named kubectl does the same.
    Kubectl(kubectl::command::Args),
    /// Says which Kubernetes this is.
    Version,
}

/// The Kubernetes version with our build metadata.
pub const GIT_VERSION: &str = concat!(api::kubernetes_version!(), "+skiff", env!("CARGO_PKG_VERSION"));

fn main() -> ExitCode {
    // the shim of a pod and CNI plugins are this program under other names: before anything else is set up
    let mut words = std::env::args();
    let called = words.next().unwrap_or_default();
    let called = called.rsplit('/').next().unwrap_or_default();
    if matches!(called, "bridge" | "host-local" | "portmap" | "loopback") {
        plain_umask();
        return cni::plugin::main(called);
    }
    if called == "kubectl" {
        return kubectl::command::main(kubectl::command::Args {
            words: std::env::args_os().skip(1).collect(),
        });
    }
    let role = words.next().unwrap_or_default();
    if role == "shim" {
        runtime::shim::main(&words.collect::<Vec<_>>());
    }
    // so are the processes that hold a node of `skiff dev`
    if let Some(part) = dev::node::Part::of(&role) {
        return part.main(&words.collect::<Vec<_>>());
    }
    let args = match server::args::with_config(std::env::args_os().collect()) {
        Ok(args) => args,
        Err(error) => {
            eprintln!("skiff: {error}");
            return ExitCode::FAILURE;
        }
    };
    let cli = Cli::parse_from(args);
    match cli.command {
        Command::Version => {
            println!("{GIT_VERSION}");
            ExitCode::SUCCESS
        }
        Command::Kubectl(args) => kubectl::command::main(args),
        Command::Certificate(args) => match certificate::run(&args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("skiff: {error}");
                ExitCode::FAILURE
            }
        },
        command => run(command),
    }
}

/// After so many tasks a busy thread looks who else has sent something. Lists take a tenth of a millisecond each: with Tokio's 61 who
/// asks for a single object waits for six milliseconds of them before anybody reads what he sent.
const TASKS_BETWEEN_LOOKS: u32 = 8;

fn run(command: Command) -> ExitCode {
    plain_umask();
    {
        let filter = tracing_subscriber::EnvFilter::try_from_env("SKIFF_LOG")
            .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .init();
        memory::bound();
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder
            .enable_all()
            .thread_stack_size(apiserver::server::lane::STACK)
            .event_interval(TASKS_BETWEEN_LOOKS);
        let runtime = match builder.build() {
            Ok(runtime) => runtime,
            Err(error) => {
                eprintln!("skiff: cannot start: {error}");
                return ExitCode::FAILURE;
            }
        };
        let done: Result<(), Box<dyn std::error::Error>> = runtime.block_on(async {
            match command {
                Command::Server(args) => server::run(*args).await.map_err(Into::into),
                Command::Agent(args) => agent::run(*args).await.map_err(Into::into),
                Command::KubeApiserver(args) => {
                    let args = args.server()?;
                    server::run(args).await.map_err(Into::into)
                }
                Command::Kubelet(args) => {
                    let stop = stop::at_signal()?;
                    kubelet::command::run(*args, stop).await.map_err(Into::into)
                }
                Command::KubeScheduler(args) => {
                    let stop = stop::at_signal()?;
                    scheduler::command::run(*args, stop).await.map_err(Into::into)
                }
                Command::KubeControllerManager(args) => {
                    let stop = stop::at_signal()?;
                    controller_manager::command::run(*args, stop).await.map_err(Into::into)
                }
                Command::KubeProxy(args) => {
                    let stop = stop::at_signal()?;
                    proxy::command::run(*args, stop).await.map_err(Into::into)
                }
                Command::Dns(args) => {
                    let stop = stop::at_signal()?;
                    dns::command::run(args, stop).await.map_err(Into::into)
                }
                Command::ContainerRuntime(args) => container_runtime::run(args).await.map_err(Into::into),
                Command::Image(args) => image::run(args).await.map_err(Into::into),
                Command::Token(args) => token::run(args).await.map_err(Into::into),
                Command::Dev(args) => dev::run(args).await.map_err(Into::into),
                Command::Killall(args) => killall::run(args).await.map_err(Into::into),
                Command::Version | Command::Kubectl(_) | Command::Certificate(_) => Ok(()),
            }
        });
        // what blocks a thread may do so as long as it wants; the process does not wait for it
        runtime.shutdown_background();
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("skiff: {error}");
                ExitCode::FAILURE
            }
        }
    }
}

/// Files and directories have the modes that the code gives them, whoever starts the program: what is secret says so, what pods
/// and containers see is as their images and manifests have it.
fn plain_umask() {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
}
