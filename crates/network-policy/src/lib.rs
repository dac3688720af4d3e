//! NetworkPolicies as nftables rules of the node.
//!
//! `policy` and `pod` read objects, `blocks` does the arithmetic of address blocks, `members` keeps which addresses a selector
//! stands for, `compile` takes policies apart, `engine` decides which chains, sets and elements this node needs, `rules` words them, `table` keeps what is in force
//! and makes the smallest change; these are pure. `run` follows the API and commits.
//!
//! Only policies that select a pod of this node cost it anything, and pods of other nodes are followed only in namespaces that
//! such a policy's peers are in.
#![deny(missing_docs)]

mod blocks;
mod compile;
mod engine;
mod gate;
mod members;
mod pod;
mod policy;
mod rules;
mod run;
mod table;
#[cfg(test)]
mod tests;

pub use engine::{Engine, Scope};
pub use gate::{Gate, gate};
pub use pod::Pod;
pub use policy::{Policy, PolicyError};
pub use run::{NetworkPolicyConfig, NetworkPolicyError, cleanup, run};
