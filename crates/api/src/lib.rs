//! The object model of Kubernetes v1.36, without I/O.

pub mod gvk;
pub mod object;
pub mod quantity;
pub mod resources;
pub mod schema;
pub mod time;
