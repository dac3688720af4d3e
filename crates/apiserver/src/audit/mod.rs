//! Audit: a record of who asked for what and how it ended, as a policy wants it (`k8s.io/apiserver/pkg/audit`).

pub mod backend;
pub mod batch;
mod event;
pub mod log_file;
pub mod objects;
pub mod policy;
pub mod policy_file;
mod source;
mod trail;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use backend::{Backend, Delivery};
use event::{Event, Moment};
use metrics::{Kind, Metric, Page, Source};
use policy::{Applied, Level, Policy};
pub use trail::Trail;

use crate::http::request_info::RequestInfo;
use crate::http::user::User;

/// The header that clients name a request by, and are told its name.
pub const AUDIT_ID: &str = "audit-id";

/// A server's policy, where its events go, and how many there were.
pub struct Audit {
    policy: Policy,
    backends: Vec<Backend>,
    events: AtomicU64,
    rejected: AtomicU64,
    /// Requests by the level that the policy gave them.
    levels: [AtomicU64; Level::ALL.len()],
}

impl Audit {
    /// Records what `policy` says in all of `backends`.
    pub fn new(policy: Policy, backends: Vec<Backend>) -> Arc<Audit> {
        Arc::new(Audit {
            policy,
            backends,
            events: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            levels: Default::default(),
        })
    }

    /// Begins the record of a request.
    pub fn begin(self: &Arc<Audit>, parts: &http::request::Parts, peer: Option<IpAddr>, id: String) -> Trail {
        Trail::begin(
            self.clone(),
            Event {
                audit_id: id,
                request_uri: source::uri(&parts.uri),
                source_ips: source::addresses(&parts.headers, peer),
                user_agent: source::user_agent(&parts.headers),
                received: jiff::Timestamp::now(),
                ..Event::default()
            },
        )
    }

    fn evaluate(&self, info: &RequestInfo, user: Option<&User>) -> Applied {
        let applied = self.policy.evaluate(info, user);
        self.levels[applied.level as usize].fetch_add(1, Ordering::Relaxed);
        applied
    }

    /// Hands an event to all backends; those that have to be waited for are answered.
    fn process(&self, event: &Event, moment: Moment) -> (bool, Vec<Delivery<'static>>) {
        self.events.fetch_add(1, Ordering::Relaxed);
        let (mut all, mut pending) = (true, Vec::new());
        for backend in &self.backends {
            match backend.process(event, moment) {
                Delivery::Done(done) => all &= done,
                later @ Delivery::Pending(_) => pending.push(later),
            }
        }
        (all, pending)
    }

    /// Delivers what waits to be delivered; nothing is taken any more.
    pub async fn close(&self) {
        for backend in &self.backends {
            backend.close().await;
        }
    }
}

impl Source for Audit {
    fn show(&self, page: &mut Page) {
        const ERRORS: Metric = Metric::alpha(
            "apiserver_audit_error_total",
            "Counter of audit events that failed to be audited properly. Plugin identifies the plugin affected by the error.",
        );
        const EVENTS: Metric = Metric::alpha(
            "apiserver_audit_event_total",
            "Counter of audit events generated and sent to the audit backend.",
        );
        const LEVELS: Metric = Metric::alpha(
            "apiserver_audit_level_total",
            "Counter of policy levels for audit events (1 per request).",
        );
        const REJECTED: Metric = Metric::alpha(
            "apiserver_audit_requests_rejected_total",
            "Counter of apiserver requests rejected due to an error in audit logging backend.",
        );
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut errors = page.samples(&ERRORS, Kind::Counter);
        for backend in self.backends.iter().filter(|backend| read(&backend.errors) > 0) {
            errors.count(&[("plugin", backend.name())], read(&backend.errors));
        }
        page.samples(&EVENTS, Kind::Counter).count(&[], read(&self.events));
        let mut levels = page.samples(&LEVELS, Kind::Counter);
        for (level, count) in Level::ALL.iter().zip(&self.levels).filter(|(_, count)| read(count) > 0) {
            levels.count(&[("level", level.name())], read(count));
        }
        page.samples(&REJECTED, Kind::Counter).count(&[], read(&self.rejected));
    }
}
