//! Bodies of requests: read once it is known who sends them and that he may, within bounded sums and times.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::http::MAX_BODY;
use crate::http::status::{ApiError, Result};
use crate::server::in_flight::too_many;

/// Bytes of bodies that are held for one connection.
const EACH_CONNECTION: usize = 12 << 20;
/// Bytes of bodies that are held in all.
const ALL: usize = 32 << 20;

/// A sum of bytes with a limit.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    fn new(limit: usize) -> Arc<Budget> {
        Arc::new(Budget {
            used: AtomicUsize::new(0),
            limit,
        })
    }

    /// What all connections of a server have together.
    pub fn of_server() -> Arc<Budget> {
        Budget::new(ALL)
    }

    /// What one connection has.
    pub fn of_connection() -> Arc<Budget> {
        Budget::new(EACH_CONNECTION)
    }

    fn take(&self, bytes: usize) -> bool {
        let more = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .is_ok()
    }
}

/// Bytes taken from both budgets; given back when this is dropped.
#[derive(Debug)]
pub struct Held {
    budgets: [Arc<Budget>; 2],
    bytes: usize,
}

impl Held {
    fn add(&mut self, bytes: usize) -> bool {
        let [connection, server] = &self.budgets;
        if !connection.take(bytes) {
            return false;
        }
        if !server.take(bytes) {
            connection.used.fetch_sub(bytes, Ordering::AcqRel);
            return false;
        }
        self.bytes += bytes;
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for budget in &self.budgets {
            budget.used.fetch_sub(self.bytes, Ordering::AcqRel);
        }
    }
}

/// Makes room by steps: doubled, the room that many large bodies do not use would be as much as they are.
fn grow(all: &mut Vec<u8>, more: usize) {
    const STEP: usize = 256 << 10;
    if all.capacity() - all.len() < more {
        let room = if all.len() < STEP { all.len() } else { STEP };
        all.reserve_exact(more.max(room));
    }
}

/// The body of a request: not read yet, or handed over whole by a component of this process.
#[derive(Debug)]
pub enum Payload {
    Whole(Bytes),
    Coming { body: Incoming, connection: Arc<Budget> },
}

impl Default for Payload {
    fn default() -> Payload {
        Payload::Whole(Bytes::new())
    }
}

/// Whether a body that nobody reads is passed over before its request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leave(bool);

impl Leave {
    /// As Go's server has it: one connection after the other in HTTP/1, unless the client waits to be told to send, or sends more than
    /// is worth it.
    pub fn of(parts: &http::request::Parts) -> Leave {
        let told = parts.headers.contains_key(http::header::EXPECT);
        let length = parts.headers.get(http::header::CONTENT_LENGTH);
        let length: Option<usize> = length.and_then(|length| length.to_str().ok()?.parse().ok());
        Leave(parts.version <= http::Version::HTTP_11 && !told && length.is_none_or(|length| length < PASSED_OVER))
    }
}

/// Bytes of a body that are passed over, and how long they are waited for.
const PASSED_OVER: usize = 256 << 10;
const PASSING: Duration = Duration::from_secs(2);

impl Payload {
    /// Lets the rest of a short body go by: a connection that is closed while its client sends takes the answer with it.
    pub async fn pass_over(self, leave: Leave) {
        let Payload::Coming { mut body, .. } = self else { return };
        if !leave.0 {
            return;
        }
        let passing = async {
            let mut passed = 0;
            while let Some(Ok(frame)) = body.frame().await {
                passed += frame.data_ref().map_or(0, Bytes::len);
                if passed > PASSED_OVER {
                    return;
                }
            }
        };
        // who is slower than that reads the answer or does not
        let _ = tokio::time::timeout(PASSING, passing).await;
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// `413` when it is too large, `429` when too much is held already, `504` when it does not come in time, `400` when
    /// the connection breaks off.
    pub async fn read(self, server: &Arc<Budget>, within: Duration) -> Result<(Bytes, Option<Held>)> {
        let (mut body, connection) = match self {
            Payload::Whole(bytes) => return Ok((bytes, None)),
            Payload::Coming { body, connection } => (body, connection),
        };
        if hyper::body::Body::is_end_stream(&body) {
            return Ok((Bytes::new(), None));
        }
        let mut held = Held {
            budgets: [connection, server.clone()],
            bytes: 0,
        };
        let reading = async {
            let mut first: Option<Bytes> = None;
            let mut all = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|e| ApiError::bad_request(format!("error reading the body: {e}")))?;
                let Ok(data) = frame.into_data() else { continue };
                if held.bytes + data.len() > MAX_BODY {
                    return Err(ApiError::too_large(MAX_BODY));
                }
                if !held.add(data.len()) {
                    return Err(too_many());
                }
                match (&first, all.is_empty()) {
                    // most bodies come in one piece, which is not copied
                    (None, true) => first = Some(data),
                    _ => {
                        if let Some(first) = first.take() {
                            grow(&mut all, first.len());
                            all.extend_from_slice(&first);
                        }
                        grow(&mut all, data.len());
                        all.extend_from_slice(&data);
                    }
                }
            }
            Ok(first.unwrap_or_else(|| all.into()))
        };
        match tokio::time::timeout(within, reading).await {
            Ok(read) => read.map(|bytes| (bytes, Some(held))),
            Err(_) => Err(ApiError::timeout(
                "request did not complete within the allotted timeout",
                0,
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_bounded_and_given_back() {
        let server = Budget::new(10);
        let held = |connection: &Arc<Budget>| Held {
            budgets: [connection.clone(), server.clone()],
            bytes: 0,
        };
        let (a, b) = (Budget::new(6), Budget::new(6));
        let mut first = held(&a);
        assert!(first.add(6));
        assert!(!first.add(1), "more than a connection may");
        let mut second = held(&b);
        assert!(!second.add(5), "more than all may");
        assert!(second.add(4));
        drop(first);
        assert!(held(&a).add(6));
        drop(second);
        assert_eq!(server.used.load(Ordering::Acquire), 0);
        assert_eq!(b.used.load(Ordering::Acquire), 0);
    }
}
