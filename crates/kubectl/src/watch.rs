//! A watch as a stream of events, for the eyes or for a condition.

use std::time::Duration;

use bytes::BytesMut;
use client::Body;
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::Value;

use crate::api::{Api, Call, JSON, Query};
use crate::error::{Error, Result, message};
use crate::select::Info;
use crate::session::Session;

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Event {
    /// `ADDED`, `MODIFIED`, `DELETED` or `BOOKMARK`.
    #[serde(rename = "type")]
    pub kind: String,
    pub object: Value,
}

/// The events of one watch request.
pub struct Events {
    body: Body,
    /// `--request-timeout`: then the watch ends as if the server had ended it.
    deadline: Option<tokio::time::Instant>,
    pending: BytesMut,
    path: String,
}

/// Starts a watch of a collection; `query` says from which version, and selects.
pub async fn open(api: &Api, path: &str, mut query: Query, accept: &'static str) -> Result<Events> {
    query.push(("watch", "true".to_owned()));
    let answer = api.open(&Call::get(path).accept(accept).query(query)).await?;
    Ok(Events {
        body: answer.into_body(),
        deadline: api.timeout().map(|limit| tokio::time::Instant::now() + limit),
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
                let event: Event = serde_json::from_slice(&line).map_err(|source| client::Error::Decode {
                    path: self.path.clone(),
                    source,
                })?;
                if event.kind == "ERROR" {
                    let status = serde_json::from_value(event.object).map_err(|e| message(format!("watch: {e}")))?;
                    return Err(Error::Api(client::Error::Api(Box::new(status))));
                }
                return Ok(Some(event));
            }
            let frame = match self.deadline {
                None => self.body.frame().await,
                Some(deadline) => tokio::time::timeout_at(deadline, self.body.frame())
                    .await
                    .unwrap_or(None),
            };
            match frame {
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

/// The least time between two lists of an object whose watches end at once.
const AGAIN: Duration = Duration::from_millis(100);

/// Follows one object until `seen` has enough; it is given `None` while the object is not there.
pub async fn follow<T>(
    session: &Session,
    info: &Info,
    mut seen: impl FnMut(Option<&Value>) -> Result<Option<T>>,
) -> Result<T> {
    let api = session.api()?;
    let path = info.ty.collection(&info.namespace);
    let named = ("fieldSelector", format!("metadata.name={}", info.name));
    loop {
        let list = api.json(&Call::get(&path).query(vec![named.clone()])).await?;
        if let Some(done) = seen(list["items"].get(0))? {
            return Ok(done);
        }
        let version = list["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let mut events = open(api, &path, vec![named.clone(), ("resourceVersion", version)], JSON).await?;
        loop {
            match events.next().await {
                Ok(Some(event)) => {
                    let object = (event.kind != "DELETED").then_some(&event.object);
                    if let Some(done) = seen(object)? {
                        return Ok(done);
                    }
                }
                // The server ends every watch some day, and forgets old versions: start again from a list.
                Ok(None) => break,
                Err(e) if e.http_code() == Some(410) => break,
                Err(e) => return Err(e),
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}
