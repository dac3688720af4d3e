//! What one connection is doing, so that one which does nothing, or does not take its answers, comes to an end.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a client has for its TLS handshake and the head of its first request: upstream's `ReadHeaderTimeout`.
pub const FIRST_REQUEST: Duration = Duration::from_secs(32);
/// How long a connection may be without a request: upstream's `IdleTimeout`.
pub const IDLE: Duration = Duration::from_secs(90);
/// Bytes that are handed to the connection at once: what waits there is no longer ours to bound.
const PIECE: usize = 256 << 10;

#[derive(Debug, Default)]
struct Open {
    next: u64,
    /// Requests that are being answered, in the order in which they came, and until when their clients must have taken
    /// the answer. Answers that may last have no such time.
    requests: BTreeMap<u64, Option<Instant>>,
    /// When the last request ended; before the first one, when the connection was made.
    idle_since: Option<Instant>,
    /// The deadline that is waited for; `None` while nobody waits, or for none.
    waiting: Option<Instant>,
}

impl Open {
    /// When the connection is over if nothing happens.
    fn deadline(&self) -> Option<Instant> {
        if self.requests.is_empty() {
            return self
                .idle_since
                .map(|at| at + if self.next == 0 { FIRST_REQUEST } else { IDLE });
        }
        self.requests.values().flatten().min().copied()
    }
}

/// The requests of one connection.
#[derive(Debug)]
pub struct Activity {
    open: Mutex<Open>,
    /// There is an earlier deadline than the one that is waited for.
    earlier: Notify,
}

/// A request that is being answered.
#[derive(Debug)]
pub struct Ongoing {
    activity: Arc<Activity>,
    id: u64,
}

impl Activity {
    /// Of a connection that has just been made.
    pub fn start() -> Arc<Activity> {
        let open = Open {
            idle_since: Some(Instant::now()),
            ..Open::default()
        };
        Arc::new(Activity {
            open: Mutex::new(open),
            earlier: Notify::new(),
        })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a request has come.
    pub fn begin(self: &Arc<Self>) -> Ongoing {
        let mut open = self.open();
        let id = open.next;
        open.next += 1;
        open.requests.insert(id, None);
        Ongoing {
            activity: self.clone(),
            id,
        }
    }

    /// Wakes who waits for a later deadline than this. Under load there is none: each is later than the one before.
    fn wake(&self, open: &Open, deadline: Instant) {
        if open.waiting.is_none_or(|waiting| deadline < waiting) {
            self.earlier.notify_one();
        }
    }

    /// Returns when the connection has been without a request for too long, or a client has not taken an answer in time.
    pub async fn over(&self) {
        loop {
            let deadline = {
                let mut open = self.open();
                open.waiting = open.deadline();
                open.waiting
            };
            match deadline {
                Some(deadline) if deadline <= Instant::now() => return,
                Some(deadline) => {
                    // whichever comes first, what holds then is looked at anew
                    let _ = tokio::time::timeout_at(deadline, self.earlier.notified()).await;
                }
                None => self.earlier.notified().await,
            }
        }
    }
}

impl Ongoing {
    /// The body of the answer: it ends this when it has been sent, lets go of `held`, and must be taken by then.
    pub fn answer<B: Body<Data = Bytes> + Unpin, H: Unpin>(
        self,
        body: B,
        held: H,
        by: Option<Instant>,
    ) -> Answer<B, H> {
        if let Some(by) = by.filter(|_| !body.is_end_stream()) {
            let mut open = self.activity.open();
            open.requests.insert(self.id, Some(by));
            self.activity.wake(&open, by);
        }
        Answer {
            body,
            rest: Bytes::new(),
            _held: (self, held),
        }
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        let mut open = self.activity.open();
        open.requests.remove(&self.id);
        if open.requests.is_empty() {
            let now = Instant::now();
            open.idle_since = Some(now);
            self.activity.wake(&open, now + IDLE);
        }
    }
}

/// A body that is handed over in pieces.
#[derive(Debug)]
pub struct Answer<B, H> {
    body: B,
    rest: Bytes,
    _held: (Ongoing, H),
}

impl<B: Body<Data = Bytes> + Unpin, H: Unpin> Body for Answer<B, H> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            match Pin::new(&mut this.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                other => return other,
            }
        }
        let size = this.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(this.rest.split_to(size)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.body.size_hint();
        let rest = self.rest.len() as u64;
        let mut all = SizeHint::new();
        all.set_lower(hint.lower() + rest);
        if let Some(upper) = hint.upper() {
            all.set_upper(upper + rest);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    fn full(bytes: impl Into<Bytes>) -> Full<Bytes> {
        Full::new(bytes.into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_ends_and_one_with_a_lasting_answer_does_not() {
        let activity = Activity::start();
        let begun = Instant::now();
        activity.over().await;
        assert_eq!(begun.elapsed(), FIRST_REQUEST);

        let lasting = activity.begin();
        let long = Duration::from_secs(10_000);
        assert!(tokio::time::timeout(long, activity.over()).await.is_err());
        let waiting = tokio::spawn({
            let activity = activity.clone();
            async move { activity.over().await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        let ended = Instant::now();
        drop(lasting);
        waiting.await.unwrap();
        assert_eq!(ended.elapsed(), IDLE);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_takes_ends_its_connection() {
        let activity = Activity::start();
        let _watch = activity.begin();
        let by = Instant::now() + Duration::from_secs(60);
        let body = activity.begin().answer(full("some"), (), Some(by));
        activity.over().await;
        assert_eq!(Instant::now(), by);
        drop(body);
        let long = Duration::from_secs(10_000);
        assert!(tokio::time::timeout(long, activity.over()).await.is_err());
    }

    #[tokio::test]
    async fn a_large_body_goes_out_in_pieces() {
        let activity = Activity::start();
        let mut body = activity.begin().answer(full(vec![7u8; PIECE * 2 + 1]), (), None);
        let mut sizes = Vec::new();
        while let Some(frame) = body.frame().await {
            sizes.push(frame.unwrap().into_data().unwrap().len());
        }
        assert_eq!(sizes, [PIECE, PIECE, 1]);
    }
}
