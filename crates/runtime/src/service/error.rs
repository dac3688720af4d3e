//! Why the runtime could not do what it was asked, and the gRPC status that says so.

use std::io;
use std::path::Path;

use tonic::Status;

use crate::image::reference::InvalidReference;
use crate::image::store::StoreError;
use crate::registry::PullError;

/// Why the runtime could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The request means nothing (gRPC `InvalidArgument`).
    #[error("{0}")]
    Invalid(String),
    /// There is no such thing (`NotFound`); the message is containerd's, which the kubelet looks for.
    #[error("an error occurred when try to find {kind} {id:?}: not found")]
    NotFound {
        /// `sandbox` or `container`.
        kind: &'static str,
        /// The id asked for.
        id: String,
    },
    /// The name is taken (`AlreadyExists`).
    #[error("{0}")]
    Exists(String),
    /// The sandbox or container is not in the state for it (`FailedPrecondition`).
    #[error("{0}")]
    State(String),
    /// This node or runtime cannot do it (`Unimplemented`).
    #[error("{0}")]
    Unsupported(String),
    /// The disk.
    #[error("{path}: {error}")]
    Io {
        /// The file or directory.
        path: String,
        /// What the system says.
        error: io::Error,
    },
    /// The shim of the pod refused or is gone, or a process could not be started.
    #[error("{0}")]
    Shim(String),
    /// The pod's network could not be set up or taken down.
    #[error("{0}")]
    Network(String),
    /// The image store.
    #[error(transparent)]
    Image(#[from] StoreError),
    /// An image could not be pulled.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// The name is no image name.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    /// It took longer than the request allows (`DeadlineExceeded`).
    #[error("{0}: context deadline exceeded")]
    Deadline(String),
}

pub(crate) type Result<T> = std::result::Result<T, RuntimeError>;

impl RuntimeError {
    pub(crate) fn sandbox(id: &str) -> Self {
        Self::NotFound {
            kind: "sandbox",
            id: id.to_owned(),
        }
    }

    pub(crate) fn container(id: &str) -> Self {
        Self::NotFound {
            kind: "container",
            id: id.to_owned(),
        }
    }
}

/// Names the path an I/O error is about.
pub fn at(path: &Path) -> impl FnOnce(io::Error) -> RuntimeError {
    let path = path.display().to_string();
    move |error| RuntimeError::Io { path, error }
}

impl From<RuntimeError> for Status {
    fn from(error: RuntimeError) -> Status {
        let text = error.to_string();
        match error {
            RuntimeError::Invalid(_) | RuntimeError::Reference(_) => Status::invalid_argument(text),
            RuntimeError::NotFound { .. } => Status::not_found(text),
            RuntimeError::Exists(_) => Status::already_exists(text),
            RuntimeError::State(_) => Status::failed_precondition(text),
            RuntimeError::Unsupported(_) => Status::unimplemented(text),
            RuntimeError::Deadline(_) => Status::deadline_exceeded(text),
            RuntimeError::Pull(error) => match error.cause() {
                PullError::NotFound(_) | PullError::Platform(_) => Status::not_found(text),
                PullError::Reference(_) => Status::invalid_argument(text),
                _ => Status::unknown(text),
            },
            RuntimeError::Io { .. } | RuntimeError::Shim(_) | RuntimeError::Network(_) | RuntimeError::Image(_) => {
                Status::unknown(text)
            }
        }
    }
}
