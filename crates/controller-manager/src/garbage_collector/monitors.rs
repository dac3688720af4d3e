//! One watch a deletable kind, kept in step with discovery, feeding the graph.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use client::{ListWatch, WatchEvent};
use futures::StreamExt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use super::Collector;
use crate::context::Context;
use crate::discovery::{ServedResource, Verb, discover};

/// A new kind is served a moment after its definition is accepted.
const SETTLE: Duration = Duration::from_millis(500);
/// How long new kinds may take to show up, and failed discovery to heal.
const TRIES: u32 = 8;

/// Kinds that own nothing and die by themselves.
fn is_ignored(resource: &ServedResource) -> bool {
    resource.plural == "events" && matches!(resource.group.as_str(), "" | "events.k8s.io")
}

/// Follows discovery until shutdown. `synced` becomes true when every kind found at first was listed.
pub(super) async fn run(ctx: Context, collector: Collector, synced: watch::Sender<bool>) {
    let definitions = ctx.informers.get::<CustomResourceDefinition>();
    let services = ctx.informers.get::<APIService>();
    let (poke, mut poked) = mpsc::channel::<()>(1);
    for cache in [&definitions, &services] {
        let poke = poke.clone();
        ctx.each_change(cache, move |_| {
            // A full channel means that a look is due anyway.
            let _ = poke.try_send(());
        });
    }
    let mut monitors: HashMap<ServedResource, (AbortOnDropHandle<()>, watch::Receiver<bool>)> = HashMap::new();
    let mut tries = 0;
    let mut first = true;
    loop {
        let mut again = true;
        match discover(&ctx.client).await {
            Ok(found) => {
                again = !found.failed.is_empty();
                let wanted: HashSet<ServedResource> = found
                    .resources
                    .into_iter()
                    .filter(|r| r.can(Verb::Delete) && r.can(Verb::List) && r.can(Verb::Watch) && !is_ignored(r))
                    .collect();
                collector.know(&wanted);
                // What did not answer this time is not gone.
                monitors.retain(|r, _| wanted.contains(r) || found.failed.iter().any(|(gv, _)| *gv == r.api_version()));
                for resource in wanted {
                    monitors
                        .entry(resource.clone())
                        .or_insert_with(|| follow(&ctx, &collector, resource));
                }
                if std::mem::take(&mut first) {
                    let listed: Vec<_> = monitors.values().map(|(_, listed)| listed.clone()).collect();
                    let synced = synced.clone();
                    tokio::spawn(async move {
                        let all = async {
                            for mut listed in listed {
                                // The sender lives with the monitor; a monitor that is gone needs no list.
                                let _ = listed.wait_for(|l| *l).await;
                            }
                        };
                        if tokio::time::timeout(Duration::from_secs(30), all).await.is_err() {
                            tracing::warn!("some kinds could not be listed in 30 s; collecting garbage without them");
                        }
                        synced.send_replace(true);
                    });
                }
            }
            Err(error) => tracing::warn!(%error, "discovery failed; trying again"),
        }
        tries = if again { tries + 1 } else { 0 };
        let wait = SETTLE * 2u32.pow(tries.min(TRIES));
        tokio::select! {
            () = ctx.shutdown.cancelled() => return,
            () = tokio::time::sleep(wait), if again => {}
            _ = poked.recv() => {
                tries = 0;
                tokio::time::sleep(SETTLE).await;
            }
        }
    }
}

fn follow(
    ctx: &Context,
    collector: &Collector,
    resource: ServedResource,
) -> (AbortOnDropHandle<()>, watch::Receiver<bool>) {
    let (listed, receiver) = watch::channel(false);
    let mut events = ctx.client.list_watch(ListWatch::path(resource.collection("")));
    let collector = collector.clone();
    let task = tokio::spawn(async move {
        while let Some(event) = events.next().await {
            match event {
                WatchEvent::Restarted(objects) => {
                    collector.restart(&resource, &objects);
                    listed.send_replace(true);
                }
                WatchEvent::Applied(object) => collector.observe(&resource, &object),
                WatchEvent::Deleted(object) => collector.remove(&object.meta.uid),
                WatchEvent::Bookmark(_) => {}
            }
        }
    });
    (AbortOnDropHandle::new(task), receiver)
}
