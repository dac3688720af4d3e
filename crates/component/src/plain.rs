//! `/metrics` by plain HTTP, as CoreDNS serves it: for whoever reaches the address.

use std::net::SocketAddr;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use metrics::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use crate::server::{ServeError, accept, metrics_of, page, plain};

/// A server that answers until it is dropped.
pub struct Plain {
    _task: AbortOnDropHandle<()>,
}

impl Plain {
    /// Serves what a registry shows.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn start(address: SocketAddr, metrics: Registry) -> Result<Plain, ServeError> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| ServeError::Listen { address, source })?;
        let task = tokio::spawn(accept(listener, move |tcp| connection(tcp, metrics.clone())));
        Ok(Plain {
            _task: AbortOnDropHandle::new(task),
        })
    }
}

async fn connection(tcp: TcpStream, metrics: Registry) {
    let answer = move |request: Request<Incoming>, ongoing: serving::Ongoing| {
        let metrics = metrics.clone();
        async move {
            let response = match (request.method(), request.uri().path()) {
                (&Method::GET, "/metrics") => page(&metrics_of(&metrics)),
                _ => plain(StatusCode::NOT_FOUND, "404 page not found\n"),
            };
            response.map(|body| ongoing.answer(body, (), None))
        }
    };
    let (http1, activity) = (serving::Protocol::Http1, serving::Activity::start());
    let served = serving::serve(tcp, http1, &activity, answer, std::future::pending());
    if let Err(error) = served.await {
        tracing::debug!(%error, "connection ended");
    }
}
