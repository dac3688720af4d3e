//! Nodes that fall silent become Unknown and tainted; their pods no longer count as ready, and leave as fast as `zones` allows.

mod judge;
mod zones;

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
pub use zones::EvictionRates;
use zones::{Affected, Member, Turn, Zones};

const LEASES: &str = "kube-node-lease";
/// A node that has never reported gets this long.
const STARTUP_GRACE: Duration = Duration::from_secs(60);

/// Whether a node says that it runs pods.
pub(crate) fn is_ready(node: &Node) -> bool {
    judge::ready(node) == "True"
}

#[derive(Clone)]
struct Controller {
    ctx: Context,
    nodes: Cache,
    pods: Cache,
    leases: Cache,
    recorder: EventRecorder,
    known: Arc<Mutex<Known>>,
}

struct Known {
    signs: HashMap<String, Sign>,
    zones: Zones,
}

/// The last sign of life of a node.
struct Sign {
    /// On our own clock: those of other machines are not compared.
    at: Instant,
    heartbeat: Option<Time>,
}

impl Known {
    fn alive(&mut self, name: &str) -> &mut Sign {
        let at = Instant::now();
        let sign = self
            .signs
            .entry(name.to_owned())
            .or_insert(Sign { at, heartbeat: None });
        sign.at = at;
        sign
    }
}

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let controller = Controller {
        nodes: ctx.informers.get::<Node>(),
        pods: ctx.informers.get::<Pod>(),
        leases: ctx.informers.get::<Lease>(),
        recorder: ctx.recorder("node-controller"),
        known: Arc::new(Mutex::new(Known {
            signs: HashMap::new(),
            zones: Zones::new(ctx.config.eviction_rates),
        })),
        ctx: ctx.clone(),
    };
    if !ctx
        .synced(&[&controller.nodes, &controller.pods, &controller.leases])
        .await
    {
        return Ok(());
    }
    let queue = ctx.queue("node_lifecycle_controller");
    ctx.each_change(&controller.leases, {
        let controller = controller.clone();
        move |change| {
            // A sign of life needs no work: the timer finds it when it comes.
            if let Some(lease) = change.new.filter(|l| &*l.meta.namespace == LEASES) {
                controller.known().alive(&lease.meta.name);
            }
        }
    });
    ctx.each_change(&controller.nodes, {
        let (queue, controller) = (queue.clone(), controller.clone());
        move |change| {
            match controller.note(&change) {
                Affected::Nobody => {}
                Affected::These(names) => names.into_iter().for_each(|name| queue.add(name)),
                Affected::Lost | Affected::Found => {
                    controller.nodes.list().iter().for_each(|node| queue.add(node.key()));
                }
            }
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
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a change of a node, and tells whom else it concerns.
    fn note(&self, change: &client::Change) -> Affected {
        let Some(object) = change.object() else {
            return Affected::Nobody;
        };
        let name = &*object.meta.name;
        let node = match object.decode::<Node>() {
            Ok(node) => node,
            Err(error) => {
                tracing::error!(name, %error, "a node cannot be read; it is not looked after");
                return Affected::Nobody;
            }
        };
        let now = Instant::now();
        let tell = |reason, verb, place| {
            let message = format!("Node {name} event: {verb} {name} {place}");
            self.recorder.normal(&reference(&node), reason, message);
        };
        let mut known = self.known();
        if change.new.is_none() {
            known.signs.remove(name);
            tell("RemovingNode", "Removing Node", "from Controller");
            return known.zones.remove(name, now);
        }
        let heartbeat = judge::condition(&node, "Ready").and_then(|c| c.last_heartbeat_time.clone());
        if change.old.is_none() {
            tell("RegisteredNode", "Registered Node", "in Controller");
            known.alive(name).heartbeat = heartbeat;
        } else if known.signs.get(name).is_none_or(|sign| sign.heartbeat != heartbeat) {
            known.alive(name).heartbeat = heartbeat;
        }
        let zone = judge::zone(&node).map(str::to_owned);
        let member = Member::of(object, zone, is_ready(&node));
        let affected = known.zones.set(name, member, now);
        match affected {
            Affected::Lost => tracing::warn!("no node is ready: no pod is made to leave its node"),
            Affected::Found => {
                tracing::info!("a node is ready again: pods leave nodes that are not");
                // how long the others were silent while nothing was heard of any is not known
                known.signs.values_mut().for_each(|sign| sign.at = now);
            }
            Affected::Nobody | Affected::These(_) => {}
        }
        affected
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
        let last = self.known().signs.get(name).map_or_else(Instant::now, |sign| sign.at);
        let mut left = grace.saturating_sub(last.elapsed());
        if left.is_zero() && self.lives(name).await? {
            left = grace;
        }
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
        let again = self.taint(&node, &object, now).await?;
        if judge::condition(&node, "Ready").is_some_and(|c| c.status != "True") {
            self.mark_pods_not_ready(name, now).await?;
        }
        // A node that is Unknown already needs no timer: any sign of life is a change of its status.
        let left = (!left.is_zero()).then_some(left);
        Ok([left, again].into_iter().flatten().min())
    }

    /// Gives the node the taints of its conditions. When to come again for those that make pods leave, if it is not its turn.
    async fn taint(
        &self,
        node: &Node,
        object: &api::object::Object,
        now: Timestamp,
    ) -> Result<Option<Duration>, Error> {
        let name = &*object.meta.name;
        let leave_already = judge::pods_leave(node);
        let turn = match judge::ready(node) {
            "True" => Turn::Not,
            _ => {
                let mut known = self.known();
                if known.zones.lost() {
                    Turn::Not
                } else if leave_already {
                    Turn::Now
                } else {
                    known.zones.turn(name, Instant::now())
                }
            }
        };
        let (leave, again) = match turn {
            Turn::Now => (true, None),
            Turn::In(wait) => (false, Some(wait)),
            Turn::Not => (false, None),
        };
        if let Some(taints) = judge::taints(node, leave, now) {
            let version = object.meta.resource_version.to_string();
            let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"taints": taints}});
            let patched = self.ctx.client.patch::<Node>("", name, &Patch::Merge(patch)).await;
            if leave && !leave_already {
                match &patched {
                    Ok(_) => {
                        let [region, zone] = judge::zone(node);
                        self.ctx.counted.evicts(region, zone);
                    }
                    Err(_) => self.known().zones.give_back(name, Instant::now()),
                }
            }
            patched?;
        }
        Ok(again)
    }

    /// Whether a node that seems silent has renewed its lease after all: the watch may be behind.
    async fn lives(&self, name: &str) -> Result<bool, Error> {
        match self.ctx.client.get::<Lease>(LEASES, name).await {
            Ok(lease) => {
                let seen = self.leases.get(&format!("{LEASES}/{name}"));
                let version = seen.map(|lease| lease.meta.resource_version.to_string());
                Ok(lease.metadata.resource_version != version)
            }
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error.into()),
        }
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
