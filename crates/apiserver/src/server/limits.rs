//! What the server takes on at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::server::in_flight::InFlight;
use crate::server::intake::Budget;
use crate::server::lane::Lane;

/// Limits of requests, bodies and long work; the defaults are upstream's.
pub struct Limits {
    pub in_flight: InFlight,
    /// How long a request may take that does not last: `--request-timeout`.
    pub request_timeout: Duration,
    pub bodies: Arc<Budget>,
    /// Requests that read much and are worked on at the same time: they leave a thread to those that read little, which would else wait
    /// for all of them, however few seats they have.
    pub wide: Semaphore,
    pub lane: Lane,
}

impl Limits {
    /// Who may be answered, how long a request may take, and what gives memory back to the system.
    pub fn new(in_flight: InFlight, request_timeout: Duration, give_back: fn()) -> Limits {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Limits {
            in_flight,
            request_timeout,
            bodies: Budget::of_server(),
            wide: Semaphore::new(threads.saturating_sub(1).max(1)),
            lane: Lane::new(give_back),
        }
    }
}
