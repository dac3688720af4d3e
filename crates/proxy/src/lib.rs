//! kube-proxy: Services as nftables rules of the node.
//!
//! `model` reads Services and EndpointSlices, `topology` picks the endpoints, `rules` turns a Service into chains
//! and map elements, `table` keeps what is in force and makes the smallest change; these are pure. `run` follows the
//! API and `syncer` commits; `health` answers load balancers' checks.
#![deny(missing_docs)]

mod base;
pub mod command;
mod config;
mod conntrack;
mod conntrack_settings;
mod health;
mod model;
mod rules;
mod run;
mod syncer;
mod table;
#[cfg(test)]
mod tests;
mod topology;

pub use config::ProxyConfig;
pub use conntrack_settings::ConntrackConfig;
pub use run::{ProxyError, cleanup, run};
