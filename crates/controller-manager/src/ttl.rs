//! The annotation `node.alpha.kubernetes.io/ttl`: seconds that a kubelet may keep ConfigMaps and Secrets, by the size of the cluster.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::{Cache, Client, Patch};
use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use crate::Error;
use crate::context::Context;
use crate::error::decode;

const TTL: &str = "node.alpha.kubernetes.io/ttl";
/// From so many nodes, up to so many, so many seconds. The bounds overlap, so that a node more or less does not change all nodes.
const STEPS: [(usize, usize, u32); 5] = [
    (0, 100, 0),
    (90, 500, 15),
    (450, 1000, 30),
    (900, 2000, 60),
    (1800, usize::MAX, 300),
];

/// The step for a number of nodes, from the step before.
fn step(nodes: usize, mut at: usize) -> usize {
    while STEPS.get(at).is_some_and(|(_, most, _)| nodes > *most) {
        at += 1;
    }
    while at > 0 && STEPS.get(at).is_some_and(|(least, _, _)| nodes < *least) {
        at -= 1;
    }
    at
}

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let nodes = ctx.informers.get::<Node>();
    if !ctx.synced(&[&nodes]).await {
        return Ok(());
    }
    let queue = ctx.queue("ttlcontroller");
    let at: Arc<Mutex<(usize, usize)>> = Arc::default();
    ctx.each_change(&nodes, {
        let (queue, at) = (queue.clone(), at.clone());
        move |change| {
            let mut known = at.lock().unwrap_or_else(PoisonError::into_inner);
            let (count, before) = *known;
            let count = match (&change.old, &change.new) {
                (None, Some(_)) => count + 1,
                (Some(_), None) => count.saturating_sub(1),
                _ => count,
            };
            *known = (count, step(count, before));
            // heartbeats bring a change of the step to the nodes that are there
            if let Some(node) = change.new {
                queue.add(node.key());
            }
        }
    });
    let client = ctx.client.clone();
    ctx.work(queue, 5, move |name| {
        let (client, nodes) = (client.clone(), nodes.clone());
        let (_, step) = *at.lock().unwrap_or_else(PoisonError::into_inner);
        async move { annotate(&client, &nodes, &name, STEPS[step].2).await }
    })
    .await;
    Ok(())
}

async fn annotate(client: &Client, nodes: &Cache, name: &str, seconds: u32) -> Result<Option<Duration>, Error> {
    let Some(object) = nodes.get(name) else {
        return Ok(None);
    };
    let (node, wanted): (Node, String) = (decode(&object)?, seconds.to_string());
    if crate::meta::annotation(&node, TTL) != Some(&wanted) {
        let patch = json!({"metadata": {"uid": object.meta.uid, "annotations": {TTL: wanted}}});
        let patched = client.patch::<Node>("", name, &Patch::Strategic(patch)).await;
        match patched {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_overlap_so_that_one_node_does_not_change_all() {
        assert_eq!(step(100, 0), 0);
        assert_eq!(step(101, 0), 1);
        assert_eq!(step(95, 1), 1);
        assert_eq!(step(89, 1), 0);
        assert_eq!(step(5000, 0), 4);
    }
}
