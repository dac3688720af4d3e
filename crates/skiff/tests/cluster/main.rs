//! A node with containers, driven from outside.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod certificates;
mod cluster;
mod dev;
mod dual_stack;
mod metrics;
mod network;
mod network_policy;
mod node;
mod nodes;
#[path = "../server/prometheus.rs"]
mod prometheus;
mod shop;
mod storage;
mod survival;
mod upstream;
mod workloads;
