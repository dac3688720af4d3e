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
    kubectl::command::main(Cli::parse().args)
}
