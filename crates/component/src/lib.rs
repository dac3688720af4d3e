//! What a component serves of itself over HTTPS (`k8s.io/apiserver/pkg/server/options` as the scheduler and the controller manager
//! use it): `/healthz`, `/livez`, `/readyz` and `/metrics`, to whom the API server lets ask.
#![deny(missing_docs)]

mod delegated;
mod flags;
mod plain;
mod server;

pub use delegated::{Delegated, Question, User};
pub use flags::{FlagError, ServingFlags};
pub use plain::Plain;
pub use server::{Check, Page, ServeError, Server};
