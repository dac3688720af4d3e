//! A blob on its way to a file: resumed where it broke off, checked at its end, read while it grows.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use sha2::{Digest, Sha256};

use super::error::PullError;
use super::pull::Session;
use crate::image::unpack::digest_text;

/// Attempts in a row that bring nothing.
const ATTEMPTS: u32 = 5;

#[derive(Debug, Default)]
struct Progress {
    length: u64,
    done: Option<Result<(), Arc<PullError>>>,
}

/// One blob's download; every pull that needs the blob has it.
#[derive(Debug)]
pub struct Download {
    pub digest: String,
    path: PathBuf,
    progress: Mutex<Progress>,
    grown: Condvar,
}

impl Download {
    pub(crate) fn new(dir: &Path, digest: &str) -> Self {
        Self {
            digest: digest.to_owned(),
            path: dir.join(digest.trim_start_matches("sha256:")),
            progress: Mutex::default(),
            grown: Condvar::new(),
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn failed(&self) -> bool {
        matches!(self.progress().done, Some(Err(_)))
    }

    /// Brings the blob to its file. Call once.
    pub async fn run(&self, session: &Session) {
        let result = self.fetch(session).await;
        let worthless = matches!(result, Err(PullError::Digest { .. }));
        self.progress().done = Some(result.map_err(Arc::new));
        self.grown.notify_all();
        if worthless {
            // Readers know by now: who finds no file must find its error.
            self.discard();
        }
    }

    fn io(&self) -> impl FnOnce(io::Error) -> PullError {
        let path = self.path.display().to_string();
        move |error| PullError::Io { path, error }
    }

    async fn fetch(&self, session: &Session) -> Result<(), PullError> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.path)
            .map_err(self.io())?;
        let mut hash = Sha256::new();
        let mut length = 0;
        // What an earlier attempt left counts.
        let mut buffer = vec![0u8; 256 * 1024];
        loop {
            let n = file.read_at(&mut buffer, length).map_err(self.io())?;
            if n == 0 {
                break;
            }
            hash.update(&buffer[..n]);
            length += n as u64;
        }
        self.grow(length);
        let mut failures = 0;
        loop {
            let before = length;
            match self.attempt(session, &file, &mut hash, &mut length).await {
                Ok(()) => break,
                Err(error @ (PullError::Request { .. } | PullError::Status { .. })) => {
                    failures = if length > before { 1 } else { failures + 1 };
                    if failures >= ATTEMPTS {
                        return Err(error);
                    }
                    tracing::debug!(digest = self.digest, %error, "download is resumed");
                    tokio::time::sleep(Duration::from_millis(100 << failures)).await;
                }
                Err(error) => return Err(error),
            }
        }
        let found = digest_text(&hash.finalize());
        if found != self.digest {
            return Err(PullError::Digest {
                what: "layer".to_owned(),
                found,
                expected: self.digest.clone(),
            });
        }
        Ok(())
    }

    fn grow(&self, length: u64) {
        self.progress().length = length;
        self.grown.notify_all();
    }

    async fn attempt(
        &self,
        session: &Session,
        file: &File,
        hash: &mut Sha256,
        length: &mut u64,
    ) -> Result<(), PullError> {
        let mut answer = session.blob(&self.digest, *length).await?;
        let mut skip = match answer.status {
            StatusCode::PARTIAL_CONTENT => 0,
            // All of it was there.
            StatusCode::RANGE_NOT_SATISFIABLE if *length > 0 => return Ok(()),
            // Ranges are not for every server.
            StatusCode::OK => *length,
            StatusCode::NOT_FOUND => return Err(PullError::NotFound(self.digest.clone())),
            _ => return Err(answer.refused().await),
        };
        while let Some(mut piece) = answer.piece().await? {
            let skipped = piece.len().min(usize::try_from(skip).unwrap_or(usize::MAX));
            drop(piece.split_to(skipped));
            skip -= skipped as u64;
            if piece.is_empty() {
                continue;
            }
            file.write_all_at(&piece, *length).map_err(self.io())?;
            hash.update(&piece);
            *length += piece.len() as u64;
            self.grow(*length);
        }
        Ok(())
    }

    /// Reads from the beginning, waiting for what has not come yet. Ends only once the digest is right.
    pub fn reader(self: &Arc<Self>) -> io::Result<Reader> {
        let mut progress = self.progress();
        // The file is there with the first byte, or with the end.
        while progress.length == 0 && progress.done.is_none() {
            progress = self.grown.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(Err(error)) = &progress.done {
            return Err(io::Error::other(error.clone()));
        }
        // Under the lock: a file that turns out worse than it said goes away only after that is known.
        let file = File::open(&self.path)?;
        drop(progress);
        Ok(Reader {
            file,
            download: self.clone(),
            at: 0,
        })
    }

    /// Takes the file away once every layer is unpacked.
    pub fn discard(&self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "downloaded layer");
        }
    }
}

#[derive(Debug)]
pub(crate) struct Reader {
    file: File,
    download: Arc<Download>,
    at: u64,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut progress = self.download.progress();
        while progress.length <= self.at {
            match &progress.done {
                Some(Ok(())) => return Ok(0),
                Some(Err(error)) => return Err(io::Error::other(error.clone())),
                None => {}
            }
            progress = self
                .download
                .grown
                .wait(progress)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let there = usize::try_from(progress.length - self.at).unwrap_or(usize::MAX);
        drop(progress);
        let room = there.min(buffer.len());
        let n = self.file.read_at(&mut buffer[..room], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}
