//! The node's agent: registers the node, runs the pods bound to it through CRI, and tells the API how they are.
#![deny(missing_docs)]

mod admission;
mod allocation;
mod backoff;
mod certificates;
mod cgroups;
pub mod command;
mod config;
mod cri_config;
mod env;
mod eviction;
mod figures;
mod flags;
#[doc(hidden)]
pub mod fuzzing;
mod handlers;
mod image_credentials;
mod image_gc;
mod images;
pub mod inotify;
mod kernel;
mod kubelet;
mod lifecycle;
mod logs;
mod machine;
mod network_gate;
mod node;
mod node_context;
mod objects;
mod pod;
mod pod_certificates;
#[cfg(test)]
mod pod_fields;
mod probes;
mod pull_records;
mod resources;
mod runtime;
mod runtime_pod;
mod security;
mod server;
mod shared_watch;
mod static_pods;
mod status;
mod sysctl;
mod trust_bundles;
mod volumes;
mod worker;

pub use config::{ConfigError, KubeletConfig, ServerTls};
pub use eviction::thresholds;
pub use kernel::{KernelError, check_kernel};
pub use kubelet::{KubeletError, run};
pub use machine::Machine;
pub use network_gate::NetworkGate;
pub use pull_records::{VerificationPolicy, VerificationPolicyError};
