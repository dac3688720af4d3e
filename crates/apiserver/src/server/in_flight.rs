//! How many requests are answered at a time. What is too much waits, as with upstream's priority levels, and is refused
//! when it has waited too long.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::request_info::RequestInfo;
use crate::http::status::{ApiError, Result};
use crate::http::user::{MASTERS, User};

/// The limits of `--max-requests-inflight` and `--max-mutating-requests-inflight`; without one there is none.
#[derive(Debug)]
pub struct InFlight {
    reading: Option<Arc<Semaphore>>,
    writing: Option<Arc<Semaphore>>,
    /// How long a request waits for its turn.
    patience: Duration,
}

/// A request's place among those that are answered; it is free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

impl InFlight {
    /// 0 is no limit. A request may wait a quarter of the time that it may take, as upstream's.
    pub fn new(reading: usize, writing: usize, request_timeout: Duration) -> InFlight {
        let limit = |most: usize| (most > 0).then(|| Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))));
        InFlight {
            reading: limit(reading),
            writing: limit(writing),
            patience: request_timeout / 4,
        }
    }

    /// Waits for a place. Administrators and health checks need none, and what may last takes none.
    ///
    /// # Errors
    /// `429` when there was none in time.
    pub async fn admit(&self, info: &RequestInfo, user: &User) -> Result<Option<Place>> {
        let is_check = ["/healthz", "/livez", "/readyz"]
            .iter()
            .any(|p| info.path.starts_with(p));
        if is_long_running(info) || is_check || user.groups.iter().any(|g| g == MASTERS) {
            return Ok(None);
        }
        let limit = match info.verb {
            "get" | "list" | "watch" => &self.reading,
            _ => &self.writing,
        };
        let Some(limit) = limit else { return Ok(None) };
        let turn = tokio::time::timeout(self.patience, limit.clone().acquire_owned());
        match turn.await {
            Ok(Ok(permit)) => Ok(Some(Place { _permit: permit })),
            _ => Err(too_many()),
        }
    }
}

/// The refusal of what is more than the server takes on.
pub fn too_many() -> ApiError {
    ApiError::too_many_requests("Too many requests, please try again later.", 1)
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
    use http::Method;

    use super::*;
    use crate::http::request_info::Query;

    #[tokio::test(start_paused = true)]
    async fn what_is_too_much_waits_for_its_turn_and_is_refused_in_the_end() {
        let limits = InFlight::new(1, 0, Duration::from_secs(60));
        let user = User::new("u", &[]);
        let info = |method: &Method, path: &str| RequestInfo::parse(method, path, &Query::default()).unwrap();
        let list = info(&Method::GET, "/api/v1/pods");
        let first = limits.admit(&list, &user).await.unwrap();
        assert!(first.is_some());
        assert_eq!(limits.admit(&list, &user).await.unwrap_err().code, 429);
        for free in [
            info(&Method::POST, "/api/v1/namespaces/a/pods"),
            info(&Method::GET, "/api/v1/namespaces/a/pods/b/log"),
            info(&Method::GET, "/readyz"),
        ] {
            assert!(limits.admit(&free, &user).await.unwrap().is_none(), "{free:?}");
        }
        assert!(
            limits
                .admit(&list, &User::new("root", &[MASTERS]))
                .await
                .unwrap()
                .is_none()
        );
        drop(first);
        assert!(limits.admit(&list, &user).await.unwrap().is_some());
    }
}
