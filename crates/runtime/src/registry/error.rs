//! Why an image could not be pulled, in the words users know from containerd.

use crate::image::reference::InvalidReference;
use crate::image::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum PullError {
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    #[error("{0}: not found")]
    NotFound(String),
    #[error(
        "pull access denied, repository does not exist or may require authorization: server message: {0}: authorization failed"
    )]
    Denied(String),
    #[error("unexpected status from {method} request to {url}: {status}{body}")]
    Status {
        method: &'static str,
        url: String,
        status: String,
        /// With `: ` before it, or empty.
        body: String,
    },
    #[error("failed to do request: {method} {url:?}: {reason}")]
    Request {
        method: &'static str,
        url: String,
        reason: String,
    },
    #[error("no match for platform in manifest: {0}: not found")]
    Platform(String),
    #[error("{what}: unexpected digest {found}, want {expected}")]
    Digest {
        what: String,
        found: String,
        expected: String,
    },
    #[error("{what}: {reason}")]
    Document { what: String, reason: String },
    #[error("failed to authorize: {0}")]
    Authorize(String),
    #[error("{path}: {error}")]
    Io { path: String, error: std::io::Error },
    #[error("failed to extract layer: {0}")]
    Store(#[from] StoreError),
    /// Another pull of the same layer said why.
    #[error("{0}")]
    Shared(String),
    #[error("failed to resolve image: {source}")]
    Resolve { source: Box<PullError> },
    #[error("failed to pull and unpack image {name:?}: {source}")]
    Pull { name: String, source: Box<PullError> },
}

impl PullError {
    /// What lies under the words of the steps.
    pub fn cause(&self) -> &PullError {
        match self {
            Self::Resolve { source } | Self::Pull { source, .. } => source.cause(),
            other => other,
        }
    }
}
