//! kube-scheduler: gives every pod a node. Decisions are pure functions of a snapshot; the shell around them follows
//! the API, binds and reports.

mod claim_binding;
pub mod command;
pub mod cycle;
pub mod framework;
pub mod label;
pub mod meter;
pub mod metrics;
mod node;
pub mod node_affinity;
pub mod plugins;
pub mod pod;
pub mod pod_resources;
pub mod preemption;
pub mod queue;
pub mod resources;
mod scheduler;
pub mod snapshot;
mod status_writes;
pub mod storage;

pub use scheduler::{SchedulerConfig, run};
