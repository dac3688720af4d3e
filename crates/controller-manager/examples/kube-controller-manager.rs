//! The controller manager as a program of its own.

use clap::Parser;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let shutdown = CancellationToken::new();
    let end = shutdown.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            end.cancel();
        }
    });
    let args = controller_manager::command::Args::parse();
    if let Err(error) = controller_manager::command::run(args, shutdown).await {
        eprintln!("{error}");
        std::process::exit(1);
    }
}
