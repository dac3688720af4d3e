//! Follows one extension server: checks it when its Service or endpoints change, and every half minute as upstream does, and asks
//! again what it says of itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::api_service::Available;
use super::remote::{Discovery, Remote};
use super::{Aggregator, availability, discovery, openapi};
use crate::api_services::{GROUP, PLURAL};
use crate::http::status::{ApiError, Result};
use crate::registry::Registry;
use crate::registry::cache::{Scope, Subscription};
use crate::registry::managed::WriteOptions;
use crate::registry::own::Own;

/// The network between here and the server may break without a word.
const AGAIN: Duration = Duration::from_secs(30);
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// What a server says of itself changes without a word too.
const REFRESH: Duration = Duration::from_secs(60);

/// Follows the server of one APIService until `stop`.
pub async fn run(aggregator: Arc<Aggregator>, remote: Arc<Remote>, stop: CancellationToken) {
    let worker = Worker {
        aggregator,
        remote,
        retry: FIRST_RETRY,
        refreshed: None,
    };
    tokio::select! {
        () = stop.cancelled() => {}
        done = worker.follow() => if let Err(error) = done {
            tracing::error!(%error, "an APIService is not checked any more");
        },
    }
}

struct Worker {
    aggregator: Arc<Aggregator>,
    remote: Arc<Remote>,
    retry: Duration,
    /// When it was last asked what it has, while it answered.
    refreshed: Option<Instant>,
}

impl Worker {
    async fn follow(mut self) -> Result<()> {
        let mut changes = Changes::of(&self.aggregator.registry, &self.remote)?;
        loop {
            // those that came by now are seen by the check
            changes.drain();
            let wait = self.pass().await;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.remote.look.notified() => {}
                again = changes.next() => if !again {
                    changes = Changes::of(&self.aggregator.registry, &self.remote)?;
                },
            }
        }
    }

    /// One look at everything; how long until the next one, if nothing happens.
    async fn pass(&mut self) -> Duration {
        let registry = &self.aggregator.registry;
        let found = availability::check(&self.remote, registry).await;
        let available = found.as_ref().is_some_and(|found| found.status == "True");
        let turned = self.remote.set_available(available);
        if let Some(found) = &found
            && let Err(error) = tell(registry, &self.remote.spec.name, found).await
        {
            tracing::warn!(%error, name = self.remote.spec.name, "the status of an APIService cannot be written");
        }
        let fresh = self.refreshed.is_some_and(|at| at.elapsed() < REFRESH);
        if (turned || !fresh) && self.refresh(available).await {
            self.refreshed = Some(Instant::now());
        }
        // what leads nowhere is waited for; a server that does not answer is asked again soon
        if found.is_some_and(|found| found.reason == "FailedDiscoveryCheck") {
            let wait = self.retry;
            self.retry = (wait * 2).min(AGAIN);
            return wait;
        }
        self.retry = FIRST_RETRY;
        AGAIN
    }

    /// Asks what the server has. Whether it said all.
    async fn refresh(&self, available: bool) -> bool {
        let before = self.remote.said();
        let mut said = (*before).clone();
        let mut whole = true;
        // one that fails the check may say what it has nevertheless
        let asked = discovery::fetch(&self.remote, before.discovery.as_ref()).await;
        said.discovery = Some(asked.unwrap_or_else(|why| {
            tracing::debug!(name = self.remote.spec.name, %why, "no discovery");
            whole = false;
            Discovery::unknown(&self.remote.spec.version)
        }));
        if available {
            match openapi::fetch(&self.remote, &before.openapi).await {
                Ok(openapi) => said.openapi = openapi,
                Err(why) => {
                    whole = false;
                    tracing::debug!(name = self.remote.spec.name, %why, "no schemas");
                }
            }
        }
        if said != *before {
            self.remote.set_said(said);
            self.aggregator.note_change();
        }
        whole
    }
}

/// What happens to a Service and its endpoints.
struct Changes {
    service: Subscription,
    slices: Subscription,
    name: String,
}

impl Changes {
    fn of(registry: &Registry, remote: &Remote) -> Result<Changes> {
        let service = &remote.spec.service;
        let catalog = registry.catalog();
        let watch = |group: &str, plural: &str, scope: Scope| {
            let served = catalog.stored(group, plural);
            let served = served.ok_or_else(|| ApiError::internal(format!("{plural} are not served")))?;
            served
                .cache
                .watch(scope, &service.namespace, None)
                .map(|(changes, _, _)| changes)
        };
        let key = format!("{}/{}", service.namespace, service.name);
        Ok(Changes {
            service: watch("", "services", Scope::Key(key.into()))?,
            slices: watch(
                "discovery.k8s.io",
                "endpointslices",
                Scope::Namespace(service.namespace.as_str().into()),
            )?,
            name: service.name.clone(),
        })
    }

    fn drain(&mut self) {
        while self.service.queue.try_recv().is_ok() {}
        while self.slices.queue.try_recv().is_ok() {}
    }

    /// Waits for one; `false` when some were missed.
    async fn next(&mut self) -> bool {
        loop {
            tokio::select! {
                change = self.service.queue.recv() => return change.is_some(),
                change = self.slices.queue.recv() => match change {
                    Some(change) if !availability::is_of(&change.current, &self.name) => {}
                    change => return change.is_some(),
                },
            }
        }
    }
}

/// Writes what was found into the status, unless it says so.
async fn tell(registry: &Registry, name: &str, found: &Available) -> Result<()> {
    let service = Own {
        registry,
        group: GROUP,
        plural: PLURAL,
        namespace: "",
        name,
        options: WriteOptions::own("status"),
    };
    let now = registry.timestamp();
    let told = service.swap(|tree| {
        found.write(tree, &now);
        Ok(())
    });
    told.await.map(|_| ())
}

/// Tells of one without a server of its own that it is available.
pub async fn tell_local(registry: &Registry, name: &str) -> Result<()> {
    tell(registry, name, &Available::local()).await
}
