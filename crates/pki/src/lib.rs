//! Certificate authorities, the certificates they sign, and kubeconfig files.
#![deny(missing_docs)]

mod accept_any;
mod authority;
mod kubeconfig;
mod private_key;
pub mod renewal;
mod request;
mod stub_request;
mod subject;

pub use accept_any::AcceptAny;
pub use authority::{Authority, Facts, Identity, Usage, has_expired, needs_renewal, not_after, renewal_time};
pub use kubeconfig::kubeconfig;
pub use private_key::{certificate_pem, ec_private_key_pem, private_key_pem};
pub use request::{Request, UnknownUsage, key_and_request, key_and_request_for};
pub use stub_request::{KeyType, StubRequest, has_proof};
pub use subject::Subject;

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Why a certificate or key could not be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file cannot be read, written or moved into place.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// rcgen refuses to make or sign a certificate or request.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// What was read is no certificate, request or key.
    #[error("{what} is not a certificate: {detail}")]
    Parse {
        /// What was read: a file's path, or its kind.
        what: String,
        /// Where it is wrong.
        detail: String,
    },
    /// A PodCertificateRequest names a key type that Kubernetes does not have.
    #[error("unknown key type {0:?}")]
    KeyType(String),
    /// A key cannot be made, read or used.
    #[error("key: {0}")]
    Key(String),
    /// Only one of certificate and key is there.
    #[error("{}: certificate without its key, or key without its certificate", path.display())]
    Halves {
        /// The file of the certificate.
        path: PathBuf,
    },
}

impl PkiError {
    /// Whether a file could not be written because the disk is full or may not be written to.
    pub fn is_full_disk(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        matches!(self, PkiError::File { source, .. }
            if matches!(source.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem))
    }
}

/// Writes a file with exactly this mode, so that a reader sees either the old or the whole new content. A file that is so already
/// is left alone.
pub fn write_file(path: &Path, content: &[u8], mode: u32) -> Result<(), PkiError> {
    match Staged::write(path, content, mode)? {
        Some(staged) => staged.put(),
        None => Ok(()),
    }
}

/// A file that is written and not yet in its place.
pub(crate) struct Staged {
    new: PathBuf,
    path: PathBuf,
}

impl Staged {
    /// Writes the content beside `path`; `None` when it is there already. Its directory is made, for its owner alone.
    pub(crate) fn write(path: &Path, content: &[u8], mode: u32) -> Result<Option<Staged>, PkiError> {
        let failed = |source| PkiError::File {
            path: path.to_owned(),
            source,
        };
        let as_wanted = |m: std::fs::Metadata| m.is_file() && m.permissions().mode() & 0o7777 == mode;
        if std::fs::symlink_metadata(path).is_ok_and(as_wanted) && std::fs::read(path).is_ok_and(|c| c == content) {
            return Ok(None);
        }
        if let Some(parent) = path.parent() {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(parent)
                .map_err(failed)?;
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let new = path.with_file_name(name);
        let written = || {
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(mode & 0o600)
                .open(&new)?;
            // whatever the umask is, and a file left by another mode
            file.set_permissions(std::fs::Permissions::from_mode(mode))?;
            file.write_all(content)?;
            file.sync_all()
        };
        written().map_err(|error| {
            // a piece of a key is nobody's use; that it is not there is as good
            drop(std::fs::remove_file(&new));
            failed(error)
        })?;
        let path = path.to_owned();
        Ok(Some(Staged { new, path }))
    }

    /// Puts the file in its place.
    pub(crate) fn put(self) -> Result<(), PkiError> {
        std::fs::rename(&self.new, &self.path).map_err(|source| PkiError::File {
            path: self.path.clone(),
            source,
        })
    }
}

/// Writes a key, for its owner alone, and its certificate: both or, when there is no room, none.
pub(crate) fn write_pair(crt: &Path, certificate: &str, key: &Path, private: &str) -> Result<(), PkiError> {
    let private = Staged::write(key, private.as_bytes(), 0o600)?;
    let certificate = Staged::write(crt, certificate.as_bytes(), 0o644)?;
    [private, certificate].into_iter().flatten().try_for_each(Staged::put)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_file_has_the_mode_it_is_written_with_and_is_left_alone_when_nothing_changes() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("below/key");
        write_file(&path, b"a", 0o666).unwrap();
        assert_eq!((mode(&path), mode(&dir.path().join("below"))), (0o666, 0o700));
        let file = || std::fs::metadata(&path).unwrap().ino();
        let first = file();
        write_file(&path, b"a", 0o666).unwrap();
        assert_eq!(file(), first);
        write_file(&path, b"a", 0o600).unwrap();
        assert_eq!(mode(&path), 0o600);
        write_file(&path, b"b", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"b");
    }
}
