//! A connection as every component serves it: HTTP/1.1, or HTTP/2 where the handshake agreed on it, with upstream's limits
//! of time and an end for connections that do nothing or do not take their answers.
#![deny(missing_docs)]

mod activity;
mod certificate;
mod tls;

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

pub use activity::{Activity, Answer, FIRST_REQUEST, IDLE, Ongoing};
pub use certificate::{Certificate, CertificateError};
pub use tls::{TlsError, TlsSettings};

/// How long a connection that was told to end may go on with answers that have begun.
pub const DRAIN: Duration = Duration::from_secs(1);
/// Streams of one HTTP/2 connection, as upstream's.
const MAX_STREAMS: u32 = 250;
/// Bytes of one stream, and of all streams of a connection, that a client may send before they are read.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, one request after the other.
    Http1,
    /// HTTP/2, at most 250 requests at a time.
    Http2,
}

impl Protocol {
    /// By the name that a TLS handshake agreed on; who names none speaks HTTP/1.1.
    pub fn of(alpn: Option<&[u8]>) -> Protocol {
        match alpn {
            Some(b"h2") => Protocol::Http2,
            _ => Protocol::Http1,
        }
    }
}

/// Answers the requests of one connection until its client ends it, `activity` is over, or `stop` completes; answers that
/// have begun then have a moment to end. Each answer is handed what keeps the connection in use until it has been sent.
///
/// # Errors
/// What hyper says of a connection that broke off.
pub async fn serve<I, B, A, F>(
    io: I,
    protocol: Protocol,
    activity: &Arc<Activity>,
    answer: A,
    stop: impl Future<Output = ()>,
) -> Result<(), hyper::Error>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    A: Fn(Request<Incoming>, Ongoing) -> F,
    F: Future<Output = Response<B>> + Send + 'static,
{
    let service = service_fn(|request| {
        let answered = answer(request, activity.begin());
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let over = async {
        tokio::select! {
            () = activity.over() => {}
            () = stop => {}
        }
    };
    let ended = match protocol {
        Protocol::Http2 => {
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(MAX_STREAMS)
                .keep_alive_interval(Some(Duration::from_secs(30)))
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .serve_connection(TokioIo::new(io), service);
            until_over(pin!(connection), |c| c.graceful_shutdown(), over).await
        }
        Protocol::Http1 => {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(IDLE)
                .serve_connection(TokioIo::new(io), service)
                .with_upgrades();
            until_over(pin!(connection), |c| c.graceful_shutdown(), over).await
        }
    };
    ended.unwrap_or(Ok(()))
}

/// Drives a connection to its end; once it is over, `shut` tells it so, and it has a moment to end by itself.
async fn until_over<C: Future>(
    mut connection: Pin<&mut C>,
    shut: impl FnOnce(Pin<&mut C>),
    over: impl Future<Output = ()>,
) -> Option<C::Output> {
    tokio::select! {
        ended = connection.as_mut() => return Some(ended),
        () = over => shut(connection.as_mut()),
    }
    tokio::time::timeout(DRAIN, connection).await.ok()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Full;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    /// A connection whose every answer is `ok`, and how it ended.
    fn connect(protocol: Protocol) -> (DuplexStream, tokio::task::JoinHandle<Result<(), hyper::Error>>) {
        let (client, server) = tokio::io::duplex(64 << 10);
        let served = tokio::spawn(async move {
            let activity = Activity::start();
            let answer = |_, ongoing: Ongoing| async move {
                let body = Full::new(Bytes::from_static(b"ok"));
                Response::new(ongoing.answer(body, (), None))
            };
            serve(server, protocol, &activity, answer, std::future::pending()).await
        });
        (client, served)
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_or_says_it_too_slowly_is_sent_away() {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            for said in ["", "GET / HTTP/1.1\r\nHos"] {
                let begun = tokio::time::Instant::now();
                let (mut client, served) = connect(protocol);
                client.write_all(said.as_bytes()).await.unwrap();
                // how it ended is the client's fault
                let _ = served.await.unwrap();
                assert!(begun.elapsed() <= FIRST_REQUEST + DRAIN, "{protocol:?} {said:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_may_be_used_again_until_it_is_idle_for_too_long() {
        let (mut client, served) = connect(Protocol::Http1);
        for _ in 0..3 {
            client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\nok") {
                client.read_buf(&mut answer).await.unwrap();
            }
            assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
            tokio::time::sleep(IDLE - Duration::from_secs(1)).await;
        }
        let _ = served.await.unwrap();
        assert_eq!(
            client.read_u8().await.unwrap_err().kind(),
            std::io::ErrorKind::UnexpectedEof
        );
    }
}
