//! Where events go: a log or a webhook, at once or in batches, whole or without their objects when they are too large.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use jiff::Timestamp;

use crate::audit::batch::{BatchConfig, Batches};
use crate::audit::event::{Event, Moment};
use crate::audit::log_file::LogFile;
use crate::audit::policy::Level;

/// How events are written to a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    /// A line of text.
    Legacy,
}

/// Sends lists of events to a server.
pub trait Post: Send + Sync {
    /// Sends a body in JSON; tries again where that helps.
    fn post(&self, body: Bytes) -> BoxFuture<'_, Result<(), Box<dyn std::error::Error + Send + Sync>>>;
}

/// Why events are not delivered.
#[derive(Debug, thiserror::Error)]
enum DeliveryError {
    /// The log cannot be written, in Go's words.
    #[error("{0}")]
    Log(String),
    #[error(transparent)]
    Server(#[from] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Encode(#[from] serde_json::Error),
    #[error("event is too large even after truncating")]
    TooLarge,
}

/// What delivers events.
pub enum Out {
    Log(LogFile, Format),
    Webhook(Box<dyn Post>),
}

/// When events are delivered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// Before the request goes on.
    Blocking,
    /// So, and a request whose receipt cannot be recorded is refused.
    Strict,
    Batch(BatchConfig),
}

/// One place that events go to.
pub struct Backend {
    name: &'static str,
    /// Bytes of an event.
    max_event: Option<u64>,
    out: Arc<Out>,
    way: Way,
    /// Events that were not delivered.
    pub errors: Arc<AtomicU64>,
}

enum Way {
    Now { strict: bool },
    Later(Batches),
}

/// What becomes of an event: whether the request may go on.
pub enum Delivery<'a> {
    Done(bool),
    Pending(BoxFuture<'a, bool>),
}

impl Out {
    fn name(&self) -> &'static str {
        match self {
            Out::Log(..) => "log",
            Out::Webhook(_) => "webhook",
        }
    }

    /// An event as it is delivered: a line, or an item of a list.
    fn write(&self, event: &Event, moment: Moment, truncated: bool) -> serde_json::Result<Vec<u8>> {
        match self {
            Out::Log(_, Format::Legacy) => Ok(format!("{}\n", event.line(moment)).into_bytes()),
            Out::Log(_, Format::Json) => {
                let mut line = event.write(moment, true, truncated)?;
                line.push(b'\n');
                Ok(line)
            }
            Out::Webhook(_) => event.write(moment, false, truncated),
        }
    }

    /// Delivers events to a log.
    fn log(log: &LogFile, events: &[Vec<u8>]) -> Result<(), DeliveryError> {
        let now = Timestamp::now();
        let written = events.iter().try_for_each(|line| log.write(line, now));
        written.map_err(|error| DeliveryError::Log(api::go::io_error(&error)))
    }

    async fn deliver(&self, events: &[Vec<u8>]) -> Result<(), DeliveryError> {
        match self {
            Out::Log(log, _) => Out::log(log, events),
            Out::Webhook(post) => Ok(post.post(list(events)).await?),
        }
    }
}

/// An EventList.
fn list(events: &[Vec<u8>]) -> Bytes {
    let head = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#;
    [head.as_slice(), &events.join(&b','), b"]}\n"].concat().into()
}

fn note(errors: &AtomicU64, name: &str, count: usize, why: &dyn std::error::Error) {
    errors.fetch_add(count as u64, Ordering::Relaxed);
    tracing::error!(%why, events = count, "audit events are not delivered to the {name}");
}

impl Backend {
    /// Starts to deliver.
    pub fn new(out: Out, mode: Mode, max_event: Option<u64>) -> Backend {
        let out = Arc::new(out);
        let errors = Arc::new(AtomicU64::new(0));
        let name = out.name();
        let way = match mode {
            Mode::Blocking => Way::Now { strict: false },
            Mode::Strict => Way::Now { strict: true },
            Mode::Batch(config) => {
                let (out, errors) = (out.clone(), errors.clone());
                Way::Later(Batches::start(config, move |batch| {
                    let (out, errors) = (out.clone(), errors.clone());
                    async move {
                        if let Err(why) = out.deliver(&batch).await {
                            note(&errors, name, batch.len(), &why);
                        }
                    }
                }))
            }
        };
        Backend {
            name,
            max_event,
            out,
            way,
            errors,
        }
    }

