//! Why an image could not be pulled, in the words users know from containerd.

use crate::image::reference::InvalidReference;
use crate::image::store::StoreError;

/// Why an image could not be pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The name is no image name.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    /// The registry has no such manifest or blob.
    #[error("{0}: not found")]
    NotFound(String),
    /// The registry refuses the credentials, or wants some.
    #[error(
        "pull access denied, repository does not exist or may require authorization: server message: {0}: authorization failed"
    )]
    Denied(String),
    /// The registry answered otherwise than 200.
    #[error("unexpected status from {method} request to {url}: {status}{body}")]
    Status {
        /// The request's method.
        method: &'static str,
        /// The request's URL.
        url: String,
        /// The answer's status with its reason.
        status: String,
        /// With `: ` before it, or empty.
        body: String,
    },
    /// No answer came.
    #[error("failed to do request: {method} {url:?}: {reason}")]
    Request {
        /// The request's method.
        method: &'static str,
        /// The request's URL.
        url: String,
        /// Why none came.
        reason: String,
    },
    /// The image's index has no manifest for this machine.
    #[error("no match for platform in manifest: {0}: not found")]
    Platform(String),
    /// What came is not what was asked for.
    #[error("{what}: unexpected digest {found}, want {expected}")]
    Digest {
        /// The document or layer.
        what: String,
        /// The digest of what came.
        found: String,
        /// The digest asked for.
        expected: String,
    },
    /// A manifest or configuration is not as the specification has it, or too large.
    #[error("{what}: {reason}")]
    Document {
        /// The document.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// The token service refuses, or the challenge cannot be met.
    #[error("failed to authorize: {0}")]
    Authorize(String),
    /// The disk.
    #[error("{path}: {error}")]
    Io {
        /// The file or directory.
        path: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// A layer cannot be unpacked, or the image not be recorded.
    #[error("failed to extract layer: {0}")]
    Store(#[from] StoreError),
    /// Another pull of the same layer said why.
    #[error("{0}")]
    Shared(String),
    /// No manifest was found for the name.
    #[error("failed to resolve image: {source}")]
    Resolve {
        /// Why not.
        source: Box<PullError>,
    },
    /// The whole pull failed.
    #[error("failed to pull and unpack image {name:?}: {source}")]
    Pull {
        /// The image's name in its full form.
        name: String,
        /// Why.
        source: Box<PullError>,
    },
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
