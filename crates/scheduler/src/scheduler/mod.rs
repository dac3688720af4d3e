//! The shell: follows the API, runs cycles over what it knows, binds, reports.

mod binding;
mod changes;

use std::collections::HashMap;
use std::sync::Arc;

use client::{Cache, Client, Informer, ListWatch, SeriesRecorder};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use metrics::Registry;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::binding::Bound;
use self::changes::Source;
use crate::cycle::Decider;
use crate::framework::ClusterEvent;
use crate::meter::Meter;
use crate::metrics::SchedulerMetrics;
use crate::pod::PodInfo;
use crate::pod_resources::PodResources;
use crate::queue::Queue;
use crate::snapshot::Snapshot;
use crate::status_writes::StatusWrites;

/// Of so many cycles one measures every plugin by itself.
const SINGLE: u64 = 10;
/// Cycles between two looks at what has changed.
const BATCH: usize = 64;

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
}
