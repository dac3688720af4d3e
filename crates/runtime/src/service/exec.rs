//! Commands in a running container: ExecSync, and what every exec shares.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Duration;

use cri::v1;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use super::error::{Result, RuntimeError, at};
use super::{Runtime, new_id};
use crate::shim::message::Call;
use crate::spec::Process;

/// More of one stream is cut off, as upstream's runtimes do. Bytes.
const LARGEST_OUTPUT: usize = 16 << 20;

/// A command that runs.
#[derive(Debug)]
pub struct Running {
    pub name: String,
    pub exit: oneshot::Receiver<i32>,
    /// With a tty: its other end.
    pub terminal: Option<OwnedFd>,
}

fn null() -> Result<OwnedFd> {
    let path = std::path::Path::new("/dev/null");
    let file = File::options().read(true).write(true).open(path).map_err(at(path))?;
    Ok(file.into())
}

pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| RuntimeError::Shim(format!("make a pipe: {e}")))
}

/// Starts a command with the streams given; those that are not are empty.
pub async fn start(
    runtime: &Runtime,
    id: &str,
    command: Vec<String>,
    tty: bool,
    streams: [Option<OwnedFd>; 3],
) -> Result<Running> {
    let container = runtime.container(id)?;
    if !container.is_running() {
        return Err(RuntimeError::State(format!(
            "container {} is not running",
            container.id
        )));
    }
    let mut process = Process {
        args: command,
        tty,
        ..container.spec()?.process
    };
    if tty && !process.env.iter().any(|e| e.starts_with("TERM=")) {
        process.env.push("TERM=xterm".to_owned());
    }
    let shim = runtime.sandbox(&container.sandbox_id)?.shim()?;
    let name = new_id()?;
    let exit = shim.exec_exit(&name);
    let mut fds = Vec::new();
    if !tty {
        for stream in streams {
            fds.push(stream.map_or_else(null, Ok)?);
        }
    }
    let call = Call::Exec {
        id: container.id.clone(),
        exec: name.clone(),
        process: Box::new(process),
    };
    let (_, mut given) = shim.call(call, &fds).await.map_err(|e| {
        shim.forget_exec(&name);
        match e {
            RuntimeError::Shim(text) => RuntimeError::Shim(format!("failed to exec in container: {text}")),
            other => other,
        }
    })?;
    Ok(Running {
        name,
        exit,
        terminal: given.pop(),
    })
}

/// Ends a command with all of its session.
pub async fn kill(runtime: &Runtime, id: &str, exec: &str) -> Result<()> {
    let container = runtime.container(id)?;
    let shim = runtime.sandbox(&container.sandbox_id)?.shim()?;
    let call = Call::KillExec { exec: exec.to_owned() };
    shim.call(call, &[]).await.map(drop)
}

struct Output {
    pipe: pipe::Receiver,
    bytes: Vec<u8>,
    open: bool,
}

impl Output {
    fn new(fd: OwnedFd) -> Result<Self> {
        let pipe = pipe::Receiver::from_owned_fd(fd).map_err(|e| RuntimeError::Shim(format!("read output: {e}")))?;
        Ok(Self {
            pipe,
            bytes: Vec::new(),
            open: true,
        })
    }

    /// Takes what is there now.
    fn take(&mut self) {
        let mut buffer = [0u8; 16 * 1024];
        loop {
            match self.pipe.try_read(&mut buffer) {
                Ok(0) => self.open = false,
                Ok(n) => {
                    let room = LARGEST_OUTPUT - self.bytes.len();
                    self.bytes.extend_from_slice(&buffer[..n.min(room)]);
                    continue;
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => self.open = false,
            }
            return;
        }
    }

    /// Takes what is left after the command's end, whether or not the reactor has heard of it by now.
    fn rest(&mut self) {
        let mut buffer = [0u8; 16 * 1024];
        while self.open {
            match nix::unistd::read(&self.pipe, &mut buffer) {
                Ok(0) => self.open = false,
                Ok(n) => {
                    let room = LARGEST_OUTPUT - self.bytes.len();
                    self.bytes.extend_from_slice(&buffer[..n.min(room)]);
                }
                Err(nix::Error::EINTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Waits until there is something; forever once the stream has ended.
    async fn ready(&self) {
        if !self.open || self.pipe.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// ExecSync. After the command's end only what it has said counts: a child it left may keep the streams open.
pub async fn sync(runtime: &Runtime, request: v1::ExecSyncRequest) -> Result<v1::ExecSyncResponse> {
    let ((out_read, out_write), (err_read, err_write)) = (pipe()?, pipe()?);
    let (mut out, mut err) = (Output::new(out_read)?, Output::new(err_read)?);
    let streams = [None, Some(out_write), Some(err_write)];
    let mut running = start(runtime, &request.container_id, request.cmd, false, streams).await?;
    let seconds = u64::try_from(request.timeout).ok().filter(|s| *s > 0);
    let deadline = async {
        match seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(deadline);
    let exit_code = loop {
        tokio::select! {
            () = out.ready() => out.take(),
            () = err.ready() => err.take(),
            code = &mut running.exit => {
                break code.map_err(|_| RuntimeError::Shim("failed to exec in container: the shim went away".to_owned()))?;
            }
            () = &mut deadline => {
                kill(runtime, &request.container_id, &running.name).await?;
                let text = format!("failed to exec in container: timeout {}s exceeded", seconds.unwrap_or(0));
                return Err(RuntimeError::Deadline(text));
            }
        }
    };
    out.rest();
    err.rest();
    Ok(v1::ExecSyncResponse {
        stdout: out.bytes,
        stderr: err.bytes,
        exit_code,
    })
}
