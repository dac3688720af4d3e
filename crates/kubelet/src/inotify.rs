//! Waiting for changes of files and directories by inotify(7).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;

/// Watches paths until dropped.
pub struct Watcher {
    fd: AsyncFd<Descriptor>,
}

struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Watcher {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// When the kernel gives no more instances.
    pub fn new() -> io::Result<Watcher> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // SAFETY: the descriptor is the inotify instance's own; it stays open, and the same, as long as the value lives.
        let fd = unsafe { AsyncFd::register(Descriptor(inotify)) }?;
        Ok(Watcher { fd })
    }

    /// Files appearing, vanishing or being finished in a directory.
    pub fn watch_dir(&self, path: &Path) -> io::Result<()> {
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_CREATE;
        self.fd.get_ref().0.add_watch(path, flags)?;
        Ok(())
    }

    /// Writes to a file.
    pub fn watch_file(&self, path: &Path) -> io::Result<()> {
        self.fd.get_ref().0.add_watch(path, AddWatchFlags::IN_MODIFY)?;
        Ok(())
    }

    /// Returns when something happened; what, is for the caller to see.
    pub async fn changed(&self) -> io::Result<()> {
        loop {
            let mut guard = self.fd.readable().await?;
            match guard.try_io(|fd| fd.get_ref().0.read_events().map_err(io::Error::from)) {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_) => {}
            }
        }
    }
}
