//! kube-controller-manager: one folder or file per controller.

pub mod command;
mod config;
mod context;
mod deployment;
mod discovery;
mod error;
mod expectations;
mod informers;
mod manager;
mod meta;
mod ownership;
mod pods;
mod replicaset;
mod status;

pub use config::{ControllerConfig, ControllerSwitch};
pub use error::Error;
pub use manager::run;
