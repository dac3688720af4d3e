//! Work inside another network namespace, on a thread made for it: the namespace of the caller's thread stays.

use std::fs::File;
use std::path::Path;

use nix::sched::{CloneFlags, setns};

#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    #[error("opening network namespace {path}: {source}")]
    Open { path: String, source: std::io::Error },
    #[error("entering network namespace {path}: {source}")]
    Enter { path: String, source: nix::Error },
    #[error("a thread for network namespace {path}: {message}")]
    Thread { path: String, message: String },
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
