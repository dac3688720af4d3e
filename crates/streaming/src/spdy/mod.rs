//! SPDY/3.1 as Kubernetes' clients speak it after an upgrade.

mod connection;
mod dictionary;
pub mod frame;
pub mod header_block;

pub use connection::{Connection, Stream, Writer};
