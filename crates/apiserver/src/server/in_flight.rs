//! How many requests are answered at a time: by their priority levels, or, where these are off, by two plain limits.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::flow_control::{Admission, Asked, FlowControl, Schema, Seat};
use crate::http::request_info::RequestInfo;
use crate::http::status::ApiError;
use crate::http::user::MASTERS;
use crate::server::body::{self, Body};

/// Who may be answered now.
pub enum InFlight {
    /// API priority and fairness.
    Fair(Arc<FlowControl>),
    Plain(Limits),
}

/// The limits of `--max-requests-inflight` and `--max-mutating-requests-inflight`; without one there is none.
#[derive(Debug)]
pub struct Limits {
    reading: Option<Arc<Semaphore>>,
    writing: Option<Arc<Semaphore>>,
}

/// A request's place among those that are answered; it is free again when this is dropped.
#[derive(Debug)]
pub enum Place {
    Seat(Seat),
    Permit { _held: OwnedSemaphorePermit },
}

impl Place {
    /// Whether the request reads much.
    pub fn is_wide(&self) -> bool {
        match self {
            Place::Seat(seat) => seat.is_wide(),
            Place::Permit { .. } => false,
        }
    }
}

/// What became of a request.
pub struct Entry {
    /// Its class, where there is one.
    pub schema: Option<Arc<Schema>>,
    /// Its place, if it needs one, or after how many seconds its client may try again.
    pub outcome: Result<Option<Place>, u64>,
}

impl Limits {
    /// 0 is no limit.
    pub fn new(reading: usize, writing: usize) -> Limits {
        let limit = |most: usize| (most > 0).then(|| Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))));
        Limits {
            reading: limit(reading),
            writing: limit(writing),
        }
    }

    /// A place, if there is one. Administrators are answered without one.
    fn enter(&self, asked: &Asked<'_>) -> Result<Option<Place>, u64> {
        let limit = match asked.info.verb {
            "get" | "list" | "watch" => &self.reading,
            _ => &self.writing,
        };
        let Some(limit) = limit.as_ref().filter(|_| !is_long_running(asked.info)) else {
            return Ok(None);
        };
        match limit.clone().try_acquire_owned() {
            Ok(permit) => Ok(Some(Place::Permit { _held: permit })),
            Err(_) if asked.user.in_group(MASTERS) => Ok(None),
            Err(_) => Err(1),
        }
    }
}

impl InFlight {
    /// Waits for a place. What may last takes none, but for watches, which have one until they have begun.
    pub async fn enter(&self, asked: Asked<'_>, time: Duration) -> Entry {
        let fair = match self {
            InFlight::Plain(limits) => {
                let outcome = limits.enter(&asked);
                return Entry { schema: None, outcome };
            }
            InFlight::Fair(fair) => fair,
        };
        if is_long_running(asked.info) && asked.info.verb != "watch" {
            return Entry {
                schema: None,
                outcome: Ok(None),
            };
        }
        let Admission { schema, outcome } = fair.admit(asked, time).await;
        Entry {
            schema: Some(schema),
            outcome: outcome.map(|seat| Some(Place::Seat(seat))),
        }
    }
}

/// Writes the class of a request into its answer.
pub fn tell(schema: &Schema, headers: &mut HeaderMap<HeaderValue>) {
    let [of_schema, of_level] = schema.headers.clone();
    headers.insert("x-kubernetes-pf-flowschema-uid", of_schema);
    headers.insert("x-kubernetes-pf-prioritylevel-uid", of_level);
}

const TOO_MANY: &str = "Too many requests, please try again later.";

/// The refusal of what is more than the server takes on.
pub fn too_many() -> ApiError {
    ApiError::too_many_requests(TOO_MANY, 1)
}

/// The answer to a request that has no place: text, as upstream's.
pub fn refusal(retry_after: u64) -> Response<Body> {
    let mut response = Response::new(body::full(format!("{TOO_MANY}\n")));
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after));
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, text);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Requests whose answers last as long as their clients want.
pub fn is_long_running(info: &RequestInfo) -> bool {
    matches!(info.verb, "watch" | "proxy")
        || matches!(
            info.subresource.as_str(),
            "attach" | "exec" | "proxy" | "log" | "portforward"
        )
}

#[cfg(test)]
mod tests {
    use http::{Method, Uri};

    use super::*;
    use crate::http::request_info::Query;
    use crate::http::user::User;

    #[test]
    fn what_is_too_much_is_refused_but_for_administrators() {
        let limits = Limits::new(1, 0);
        let query = Query::default();
        let enter = |method: Method, path: &'static str, groups: &[&str]| {
            let info = RequestInfo::parse(&method, path, &query).unwrap();
            let (user, uri) = (Arc::new(User::new("u", groups)), Uri::from_static(path));
            limits.enter(&Asked {
                info: &info,
                query: &query,
                user: &user,
                method: &method,
                uri: &uri,
            })
        };
        let first = enter(Method::GET, "/api/v1/pods", &[]).unwrap();
        assert!(first.is_some());
        assert_eq!(enter(Method::GET, "/api/v1/pods", &[]).unwrap_err(), 1);
        assert!(enter(Method::POST, "/api/v1/namespaces/a/pods", &[]).unwrap().is_none());
        assert!(
            enter(Method::GET, "/api/v1/namespaces/a/pods/b/log", &[])
                .unwrap()
                .is_none()
        );
        assert!(enter(Method::GET, "/api/v1/pods", &[MASTERS]).unwrap().is_none());
        drop(first);
        assert!(enter(Method::GET, "/api/v1/pods", &[]).unwrap().is_some());
    }
}
