//! Requests whose connection becomes the caller's own after the answer: exec, attach and port-forward.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;

use crate::client::error_of;
use crate::https::connect;
use crate::{Error, HttpsTransport, Result};

/// The connection after the upgrade.
pub type Upgraded = TokioIo<hyper::upgrade::Upgraded>;

impl HttpsTransport {
    /// Sends a request that asks for an upgrade, on a connection of its own. The headers of the answer, and the connection.
    ///
    /// # Errors
    /// The server's refusal if it answers anything but 101.
    pub async fn upgrade(&self, request: Request<Bytes>) -> Result<(HeaderMap, Upgraded)> {
        let path = request.uri().path().to_owned();
        let mut connector = self.inner.connector.clone();
        // Upgrades are of HTTP/1.1 alone.
        let mut tls = (*connector.tls).clone();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        connector.tls = Arc::new(tls);
        let mut request = self.inner.complete(request)?;
        let uri = request.uri().clone();
        if let Some(authority) = uri.authority()
            && let Ok(host) = http::HeaderValue::from_str(authority.as_str())
        {
            request.headers_mut().insert(http::header::HOST, host);
        }
        *request.uri_mut() = uri
            .path_and_query()
            .map_or("/", |p| p.as_str())
            .parse()
            .map_err(http::Error::from)?;
        let broken = |e: hyper::Error| Error::connection(&path, e);
        let io = connect(connector, uri).await.map_err(|e| Error::connection(&path, e))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.map_err(broken)?;
        // Ends with the connection; its error is seen by whoever reads or writes.
        tokio::spawn(connection.with_upgrades().map(drop));
        let response = sender.send_request(request).await.map_err(broken)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let at = path.clone();
            let response = response.map(move |body| body.map_err(move |e| Error::connection(&at, e)).boxed_unsync());
            return Err(error_of("GET", &path, response).await);
        }
        let headers = response.headers().clone();
        let upgraded = hyper::upgrade::on(response).await.map_err(broken)?;
        Ok((headers, TokioIo::new(upgraded)))
    }
}
