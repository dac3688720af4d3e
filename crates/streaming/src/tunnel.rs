//! Connections through one connection, to where nobody can connect: HTTP/2 with its roles turned around. Who was connected to asks for
//! `CONNECT host:port`; who made the connection connects there and passes on what comes, both ways. Many go at a time, each with
//! flow control of its own.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2 as client;
use hyper::server::conn::http2 as server;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// What the connection is upgraded to.
pub const PROTOCOL: &str = "skiff-tunnel";

/// How often each side asks the other whether it is still there, and how long it waits for an answer. Routers forget connections on
/// which nothing is said for some minutes.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(15);
/// Bytes that may be on their way on a stream.
const STREAM_WINDOW: u32 = 256 << 10;
/// The same of all streams: the most there is, so that streams whose receiver does not read hold up no others.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
const MAX_STREAMS: u32 = 10_000;
/// The system's number of the error for which there is no connection.
const OS_ERROR: &str = "skiff-os-error";
/// Bytes of an explanation.
const EXPLANATION: usize = 4096;

/// A connection through the tunnel.
pub type Stream = TokioIo<Upgraded>;

/// Asks the other end for connections.
#[derive(Debug, Clone)]
pub struct Asker {
    requests: client::SendRequest<Empty<Bytes>>,
}

/// Takes a connection into use, as who asks. The future passes bytes on, and ends with the connection.
///
/// # Errors
/// When the other end does not speak HTTP/2.
pub async fn asker<I>(io: I) -> hyper::Result<(Asker, impl Future<Output = hyper::Result<()>> + Send)>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = client::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_ANSWER)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(TokioIo::new(io));
    let (requests, connection) = handshake.await?;
    Ok((Asker { requests }, connection))
}

impl Asker {
    /// A connection from the other end to `host:port`.
    ///
    /// # Errors
    /// The other end's, when it cannot or will not connect; when the tunnel has ended.
    pub async fn connect(&self, host: &str, port: u16) -> io::Result<Stream> {
        let authority = match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        let request = Request::builder().method(Method::CONNECT).uri(authority);
        let request = request.body(Empty::new()).map_err(io::Error::other)?;
        let ended = |e: hyper::Error| io::Error::new(io::ErrorKind::NotConnected, e);
        let mut requests = self.requests.clone();
        requests.ready().await.map_err(ended)?;
        let response = requests.send_request(request).await.map_err(ended)?;
        if response.status() == StatusCode::OK {
            return Ok(TokioIo::new(hyper::upgrade::on(response).await.map_err(ended)?));
        }
        if let Some(number) = os_error(response.headers()) {
            return Err(io::Error::from_raw_os_error(number));
        }
        let kind = match response.status() {
            StatusCode::FORBIDDEN => io::ErrorKind::PermissionDenied,
            StatusCode::GATEWAY_TIMEOUT => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::Other,
        };
        let why = Limited::new(response.into_body(), EXPLANATION).collect().await;
        let why = why.map_err(io::Error::other)?.to_bytes();
        Err(io::Error::new(kind, String::from_utf8_lossy(&why).into_owned()))
    }
}

fn os_error(headers: &HeaderMap) -> Option<i32> {
    headers.get(OS_ERROR)?.to_str().ok()?.parse().ok()
}

/// Answers the other end until the connection ends or `stop`; `dial` makes the connections that it asks for, or says why not.
///
/// # Errors
/// When the connection breaks.
pub async fn answer<I, D, F>(io: I, dial: D, stop: impl Future<Output = ()>) -> hyper::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    D: Fn(String, u16) -> F + Send + Sync + 'static,
    F: Future<Output = io::Result<TcpStream>> + Send + 'static,
{
    let dial = Arc::new(dial);
    let service = service_fn(move |request| {
        let dial = dial.clone();
        async move { Ok::<_, Infallible>(respond(request, &*dial).await) }
    });
    let connection = server::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_ANSWER)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .serve_connection(TokioIo::new(io), service);
    tokio::select! {
        ended = pin!(connection) => ended,
        () = stop => Ok(()),
    }
}

