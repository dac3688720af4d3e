//! The CRI services: sandboxes, containers and images for whoever asks, over a shim for each pod.

mod connection;
mod container;
pub(crate) mod container_spec;
mod devices;
mod error;
mod exec;
mod forward;
mod image_service;
mod import;
mod layer_files;
mod network;
mod record;
mod restore;
mod runtime;
mod runtime_service;
pub(crate) mod sandbox;
mod server;
mod signals;
mod stats;
mod status;
mod streams;
mod terminal;

pub use error::RuntimeError;
pub use import::{import, untag};
pub use runtime::{Runtime, RuntimeConfig};
pub use server::serve;

/// 64 hexadecimal digits.
fn new_id() -> error::Result<String> {
    use std::fmt::Write;
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).map_err(|e| RuntimeError::Shim(format!("random numbers: {e}")))?;
    Ok(bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}
