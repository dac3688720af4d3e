//! kube-scheduler: gives every pod a node. Decisions are pure functions of a snapshot; the shell around them follows
//! the API, binds and reports.
#![deny(missing_docs)]

mod claim_binding;
pub mod command;
mod cycle;
mod framework;
mod label;
mod meter;
mod metrics;
mod node;
mod node_affinity;
mod plugins;
mod pod;
mod pod_resources;
mod preemption;
mod queue;
mod resources;
mod scheduler;
mod snapshot;
mod status_writes;
mod storage;

pub use scheduler::{SchedulerConfig, run};
