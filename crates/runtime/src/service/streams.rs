//! exec, attach and port-forward: addresses that work once, and the server that answers there.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cri::v1;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use streaming::remote_command::{Options, Session};
use streaming::{Accepted, Kind, Status, negotiate, port_forward};
use tokio::net::TcpListener;

use super::error::{Result, RuntimeError};
use super::{Runtime, forward, new_id, terminal};

/// How long an address may wait for its client.
const LIFE: Duration = Duration::from_secs(60);
/// Addresses that may wait; more are somebody's mistake.
const MOST: usize = 1000;

#[derive(Debug, Clone)]
pub(crate) enum Task {
    Exec(v1::ExecRequest),
    Attach(v1::AttachRequest),
    PortForward(v1::PortForwardRequest),
}

impl Task {
    fn name(&self) -> &'static str {
        match self {
            Self::Exec(_) => "exec",
            Self::Attach(_) => "attach",
            Self::PortForward(_) => "portforward",
        }
    }
}

/// The server's address and who is expected there.
#[derive(Debug)]
pub struct Streams {
    address: SocketAddr,
    expected: Mutex<HashMap<String, (Instant, Task)>>,
}

impl Streams {
    /// Listens on the loopback interface, where only the kubelet of this node comes from.
    pub async fn listen() -> std::io::Result<(Self, TcpListener)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let streams = Self {
            address: listener.local_addr()?,
            expected: Mutex::default(),
        };
        Ok((streams, listener))
    }

    fn expected(&self) -> MutexGuard<'_, HashMap<String, (Instant, Task)>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An address for one client.
    pub fn expect(&self, task: Task) -> Result<String> {
        let token = new_id()?;
        let name = task.name();
        let mut expected = self.expected();
        expected.retain(|_, (since, _)| since.elapsed() < LIFE);
        if expected.len() >= MOST {
            return Err(RuntimeError::State(
                "maximum number of in-flight requests exceeded".to_owned(),
            ));
        }
        expected.insert(token.clone(), (Instant::now(), task));
        Ok(format!("http://{}/{name}/{token}", self.address))
    }

    fn take(&self, path: &str) -> Option<Task> {
        let (name, token) = path.trim_start_matches('/').split_once('/')?;
        let (since, task) = self.expected().remove(token)?;
        (task.name() == name && since.elapsed() < LIFE).then_some(task)
    }
}

/// Answers until the runtime is gone.
pub async fn serve(runtime: std::sync::Weak<Runtime>, listener: TcpListener) {
    loop {
        let (tcp, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors: some will be given back.
                tracing::warn!(%error, "streaming server");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(runtime) = runtime.upgrade() else { return };
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, "streaming server");
        }
        tokio::spawn(async move {
            let answer = move |request, ongoing: serving::Ongoing| {
                let runtime = runtime.clone();
                async move { handle(runtime, request).map(|body| ongoing.answer(body, (), None)) }
            };
            let (http1, activity) = (serving::Protocol::Http1, serving::Activity::start());
            let served = serving::serve(tcp, http1, &activity, answer, std::future::pending());
            if let Err(error) = served.await {
                tracing::debug!(%error, "streaming server");
            }
        });
    }
}

fn handle(runtime: Arc<Runtime>, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    let Some(task) = runtime.streams.take(request.uri().path()) else {
        let mut response = Response::new(Full::from("404 page not found\n"));
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    };
    let kind = match task {
        Task::PortForward(_) => Kind::PortForward,
        _ => Kind::RemoteCommand,
    };
    let accepted = match negotiate(kind, request.headers()) {
        Ok(accepted) => accepted,
        Err(refused) => return refused.response(),
    };
    if let Task::PortForward(asked) = &task
        && accepted.has_channels()
        && asked.port.is_empty()
    {
        let mut response = Response::new(Full::from("query parameter \"port\" is required"));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return response;
    }
    let response = accepted.response(Full::default());
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let name = task.name();
        let served = match upgrade.await {
            Ok(io) => perform(&runtime, task, &accepted, TokioIo::new(io)).await,
            Err(error) => Err(std::io::Error::other(error)),
        };
        if let Err(error) = served {
            tracing::debug!(%error, "{name} ended");
        }
    });
    response
}

async fn perform(
    runtime: &Arc<Runtime>,
    task: Task,
    accepted: &Accepted,
    io: TokioIo<hyper::upgrade::Upgraded>,
) -> std::io::Result<()> {
    match task {
        Task::Exec(request) => {
            let options = Options {
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
                tty: request.tty,
            };
            let mut session = Session::open(accepted, io, options).await?;
            let status = match terminal::exec(runtime, request, &mut session).await {
                Ok(code) => Status::exit_code(code),
                Err(error) => Status::error(error.to_string()),
            };
            session.finish(&status).await
        }
        Task::Attach(request) => {
            let options = Options {
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
                tty: request.tty,
            };
            let mut session = Session::open(accepted, io, options).await?;
            let status = match terminal::attach(runtime, request, &mut session).await {
                Ok(()) => Status::success(),
                Err(error) => Status::error(error.to_string()),
            };
            session.finish(&status).await
        }
        Task::PortForward(request) => {
            let target = forward::Target::new(runtime, &request.pod_sandbox_id).map_err(std::io::Error::other)?;
            let ports: Vec<u16> = request
                .port
                .iter()
                .filter_map(|port| u16::try_from(*port).ok())
                .collect();
            port_forward::serve(accepted, io, &ports, move |port| target.clone().connect(port)).await
        }
    }
}
