//! Why a measurement could not be made.

use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Said(String),
    #[error("{request}: {status}: {message}")]
    Refused {
        request: String,
        status: http::StatusCode,
        message: String,
    },
    #[error("connection: {0}")]
    Connection(#[from] std::io::Error),
    #[error("connection: {0}")]
    Http(#[from] hyper::Error),
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("store: {0}")]
    Store(#[from] etcd::StoreError),
    #[error("gRPC: {}", .0.message())]
    Grpc(Box<tonic::Status>),
    #[error("gRPC: {0}")]
    Transport(#[from] tonic::transport::Error),
    #[error("a client of the load ended: {0}")]
    Task(#[from] tokio::task::JoinError),
}

pub type Result<T> = std::result::Result<T, Error>;

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Error {
        Error::Grpc(Box::new(status))
    }
}

impl Error {
    pub fn said(text: impl Into<String>) -> Error {
        Error::Said(text.into())
    }

    pub fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::File { path, source }
    }
}
