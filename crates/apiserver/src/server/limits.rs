//! What the server takes on at a time.

use std::sync::Arc;
use std::time::Duration;

use crate::server::in_flight::InFlight;
use crate::server::intake::Budget;
use crate::server::lane::Lane;

/// Limits of requests, bodies and long work; the defaults are upstream's.
#[derive(Debug)]
pub struct Limits {
    pub in_flight: InFlight,
    /// How long a request may take that does not last: `--request-timeout`.
    pub request_timeout: Duration,
    pub bodies: Arc<Budget>,
    pub lane: Lane,
}

impl Limits {
    /// Requests that read and requests that write, at a time (0: no limit), how long one may take, and what gives memory
    /// back to the system.
    pub fn new(reading: usize, writing: usize, request_timeout: Duration, give_back: fn()) -> Limits {
        Limits {
            in_flight: InFlight::new(reading, writing, request_timeout),
            request_timeout,
            bodies: Budget::of_server(),
            lane: Lane::new(give_back),
        }
    }
}
