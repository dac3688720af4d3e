//! Why a controller could not do what it decided.

use api::object::Object;
use api::selectors::SelectorError;

/// A failed reconcile; its key comes back rate-limited.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error("{key} cannot be decoded: {source}")]
    Decode { key: String, source: serde_json::Error },
    #[error("{what} cannot be encoded: {source}")]
    Encode {
        what: &'static str,
        source: serde_json::Error,
    },
    #[error("{object}: {source}")]
    Selector { object: String, source: SelectorError },
    #[error(transparent)]
    Certificate(#[from] pki::PkiError),
    #[error(transparent)]
    Leader(#[from] client::LeaderError),
    #[error(transparent)]
    Serve(#[from] component::ServeError),
    #[error("--feature-gates: {0}")]
    FeatureGates(#[from] api::features::GateError),
    /// Settings that cannot be used.
    #[error("{0}")]
    Config(String),
    /// Something of the cluster's state that this reconcile cannot get past.
    #[error("{0}")]
    State(String),
}

impl Error {
    /// Somebody else was faster; the cache will tell.
    pub(crate) fn is_race(&self) -> bool {
        matches!(self, Error::Client(e) if e.is_conflict())
    }
}

/// Decodes a cached object at the edge.
pub(crate) fn decode<K: serde::de::DeserializeOwned>(object: &Object) -> Result<K, Error> {
    object.decode().map_err(|source| Error::Decode {
        key: object.key(),
        source,
    })
}

/// A tree of something typed.
pub(crate) fn tree(what: &'static str, value: &impl serde::Serialize) -> Result<serde_json::Value, Error> {
    serde_json::to_value(value).map_err(|source| Error::Encode { what, source })
}
