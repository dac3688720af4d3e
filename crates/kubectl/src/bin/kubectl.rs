//! `kubectl` as a program of its own.

use std::process::ExitCode;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "kubectl", disable_help_flag = true)]
struct Cli {
    #[command(flatten)]
    args: kubectl::command::Args,
}

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(kubectl::command::run(Cli::parse().args))
}
