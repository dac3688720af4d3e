//! The lower half of a container runtime: images in a store, and the shim that runs a pod's containers.

pub mod capabilities;
pub mod cgroup;
mod device_filter;
pub mod image;
mod seccomp;
pub mod shim;
pub mod spec;
mod sys;
