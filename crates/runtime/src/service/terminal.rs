//! A client's session and a process's streams, joined: exec and attach.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use cri::v1;
use hyper::body::Bytes;
use streaming::remote_command::{Output, Session};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use super::error::{Result, RuntimeError};
use super::{Runtime, exec};
use crate::shim::message::Call;
use crate::sys;

fn failed(error: &io::Error) -> RuntimeError {
    RuntimeError::Shim(format!("streams: {error}"))
}

fn nonblocking(fd: OwnedFd) -> Result<Arc<AsyncFd<OwnedFd>>> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let set = || -> io::Result<_> {
        let flags = OFlag::from_bits_truncate(fcntl(&fd, FcntlArg::F_GETFL)?);
        fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(())
    };
    set().map_err(|e| failed(&e))?;
    Ok(Arc::new(sys::registered(fd).map_err(|e| failed(&e))?))
}

enum Piece {
    Some(Bytes),
    NothingNow,
    End,
}

fn read_now(fd: &AsyncFd<OwnedFd>) -> Piece {
    let mut buffer = vec![0u8; 32 * 1024];
    loop {
        return match nix::unistd::read(fd.get_ref(), &mut buffer) {
            Ok(0) => Piece::End,
            Ok(n) => {
                buffer.truncate(n);
                Piece::Some(buffer.into())
            }
            Err(nix::Error::EAGAIN) => Piece::NothingNow,
            Err(nix::Error::EINTR) => continue,
            // EIO: nobody has the terminal any more.
            Err(_) => Piece::End,
        };
    }
}

/// Copies what the process says until its stream ends, or until the process has ended and nothing is left: a child may
/// keep the stream open.
async fn outward(
    fd: Arc<AsyncFd<OwnedFd>>,
    output: Option<Output>,
    mut ended: watch::Receiver<bool>,
) -> io::Result<()> {
    loop {
        let over = tokio::select! {
            ready = fd.readable() => {
                ready?.clear_ready();
                false
            }
            _ = ended.wait_for(|e| *e) => true,
        };
        loop {
            match read_now(&fd) {
                Piece::Some(bytes) => {
                    if let Some(output) = &output {
                        output.write(bytes).await?;
                    }
                }
                Piece::NothingNow if over => return Ok(()),
                Piece::NothingNow => break,
                Piece::End => return Ok(()),
            }
        }
    }
}

