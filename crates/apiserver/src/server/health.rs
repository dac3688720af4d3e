//! Health checks, metrics and the issuer's discovery document.

use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

use ::metrics::{Kind, Metric, Page};
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::authentication::service_account::TokenIssuer;
use crate::flow_control;
use crate::http::request_info::Query;
use crate::metrics::Asked;
use crate::server::ApiServer;
use crate::server::body::{self, Body};

/// Where a check is asked for.
const PATHS: [&str; 3] = ["healthz", "livez", "readyz"];
/// The places of those in `PATHS`.
type Places = &'static [usize];
const EVERYWHERE: Places = &[0, 1, 2];
const READY: Places = &[2];

/// A check by upstream's name. What upstream starts that is not built has none.
struct Check {
    name: &'static str,
    places: Places,
    passes: fn(&ApiServer) -> bool,
    /// The part of the start that it waits for: once that is done, it stays passed.
    of_start: Option<fn(&Health) -> &AtomicBool>,
}

const fn check(name: &'static str, passes: fn(&ApiServer) -> bool) -> Check {
    Check {
        name,
        places: EVERYWHERE,
        passes,
        of_start: None,
    }
}

const fn ready(name: &'static str, passes: fn(&ApiServer) -> bool) -> Check {
    Check {
        places: READY,
        ..check(name, passes)
    }
}

/// Looks for an object that the start creates; a user may delete it later.
const fn made(name: &'static str, passes: fn(&ApiServer) -> bool) -> Check {
    Check {
        of_start: Some(|health| &health.made),
        ..check(name, passes)
    }
}

/// Waits for a part of the start that leaves nothing to look for. A full disk puts it off.
const fn done(name: &'static str, part: fn(&Health) -> &AtomicBool) -> Check {
    Check {
        of_start: Some(part),
        ..check(name, |_| false)
    }
}

/// It is done before the first connection is taken, so whoever can ask finds it done.
fn before_serving(_: &ApiServer) -> bool {
    true
}

pub(super) fn stored(server: &ApiServer) -> bool {
    // the store has a revision as soon as it is open
    server.registry.store.revision() > 0
}

fn there(server: &ApiServer, group: &str, plural: &str, namespace: &str, name: &str) -> bool {
    server.registry.get(group, plural, namespace, name).is_some()
}

const CHECKS: [Check; 27] = [
    check("ping", before_serving),
    check("log", before_serving),
    check("etcd", stored),
    ready("etcd-readiness", stored),
    ready("informer-sync", before_serving),
    check("poststarthook/start-apiserver-admission-initializer", before_serving),
    check("poststarthook/generic-apiserver-start-informers", before_serving),
    check("poststarthook/priority-and-fairness-config-consumer", before_serving),
    check("poststarthook/priority-and-fairness-filter", before_serving),
    check("poststarthook/start-apiextensions-informers", before_serving),
    done("poststarthook/start-apiextensions-controllers", |health| {
        &health.restored
    }),
    done("poststarthook/crd-informer-synced", |health| &health.restored),
    made("poststarthook/start-system-namespaces-controller", |server| {
        there(server, "", "namespaces", "", "kube-system")
    }),
    made("poststarthook/start-cluster-authentication-info-controller", |server| {
        there(
            server,
            "",
            "configmaps",
            "kube-system",
            "extension-apiserver-authentication",
        )
    }),
    check("poststarthook/storage-readiness", before_serving),
    done("poststarthook/start-service-ip-repair-controllers", |health| {
        &health.repaired
    }),
    made("poststarthook/rbac/bootstrap-roles", |server| {
        there(server, "rbac.authorization.k8s.io", "clusterroles", "", "cluster-admin")
    }),
    made("poststarthook/scheduling/bootstrap-system-priority-classes", |server| {
        there(
            server,
            "scheduling.k8s.io",
            "priorityclasses",
            "",
            "system-node-critical",
        )
    }),
    made("poststarthook/priority-and-fairness-config-producer", |server| {
        there(server, flow_control::GROUP, flow_control::SCHEMAS, "", "exempt")
    }),
    made("poststarthook/bootstrap-controller", |server| {
        there(server, "", "services", "default", "kubernetes")
    }),
    made("poststarthook/start-kubernetes-service-cidr-controller", |server| {
        there(server, "networking.k8s.io", "servicecidrs", "", "kubernetes")
    }),
    made("poststarthook/apiservice-registration-controller", local_services),
    made("poststarthook/kube-apiserver-autoregistration", local_services),
    made("autoregister-completion", local_services),
    check("poststarthook/apiservice-openapi-controller", before_serving),
    check("poststarthook/apiservice-openapiv3-controller", before_serving),
    ready("shutdown", |server| !server.health.stopping.load(Relaxed)),
];

fn local_services(server: &ApiServer) -> bool {
    there(server, "apiregistration.k8s.io", "apiservices", "", "v1.")
}

/// How often a check passed and failed at one path, and whether it passed the last time.
#[derive(Debug, Default)]
struct Tally {
    passed: AtomicU64,
    failed: AtomicU64,
    well: AtomicBool,
}

/// What is known of the server's health.
#[derive(Debug, Default)]
pub struct Health {
    /// Set when the server is told to stop: it is alive but no longer ready.
    pub stopping: AtomicBool,
    /// Set when the start has created the objects that a cluster must have. A user may delete some later.
    pub made: AtomicBool,
    /// Set when the start has taken every Service's addresses and ports.
    pub repaired: AtomicBool,
    /// Set when the start serves the custom resources of every definition.
    pub restored: AtomicBool,
    tallies: [[Tally; PATHS.len()]; CHECKS.len()],
}

