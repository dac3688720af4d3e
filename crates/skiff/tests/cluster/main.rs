//! A node with containers, driven from outside.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cluster;
mod network;
mod shop;
mod storage;
mod survival;
mod upstream;
mod workloads;
