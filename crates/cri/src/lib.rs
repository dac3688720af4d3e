//! CRI v1: messages, client and server stubs, and the two ways to a runtime: over a unix socket and in process.
#![deny(missing_docs)]

mod connect;

/// `runtime.v1`.
#[allow(
    clippy::all,
    missing_docs,
    clippy::needless_pass_by_value,
    clippy::semicolon_if_nothing_returned,
    clippy::wildcard_imports
)]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}

pub use connect::{Channel, ChannelError, ConnectError, ImageClient, RuntimeClient, connect, local};
