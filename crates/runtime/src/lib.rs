//! A container runtime: images in a store, a shim that runs a pod's containers, and the CRI services over both.
#![deny(missing_docs)]

pub mod capabilities;
pub mod cgroup;
mod device_filter;
#[doc(hidden)]
pub mod fuzzing;
pub mod image;
pub mod registry;
mod sealed_program;
mod seccomp;
mod service;
pub mod shim;
pub mod spec;
mod sys;

pub use image::archive::is_archive;
pub use service::{Runtime, RuntimeConfig, RuntimeError, import, serve, untag};
