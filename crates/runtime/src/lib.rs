//! Container runtime: a CRI server, images, and the shim that runs a pod's containers.

mod capabilities;
mod cgroup;
mod device_filter;
mod seccomp;
pub mod shim;
pub mod spec;
mod sys;
