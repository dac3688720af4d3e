//! kube-controller-manager: one folder or file per controller.

mod certificates;
mod clusterrole_aggregation;
pub mod command;
mod config;
mod context;
mod cronjob;
mod daemonset;
mod deployment;
mod discovery;
mod endpoints;
mod error;
mod expectations;
mod garbage_collector;
mod history;
mod informers;
mod job;
mod manager;
mod meta;
mod namespace;
mod node_affinity;
mod node_ipam;
mod node_lifecycle;
mod ownership;
mod pod_gc;
mod pods;
mod replicaset;
mod root_ca;
mod serviceaccount;
mod statefulset;
mod status;
mod taint_eviction;
mod taints;
mod ttl_after_finished;

pub use config::{ControllerConfig, ControllerSwitch};
pub use error::Error;
pub use manager::run;
