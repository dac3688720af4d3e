//! Where a certificate and its key are kept: upstream's layout, so that either kubelet finds what the other has left.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::PathBuf;

use time::OffsetDateTime;

use super::CertificateError;

/// A certificate and its key in one file, `<dir>/<name>-<time>.pem`, and a link `<dir>/<name>-current.pem` to the newest.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    /// `--cert-dir`.
    pub dir: PathBuf,
    /// `kubelet-client` or `kubelet-server`.
    pub name: &'static str,
}

impl Store {
    /// The link to the newest.
    pub fn current(&self) -> PathBuf {
        self.dir.join(format!("{}-current.pem", self.name))
    }

    /// The newest, certificate and key in one text, unless there is none or its life is over.
    ///
    /// # Errors
    /// When there is one and it cannot be read.
    pub fn load(&self, now: OffsetDateTime) -> Result<Option<String>, CertificateError> {
        let path = self.current();
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|source| CertificateError::File { path, source })?,
        };
        // what cannot be read as a certificate is replaced, as what has expired
        Ok(Some(text).filter(|pem| pki::has_expired(pem, now).is_ok_and(|expired| !expired)))
    }

    /// Keeps a new one; what was there before stays beside it.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(&self, pem: &str, now: OffsetDateTime) -> Result<(), CertificateError> {
        let (date, at) = (now.date(), now.time());
        let name = format!(
            "{}-{:04}-{:02}-{:02}-{:02}-{:02}-{:02}.pem",
            self.name,
            date.year(),
            u8::from(date.month()),
            date.day(),
            at.hour(),
            at.minute(),
            at.second()
        );
        let path = self.dir.join(&name);
        let write = || {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(&self.dir)?;
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&path)?;
            file.write_all(pem.as_bytes())?;
            file.sync_all()?;
            // a link is made beside the old one and takes its place at once
            let link = self.dir.join(format!("{}-updated.pem", self.name));
            match std::fs::remove_file(&link) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            symlink(&path, &link)?;
            std::fs::rename(&link, self.current())
        };
        write().map_err(|source| CertificateError::File {
            path: path.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use pki::{Authority, Identity, Usage};
    use time::Duration;

    use super::*;

    #[test]
    fn the_newest_is_found_until_its_life_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store {
            dir: dir.path().join("pki"),
            name: "kubelet-client",
        };
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        assert_eq!(store.load(now).unwrap(), None);
        let authority = Authority::load_or_create(dir.path(), "ca", now).unwrap();
        let keep = |at| {
            let who = Identity::default();
            let (certificate, key) = authority.issue(&who, &Usage::Client, Duration::hours(1), at).unwrap();
            let pem = format!("{certificate}{key}");
            store.save(&pem, at).unwrap();
            pem
        };
        keep(now);
        let second = keep(now + Duration::minutes(1));
        assert_eq!(store.load(now).unwrap(), Some(second));
        assert_eq!(store.load(now + Duration::minutes(61)).unwrap(), None);
        let link = std::fs::read_link(store.current()).unwrap();
        assert_eq!(link, dir.path().join("pki/kubelet-client-2027-01-15-08-01-00.pem"));
        assert_eq!(std::fs::read_dir(&store.dir).unwrap().count(), 3);
        std::fs::write(link, "nothing").unwrap();
        assert_eq!(store.load(now).unwrap(), None);
    }
}
