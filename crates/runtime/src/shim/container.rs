//! One container in the shim: its first process, its streams on their way to the log and to who is attached.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::launch::Streams;
use super::log::{Log, Stream};
use super::message::ContainerState;
use super::rootfs::{Naming, Result};
use crate::spec::{ContainerSpec, Exit};
use crate::sys;

/// While more than this waits for a slow reader, the container is not read. Bytes.
const MOST_WAITING: usize = 64 * 1024;

/// Who gets a copy of a stream.
struct Attached {
    stream: Stream,
    file: File,
    waiting: Vec<u8>,
}

pub(crate) struct Container {
    pub spec: ContainerSpec,
    pub pid: i32,
    started_at: i64,
    stdin: Option<OwnedFd>,
    /// With a terminal the first one is that, and there is no second.
    output: [Option<File>; 2],
    attached: Vec<Attached>,
    log: Option<Log>,
    exit: Option<Exit>,
    exit_file: PathBuf,
}

fn nonblocking(fd: &impl std::os::fd::AsFd) -> nix::Result<()> {
    let flags = OFlag::from_bits_truncate(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}

/// Where a container's exit is kept, below the sandbox's directory.
pub fn exit_file(dir: &Path, id: &str) -> PathBuf {
    dir.join("containers").join(format!("{id}.exit"))
}

impl Container {
    pub(crate) fn new(spec: ContainerSpec, pid: i32, streams: Streams, log: Option<Log>, dir: &Path) -> Result<Self> {
        let output = [streams.stdout.map(File::from), streams.stderr.map(File::from)];
        for file in output.iter().flatten() {
            nonblocking(file).naming(|| "set up the output".to_owned())?;
        }
        Ok(Self {
            exit_file: exit_file(dir, &spec.id),
            spec,
            pid,
            started_at: sys::now(),
            stdin: streams.stdin,
            output,
            attached: Vec::new(),
            log,
            exit: None,
        })
    }

    pub(crate) fn running(&self) -> Option<i32> {
        self.exit.is_none().then_some(self.pid)
    }

    pub(crate) fn state(&self) -> ContainerState {
        ContainerState {
            id: self.spec.id.clone(),
            pid: self.pid,
            started_at: self.started_at,
            exit: self.exit.clone(),
        }
    }

    pub(crate) fn interests(&self, mut add: impl FnMut(RawFd, libc::c_short)) {
        for (i, file) in self.output.iter().enumerate() {
            let slow = |a: &Attached| a.stream as usize == i && a.waiting.len() > MOST_WAITING;
            if let Some(file) = file
                && !self.attached.iter().any(slow)
            {
                add(file.as_raw_fd(), libc::POLLIN);
            }
        }
        for attached in &self.attached {
            // Without events a reader that went away is still told.
            add(
                attached.file.as_raw_fd(),
                if attached.waiting.is_empty() { 0 } else { libc::POLLOUT },
            );
        }
    }

    pub(crate) fn ready(&mut self, fd: RawFd, events: libc::c_short) {
        let at = self
            .output
            .iter()
            .position(|f| f.as_ref().is_some_and(|f| f.as_raw_fd() == fd));
        if let Some(i) = at {
            self.read(i);
        }
        for attached in &mut self.attached {
            if attached.file.as_raw_fd() == fd {
                attached.flush();
            }
        }
        let gone = libc::POLLERR | libc::POLLHUP | libc::POLLNVAL;
        self.attached
            .retain(|a| a.file.as_raw_fd() != fd || events & gone == 0 || at.is_some());
    }

    /// One read of a stream; `false` when there is nothing more for now, or ever.
    fn read(&mut self, i: usize) -> bool {
        let Some(file) = &mut self.output[i] else { return false };
        let mut buffer = [0u8; 16 * 1024];
        let (stream, now) = (if i == 0 { Stream::Stdout } else { Stream::Stderr }, sys::now());
        match file.read(&mut buffer) {
            Ok(0) => {}
            Ok(n) => {
                if let Some(log) = &mut self.log {
                    // A full disk loses lines of the log, never the container.
                    let _ = log.write(stream, &buffer[..n], now);
                }
                for attached in self.attached.iter_mut().filter(|a| a.stream == stream) {
                    attached.waiting.extend_from_slice(&buffer[..n]);
                    attached.flush();
                }
                return true;
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return true,
            // EIO: the last user of the terminal closed it.
            Err(_) => {}
        }
        self.output[i] = None;
        if let Some(log) = &mut self.log {
            let _ = log.finish(stream, now);
        }
        self.attached.retain_mut(|a| {
            a.flush();
            a.stream != stream
        });
        false
    }

    /// Copies of output go to the descriptors given. Gives what takes input.
    pub fn attach(&mut self, stdout: bool, stderr: bool, fds: Vec<OwnedFd>) -> Result<Option<OwnedFd>> {
        if self.running().is_none() {
            return Err(format!("container {} is not running", self.spec.id).into());
        }
        let mut fds = fds.into_iter();
        for (wanted, stream) in [(stdout, Stream::Stdout), (stderr, Stream::Stderr)] {
            if wanted && let Some(fd) = fds.next() {
                nonblocking(&fd).naming(|| "attach".to_owned())?;
                self.attached.push(Attached {
                    stream,
                    file: File::from(fd),
                    waiting: Vec::new(),
                });
            }
        }
        let input = if self.spec.process.tty {
            self.output[0].as_ref().map(|f| f.try_clone().map(OwnedFd::from))
        } else {
            self.stdin.as_ref().map(OwnedFd::try_clone)
        };
        input.transpose().naming(|| "attach".to_owned())
    }

    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    pub(crate) fn reopen_log(&mut self) -> io::Result<()> {
        self.log.as_mut().map_or(Ok(()), Log::reopen)
    }

    /// The first process ended: everything it said goes out, its exit to disk.
    pub fn ended(&mut self, code: i32, oom_killed: bool) -> Exit {
        for i in 0..2 {
            while self.read(i) {}
            if self.output[i].take().is_some()
                && let Some(log) = &mut self.log
            {
                let _ = log.finish(if i == 0 { Stream::Stdout } else { Stream::Stderr }, sys::now());
            }
        }
        self.attached.clear();
        self.stdin = None;
        self.log = None;
        let exit = Exit {
            code,
            finished_at: sys::now(),
            oom_killed,
        };
        // The daemon hears it as well; only one that is away needs the file.
        let _ = self.keep(&exit);
        self.exit = Some(exit.clone());
        exit
    }

    fn keep(&self, exit: &Exit) -> io::Result<()> {
        let new = self.exit_file.with_extension("new");
        std::fs::write(&new, serde_json::to_vec(exit)?)?;
        std::fs::rename(&new, &self.exit_file)
    }
}

impl Attached {
    fn flush(&mut self) {
        while !self.waiting.is_empty() {
            match self.file.write(&self.waiting) {
                Ok(n) => drop(self.waiting.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.waiting.clear();
                    return;
                }
            }
        }
    }
}
