//! Requests, how long they took, and how large what was read is.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::StatusCode;
use metrics::{Counter, Family, Gauge, Histogram, Metric, Page, exponential};

use super::{Asked, InFlight, Metrics};
use crate::registry::resource::Resource;

const COMPONENT: &str = "apiserver";
/// Seconds.
const DURATIONS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];
/// Bytes.
const SIZES: [f64; 7] = exponential(1000.0, 10.0);

const TOTAL: Metric = Metric::stable(
    "apiserver_request_total",
    "Requests by verb, whether they were tried only, group, version, resource, scope, component and the code of their answer.",
);
const DURATION: Metric = Metric::stable(
    "apiserver_request_duration_seconds",
    "Seconds from a request to its answer by verb, whether it was tried only, group, version, resource, subresource, scope and \
     component.",
);
const SIZE: Metric = Metric::stable(
    "apiserver_response_sizes",
    "Bytes of answers to requests that read, by group, version, verb, resource, subresource, scope and component.",
);
const LASTING: Metric = Metric::stable(
    "apiserver_longrunning_requests",
    "Requests that last and are still answered, by verb, group, version, resource, scope and component.",
);
const DEPRECATED: Metric = Metric::stable(
    "apiserver_requested_deprecated_apis",
    "Deprecated APIs that were asked for, by group, version, resource, subresource and the release that will be without them.",
);

/// What is counted of all requests.
pub struct Requests {
    total: Family<9, Counter>,
    durations: Family<8, Histogram>,
    sizes: Family<7, Histogram>,
    lasting: Family<7, Gauge>,
    deprecated: Family<5, Gauge>,
    pub in_flight: InFlight,
}

impl Requests {
    pub(super) fn new() -> Requests {
        let asked = [
            "component",
            "group",
            "resource",
            "scope",
            "subresource",
            "verb",
            "version",
        ];
        Requests {
            total: Family::counters(
                TOTAL,
                [
                    "code",
                    "component",
                    "dry_run",
                    "group",
                    "resource",
                    "scope",
                    "subresource",
                    "verb",
                    "version",
                ],
            ),
            durations: Family::histograms(
                DURATION,
                [
                    "component",
                    "dry_run",
                    "group",
                    "resource",
                    "scope",
                    "subresource",
                    "verb",
                    "version",
                ],
                &DURATIONS,
            ),
            sizes: Family::histograms(SIZE, asked, &SIZES),
            lasting: Family::gauges(LASTING, asked),
            deprecated: Family::gauges(
                DEPRECATED,
                ["group", "removed_release", "resource", "subresource", "version"],
            ),
            in_flight: InFlight::new(),
        }
    }

    pub(super) fn show(&self, page: &mut Page) {
        self.total.show(page);
        self.durations.show(page);
        self.sizes.show(page);
        self.lasting.show(page);
        self.deprecated.show(page);
        self.in_flight.show(page);
    }

    /// Counts a request that was refused before it had its turn.
    pub fn dropped(&self, asked: &Asked) {
        self.count(asked, "429");
    }

    fn count(&self, asked: &Asked, code: &str) {
        let Asked {
            verb,
            dry_run,
            group,
            version,
            plural,
            subresource,
            scope,
            ..
        } = asked;
        let labels = [
            code,
            COMPONENT,
            dry_run,
            group,
            plural,
            scope,
            subresource,
            verb,
            version,
        ];
        self.total.with(labels).increment();
    }

    #[allow(clippy::cast_precision_loss)]
    fn answered(&self, asked: &Asked, code: &str, size: u64, took: Duration) {
        let Asked {
            verb,
            dry_run,
            group,
            version,
            plural,
            subresource,
            scope,
            reads,
        } = asked;
        self.count(asked, code);
        let labels = [COMPONENT, dry_run, group, plural, scope, subresource, verb, version];
        self.durations.with(labels).observe_time(took);
        if *reads {
            let labels = [COMPONENT, group, plural, scope, subresource, verb, version];
            self.sizes.with(labels).observe(size as f64);
        }
    }

    /// Counts a request that lasts, until what it returns is dropped.
    pub fn lasts(&self, asked: &Asked) -> Lasting {
        let Asked {
            verb,
            group,
            version,
            plural,
            subresource,
            scope,
            ..
        } = asked;
        let gauge = self
            .lasting
            .with([COMPONENT, group, plural, scope, subresource, verb, version]);
        gauge.add(1);
        Lasting(gauge)
    }

    /// Notes that a deprecated resource was asked for.
    pub fn deprecated(&self, resource: &Resource, subresource: &str) {
        let Some(text) = &resource.deprecation else { return };
        let labels = [
            resource.group.as_str(),
            removed_in(text),
            &resource.plural,
            subresource,
            &resource.version,
        ];
        self.deprecated.with(labels).set(1);
    }
}

/// The release that a deprecation says will be without it: `1.25` of `...; unavailable in v1.25+`.
fn removed_in(text: &str) -> &str {
    let release = text.split_once("unavailable in v").map_or("", |(_, rest)| rest);
    let end = release.find(|c: char| c != '.' && !c.is_ascii_digit());
    &release[..end.unwrap_or(release.len())]
}

/// A request that lasts.
#[derive(Debug)]
pub struct Lasting(Arc<Gauge>);

impl Drop for Lasting {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

/// What a request turns out to be for; what is never said is not counted.
pub type Told = Arc<OnceLock<Asked>>;

/// A request that is being answered: it is counted when its answer has been sent, or given up.
pub struct Measured {
    metrics: Arc<Metrics>,
    begun: Instant,
    told: Told,
    code: StatusCode,
    size: u64,
}

impl Measured {
    /// A request that came at `begun` and whose answer has this code.
    pub fn new(metrics: &Arc<Metrics>, begun: Instant, told: Told, code: StatusCode) -> Measured {
        Measured {
            metrics: metrics.clone(),
            begun,
            told,
            code,
            size: 0,
        }
    }

    /// Bytes of the answer go out.
    pub fn sent(&mut self, bytes: u64) {
        self.size += bytes;
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        if let Some(asked) = self.told.get() {
            let took = self.begun.elapsed();
            let code = self.code.as_str();
            self.metrics.requests.answered(asked, code, self.size, took);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deprecation_names_the_release_without_the_api() {
        assert_eq!(
            removed_in("x/v1beta1 Y is deprecated in v1.22+, unavailable in v1.25+; use x/v1 Y"),
            "1.25"
        );
        assert_eq!(
            removed_in("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
            ""
        );
    }

    #[test]
    fn a_request_is_counted_once_it_is_answered() {
        let metrics = Arc::new(Metrics::default());
        let told = Told::default();
        told.set(Asked::page("/livez")).unwrap();
        let mut measured = Measured::new(&metrics, Instant::now(), told, StatusCode::OK);
        measured.sent(2);
        let text = || {
            let mut page = Page::default();
            metrics.requests.show(&mut page);
            page.text()
        };
        assert!(!text().contains("apiserver_request_total"));
        drop(measured);
        let labels =
            r#"component="apiserver",group="",resource="",scope="",subresource="/livez",verb="GET",version="""#;
        assert!(text().contains(&format!("apiserver_response_sizes_sum{{{labels}}} 2\n")));
        drop(Measured::new(&metrics, Instant::now(), Told::default(), StatusCode::OK));
        assert_eq!(text().matches("apiserver_request_total{").count(), 1);
    }
}
