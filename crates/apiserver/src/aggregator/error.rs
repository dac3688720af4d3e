//! Why extension servers give no answers, in the words of Go.

use http::StatusCode;

use crate::http::front_proxy::IdentityError;
use crate::webhook::connect::ConnectError;
use crate::webhook::service::RouteError;
use crate::webhook::trust::TrustError;

/// Why there can be no connection for an APIService, whoever is there.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MisconfiguredError {
    /// Its `caBundle` is no base64.
    #[error(transparent)]
    Bundle(#[from] base64::DecodeError),
    /// The authorities in it are none.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// Why the server of an APIService gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// There can be no connection.
    #[error(transparent)]
    Misconfigured(#[from] MisconfiguredError),
    /// The Service leads nowhere.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// There is no connection to it.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// What is asked for is no URI.
    #[error(transparent)]
    Uri(#[from] http::uri::InvalidUri),
    /// A header cannot have its value.
    #[error(transparent)]
    Header(#[from] http::header::InvalidHeaderValue),
    /// The user cannot be named to it.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The request failed on its way.
    #[error("{0}")]
    Failed(String),
    /// The body of the answer did not come whole.
    #[error(transparent)]
    Body(#[from] Box<dyn std::error::Error + Send + Sync>),
    /// The answer took too long.
    #[error("context deadline exceeded")]
    Deadline,
}

/// Why an extension server did not say what it has.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It gave no answer.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// It says that it cannot be asked now.
    #[error("the server is not available")]
    Unavailable,
    /// It answered with an error.
    #[error("{path}: {status}")]
    Status {
        /// What was asked for.
        path: String,
        /// The status of the answer.
        status: StatusCode,
    },
    /// The answer is no JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// A subresource, named here, is namespaced where its resource is not, or the other way round.
    #[error("{0} has another scope than its resource")]
    Scope(String),
}
