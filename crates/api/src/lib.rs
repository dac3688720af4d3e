//! The object model of Kubernetes, without I/O.
#![deny(missing_docs)]
// a test writes `f(json!(..))`
#![cfg_attr(test, allow(clippy::needless_pass_by_value))]

pub mod apply;
pub mod defaults;
pub mod duration;
pub mod features;
pub mod field;
pub mod go;
pub mod gvk;
pub mod jsonpath;
pub mod names;
pub mod object;
pub mod openapi;
pub mod pod;
pub mod prose;
pub mod quantity;
pub mod quota;
pub mod raw;
pub mod resources;
pub mod schema;
mod selector_parser;
pub mod selectors;
pub mod time;
pub mod version;
pub mod yaml;
mod yaml_order;
