//! `kubectl`: the command line of Kubernetes, compatible with upstream's.

pub mod jsonpath;
pub mod print;
