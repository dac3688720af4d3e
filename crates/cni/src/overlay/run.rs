//! Follows the Nodes and has the overlay changed as they change.

use std::collections::BTreeMap;
use std::time::Duration;

use client::{Client, Patch};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::backend::Backend;
use super::kernel::{Overlay, OverlayConfig, OverlayError, Work, cleanup};
use crate::default_network::DefaultNetwork;

const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(60);

/// Keeps the pod network of this node until `stop`; what it made stays. `nodes` may read all Nodes, `own` may change this one.
///
/// # Errors
/// When the kernel's links cannot be read at all.
pub async fn run(
    config: OverlayConfig,
    nodes: Client,
    own: Client,
    stop: CancellationToken,
) -> Result<(), OverlayError> {
    if config.backend == Backend::None {
        return leave(&config);
    }
    let node = config.node.clone();
    let mut overlay = Overlay::open(config)?;
    let mut events = nodes.list_watch(Client::collection::<Node>(""));
    let mut retry = Retry::default();
    loop {
        let at = retry.at;
        let mut work = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            event = events.next() => match event {
                None => return Ok(()),
                Some(event) => overlay.decide(&event),
            },
            () = tokio::time::sleep_until(at.unwrap_or_else(Instant::now)), if at.is_some() => Work::again(),
        };
        let lacking = std::mem::take(&mut work.announce);
        // the network first: the node's own pods do not wait for the write that tells the other nodes
        if !work.is_empty() {
            let (back, done, whole) = blocking(move || {
                let done = overlay.perform(&work);
                (overlay, done, work.is_whole())
            })
            .await?;
            overlay = back;
            match done {
                Ok(()) if whole => retry = Retry::default(),
                // what failed before is still to be tried again
                Ok(()) => {}
                Err(error) => {
                    retry.later();
                    tracing::warn!(%error, "the pod network between nodes; trying again in {:?}", retry.wait);
                }
            }
        }
        if !lacking.is_empty()
            && let Err(error) = announce(&own, &node, &lacking).await
        {
            // the next event of this Node says again what it lacks
            tracing::warn!(%error, "this node cannot say where its pods are");
        }
    }
}

#[derive(Default)]
struct Retry {
    wait: Duration,
    at: Option<Instant>,
}

impl Retry {
    fn later(&mut self) {
        self.wait = (self.wait * 2).clamp(RETRY_FIRST, RETRY_MOST);
        self.at = Some(Instant::now() + self.wait);
    }
}

async fn announce(client: &Client, node: &str, annotations: &BTreeMap<String, String>) -> Result<(), client::Error> {
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
    client.patch::<Node>("", node, &patch).await.map(drop)
}

/// The pod network is somebody else's: what an earlier run with another back end left is taken away.
fn leave(config: &OverlayConfig) -> Result<(), OverlayError> {
    DefaultNetwork::remove(&config.conf_dir).map_err(|source| OverlayError::File {
        path: config.conf_dir.display().to_string(),
        source,
    })?;
    cleanup(&config.bridge)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, OverlayError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| OverlayError::Task(e.to_string()))
}
