//! `/metrics`: what the server and the other parts of its process have counted.

use ::metrics::{CONTENT_TYPE, Kind, Metric, Page, Source};
use http::{HeaderValue, Response, header};

use crate::server::ApiServer;
use crate::server::body::{self, Body};
use crate::server::in_flight::InFlight;

const OBJECTS: Metric = Metric::stable("apiserver_storage_objects", "Stored objects, by resource.");
const EVENTS: Metric = Metric::beta(
    "apiserver_storage_events_received_total",
    "Changes that the datastore has told, by group and resource.",
);
const SIZE: Metric = Metric::stable(
    "apiserver_storage_size_bytes",
    "Bytes that the datastore takes on disk.",
);
const REVISION: Metric = Metric::alpha("apiserver_storage_revision", "The revision of the datastore.");

/// All of it.
pub fn page(server: &ApiServer) -> Response<Body> {
    let mut page = Page::default();
    api::features::show(&mut page);
    api::version::show(&mut page, &server.version.git_version);
    ::metrics::process::show(&mut page);
    server.registry.metrics.show(&mut page);
    stored(server, &mut page);
    if let InFlight::Fair(fair) = &server.limits.in_flight {
        fair.show(&mut page);
    }
    if let Some(audit) = &server.audit {
        audit.show(&mut page);
    }
    server.others.show(&mut page);
    page.count_metrics();
    response(&page)
}

/// What pods ask for.
pub fn pod_resources(server: &ApiServer) -> Response<Body> {
    let mut page = Page::default();
    if let Some(resources) = server.pod_resources.get() {
        resources.show(&mut page);
    }
    response(&page)
}

/// What the datastore has of each resource.
#[allow(clippy::cast_precision_loss)]
fn stored(server: &ApiServer, page: &mut Page) {
    let store = &server.registry.store;
    let catalog = server.registry.catalog();
    for served in catalog.all().filter(|served| served.resource.is_stored_version()) {
        let resource = &served.resource;
        let count = served.cache.len() as f64;
        page.samples(&OBJECTS, Kind::Gauge)
            .number(&[("resource", &resource.qualified())], count);
        let labels = [("group", &*resource.group), ("resource", &*resource.plural)];
        page.samples(&EVENTS, Kind::Counter)
            .count(&labels, served.cache.events());
    }
    page.samples(&SIZE, Kind::Gauge)
        .number(&[("storage_cluster_id", "etcd-0")], store.size() as f64);
    page.number(&REVISION, store.revision() as f64);
}

/// A page as it is scraped.
pub(super) fn response(page: &Page) -> Response<Body> {
    let mut response = Response::new(body::full(page.text()));
    let media_type = HeaderValue::from_static(CONTENT_TYPE);
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}