    /// What the backend is called in logs: `log` or `webhook`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The event within the limit of its size.
    fn encode(&self, event: &Event, moment: Moment) -> Result<Vec<u8>, DeliveryError> {
        let write = |truncated| self.out.write(event, moment, truncated);
        let large = |bytes: &[u8]| self.max_event.is_some_and(|most| bytes.len() as u64 > most);
        let mut bytes = write(false)?;
        if large(&bytes) && event.level >= Level::Request {
            bytes = write(true)?;
        }
        match large(&bytes) {
            true => Err(DeliveryError::TooLarge),
            false => Ok(bytes),
        }
    }

    /// Delivers an event as far as it can be without waiting.
    pub fn process(&self, event: &Event, moment: Moment) -> Delivery<'static> {
        let bytes = match self.encode(event, moment) {
            Ok(bytes) => bytes,
            Err(why) => {
                note(&self.errors, self.name, 1, &why);
                return Delivery::Done(true);
            }
        };
        match (&self.way, &*self.out) {
            (Way::Later(batches), _) => {
                if let Err(why) = batches.put(bytes) {
                    note(&self.errors, self.name, 1, &why);
                }
                Delivery::Done(true)
            }
            (Way::Now { strict }, Out::Log(log, _)) => {
                let written = Out::log(log, &[bytes]);
                if let Err(why) = &written {
                    note(&self.errors, self.name, 1, why);
                }
                Delivery::Done(written.is_ok() || !strict)
            }
            (Way::Now { strict }, Out::Webhook(_)) => {
                let (out, errors, strict, name) = (self.out.clone(), self.errors.clone(), *strict, self.name);
                Delivery::Pending(Box::pin(async move {
                    let sent = out.deliver(&[bytes]).await;
                    if let Err(why) = &sent {
                        note(&errors, name, 1, why);
                    }
                    sent.is_ok() || !strict
                }))
            }
        }
    }

    /// Delivers what waits.
    pub async fn close(&self) {
        if let Way::Later(batches) = &self.way {
            batches.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::audit::policy::Stage;

    struct Server(Arc<Mutex<Vec<Bytes>>>, bool);

    impl Post for Server {
        fn post(&self, body: Bytes) -> BoxFuture<'_, Result<(), Box<dyn std::error::Error + Send + Sync>>> {
            Box::pin(async move {
                self.0.lock().unwrap().push(body);
                if self.1 { Ok(()) } else { Err("it broke".into()) }
            })
        }
    }

    fn moment() -> Moment {
        Moment {
            stage: Stage::RequestReceived,
            at: Timestamp::UNIX_EPOCH,
        }
    }

    async fn process(backend: &Backend, event: &Event) -> bool {
        match backend.process(event, moment()) {
            Delivery::Done(done) => done,
            Delivery::Pending(pending) => pending.await,
        }
    }

    #[tokio::test]
    async fn a_webhook_is_sent_lists_and_its_failure_matters_where_it_is_strict() {
        for (mode, works, goes_on) in [
            (Mode::Blocking, true, true),
            (Mode::Blocking, false, true),
            (Mode::Strict, false, false),
        ] {
            let sent = Arc::default();
            let backend = Backend::new(Out::Webhook(Box::new(Server(Arc::clone(&sent), works))), mode, None);
            assert_eq!(process(&backend, &Event::default()).await, goes_on);
            assert_eq!(backend.errors.load(Ordering::Relaxed), u64::from(!works));
            let list: serde_json::Value = serde_json::from_slice(&sent.lock().unwrap()[0]).unwrap();
            assert_eq!(list["kind"], "EventList");
            assert_eq!(list["items"][0]["stage"], "RequestReceived");
        }
    }

    #[tokio::test]
    async fn what_is_too_large_loses_its_objects_or_is_lost() {
        let sent = Arc::default();
        let backend = Backend::new(
            Out::Webhook(Box::new(Server(Arc::clone(&sent), true))),
            Mode::Strict,
            Some(500),
        );
        let mut event = Event {
            level: Level::Request,
            request_object: Some(vec![b'1'; 1000].into()),
            ..Event::default()
        };
        assert!(process(&backend, &event).await);
        assert!(sent.lock().unwrap()[0].len() < 600);
        event.request_uri = "x".repeat(1000);
        assert!(process(&backend, &event).await);
        assert_eq!(
            (sent.lock().unwrap().len(), backend.errors.load(Ordering::Relaxed)),
            (1, 1)
        );
    }
}
