//! The way to an API server whose client certificate is replaced while it is used.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

use crate::{Body, Config, HttpsTransport, ListWatch, Result, Transport, Upgraded, WatchEvent, list_watch_over};

/// Requests go over connections made with the newest certificate; answers that last end with the connection they began on, and followed
/// collections go on over a new one.
#[derive(Clone)]
pub struct RotatingTransport {
    current: Arc<ArcSwap<HttpsTransport>>,
}

impl RotatingTransport {
    /// # Errors
    /// For a server that is no URL, and certificates that cannot be read.
    pub fn new(config: &Config) -> Result<RotatingTransport> {
        Ok(RotatingTransport {
            current: Arc::new(ArcSwap::from_pointee(HttpsTransport::new(config)?)),
        })
    }

    /// Requests from now on are made as this configuration says.
    ///
    /// # Errors
    /// As `new`; the old configuration then stays.
    pub fn replace(&self, config: &Config) -> Result<()> {
        self.current.store(Arc::new(HttpsTransport::new(config)?));
        Ok(())
    }
}

impl RotatingTransport {
    /// As [`HttpsTransport::upgrade`], with the newest certificate.
    ///
    /// # Errors
    /// The server's refusal if it answers anything but 101.
    pub async fn upgrade(&self, request: http::Request<Bytes>) -> Result<(http::HeaderMap, Upgraded)> {
        let current = self.current.load_full();
        current.upgrade(request).await
    }
}

impl Transport for RotatingTransport {
    fn call(&self, request: http::Request<Bytes>) -> BoxFuture<'static, Result<http::Response<Body>>> {
        self.current.load().call(request)
    }

    fn list_watch(&self, request: ListWatch) -> BoxStream<'static, WatchEvent> {
        let current = self.current.clone();
        // the server ends each watch within minutes: that is when it moves to the new connection
        list_watch_over(Arc::new(move |request| current.load().watch(request)), request)
    }
}
