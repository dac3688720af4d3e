//! Work inside another network namespace, on a thread made for it: the namespace of the caller's thread stays.

use std::fs::File;
use std::path::Path;

use nix::sched::{CloneFlags, setns};

/// Why work could not be done inside a network namespace.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The file of the namespace cannot be opened.
    #[error("opening network namespace {path}: {source}")]
    Open {
        /// The file.
        path: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The kernel refuses to enter: the file is no network namespace, or `CAP_SYS_ADMIN` is missing.
    #[error("entering network namespace {path}: {source}")]
    Enter {
        /// The file.
        path: String,
        /// The system's error.
        source: nix::Error,
    },
    /// No thread could be started, or the work panicked on it.
    #[error("a thread for network namespace {path}: {message}")]
    Thread {
        /// The file of the namespace.
        path: String,
        /// What happened to the thread.
        message: String,
    },
}

/// Runs `work` in the network namespace at `path`.
pub fn inside<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    let name = || path.display().to_string();
    let file = File::open(path).map_err(|source| NetnsError::Open { path: name(), source })?;
    let in_thread = || {
        setns(&file, CloneFlags::CLONE_NEWNET).map_err(|source| NetnsError::Enter { path: name(), source })?;
        Ok(work())
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, in_thread)
            .map_err(|e| NetnsError::Thread {
                path: name(),
                message: e.to_string(),
            })?;
        thread.join().unwrap_or_else(|_| {
            Err(NetnsError::Thread {
                path: name(),
                message: "panicked".into(),
            })
        })
    })
}
