//! `bench`: measures skiff beside upstream's own programs on this machine and prints one table.

mod api_rows;
mod cluster;
mod container_row;
mod error;
mod figure;
mod http;
mod inside;
mod load;
mod node_rows;
mod objects;
mod process;
mod runner;
mod store_rows;
mod watch;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
struct Bench {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures and prints the table.
    Run(runner::RunArgs),
    /// Measures one side, in namespaces that were made for it.
    #[command(hide = true)]
    Inside(inside::InsideArgs),
}

fn main() -> std::process::ExitCode {
    let done = match Bench::parse().command {
        Command::Run(args) => runner::run(&args),
        Command::Inside(args) => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(error::Error::from)
            .and_then(|runtime| runtime.block_on(inside::measure(args))),
    };
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
