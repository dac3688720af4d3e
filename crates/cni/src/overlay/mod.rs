//! The pod network between nodes: each node's pod addresses are led to that node. As flannel does it, and with its
//! annotations on Nodes, so that its tools and its nodes understand ours.
//!
//! `backend` says how packets travel, `peer` reads what nodes tell of themselves, `plan` decides which kernel entries there must
//! be; these are pure. `kernel` makes them, `masquerade` gives what leaves the cluster the node's address, `run` follows the Nodes.

mod backend;
mod kernel;
mod masquerade;
mod peer;
mod plan;
mod run;

pub use backend::{Backend, BackendError};
pub use kernel::{Overlay, OverlayConfig, OverlayError, cleanup};
pub use run::run;
