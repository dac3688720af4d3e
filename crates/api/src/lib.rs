//! The object model of Kubernetes v1.36, without I/O.

pub mod object;
