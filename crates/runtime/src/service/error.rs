//! Why the runtime could not do what it was asked, and the gRPC status that says so.

use std::io;
use std::path::Path;

use tonic::Status;

use crate::image::reference::InvalidReference;
use crate::image::store::StoreError;
use crate::registry::PullError;

#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("{0}")]
    Invalid(String),
    #[error("an error occurred when try to find {kind} {id:?}: not found")]
    NotFound { kind: &'static str, id: String },
    #[error("{0}")]
    Exists(String),
    #[error("{0}")]
    State(String),
    #[error("{0}")]
    Unsupported(String),
    #[error("{path}: {error}")]
    Io { path: String, error: io::Error },
    #[error("{0}")]
    Shim(String),
    #[error("{0}")]
    Network(String),
    #[error(transparent)]
    Image(#[from] StoreError),
    #[error(transparent)]
    Pull(#[from] PullError),
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    #[error("{0}: context deadline exceeded")]
    Deadline(String),
}

pub type Result<T> = std::result::Result<T, RuntimeError>;

impl RuntimeError {
    pub fn sandbox(id: &str) -> Self {
        Self::NotFound {
            kind: "sandbox",
            id: id.to_owned(),
        }
    }

    pub fn container(id: &str) -> Self {
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