/// Copies what the client says until it has said all.
async fn inward(fd: Arc<AsyncFd<OwnedFd>>, mut input: tokio::sync::mpsc::Receiver<Bytes>) -> io::Result<()> {
    while let Some(mut bytes) = input.recv().await {
        while !bytes.is_empty() {
            let mut ready = fd.writable().await?;
            match nix::unistd::write(fd.get_ref(), &bytes) {
                Ok(n) => drop(bytes.split_to(n)),
                Err(nix::Error::EAGAIN) => ready.clear_ready(),
                Err(nix::Error::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    Ok(())
}

/// Never ends before its session: a size may come at any time.
async fn resizing(terminal: Option<Arc<AsyncFd<OwnedFd>>>, session: &mut Session) {
    if let (Some(terminal), Some(mut sizes)) = (terminal, session.resize.take()) {
        while let Some(size) = sizes.recv().await {
            if let Err(error) = sys::set_window_size(terminal.get_ref().as_fd(), size.width, size.height) {
                tracing::debug!(%error, "terminal size");
            }
        }
    }
    std::future::pending::<()>().await;
}

/// Runs the command and gives its exit code. A client that leaves leaves the command without streams, as upstream.
pub async fn exec(runtime: &Arc<Runtime>, request: v1::ExecRequest, session: &mut Session) -> Result<i32> {
    let mut streams = [None, None, None];
    let (mut input, mut outputs) = (None, Vec::new());
    if !request.tty {
        if session.stdin.is_some() {
            let (read, write) = exec::pipe()?;
            streams[0] = Some(read);
            input = Some(nonblocking(write)?);
        }
        for (n, output) in [(1, &session.stdout), (2, &session.stderr)] {
            if output.is_some() {
                let (read, write) = exec::pipe()?;
                streams[n] = Some(write);
                outputs.push((nonblocking(read)?, output.clone()));
            }
        }
    }
    let running = exec::start(runtime, &request.container_id, request.cmd, request.tty, streams).await?;
    let mut terminal = None;
    if let Some(fd) = running.terminal {
        let fd = nonblocking(fd)?;
        outputs.push((fd.clone(), session.stdout.clone()));
        input = Some(fd.clone());
        terminal = Some(fd);
    }
    let (over, ended) = watch::channel(false);
    let copies: Vec<_> = outputs
        .into_iter()
        .map(|(fd, output)| tokio::spawn(outward(fd, output, ended.clone())))
        .collect();
    let writing = match (input, session.stdin.take()) {
        (Some(fd), Some(stdin)) => Some(tokio::spawn(inward(fd, stdin))),
        _ => None,
    };
    let mut gone = session.gone.clone();
    let code = tokio::select! {
        code = running.exit => code.map_err(|_| RuntimeError::Shim("the shim went away".to_owned())),
        () = gone.wait() => Err(RuntimeError::State("the client left".to_owned())),
        () = resizing(terminal, session) => Err(RuntimeError::State("the client left".to_owned())),
    };
    if let Some(writing) = writing {
        writing.abort();
    }
    if code.is_err() {
        copies.iter().for_each(tokio::task::JoinHandle::abort);
        return code;
    }
    over.send_replace(true);
    for copy in copies {
        copy.await
            .map_err(|e| failed(&io::Error::other(e)))?
            .map_err(|e| failed(&e))?;
    }
    code
}

/// Joins a client to the container's first process until that ends, the client leaves, or it has no more to say.
pub async fn attach(runtime: &Arc<Runtime>, request: v1::AttachRequest, session: &mut Session) -> Result<()> {
    let container = runtime.container(&request.container_id)?;
    if !container.is_running() {
        return Err(RuntimeError::State(format!(
            "container {} is not running",
            container.id
        )));
    }
    let config = container.with(|r| r.config());
    let shim = runtime.sandbox(&container.sandbox_id)?.shim()?;
    let (mut fds, mut outputs) = (Vec::new(), Vec::new());
    for output in [&session.stdout, &session.stderr] {
        if output.is_some() {
            let (read, write) = exec::pipe()?;
            fds.push(write);
            outputs.push((nonblocking(read)?, output.clone()));
        }
    }
    let call = Call::Attach {
        id: container.id.clone(),
        stdout: session.stdout.is_some(),
        stderr: session.stderr.is_some(),
    };
    let (_, mut given) = shim.call(call, &fds).await?;
    drop(fds);
    let input = given.pop().map(nonblocking).transpose()?;
    let terminal = input.clone().filter(|_| config.tty);
    // What the client has said ends the container's input where there is one client only; else it ends the client's stay,
    // as in upstream's runtimes.
    let once = config.stdin_once && !config.tty;
    let (detach, detached) = tokio::sync::oneshot::channel();
    let writing = match (input, session.stdin.take()) {
        (Some(fd), Some(stdin)) => {
            let (shim, id) = (shim.clone(), container.id.clone());
            Some(tokio::spawn(async move {
                if let Err(error) = inward(fd, stdin).await {
                    tracing::debug!(%error, "attach");
                }
                if !once {
                    // Whoever waits may have left.
                    let _ = detach.send(());
                } else if let Err(error) = shim.call(Call::CloseStdin { id }, &[]).await {
                    tracing::debug!(%error, "attach");
                }
            }))
        }
        _ => None,
    };
    let said_all = async {
        if detached.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let (over, ended) = watch::channel(false);
    let copies: Vec<_> = outputs
        .into_iter()
        .map(|(fd, output)| tokio::spawn(outward(fd, output, ended.clone())))
        .collect();
    let mut gone = session.gone.clone();
    tokio::select! {
        () = container.ended() => {}
        () = gone.wait() => {}
        () = said_all => {}
        () = resizing(terminal, session) => {}
    }
    over.send_replace(true);
    for copy in copies {
        // A client that left takes nothing more.
        if let Ok(Err(error)) = copy.await {
            tracing::debug!(%error, "attach");
        }
    }
    if let Some(writing) = writing {
        writing.abort();
    }
    Ok(())
}
