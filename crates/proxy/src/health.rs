//! Who asks whether the proxy is well: load balancers a service's health check node port, people `/healthz`.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use metrics::{Kind, Metric, Page};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::model::HealthCheck;

/// How the proxy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub last_updated: jiff::Timestamp,
    /// The last change could be made.
    pub committed: bool,
    /// New traffic may come to this node.
    pub node_eligible: bool,
    pub failures: u64,
}

type Answer = Response<Full<Bytes>>;

fn answer(status: StatusCode, kind: &'static str, body: String) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        header::HeaderValue::from_static("nosniff"),
    );
    response
}

fn status(well: bool) -> StatusCode {
    if well {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

/// Serves one address until dropped.
async fn serve<F>(address: SocketAddr, handle: F) -> std::io::Result<AbortOnDropHandle<()>>
where
    F: Fn(&Request<Incoming>) -> Answer + Send + Sync + 'static,
{
    let listener = TcpListener::bind(address).await?;
    let handle = Arc::new(handle);
    let task = tokio::spawn(async move {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(e) => {
                    tracing::warn!("{address}: {e}");
                    // out of file descriptors: another connection must end first
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let handle = handle.clone();
            tokio::spawn(async move {
                let answer = move |request: Request<Incoming>, ongoing: serving::Ongoing| {
                    let response = handle(&request).map(|body| ongoing.answer(body, (), None));
                    async move { response }
                };
                let (http1, activity) = (serving::Protocol::Http1, serving::Activity::start());
                let served = serving::serve(stream, http1, &activity, answer, std::future::pending());
                if let Err(e) = served.await {
                    tracing::debug!("{address}: {e}");
                }
            });
        }
    });
    Ok(AbortOnDropHandle::new(task))
}

/// `/healthz` is for load balancers (an ineligible node is not well), `/livez` for those who would restart it.
pub(crate) async fn serve_healthz(
    address: SocketAddr,
    state: watch::Receiver<State>,
) -> std::io::Result<AbortOnDropHandle<()>> {
    let handle = move |request: &Request<Incoming>| {
        let state = state.borrow().clone();
        let eligible = match request.uri().path() {
            "/healthz" => state.node_eligible,
            "/livez" => true,
            _ => {
                return answer(
                    StatusCode::NOT_FOUND,
                    "text/plain; charset=utf-8",
                    "404 page not found\n".into(),
                );
            }
        };
        let body = json!({"lastUpdated": state.last_updated.to_string(), "currentTime": jiff::Timestamp::now().to_string(),
            "nodeEligible": state.node_eligible});
        answer(
            status(state.committed && eligible),
            "application/json",
            body.to_string(),
        )
    };
    serve(address, handle).await
}

pub(crate) async fn serve_metrics(
    address: SocketAddr,
    state: watch::Receiver<State>,
) -> std::io::Result<AbortOnDropHandle<()>> {
    let handle = move |request: &Request<Incoming>| {
        let state = state.borrow().clone();
        let text = "text/plain; charset=utf-8";
        match request.uri().path() {
            "/proxyMode" => answer(StatusCode::OK, text, "nftables".into()),
            "/healthz" => answer(StatusCode::OK, text, "ok".into()),
            "/metrics" => answer(StatusCode::OK, text, metrics(&state)),
            _ => answer(StatusCode::NOT_FOUND, text, "404 page not found\n".into()),
        }
    };
    serve(address, handle).await
}

fn metrics(state: &State) -> String {
    const FAILURES: Metric = Metric::alpha(
        "kubeproxy_sync_proxy_rules_nftables_sync_failures_total",
        "Cumulative proxy nftables sync failures",
    );
    const LAST: Metric = Metric::alpha(
        "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
        "The last time proxy rules were successfully synced",
    );
    let mut page = Page::default();
    api::features::show(&mut page);
    api::version::show(&mut page, api::version::VERSION);
    metrics::process::show(&mut page);
    page.samples(&FAILURES, Kind::Counter).count(&[], state.failures);
    #[allow(clippy::cast_precision_loss)]
    page.number(&LAST, state.last_updated.as_second() as f64);
    page.count_metrics();
    page.text()
}

/// The listeners of health check node ports.
pub(crate) struct HealthChecks {
    node_ips: Vec<IpAddr>,
    state: watch::Receiver<State>,
    by_service: HashMap<String, Check>,
}

struct Check {
    port: u16,
    endpoints: watch::Sender<usize>,
    _servers: Vec<AbortOnDropHandle<()>>,
}

impl HealthChecks {
    pub(crate) fn new(node_ips: Vec<IpAddr>, state: watch::Receiver<State>) -> HealthChecks {
        HealthChecks {
            node_ips,
            state,
            by_service: HashMap::new(),
        }
    }

    /// Starts, changes or ends the check of a service. A port that cannot be had is reported, not fatal.
    pub(crate) async fn set(&mut self, service: &str, check: Option<HealthCheck>) {
        let Some(check) = check else {
            self.by_service.remove(service);
            return;
        };
        if let Some(known) = self.by_service.get(service)
            && known.port == check.port
        {
            known.endpoints.send_replace(check.endpoints);
            return;
        }
        self.by_service.remove(service);
        let (sender, endpoints) = watch::channel(check.endpoints);
        let mut servers = Vec::new();
        for ip in &self.node_ips {
            let handle = handler(service, endpoints.clone(), self.state.clone());
            match serve(SocketAddr::new(*ip, check.port), handle).await {
                Ok(server) => servers.push(server),
                Err(e) => tracing::warn!("service {service}: health check node port {} on {ip}: {e}", check.port),
            }
        }
        let check = Check {
            port: check.port,
            endpoints: sender,
            _servers: servers,
        };
        self.by_service.insert(service.to_owned(), check);
    }
}

fn handler(
    service: &str,
    endpoints: watch::Receiver<usize>,
    state: watch::Receiver<State>,
) -> impl Fn(&Request<Incoming>) -> Answer + Send + Sync + 'static {
    let (namespace, name) = service.split_once('/').unwrap_or(("", service));
    let service = json!({"namespace": namespace, "name": name});
    move |_| {
        let count = *endpoints.borrow();
        let healthy = state.borrow().committed;
        let body = json!({"service": service, "localEndpoints": count, "serviceProxyHealthy": healthy});
        let mut response = answer(status(count > 0 && healthy), "application/json", body.to_string());
        response
            .headers_mut()
            .insert("x-load-balancing-endpoint-weight", header::HeaderValue::from(count));
        response
    }
}
