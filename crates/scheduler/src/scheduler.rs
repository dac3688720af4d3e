//! The shell: follows the API, runs cycles over what it knows, binds, reports.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::object::Object;
use api::selectors::LabelSelector;
use client::{Cache, Change, Client, DeleteParams, Informer, ListWatch, Patch, SeriesRecorder, Told};
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use metrics::Registry;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::claim_binding::{self, BindError};
use crate::cycle::{Decider, Failure};
use crate::framework::ClusterEvent;
use crate::meter::Meter;
use crate::metrics::{Outcome, Point, SchedulerMetrics};
use crate::node::NodeFacts;
use crate::plugins::volume_binding;
use crate::pod::PodInfo;
use crate::pod_resources::PodResources;
use crate::preemption::Preemption;
use crate::queue::{Queue, Queued};
use crate::snapshot::{Budget, Snapshot};
use crate::status_writes::StatusWrites;
use crate::storage::{Claim, ClaimPlan, Class, Volume};

/// Of so many cycles one measures every plugin by itself.
const SINGLE: u64 = 10;
/// Cycles between two looks at what has changed.
const BATCH: usize = 64;

/// What events say of pods that got a node, and of those that did not.
const SCHEDULED: Told<'static> = Told {
    type_: "Normal",
    reason: "Scheduled",
    action: "Binding",
    related: None,
};
const FAILED: Told<'static> = Told {
    type_: "Warning",
    reason: "FailedScheduling",
    action: "Scheduling",
    related: None,
};

/// Settings of the scheduler.
#[derive(Clone)]
pub struct SchedulerConfig {
    /// The `schedulerName` of the pods to be scheduled.
    pub name: String,
    /// Where what it counts is shown.
    pub metrics: Registry,
    /// What pods ask for, once they are known.
    pub resources: Arc<PodResources>,
}

impl Default for SchedulerConfig {
    fn default() -> SchedulerConfig {
        SchedulerConfig {
            name: "default-scheduler".into(),
            metrics: Registry::default(),
            resources: Arc::default(),
        }
    }
}

/// Which collection a change is of.
#[derive(Debug, Clone, Copy)]
enum Source {
    Node,
    Namespace,
    Claim,
    Volume,
    Class,
    Budget,
    Pod,
}

/// How a binding ended.
struct Bound {
    queued: Queued,
    error: Option<BindError>,
    begun: Instant,
    /// The claims that were to be bound before the pod.
    claims: Vec<String>,
}

struct Scheduler {
    config: SchedulerConfig,
    client: Client,
    events: SeriesRecorder,
    statuses: StatusWrites,
    pods: Cache,
    claims: Cache,
    snapshot: Snapshot,
    decider: Decider,
    queue: Queue,
    /// Pods that got a node and whose binding is not in the watch yet, by uid.
    assumed: HashMap<Box<str>, Arc<PodInfo>>,
    bindings: mpsc::UnboundedSender<Bound>,
    started: Instant,
    random: u64,
    counted: Arc<SchedulerMetrics>,
    cycles: u64,
}

