//! A watch as a stream of events, for the eyes or for a condition.

use bytes::BytesMut;
use client::Body;
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::Value;

use crate::api::{Api, Call, Query};
use crate::error::{Error, Result, message};

#[derive(Debug, Clone, Deserialize)]
pub struct Event {
    /// `ADDED`, `MODIFIED`, `DELETED` or `BOOKMARK`.
    #[serde(rename = "type")]
    pub kind: String,
    pub object: Value,
}

/// The events of one watch request.
pub struct Events {
    body: Body,
    pending: BytesMut,
    path: String,
}

/// Starts a watch of a collection; `query` says from which version, and selects.
pub async fn open(api: &Api, path: &str, mut query: Query, accept: &'static str) -> Result<Events> {
    query.push(("watch", "true".to_owned()));
    let answer = api.open(&Call::get(path).accept(accept).query(query)).await?;
    Ok(Events {
        body: answer.into_body(),
        pending: BytesMut::new(),
        path: path.to_owned(),
    })
}

impl Events {
    /// The next event; `None` when the server ends the watch.
    ///
    /// # Errors
    /// What the server says in an `ERROR` event, and lost connections.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            while let Some(end) = self.pending.iter().position(|b| *b == b'\n') {
                let line = self.pending.split_to(end + 1);
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                let event: Event = serde_json::from_slice(&line).map_err(|source| {
                    client::Error::Decode {
                        path: self.path.clone(),
                        source,
                    }
                })?;
                if event.kind == "ERROR" {
                    let status = serde_json::from_value(event.object).map_err(|e| message(format!("watch: {e}")))?;
                    return Err(Error::Api(client::Error::Api(Box::new(status))));
                }
                return Ok(Some(event));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.pending.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}
