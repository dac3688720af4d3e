//! What is served beside the API on the same port, for whoever embeds the server.

use std::sync::Arc;

use futures::future::BoxFuture;
use http::Response;
use http::request::Parts;
use hyper::upgrade::OnUpgrade;

use crate::authentication::certificate::Peer;
use crate::server::body::Body;
use crate::server::intake::Payload;

/// Pages that are not the API's. Their requests pass none of its layers.
pub trait Beside: Send + Sync {
    /// Whether requests for this path are answered here and not by the API.
    fn serves(&self, path: &str) -> bool;

    /// Answers one request; `upgrade` is the connection after an answer that says 101, if the client asked for that, and `peer` its
    /// other end, whose certificate has been verified.
    fn answer(
        self: Arc<Self>,
        parts: Parts,
        payload: Payload,
        upgrade: Option<OnUpgrade>,
        peer: Arc<Peer>,
    ) -> BoxFuture<'static, Response<Body>>;
}