async fn respond<D, F>(mut request: Request<Incoming>, dial: &D) -> Response<Full<Bytes>>
where
    D: Fn(String, u16) -> F,
    F: Future<Output = io::Result<TcpStream>>,
{
    let place = request.uri().authority().and_then(|a| Some((a.host(), a.port_u16()?)));
    let Some((host, port)) = place.filter(|_| request.method() == Method::CONNECT) else {
        return refusal(StatusCode::BAD_REQUEST, "only CONNECT host:port is answered");
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let mut there = match dial(host, port).await {
        Ok(there) => there,
        Err(error) => return failure(&error),
    };
    if let Err(error) = there.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let ended = async {
            let mut here = TokioIo::new(upgrade.await.map_err(io::Error::other)?);
            tokio::io::copy_bidirectional(&mut here, &mut there).await
        };
        if let Err(error) = ended.await {
            tracing::debug!(%error, "a connection through the tunnel ended");
        }
    });
    Response::new(Full::default())
}

fn failure(error: &io::Error) -> Response<Full<Bytes>> {
    let status = match error.kind() {
        io::ErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
        io::ErrorKind::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    };
    let mut response = refusal(status, &error.to_string());
    if let Some(number) = error.raw_os_error() {
        response.headers_mut().insert(OS_ERROR, HeaderValue::from(number));
    }
    response
}

fn refusal(status: StatusCode, why: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(why.to_owned()));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A tunnel whose other end connects to this machine alone.
    async fn tunnel() -> Asker {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let dial = |host: String, port: u16| async move {
            match host.as_str() {
                "127.0.0.1" => TcpStream::connect((host.as_str(), port)).await,
                _ => Err(io::Error::new(io::ErrorKind::PermissionDenied, "not this machine")),
            }
        };
        tokio::spawn(answer(theirs, dial, std::future::pending()));
        let (asker, connection) = asker(ours).await.unwrap();
        tokio::spawn(connection);
        asker
    }

    /// A server that gives back what it is given, until its client has nothing more to say.
    async fn echo() -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        port
    }

    #[tokio::test]
    async fn many_connections_go_through_one_each_to_its_end() {
        let (asker, port) = (tunnel().await, echo().await);
        let all = (0..20u8).map(|n| {
            let asker = asker.clone();
            async move {
                let stream = asker.connect("127.0.0.1", port).await.unwrap();
                let (mut read, mut write) = tokio::io::split(stream);
                let sent = vec![n; 1 << 20];
                let both = async {
                    write.write_all(&sent).await.unwrap();
                    write.shutdown().await.unwrap();
                };
                let mut back = Vec::new();
                let (_, got) = tokio::join!(both, read.read_to_end(&mut back));
                got.unwrap();
                assert_eq!(back, sent);
            }
        });
        futures::future::join_all(all).await;
    }

    #[tokio::test]
    async fn a_connection_that_is_not_read_holds_up_no_other() {
        let (asker, port) = (tunnel().await, echo().await);
        let mut unread = Vec::new();
        for _ in 0..3 {
            let mut stream = asker.connect("127.0.0.1", port).await.unwrap();
            let fill = async {
                let more = vec![0; 64 << 10];
                while stream.write_all(&more).await.is_ok() {}
            };
            let filled = tokio::time::timeout(Duration::from_millis(300), fill).await;
            assert!(filled.is_err(), "the connection stays");
            unread.push(stream);
        }
        let mut stream = asker.connect("127.0.0.1", port).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        let mut back = [0; 5];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"hello");
    }

    #[tokio::test]
    async fn why_there_is_no_connection_is_told() {
        let asker = tunnel().await;
        let unused = {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            listener.local_addr().unwrap().port()
        };
        let refused = asker.connect("127.0.0.1", unused).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let elsewhere = asker.connect("::1", unused).await.unwrap_err();
        assert_eq!(elsewhere.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(elsewhere.to_string(), "not this machine");
    }

    #[tokio::test]
    async fn a_tunnel_that_has_ended_says_so() {
        let (ours, theirs) = tokio::io::duplex(1024);
        let dial = |_: String, _: u16| async { Err(io::ErrorKind::Other.into()) };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let answering = tokio::spawn(answer(theirs, dial, async { drop(stopped.await) }));
        let (asker, connection) = asker(ours).await.unwrap();
        let connection = tokio::spawn(connection);
        stop.send(()).unwrap();
        answering.await.unwrap().unwrap();
        let _ = connection.await.unwrap();
        let error = asker.connect("127.0.0.1", 1).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotConnected);
    }
}
