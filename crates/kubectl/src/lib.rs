//! `kubectl`: the command line of Kubernetes, compatible with upstream's.
#![deny(missing_docs)]
// a test writes `f(json!(..))`
#![cfg_attr(test, allow(clippy::needless_pass_by_value))]

mod age;
mod api;
mod change;
mod cmd;
pub mod command;
mod discovery;
mod error;
mod flags;
#[doc(hidden)]
pub mod fuzzing;
mod image_name;
mod kuberc;
mod kustomize;
pub(crate) use ::api::jsonpath;
pub mod manifest;
mod patch;
mod pods;
mod print;
mod resolve;
mod select;
mod session;
mod template;
mod terminal;
mod watch;
mod words;