/// Schedules until `shutdown`.
pub async fn run(config: SchedulerConfig, client: Client, shutdown: CancellationToken) {
    let follow = |request: ListWatch| Informer::start(&client, request, Vec::new());
    // pods that ended hold nothing
    let running = "status.phase!=Succeeded,status.phase!=Failed";
    let caches = [
        (Source::Node, follow(Client::collection::<core::Node>(""))),
        (Source::Namespace, follow(Client::collection::<core::Namespace>(""))),
        (
            Source::Claim,
            follow(Client::collection::<core::PersistentVolumeClaim>("")),
        ),
        (Source::Volume, follow(Client::collection::<core::PersistentVolume>(""))),
        (Source::Class, follow(Client::collection::<StorageClass>(""))),
        (Source::Budget, follow(Client::collection::<PodDisruptionBudget>(""))),
        (Source::Pod, follow(Client::collection::<core::Pod>("").fields(running))),
    ];
    let (sender, mut changes) = mpsc::unbounded_channel();
    for (source, cache) in &caches {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = cache.synced() => {}
        }
        let mut subscription = cache.subscribe();
        while let Ok(change) = subscription.try_recv() {
            // the receiver is in hand
            let _ = sender.send((*source, change));
        }
        let (sender, source) = (sender.clone(), *source);
        tokio::spawn(async move {
            while let Some(change) = subscription.recv().await {
                if sender.send((source, change)).is_err() {
                    return;
                }
            }
        });
    }
    let counted = SchedulerMetrics::new(&config.name);
    config.metrics.add(counted.clone());
    config.resources.follow(&caches[caches.len() - 1].1);
    let (bindings, mut bound) = mpsc::unbounded_channel();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut scheduler = Scheduler {
        events: SeriesRecorder::new(client.clone(), &config.name, host.trim()),
        pods: caches[caches.len() - 1].1.clone(),
        claims: caches[2].1.clone(),
        config,
        statuses: StatusWrites::new(client.clone()),
        client,
        snapshot: Snapshot::default(),
        decider: Decider::new(crate::plugins::default_plugins()),
        queue: Queue::new(counted.clone()),
        assumed: HashMap::new(),
        bindings,
        started: Instant::now(),
        random: getrandom::u64().unwrap_or(1) | 1,
        counted,
        cycles: 0,
    };
    loop {
        while let Ok((source, change)) = changes.try_recv() {
            scheduler.apply(source, &change);
        }
        while let Ok(result) = bound.try_recv() {
            scheduler.settle(result);
        }
        if shutdown.is_cancelled() {
            return;
        }
        if scheduler.cycles(&shutdown) {
            // other tasks get their turn, and what they did is seen before the next batch
            tokio::task::yield_now().await;
            continue;
        }
        let deadline = scheduler.queue.deadline();
        let wake = scheduler.started + std::time::Duration::from_millis(deadline.unwrap_or(u64::from(u32::MAX)));
        tokio::select! {
            () = shutdown.cancelled() => return,
            change = changes.recv() => if let Some((source, change)) = change { scheduler.apply(source, &change) },
            result = bound.recv() => if let Some(result) = result { scheduler.settle(result) },
            () = tokio::time::sleep_until(wake) => {
                let now = scheduler.now();
                scheduler.queue.flush(now);
            }
        }
    }
}

impl Scheduler {
    /// Milliseconds since the start.
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn wake(&mut self, event: &ClusterEvent<'_>) {
        let (decider, now) = (&self.decider, self.now());
        self.queue
            .wake(now, event.name(), |q| decider.wakes(&q.pod, &q.refused_by, event));
    }

    fn apply(&mut self, source: Source, change: &Change) {
        if let Err(error) = self.try_apply(source, change) {
            let key = change.object().map(|o| o.key()).unwrap_or_default();
            tracing::error!(?source, key, %error, "an object of the cluster cannot be read; it is left out");
        }
    }

    fn try_apply(&mut self, source: Source, change: &Change) -> Result<(), Box<dyn std::error::Error>> {
        let Some(object) = change.object() else { return Ok(()) };
        let storage = &mut self.snapshot.storage;
        let present = change.new.is_some();
        match source {
            Source::Pod => {
                if present {
                    let pod = PodInfo::of(object)?;
                    self.pod_changed(change.old.as_deref(), pod);
                } else {
                    self.pod_gone(&object.meta.uid);
                }
                return Ok(());
            }
            Source::Node => return self.node_changed(object, present),
            Source::Namespace => {
                let name = object.meta.name.clone();
                if !present {
                    self.snapshot.namespaces.remove(&name);
                } else {
                    self.snapshot.namespaces.insert(name, object.clone());
                }
                let same = change.old.as_ref().is_some_and(|o| o.meta.labels == object.meta.labels);
                if !same {
                    self.wake(&ClusterEvent::NamespaceChanged);
                }
                return Ok(());
            }
            Source::Budget => return self.budget_changed(object, present),
            Source::Claim if present => {
                let claim = Claim::of(object)?;
                if claim.volume.is_some() {
                    storage.assumed.remove(&object.key());
                }
                storage.claims.insert(object.key(), claim);
            }
            Source::Claim => {
                storage.assumed.remove(&object.key());
                storage.claims.remove(&object.key());
            }
            Source::Volume if present => {
                let volume = Volume::of(object)?;
                storage.volumes.insert(object.key(), volume);
            }
            Source::Volume => drop(storage.volumes.remove(&object.key())),
            Source::Class if present => {
                let class = Class::of(object)?;
                storage.classes.insert(object.key(), class);
            }
            Source::Class => {
                storage.classes.remove(&object.key());
            }
        }
        self.wake(&ClusterEvent::StorageChanged);
        Ok(())
    }

