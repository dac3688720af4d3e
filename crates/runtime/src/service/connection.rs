//! The daemon's end of a shim's socket: calls with their replies, and the events that come unasked.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch};

use super::error::{Result, RuntimeError};
use crate::shim::message::{Answer, Call, Failure, Message, Request};
use crate::shim::{SOCKET, socket};
use crate::spec::Exit;
use crate::sys;

type Reply = std::result::Result<(Answer, Vec<OwnedFd>), Failure>;

/// What a shim says unasked. The end of the connection is the last of it.
#[derive(Debug)]
pub enum Event {
    Exited { id: String, exit: Exit },
    Lost,
}

struct Waiting {
    replies: HashMap<u64, oneshot::Sender<Reply>>,
    execs: HashMap<String, oneshot::Sender<i32>>,
    open: bool,
}

/// A connection to a shim. Its reader task ends with it.
pub struct Connection {
    socket: AsyncFd<OwnedFd>,
    next: AtomicU64,
    waiting: Mutex<Waiting>,
    closed: watch::Sender<bool>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

fn lost() -> Failure {
    "the shim went away".into()
}

impl Connection {
    /// Connects to the shim whose directory is `dir`; `heard` gets its events, in their order.
    pub fn open(dir: &Path, heard: impl Fn(Event) + Send + 'static) -> io::Result<Arc<Self>> {
        let socket = sys::registered(socket::connect(&dir.join(SOCKET))?)?;
        let connection = Arc::new(Self {
            socket,
            next: AtomicU64::new(1),
            waiting: Mutex::new(Waiting {
                replies: HashMap::new(),
                execs: HashMap::new(),
                open: true,
            }),
            closed: watch::Sender::new(false),
        });
        let reader = connection.clone();
        tokio::spawn(async move {
            while let Some((message, fds)) = reader.receive().await {
                reader.deliver(message, fds, &heard);
            }
            {
                let mut waiting = reader.waiting();
                waiting.open = false;
                waiting.execs.clear();
                for (_, reply) in waiting.replies.drain() {
                    // Whoever asked may have left.
                    let _ = reply.send(Err(lost()));
                }
            }
            reader.closed.send_replace(true);
            heard(Event::Lost);
        });
        Ok(connection)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn receive(&self) -> Option<(Message, Vec<OwnedFd>)> {
        loop {
            let mut ready = self.socket.readable().await.ok()?;
            match ready.try_io(|s| socket::receive::<Message>(s.get_ref().as_fd())) {
                Ok(Ok(message)) => return message,
                Ok(Err(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "shim: unreadable message");
                    return None;
                }
                Err(_would_block) => {}
            }
        }
    }

    fn deliver(&self, message: Message, fds: Vec<OwnedFd>, heard: &impl Fn(Event)) {
        match message {
            Message::Reply { number, answer } => {
                let reply = self.waiting().replies.remove(&number);
                if let Some(reply) = reply {
                    // Whoever asked may have left.
                    let _ = reply.send(answer.map(|a| (a, fds)));
                }
            }
            Message::Exited { id, exit } => heard(Event::Exited { id, exit }),
            Message::ExecExited { exec, code } => {
                let exec = self.waiting().execs.remove(&exec);
                if let Some(exec) = exec {
                    let _ = exec.send(code);
                }
            }
        }
    }

    /// One call with the descriptors it hands over.
    pub async fn call(&self, call: Call, fds: &[OwnedFd]) -> Result<(Answer, Vec<OwnedFd>)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (send, receive) = oneshot::channel();
        {
            let mut waiting = self.waiting();
            if !waiting.open {
                return Err(RuntimeError::Shim(lost().to_string()));
            }
            waiting.replies.insert(number, send);
        }
        let request = Request { number, call };
        let bytes = serde_json::to_vec(&request).map_err(|e| RuntimeError::Shim(e.to_string()))?;
        let sent = loop {
            let mut ready = match self.socket.writable().await {
                Ok(ready) => ready,
                Err(e) => break Err(e),
            };
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            match ready.try_io(|s| socket::send_bytes(s.get_ref().as_fd(), &bytes, &fds)) {
                Ok(Err(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(sent) => break sent,
                Err(_would_block) => {}
            }
        };
        if let Err(error) = sent {
            self.waiting().replies.remove(&number);
            return Err(RuntimeError::Shim(format!("ask the shim: {error}")));
        }
        match receive.await {
            Ok(reply) => reply.map_err(|failure| RuntimeError::Shim(failure.to_string())),
            Err(_) => Err(RuntimeError::Shim(lost().to_string())),
        }
    }

    /// Hears of the end of an exec. Ask before it is started; an error is the end of the shim.
    pub fn exec_exit(&self, exec: &str) -> oneshot::Receiver<i32> {
        let (send, receive) = oneshot::channel();
        let mut waiting = self.waiting();
        if waiting.open {
            waiting.execs.insert(exec.to_owned(), send);
        }
        receive
    }

    /// Of an exec that could not be started.
    pub fn forget_exec(&self, exec: &str) {
        self.waiting().execs.remove(exec);
    }

    /// Waits for the shim's end.
    pub async fn closed(&self) {
        let mut closed = self.closed.subscribe();
        // The sender lives as long as self.
        let _ = closed.wait_for(|c| *c).await;
    }
}
