//! Nodes that fall silent become Unknown and tainted; their pods no longer count as ready.

mod judge;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::{Cache, EventRecorder, Patch};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;
use tokio::time::Instant;

use crate::Error;
use crate::context::Context;
use crate::error::decode;
use crate::informers::BY_NODE;
use crate::meta::reference;

const LEASES: &str = "kube-node-lease";
/// A node that has never reported gets this long.
const STARTUP_GRACE: Duration = Duration::from_secs(60);

#[derive(Clone)]
struct Controller {
    ctx: Context,
    nodes: Cache,
    pods: Cache,
    recorder: EventRecorder,
    /// When a node last gave a sign of life, on our own clock: those of other machines are not compared.
    seen: Arc<Mutex<HashMap<String, Instant>>>,
}

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let controller = Controller {
        nodes: ctx.informers.get::<Node>(),
        pods: ctx.informers.get::<Pod>(),
        recorder: ctx.recorder("node-controller"),
        seen: Arc::default(),
        ctx: ctx.clone(),
    };
    let leases = ctx.informers.get::<Lease>();
    if !ctx.synced(&[&controller.nodes, &controller.pods, &leases]).await {
        return Ok(());
    }
    let queue = ctx.queue("node_lifecycle_controller");
    ctx.each_change(&leases, {
        let seen = controller.seen.clone();
        move |change| {
            // A sign of life needs no work: the timer finds it when it comes.
            if let Some(lease) = change.new.filter(|l| &*l.meta.namespace == LEASES) {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.insert(lease.meta.name.to_string(), Instant::now());
            }
        }
    });
    ctx.each_change(&controller.nodes, {
        let (queue, controller) = (queue.clone(), controller.clone());
        move |change| {
            controller.note(&change);
            if let Some(node) = change.new {
                queue.add(node.key());
            }
        }
    });
    ctx.work(queue, 8, move |key| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    })
    .await;
    Ok(())
}

impl Controller {
    fn note(&self, change: &client::Change) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (event, object) = match (&change.old, &change.new) {
            (None, Some(new)) => {
                seen.insert(new.meta.name.to_string(), Instant::now());
                (("RegisteredNode", "Registered Node", "in Controller"), new)
            }
            (Some(old), None) => {
                seen.remove(&*old.meta.name);
                (("RemovingNode", "Removing Node", "from Controller"), old)
            }
            (Some(old), Some(new)) => {
                let heartbeat = |o: &api::object::Object| {
                    let node = o.decode::<Node>().ok()?;
                    judge::condition(&node, "Ready").and_then(|c| c.last_heartbeat_time.clone())
                };
                if heartbeat(old) != heartbeat(new) {
                    seen.insert(new.meta.name.to_string(), Instant::now());
                }
                return;
            }
            (None, None) => return,
        };
        if let Ok(node) = object.decode::<Node>() {
            let (reason, verb, place) = event;
            let name = &object.meta.name;
            let message = format!("Node {name} event: {verb} {name} {place}");
            self.recorder.normal(&reference(&node), reason, message);
        }
    }

    async fn sync(&self, name: &str) -> Result<Option<Duration>, Error> {
        let Some(object) = self.nodes.get(name) else {
            return Ok(None);
        };
        let mut node: Node = decode(&object)?;
        let [region, zone] = judge::zone(&node);
        self.ctx.counted.zone(region, zone);
        let now = Timestamp::now();
        let grace = match judge::condition(&node, "Ready") {
            Some(_) => self.ctx.config.node_monitor_grace_period,
            None => STARTUP_GRACE,
        };
        let last = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            *seen.entry(name.to_owned()).or_insert_with(Instant::now)
        };
        let left = grace.saturating_sub(last.elapsed());
        if left.is_zero()
            && let Some(conditions) = judge::silence(&node, now)
        {
            let was_ready = judge::ready(&node) == "True";
            let status = node.status.get_or_insert_default();
            status.conditions = Some(conditions);
            crate::status::put(&self.ctx.client, &object, &*status).await?;
            if was_ready {
                let message = format!("Node {name} status is now: NodeNotReady");
                self.recorder.normal(&reference(&node), "NodeNotReady", message);
            }
            // The change comes back through the watch and brings the taints.
            return Ok(None);
        }
        if let Some(labels) = judge::old_labels(&node) {
            let patch = json!({"metadata": {"uid": object.meta.uid, "labels": labels}});
            let _: Node = self.ctx.client.patch("", name, &Patch::Strategic(patch)).await?;
            // the change brings the node here again
            return Ok((!left.is_zero()).then_some(left));
        }
        if let Some(taints) = judge::taints(&node, now) {
            let version = object.meta.resource_version.to_string();
            let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"taints": taints}});
            let _: Node = self.ctx.client.patch("", name, &Patch::Merge(patch)).await?;
            if judge::makes_pods_leave(&node, &taints) {
                let [region, zone] = judge::zone(&node);
                self.ctx.counted.evicts(region, zone);
            }
        }
        if judge::condition(&node, "Ready").is_some_and(|c| c.status != "True") {
            self.mark_pods_not_ready(name, now).await?;
        }
        // A node that is Unknown already needs no timer: any sign of life is a change of its status.
        Ok((!left.is_zero()).then_some(left))
    }

    async fn mark_pods_not_ready(&self, node: &str, now: Timestamp) -> Result<(), Error> {
        for object in self.pods.by_index(BY_NODE, node) {
            let pod: Pod = decode(&object)?;
            if !crate::pods::is_ready(&pod) || crate::pods::is_terminal(&pod) {
                continue;
            }
            let patch = json!({"metadata": {"uid": object.meta.uid}, "status": {"conditions": [
                {"type": "Ready", "status": "False", "lastTransitionTime": Time(now)}]}});
            let namespace = &object.meta.namespace;
            let patched = self
                .ctx
                .client
                .patch_status::<Pod>(namespace, &object.meta.name, &Patch::Strategic(patch))
                .await;
            match patched {
                Err(error) if !error.is_not_found() && !error.is_conflict() => return Err(error.into()),
                Err(_) => {}
                Ok(pod) => self
                    .recorder
                    .warning(&reference(&pod), "NodeNotReady", "Node is not ready"),
            }
        }
        Ok(())
    }
}
