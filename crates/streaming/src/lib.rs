//! The streaming protocols of exec, attach and port-forward, as a server speaks them: SPDY/3.1 and WebSocket; and
//! WebSocket as a client speaks it; and tunnels to nodes. What runs behind them, and HTTP in front, are the caller's.
#![deny(missing_docs)]

pub mod channels;
pub mod client;
pub mod handshake;
mod port_channels;
pub mod port_forward;
pub mod remote_command;
pub mod spdy;
mod status;
pub mod tunnel;
pub mod websocket;

pub use handshake::{Accepted, Kind, Refused, Transport, negotiate};
pub use status::Status;
