//! Certificate authorities, the certificates they sign, and kubeconfig files.

mod accept_any;
mod authority;
mod kubeconfig;
mod private_key;
mod request;
mod subject;

pub use accept_any::AcceptAny;
pub use authority::{Authority, Identity, Usage, needs_renewal};
pub use kubeconfig::kubeconfig;
pub use private_key::{ec_private_key_pem, private_key_pem};
pub use request::Request;
pub use subject::Subject;

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Why a certificate or key could not be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("{what} is not a certificate: {detail}")]
    Parse { what: String, detail: String },
    #[error("{}: certificate without its key, or key without its certificate", path.display())]
    Halves { path: PathBuf },
}

/// Writes a file so that a reader sees either the old or the whole new content.
pub fn write_file(path: &Path, content: &[u8], mode: u32) -> Result<(), PkiError> {
    let failed = |source| PkiError::File {
        path: path.to_owned(),
        source,
    };
    if let Some(parent) = path.parent() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .map_err(failed)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&beside)
        .map_err(failed)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&beside, path).map_err(failed)
}