    fn budget_changed(&mut self, object: &Object, present: bool) -> Result<(), Box<dyn std::error::Error>> {
        let uid = object.meta.uid.clone();
        if !present {
            self.snapshot.budgets.remove(&uid);
            return Ok(());
        }
        let tree: Value = object.decode()?;
        let selector = tree.pointer("/spec/selector").filter(|s| !s.is_null());
        let budget = Budget {
            namespace: object.meta.namespace.clone(),
            selector: selector.map_or_else(|| Ok(LabelSelector::nothing()), LabelSelector::from_tree)?,
            disruptions_allowed: tree
                .pointer("/status/disruptionsAllowed")
                .and_then(Value::as_i64)
                .unwrap_or(0),
        };
        self.snapshot.budgets.insert(uid, budget);
        Ok(())
    }

    fn node_changed(&mut self, object: &Object, present: bool) -> Result<(), Box<dyn std::error::Error>> {
        let name = &*object.meta.name;
        if !present {
            self.snapshot.remove_node(name);
            self.wake(&ClusterEvent::NodeRemoved);
            return Ok(());
        }
        let facts = NodeFacts::of(object)?;
        let (old, changed) = self.snapshot.set_node(name, facts);
        let Some(node) = self.snapshot.node(name).filter(|_| changed) else {
            return Ok(());
        };
        let event = match &old {
            Some(old) => ClusterEvent::NodeChanged { old, new: node },
            None => ClusterEvent::NodeAdded(node),
        };
        let (decider, now) = (
            &self.decider,
            u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        );
        self.queue
            .wake(now, event.name(), |q| decider.wakes(&q.pod, &q.refused_by, &event));
        Ok(())
    }

    fn pod_changed(&mut self, old: Option<&Object>, pod: PodInfo) {
        let pod = Arc::new(pod);
        let uid: Box<str> = pod.uid().into();
        if !pod.node_name.is_empty() {
            self.queue.remove(&uid);
            self.snapshot.withdraw_nomination(&uid);
            let known = self.assumed.remove(&uid).is_none() && self.snapshot.place(&uid).is_some();
            self.snapshot.add_pod(&pod, &pod.node_name);
            let relabelled = old.is_some_and(|o| o.meta.labels != pod.object.meta.labels);
            if !known || relabelled {
                self.wake(&ClusterEvent::PodAssigned(&pod));
            }
            return;
        }
        if self.assumed.contains_key(&uid) || *pod.scheduler_name != *self.config.name {
            return;
        }
        if pod.object.meta.deleting {
            self.queue.remove(&uid);
            return;
        }
        if !pod.nominated_node.is_empty() {
            self.snapshot.nominate(pod.clone(), &pod.nominated_node);
        }
        let gated = self.decider.gate(&pod).is_err();
        let now = self.now();
        self.queue.add(pod, gated, now);
    }

    fn pod_gone(&mut self, uid: &str) {
        self.queue.remove(uid);
        self.assumed.remove(uid);
        self.snapshot.withdraw_nomination(uid);
        if let Some(pod) = self.snapshot.remove_pod(uid) {
            self.wake(&ClusterEvent::PodRemoved(&pod));
        }
    }

    /// xorshift: which of several equal nodes is taken need not be unguessable.
    fn draw(random: &mut u64, of: usize) -> usize {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        (*random % of.max(1) as u64) as usize
    }

