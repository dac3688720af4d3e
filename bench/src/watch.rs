//! Watches as a measurement needs them: events with the moment they came, or only their number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::http::Endpoint;

/// One event: when its last byte came, its type, its object.
pub struct Event {
    pub at: Instant,
    pub kind: String,
    pub object: Value,
}

/// A watch on a connection of its own.
pub struct Watch {
    events: mpsc::UnboundedReceiver<Event>,
}

impl Watch {
    /// `path` without `watch=true`, with at least one other parameter.
    pub async fn open(endpoint: &Endpoint, path: &str) -> Result<Watch> {
        let mut connection = endpoint.connect().await?;
        let body = connection.stream(&format!("{path}&watch=true")).await?;
        let (sender, events) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            // what ends the stream is seen as the channel's end
            drop(read(body, sender).await);
            drop(connection);
        });
        Ok(Watch { events })
    }

    /// The next event, by `deadline`.
    pub async fn next(&mut self, deadline: Instant, what: &str) -> Result<Event> {
        match tokio::time::timeout_at(deadline.into(), self.events.recv()).await {
            Ok(Some(event)) => Ok(event),
            Ok(None) => Err(Error::said(format!("the watch ended before: {what}"))),
            Err(_) => Err(Error::said(format!("never: {what}"))),
        }
    }

    /// The event that has it, within a minute or two.
    pub async fn until(&mut self, what: &str, mut holds: impl FnMut(&Event) -> bool) -> Result<Event> {
        let deadline = Instant::now() + Duration::from_secs(150);
        loop {
            let event = self.next(deadline, what).await?;
            if holds(&event) {
                return Ok(event);
            }
        }
    }
}

async fn read(mut body: Incoming, events: mpsc::UnboundedSender<Event>) -> Result<()> {
    let mut line = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame?;
        let Some(data) = frame.data_ref() else { continue };
        let at = Instant::now();
        for part in data.split_inclusive(|b| *b == b'\n') {
            line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let mut event: Value = serde_json::from_slice(&line)?;
                line.clear();
                let sent = events.send(Event {
                    at,
                    kind: event["type"].as_str().unwrap_or_default().to_owned(),
                    object: event["object"].take(),
                });
                if sent.is_err() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// A watcher that counts what it is given into `count`, until it is aborted.
pub async fn count(endpoint: &Endpoint, path: &str, count: Arc<AtomicU64>) -> Result<tokio::task::JoinHandle<()>> {
    let mut connection = endpoint.connect().await?;
    let mut body = connection.stream(&format!("{path}&watch=true")).await?;
    Ok(tokio::spawn(async move {
        while let Some(Ok(frame)) = body.frame().await {
            if let Some(data) = frame.data_ref() {
                count.fetch_add(memchr::memchr_iter(b'\n', data).count() as u64, Ordering::Relaxed);
            }
        }
        drop(connection);
    }))
}
