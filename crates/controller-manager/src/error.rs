//! Why a controller could not do what it decided.

use api::object::Object;
use api::selectors::SelectorError;

/// A failed reconcile; its key comes back rate-limited.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused, or cannot be reached.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// A cached object is not of its type.
    #[error("{key} cannot be decoded: {source}")]
    Decode {
        /// The object's namespace and name.
        key: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A typed object has no tree.
    #[error("{what} cannot be encoded: {source}")]
    Encode {
        /// What it is.
        what: &'static str,
        /// Why it has none.
        source: serde_json::Error,
    },
    /// The selector of an object selects nothing.
    #[error("{object}: {source}")]
    Selector {
        /// The object's kind and name.
        object: String,
        /// What is wrong with the selector.
        source: SelectorError,
    },
    /// A certificate cannot be made or read.
    #[error(transparent)]
    Certificate(#[from] pki::PkiError),
    /// The lease cannot be used.
    #[error(transparent)]
    Leader(#[from] client::LeaderError),
    /// The controllers' own server cannot serve.
    #[error(transparent)]
    Serve(#[from] component::ServeError),
    /// `--feature-gates` names what there is not.
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