    /// Runs a batch of cycles. Whether there may be more to do.
    fn cycles(&mut self, shutdown: &CancellationToken) -> bool {
        for _ in 0..BATCH {
            // whoever waits is found again after the next start
            if shutdown.is_cancelled() {
                return true;
            }
            let now = self.now();
            let Some(queued) = self.queue.pop(now) else {
                return false;
            };
            let (begun, random) = (Instant::now(), &mut self.random);
            let clock = || begun.elapsed();
            self.cycles += 1;
            let meter = Meter::new(&self.counted, &clock, self.cycles.is_multiple_of(SINGLE));
            let decision =
                self.decider
                    .decide_measured(&self.snapshot, &queued.pod, &mut |n| Self::draw(random, n), &meter);
            match decision {
                Ok(at) => {
                    self.counted.decided(begun.elapsed());
                    let node = self.snapshot.nodes[at].name.clone();
                    self.bind(queued, &node, begun);
                }
                Err(failure) => self.refuse(queued, &failure, begun),
            }
        }
        true
    }

    /// Reserve, and Bind in the background.
    fn bind(&mut self, queued: Queued, node: &str, begun: Instant) {
        let reserving = Instant::now();
        let pod = queued.pod.clone();
        self.snapshot.withdraw_nomination(pod.uid());
        self.snapshot.add_pod(&pod, node);
        self.assumed.insert(pod.uid().into(), pod.clone());
        let place = self.snapshot.node(node).filter(|_| !pod.claims.is_empty());
        let plans = place
            .and_then(|n| volume_binding::plan(&self.snapshot, &pod, n))
            .unwrap_or_default();
        for plan in &plans {
            let volume = match plan {
                ClaimPlan::Volume { volume, .. } => Some(volume.clone()),
                ClaimPlan::Provision { .. } => None,
            };
            self.snapshot.storage.assumed.insert(plan.claim().to_owned(), volume);
        }
        self.counted.point(Point::Reserve, "Success", reserving.elapsed());
        let (counted, started) = (self.counted.clone(), self.started);
        let (claims, statuses) = (self.claims.clone(), self.statuses.clone());
        let (client, events, bindings) = (self.client.clone(), self.events.clone(), self.bindings.clone());
        let node = node.to_owned();
        tokio::spawn(async move {
            let _working = counted.binding();
            let status = |well: bool| if well { "Success" } else { "Error" };
            let bound = async {
                // a refusal that is written late would stand in the status of a pod that has a node
                statuses.written(&pod).await;
                if !plans.is_empty() {
                    // its volumes may take long: who looks for room sees where the pod will be
                    statuses.nominate(&pod, &node).await;
                }
                let binding = Instant::now();
                let claimed = claim_binding::bind(&client, &claims, &plans, &node).await;
                counted.point(Point::PreBind, status(claimed.is_ok()), binding.elapsed());
                claimed?;
                let binding = Instant::now();
                let bound = bind_pod(&client, &pod, &node).await;
                counted.point(Point::Bind, status(bound.is_ok()), binding.elapsed());
                bound?;
                Ok::<_, BindError>(())
            };
            let bound = bound.await;
            if bound.is_ok() {
                let now = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                counted.attempted(Outcome::Scheduled, begun.elapsed());
                counted.scheduled(queued.attempts, Duration::from_millis(queued.since_first(now)));
                let message = format!("Successfully assigned {} to {node}", pod.key);
                events.tell(&reference(&pod), &SCHEDULED, message);
            }
            // after shutdown nobody waits for the result
            let _ = bindings.send(Bound {
                queued,
                error: bound.err(),
                begun,
                claims: plans.iter().map(|p| p.claim().to_owned()).collect(),
            });
        });
    }

    /// What to do after a binding.
    fn settle(&mut self, bound: Bound) {
        let Some(error) = bound.error else { return };
        self.counted.attempted(Outcome::Error, bound.begun.elapsed());
        for claim in &bound.claims {
            self.snapshot.storage.assumed.remove(claim);
        }
        let pod = &bound.queued.pod;
        let uid: Box<str> = pod.uid().into();
        if self.assumed.remove(&uid).is_none() {
            // the watch has told meanwhile what became of it
            return;
        }
        self.snapshot.remove_pod(&uid);
        self.wake(&ClusterEvent::PodRemoved(pod));
        let newest = self
            .pods
            .get(&pod.key)
            .filter(|o| o.meta.uid == uid && !o.meta.deleting);
        let Some(newest) = newest else { return };
        match PodInfo::of(&newest) {
            Ok(newest) if newest.node_name.is_empty() => {
                tracing::warn!(pod = %pod.key, %error, "binding failed; trying again");
                let note = format!("binding rejected: {error}");
                self.events.tell(&reference(pod), &FAILED, note);
                let mut queued = bound.queued;
                queued.pod = Arc::new(newest);
                self.queue.failed(queued);
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "pod cannot be read"),
        }
    }