/// Every path below `/healthz`, `/livez` and `/readyz`, and these themselves.
pub(super) fn paths() -> impl Iterator<Item = String> {
    let below = |(at, path): (usize, &&str)| {
        let checks = CHECKS.iter().filter(move |c| c.places.contains(&at));
        let path = format!("/{path}");
        checks
            .map({
                let path = path.clone();
                move |c| format!("{path}/{}", c.name)
            })
            .chain([path])
            .collect::<Vec<_>>()
    };
    PATHS.iter().enumerate().flat_map(below)
}

impl Health {
    fn passes(&self, check: &Check, server: &ApiServer) -> bool {
        check.of_start.is_some_and(|part| part(self).load(Relaxed)) || (check.passes)(server)
    }

    /// All checks of `/healthz`, `/livez` or `/readyz`.
    pub fn answer(&self, server: &ApiServer, path: &str, query: &Query) -> Response<Body> {
        let name = path.trim_start_matches('/');
        let at = PATHS.iter().position(|p| *p == name);
        let mut unknown: Vec<&str> = query
            .all("exclude")
            .iter()
            .map(String::as_str)
            .filter(|e| !e.is_empty())
            .collect();
        let excluded: HashSet<&str> = unknown.iter().copied().collect();
        let (mut text, mut failed) = (String::new(), false);
        for (check, tallies) in CHECKS.iter().zip(&self.tallies) {
            let Some(tally) = at.filter(|at| check.places.contains(at)).map(|at| &tallies[at]) else {
                continue;
            };
            if excluded.contains(check.name) {
                unknown.retain(|e| *e != check.name);
                text.push_str(&format!("[+]{} excluded: ok\n", check.name));
                continue;
            }
            let well = self.passes(check, server);
            tally.well.store(well, Relaxed);
            if well {
                tally.passed.fetch_add(1, Relaxed);
                text.push_str(&format!("[+]{} ok\n", check.name));
            } else {
                tally.failed.fetch_add(1, Relaxed);
                failed = true;
                text.push_str(&format!("[-]{} failed: reason withheld\n", check.name));
            }
        }
        if !unknown.is_empty() {
            unknown.sort_unstable();
            unknown.dedup();
            let names: Vec<String> = unknown.iter().map(|e| api::go::quote(e)).collect();
            let names = names.join(",");
            text.push_str(&format!(
                "warn: some health checks cannot be excluded: no matches for {names}\n"
            ));
        }
        if failed {
            text.push_str(&format!("{name} check failed\n"));
            return plain(StatusCode::INTERNAL_SERVER_ERROR, text);
        }
        if query.get("verbose").is_some() {
            text.push_str(&format!("{name} check passed\n"));
            return plain(StatusCode::OK, text);
        }
        plain(StatusCode::OK, "ok".into())
    }

    /// One check: `/readyz/etcd`.
    pub fn one(&self, server: &ApiServer, path: &str) -> Response<Body> {
        let asked = path.trim_start_matches('/').split_once('/').unwrap_or_default();
        let found = PATHS.iter().position(|p| *p == asked.0).and_then(|at| {
            let mut known = CHECKS.iter().filter(|c| c.places.contains(&at));
            known.find(|c| c.name == asked.1)
        });
        match found {
            Some(check) if self.passes(check, server) => plain(StatusCode::OK, "ok".into()),
            Some(check) => {
                let text = format!("internal server error: {} failed\n", check.name);
                plain(StatusCode::INTERNAL_SERVER_ERROR, text)
            }
            None => body::no_such_page(),
        }
    }

    /// `/metrics/slis`: what the checks gave whenever they were asked for (KEP-3466).
    pub fn indicators(&self) -> Response<Body> {
        const LAST: Metric = Metric::stable("kubernetes_healthcheck", "Whether a health check passed the last time.");
        const TOTAL: Metric = Metric::stable(
            "kubernetes_healthchecks_total",
            "How often a health check passed and failed.",
        );
        let mut shown = Page::default();
        let mut checks: Vec<_> = CHECKS.iter().zip(&self.tallies).collect();
        checks.sort_by_key(|(check, _)| check.name);
        for (check, tallies) in checks {
            for (path, tally) in PATHS.iter().zip(tallies) {
                let (failed, passed) = (tally.failed.load(Relaxed), tally.passed.load(Relaxed));
                if failed + passed > 0 {
                    let well = f64::from(u8::from(tally.well.load(Relaxed)));
                    shown
                        .samples(&LAST, Kind::Gauge)
                        .number(&[("name", check.name), ("type", path)], well);
                }
                for (status, count) in [("error", failed), ("success", passed)] {
                    if count > 0 {
                        let labels = [("name", check.name), ("status", status), ("type", path)];
                        shown.samples(&TOTAL, Kind::Counter).count(&labels, count);
                    }
                }
            }
        }
        super::metrics::response(&shown)
    }
}

/// What metrics count a page of checks as.
pub(super) fn counted(path: &str) -> Asked {
    let place = PATHS.iter().position(|known| path.strip_prefix('/') == Some(*known));
    Asked::page(["/healthz", "/livez", "/readyz"][place.unwrap_or_default()])
}

/// A page of text.
pub(super) fn plain_page(text: String) -> Response<Body> {
    plain(StatusCode::OK, text)
}

fn plain(code: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(body::full(text));
    *response.status_mut() = code;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

/// `/.well-known/openid-configuration`
pub fn openid_configuration(issuer: &TokenIssuer) -> Value {
    json!({
        "issuer": issuer.issuer,
        "jwks_uri": format!("{}/openid/v1/jwks", issuer.issuer),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    })
}
