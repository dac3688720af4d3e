//! kube-apiserver: the one place where components meet.
// a test writes `f(json!(..))`
#![cfg_attr(test, allow(clippy::needless_pass_by_value))]

pub mod admission;
pub mod aggregator;
pub mod allocator;
pub mod api_services;
pub mod audit;
pub mod authentication;
pub mod authorization;
pub mod bootstrap_policy;
pub mod custom;
pub mod egress;
pub mod expressions;
pub mod flow_control;
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod kinds;
pub mod metrics;
pub mod pipeline;
pub mod registry;
pub mod repair;
pub mod server;
pub mod subresource;
pub mod table;
pub mod tree;
pub mod webhook;

use api::version::MINOR;
use serde_json::{Value, json};

/// What `/version` says.
#[derive(Debug, Clone)]
pub struct Version {
    /// Build metadata: `v1.37.2+skiff1`.
    pub git_version: String,
    pub git_commit: String,
    pub build_date: String,
}

impl Version {
    /// The document that `/version` answers with.
    pub fn document(&self) -> Value {
        json!({
            "major": "1",
            "minor": MINOR.to_string(),
            "emulationMajor": "1",
            "emulationMinor": MINOR.to_string(),
            "minCompatibilityMajor": "1",
            "minCompatibilityMinor": (MINOR - 1).to_string(),
            "gitVersion": self.git_version,
            "gitCommit": self.git_commit,
            "gitTreeState": "clean",
            "buildDate": self.build_date,
            "goVersion": "none (rust)",
            "compiler": "rustc",
            "platform": "linux/amd64",
        })
    }
}