    /// PostFilter and the report of a failure.
    fn refuse(&mut self, mut queued: Queued, failure: &Failure, begun: Instant) {
        let pod = queued.pod.clone();
        let mut message = failure.message();
        let preemption = if failure.nodes == 0 {
            None
        } else if failure.whole.is_some() {
            // a pod that is refused as a whole never came to the plugin of resource claims, which then has nothing to look at
            message.push_str(" not found");
            None
        } else {
            self.counted.preempts();
            let preempting = Instant::now();
            let preempted = self.decider.preempt(&self.snapshot, &pod, failure);
            let status = if preempted.is_ok() { "Success" } else { "Unschedulable" };
            self.counted.point(Point::PostFilter, status, preempting.elapsed());
            match preempted {
                Ok(preemption) => {
                    self.counted.preempted(preemption.victims.len());
                    Some(preemption)
                }
                Err(why) => {
                    message.push_str(&format!(" preemption: {why}"));
                    None
                }
            }
        };
        if let Some(preemption) = &preemption {
            self.snapshot.nominate(pod.clone(), &preemption.node);
        }
        self.events.tell(&reference(&pod), &FAILED, message.clone());
        let nominated = preemption.as_ref().map(|p| p.node.to_string());
        let generation = pod.object.meta.generation;
        if queued.message != message || queued.generation != generation || nominated.is_some() {
            self.statuses.refused(&pod, &message, nominated.as_deref());
        }
        if let Some(preemption) = preemption {
            tokio::spawn(evict(self.client.clone(), self.events.clone(), pod, preemption));
        }
        queued.refused_by = failure.plugins();
        queued.message = message;
        queued.generation = generation;
        self.counted.attempted(Outcome::Unschedulable, begun.elapsed());
        self.queue.refused(queued);
    }
}

fn reference(pod: &PodInfo) -> core::ObjectReference {
    core::ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        namespace: Some(pod.namespace().into()),
        name: Some(pod.name().into()),
        uid: Some(pod.uid().into()),
        resource_version: Some(pod.object.meta.resource_version.to_string()),
        ..core::ObjectReference::default()
    }
}

async fn bind_pod(client: &Client, pod: &PodInfo, node: &str) -> Result<(), client::Error> {
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": { "name": pod.name(), "namespace": pod.namespace(), "uid": pod.uid() },
        "target": { "apiVersion": "v1", "kind": "Node", "name": node },
    });
    client
        .create_subresource::<core::Pod, Value>(pod.namespace(), pod.name(), "binding", &binding)
        .await?;
    Ok(())
}

/// Makes the victims leave.
async fn evict(client: Client, events: SeriesRecorder, pod: Arc<PodInfo>, preemption: Preemption) {
    for victim in preemption.victims {
        let disruption = json!({
            "metadata": { "uid": victim.uid() },
            "status": { "conditions": [{
                "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
                "message": "default-scheduler: preempting to accommodate a higher priority pod",
                "lastTransitionTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            }] },
        });
        let patch = Patch::Strategic(disruption);
        let told = client
            .patch_status::<core::Pod>(victim.namespace(), victim.name(), &patch)
            .await;
        let deleted = match told {
            Ok(_) => {
                let uid = DeleteParams::uid(victim.uid());
                client
                    .delete::<core::Pod>(victim.namespace(), victim.name(), &uid)
                    .await
            }
            Err(error) => Err(error),
        };
        match deleted {
            Ok(()) => {
                let message = format!("Preempted by pod {} on node {}", pod.uid(), preemption.node);
                let told = Told {
                    type_: "Normal",
                    reason: "Preempted",
                    action: "Preempting",
                    related: Some(&reference(&pod)),
                };
                events.tell(&reference(&victim), &told, message);
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => tracing::warn!(pod = %victim.key, %error, "cannot be preempted"),
        }
    }
}
