//! Pods nobody will clean up: on nodes that are gone, being deleted on nodes that are out of service, never bound but being deleted, and the oldest of too many ended ones.

use std::time::Duration;

use api::object::Object;
use client::{Cache, Client, DeleteParams, Patch};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use crate::Error;
use crate::context::Context;
use crate::error::decode;
use crate::informers::{BY_NODE, node_of};
use crate::meta::{is_deleting, name, namespace, uid};
use crate::pods::{is_terminal, node_name};
use crate::taints::OUT_OF_SERVICE;

/// How long a node may be missing from the cache before the server is asked about it.
const QUARANTINE: Duration = Duration::from_secs(40);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Work {
    Pod(String),
    /// All pods of a node that may be gone.
    Node(String),
    /// Pods that are being deleted on a node of which a user says that it is off.
    OutOfService(String),
    Ended,
}

#[derive(Clone)]
struct Controller {
    client: Client,
    nodes: Cache,
    pods: Cache,
    threshold: usize,
}

/// The ended pods to delete: those evicted first, then the oldest.
fn surplus(mut ended: Vec<Pod>, threshold: usize) -> Vec<Pod> {
    let count = ended.len().saturating_sub(threshold);
    let evicted = |p: &Pod| {
        p.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Failed")
            && p.status.as_ref().and_then(|s| s.reason.as_deref()) == Some("Evicted")
    };
    ended.sort_by_key(|p| {
        let created = p.metadata.creation_timestamp.as_ref().map(|t| t.0);
        (!evicted(p), created, p.metadata.name.clone())
    });
    ended.truncate(count);
    ended
}

/// Whether a user has said of a node that it is off, and it does not seem to run.
fn out_of_service(node: &Object) -> bool {
    node.decode::<Node>().is_ok_and(|node| {
        let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
        taints.iter().any(|taint| taint.key == OUT_OF_SERVICE) && !crate::node_lifecycle::is_ready(&node)
    })
}

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let controller = Controller {
        client: ctx.client.clone(),
        nodes: ctx.informers.get::<Node>(),
        pods: ctx.informers.get::<Pod>(),
        threshold: ctx.config.terminated_pod_gc_threshold,
    };
    if !ctx.synced(&[&controller.nodes, &controller.pods]).await {
        return Ok(());
    }
    let queue = ctx.queue("orphaned_pods_nodes");
    ctx.each_change(&controller.nodes, {
        let queue = queue.clone();
        move |change| match change.new {
            Some(node) if out_of_service(&node) => queue.add(Work::OutOfService(node.meta.name.to_string())),
            Some(_) => {}
            None => {
                if let Some(gone) = change.old {
                    queue.add_after(Work::Node(gone.meta.name.to_string()), QUARANTINE);
                }
            }
        }
    });
    ctx.each_change(&controller.pods, {
        let (queue, nodes, pods) = (queue.clone(), controller.nodes.clone(), controller.pods.clone());
        let threshold = controller.threshold;
        move |change| {
            let Some(pod) = change.new else { return };
            let node = node_of(&pod);
            if node.is_empty() {
                if pod.meta.deleting {
                    queue.add(Work::Pod(pod.key()));
                }
            } else {
                match nodes.get(&node) {
                    None => queue.add_after(Work::Node(node), QUARANTINE),
                    Some(at) if pod.meta.deleting && out_of_service(&at) => queue.add(Work::OutOfService(node)),
                    Some(_) => {}
                }
            }
            if threshold > 0 && pods.len() > threshold {
                queue.add(Work::Ended);
            }
        }
    });
    ctx.work(queue, 1, move |work| {
        let controller = controller.clone();
        async move { controller.sync(work).await.map(|()| None::<Duration>) }
    })
    .await;
    Ok(())
}

impl Controller {
    async fn sync(&self, work: Work) -> Result<(), Error> {
        match work {
            Work::Pod(key) => {
                let Some(pod) = self.pods.get(&key) else { return Ok(()) };
                let pod: Pod = decode(&pod)?;
                if is_deleting(&pod) && node_name(&pod).is_empty() {
                    self.end(&pod, None).await?;
                }
            }
            Work::Node(node) => {
                if self.nodes.get(&node).is_some() {
                    return Ok(());
                }
                match self.client.get::<Node>("", &node).await {
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error.into()),
                    Ok(_) => return Ok(()),
                }
                for pod in self.pods.by_index(BY_NODE, &node) {
                    self.end(&decode(&pod)?, Some("PodGC: node no longer exists")).await?;
                }
            }
            Work::OutOfService(node) => {
                // it may be back by now
                if self.nodes.get(&node).is_some_and(|node| out_of_service(&node)) {
                    for pod in self.pods.by_index(BY_NODE, &node) {
                        if pod.meta.deleting {
                            self.end(&decode(&pod)?, None).await?;
                        }
                    }
                }
            }
            Work::Ended => {
                let pods = self.pods.list();
                let ended = pods
                    .iter()
                    .filter_map(|p| p.decode::<Pod>().ok())
                    .filter(is_terminal)
                    .collect();
                for pod in surplus(ended, self.threshold) {
                    self.end(&pod, None).await?;
                }
            }
        }
        Ok(())
    }

    /// Marks a pod that has not ended as failed, and deletes it at once.
    async fn end(&self, pod: &Pod, disruption: Option<&str>) -> Result<(), Error> {
        let (namespace, name) = (namespace(pod), name(pod));
        if !is_terminal(pod) {
            let conditions = disruption.map(|message| {
                json!([{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                    "message": message, "lastTransitionTime": Time(Timestamp::now())}])
            });
            let mut patch = json!({"metadata": {"uid": uid(pod)}, "status": {"phase": "Failed"}});
            if let Some(conditions) = conditions {
                patch["status"]["conditions"] = conditions;
            }
            match self
                .client
                .patch_status::<Pod>(namespace, name, &Patch::Strategic(patch))
                .await
            {
                Err(error) if error.is_not_found() || error.is_conflict() => return Ok(()),
                Err(error) => return Err(error.into()),
                Ok(_) => {}
            }
        }
        match self
            .client
            .delete::<Pod>(namespace, name, &DeleteParams::now(uid(pod)))
            .await
        {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_too_many_ended_pods_go() {
        let pod = |name: &str, day: u32, reason: &str| -> Pod {
            serde_json::from_value(json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "creationTimestamp": format!("2026-01-{day:02}T00:00:00Z")},
                "status": {"phase": "Failed", "reason": reason}}))
            .unwrap()
        };
        let pods = vec![
            pod("a", 3, ""),
            pod("b", 1, ""),
            pod("c", 2, ""),
            pod("d", 9, "Evicted"),
        ];
        let gone: Vec<_> = surplus(pods.clone(), 2)
            .into_iter()
            .filter_map(|p| p.metadata.name)
            .collect();
        assert_eq!(gone, ["d", "b"]);
        assert!(surplus(pods, 4).is_empty());
    }
}
