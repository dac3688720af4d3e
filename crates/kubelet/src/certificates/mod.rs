//! The kubelet's own certificates where no file names them: it asks the cluster for them by CertificateSigningRequests, keeps them below
//! `--cert-dir` and has them renewed while it runs. Upstream calls it TLS bootstrapping.

mod client;
mod request;
mod serving;
mod store;

pub(crate) use client::{ClientCertificate, Way, find};
pub(crate) use request::RequestError;
pub(crate) use serving::ServingCertificate;
pub(crate) use store::Store;

/// Why a certificate is not renewed.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("{}: {source}", path.display())]
    File {
        path: std::path::PathBuf,
        source: std::io::Error,
    },
    #[error(transparent)]
    Client(#[from] ::client::Error),
    #[error(transparent)]
    Shown(#[from] ::serving::CertificateError),
}
