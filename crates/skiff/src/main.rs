//! skiff: Kubernetes v1.36 as one binary.

mod bootstrap;
mod certificates;
mod server;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "skiff",
    about = "Kubernetes v1.36 as one small binary",
    disable_version_flag = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the control plane.
    Server(Box<server::ServerArgs>),
    /// Says which Kubernetes this is.
    Version,
}

/// The Kubernetes version with our build metadata.
pub const GIT_VERSION: &str = concat!("v1.36.3+skiff", env!("CARGO_PKG_VERSION"));

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Version => {
            println!("{GIT_VERSION}");
            ExitCode::SUCCESS
        }
        Command::Server(args) => {
            let filter = tracing_subscriber::EnvFilter::try_from_env("SKIFF_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
            tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_writer(std::io::stderr)
                .with_ansi(false)
                .init();
            let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    eprintln!("skiff: cannot start: {error}");
                    return ExitCode::FAILURE;
                }
            };
            match runtime.block_on(server::run(*args)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("skiff: {error}");
                    ExitCode::FAILURE
                }
            }
        }
    }
}
