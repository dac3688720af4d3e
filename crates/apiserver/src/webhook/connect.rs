//! Connections to servers that users configure: TLS over TCP, kept by the pool as long as they are of use.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::service::{RouteError, Service};
use super::trust;
use crate::egress::{self, Way};
use crate::registry::Registry;

/// Go's limits of time.
const DIAL: Duration = Duration::from_secs(30);
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What to connect to.
#[derive(Debug, Clone)]
pub enum Target {
    Host {
        host: String,
        port: u16,
    },
    /// Its address is looked up for each connection.
    Service(Service),
    /// The host of the request, which was looked up before: the Service or one of its endpoints.
    Asked(Service),
}

/// Opens connections to one webhook or extension server.
#[derive(Clone)]
pub struct Connector {
    pub registry: Arc<Registry>,
    pub target: Arc<Target>,
    pub tls: TlsConnector,
}

/// Why there is no connection, in Go's words.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The Service leads nowhere.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The name of the host has no address.
    #[error("dial tcp: lookup {0}: no such host")]
    NoHost(String),
    /// Nobody takes connections at the address.
    #[error("dial tcp {address}: connect: {why}")]
    Refused {
        /// The host and the port.
        address: String,
        /// What the system says, in Go's words.
        why: String,
    },
    /// There was no connection to this host and port in time.
    #[error("dial tcp {0}: i/o timeout")]
    Timeout(String),
    /// No certificate can have the name of the host.
    #[error(transparent)]
    Name(#[from] rustls_pki_types::InvalidDnsNameError),
    /// The server did not finish the handshake in time.
    #[error("net/http: TLS handshake timeout")]
    HandshakeTimeout,
    /// The handshake failed.
    #[error("{0}")]
    Handshake(String),
}

/// One connection, as hyper wants it.
pub struct Io {
    stream: TokioIo<TlsStream<egress::Stream>>,
    used: Used,
}

/// Whether a connection has brought an answer. What a server does not answer on one that has may be asked again on another: it may
/// have been closed meanwhile.
#[derive(Debug, Clone, Default)]
pub struct Used(Arc<AtomicBool>);

impl Used {
    /// An answer came.
    pub fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether one came before.
    pub fn before(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Connector {
    /// A connection of its own, beside the pool.
    ///
    /// # Errors
    /// In Go's words.
    pub async fn dial(self, to: Uri) -> Result<TlsStream<egress::Stream>, ConnectError> {
        let (host, port, name) = match &*self.target {
            Target::Asked(service) => {
                let host = to.host().unwrap_or_default();
                let host = host.trim_start_matches('[').trim_end_matches(']');
                (host.to_owned(), to.port_u16().unwrap_or(443), service.server_name())
            }
            Target::Host { host, port } => (host.clone(), *port, host.clone()),
            Target::Service(service) => {
                let (host, port) = service.route(&self.registry, false)?;
                (host, port, service.server_name())
            }
        };
        let stream = match self.way(&host) {
            Some(way) => through(&way, &host, port).await?,
            None => Either::Left(dial(&host, port).await?),
        };
        let server = ServerName::try_from(name.clone())?;
        let shaken = timeout(HANDSHAKE, self.tls.connect(server, stream));
        let shaken = shaken.await.map_err(|_| ConnectError::HandshakeTimeout)?;
        shaken.map_err(|e| ConnectError::Handshake(trust::problem(&e, &name)))
    }

    /// The way to an endpoint, where it is not the direct one.
    fn way(&self, address: &str) -> Option<Way> {
        let egress = &self.registry.egress;
        let (Target::Asked(service) | Target::Service(service)) = &*self.target else {
            return None;
        };
        if !egress.has_pods() {
            return None;
        }
        egress.to_pods(&service.node_of(&self.registry, address)?)
    }

    async fn connect(self, to: Uri) -> Result<Io, ConnectError> {
        Ok(Io {
            stream: TokioIo::new(self.dial(to).await?),
            used: Used::default(),
        })
    }
}

async fn through(way: &Way, host: &str, port: u16) -> Result<egress::Stream, ConnectError> {
    let address = match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    match timeout(DIAL, way.connect(host, port)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(refused(address, &error)),
        Err(_) => Err(ConnectError::Timeout(address)),
    }
}

fn refused(address: String, error: &std::io::Error) -> ConnectError {
    let why = api::go::io_error(error);
    ConnectError::Refused { address, why }
}

async fn dial(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let nowhere = || ConnectError::NoHost(host.to_owned());
    let found = tokio::net::lookup_host((host, port)).await;
    let found = found.map_err(|_| nowhere())?;
    let mut last = nowhere();
    for address in found {
        last = match timeout(DIAL, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "cannot set TCP_NODELAY");
                }
                return Ok(stream);
            }
            Ok(Err(error)) => refused(address.to_string(), &error),
            Err(_) => ConnectError::Timeout(address.to_string()),
        };
    }
    Err(last)
}

impl tower::Service<Uri> for Connector {
    type Response = Io;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Io, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        Box::pin(self.clone().connect(to))
    }
}

impl Connection for Io {
    fn connected(&self) -> Connected {
        let (_, session) = self.stream.inner().get_ref();
        let connected = Connected::new().extra(self.used.clone());
        match session.alpn_protocol() {
            Some(b"h2") => connected.negotiated_h2(),
            _ => connected,
        }
    }
}

impl hyper::rt::Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl hyper::rt::Write for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
