//! Images from registries: which endpoints serve a name, the way there, and the pull itself.

pub(crate) mod auth;
mod connect;
mod download;
mod error;
mod http;
mod proxy;
mod pull;
mod registries;

pub use auth::Credentials;
pub use connect::{Resolve, Resolved};
pub use error::PullError;
pub use proxy::Proxies;
pub use pull::Puller;
pub use registries::{Registries, RegistriesError};
