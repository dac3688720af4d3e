//! What the API server counts, under upstream's names (`k8s.io/apiserver/pkg/endpoints/metrics` and others). Labels stand in
//! alphabetical order, as they are shown.

mod admission;
mod asked;
mod in_flight;
mod requests;
mod watches;

use std::sync::Arc;

use metrics::{Counter, DEFAULT_BOUNDS, Histogram, Metric, Page, Source};

pub use admission::{Admissions, PluginTimes, Step};
pub use asked::Asked;
pub use in_flight::{InFlight, Load};
pub use requests::{Measured, Requests, Told};
pub use watches::{Watched, Watches};

/// All that is counted while requests are answered.
pub struct Metrics {
    pub requests: Requests,
    pub watches: Watches,
    pub admission: Admissions,
    pub expressions: Arc<Expressions>,
    pub tokens: Tokens,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            requests: Requests::new(),
            watches: Watches::new(),
            admission: Admissions::new(),
            expressions: Arc::default(),
            tokens: Tokens::default(),
        }
    }
}

impl Source for Metrics {
    fn show(&self, page: &mut Page) {
        self.requests.show(page);
        self.watches.show(page);
        self.admission.show(page);
        self.expressions.show(page);
        self.tokens.show(page);
    }
}

/// Times of the validation rules of custom resources.
#[derive(Debug)]
pub struct Expressions {
    /// Of the rules of one place in a schema.
    pub compilation: Histogram,
    pub evaluation: Histogram,
}

impl Default for Expressions {
    fn default() -> Expressions {
        Expressions {
            compilation: Histogram::new(&DEFAULT_BOUNDS),
            evaluation: Histogram::new(&DEFAULT_BOUNDS),
        }
    }
}

impl Expressions {
    fn show(&self, page: &mut Page) {
        const COMPILATION: Metric = Metric::beta(
            "apiserver_cel_compilation_duration_seconds",
            "How long it took to compile the CEL rules of a place in a schema.",
        );
        const EVALUATION: Metric = Metric::beta(
            "apiserver_cel_evaluation_duration_seconds",
            "How long it took to evaluate the CEL rules of a place in an object.",
        );
        page.histogram(&COMPILATION, &self.compilation);
        page.histogram(&EVALUATION, &self.evaluation);
    }
}

/// Tokens of service accounts that were accepted.
#[derive(Debug, Default)]
pub struct Tokens {
    /// Bound to an object, with a time of their own.
    pub valid: Counter,
    /// Those of them that should have been renewed. This server issues none whose time is prolonged, so there are none.
    pub stale: Counter,
    /// Kept in Secrets.
    pub legacy: Counter,
}

impl Tokens {
    fn show(&self, page: &mut Page) {
        const VALID: Metric = Metric::beta(
            "serviceaccount_valid_tokens_total",
            "Service account tokens in time that requests were made with.",
        );
        const STALE: Metric = Metric::beta(
            "serviceaccount_stale_tokens_total",
            "Service account tokens past their time that requests were made with.",
        );
        const LEGACY: Metric = Metric::beta(
            "serviceaccount_legacy_tokens_total",
            "Service account tokens of Secrets that requests were made with.",
        );
        page.counter(&VALID, &self.valid);
        page.counter(&STALE, &self.stale);
        page.counter(&LEGACY, &self.legacy);
    }
}
