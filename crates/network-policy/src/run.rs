//! Follows policies, namespaces and pods, and commits what follows from them. Rules stay when this ends.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::object::Object;
use client::{Client, ListWatch, WatchEvent};
use cni::nft::{Batch, Family};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Pod as ApiPod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::engine::{Engine, Scope, Service};
use crate::gate::Ask;
use crate::pod::{Pod, protocol_number};
use crate::policy::Policy;

/// Pods of namespaces that come into view are waited for so long before rules are made without them.
const SETTLE: Duration = Duration::from_secs(1);
/// Empty chains are removed this much later.
const SWEEP_AFTER: Duration = Duration::from_secs(2);
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(30);
const QUEUE: usize = 256;
/// Namespace and name of the EndpointSlice of the cluster's DNS.
const DNS: (&str, &str) = ("kube-system", "kube-dns");
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

/// What `run` needs to know.
#[derive(Debug, Clone)]
pub struct NetworkPolicyConfig {
    /// This node's name: pods with it in `spec.nodeName` are the ones judged.
    pub node_name: String,
    /// Their families are those that are judged.
    pub node_ips: Vec<IpAddr>,
    /// The name of the nftables tables.
    pub table: String,
}

/// Why the rules cannot be kept or taken down.
#[derive(Debug, thiserror::Error)]
pub enum NetworkPolicyError {
    /// The kernel refused a transaction.
    #[error(transparent)]
    Nftables(#[from] cni::nft::Error),
    /// The thread that spoke to the kernel ended without an answer.
    #[error("a commit ended early: {0}")]
    Task(String),
}

/// Removes the tables: no policy holds on this node any longer.
///
/// # Errors
/// When the kernel refuses.
pub fn cleanup(table: &str) -> Result<(), NetworkPolicyError> {
    for family in [Family::Ipv4, Family::Ipv6] {
        let mut batch = Batch::new(family, table);
        batch.add_table();
        batch.del_table();
        batch.commit()?;
    }
    Ok(())
}

/// Where an event comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Source {
    Policies,
    Namespaces,
    /// Where the cluster's DNS answers.
    Dns,
    /// Pods of this node.
    Local,
    /// Pods of a namespace, or with none of all.
    Remote(Option<String>),
}

type Event = (Source, WatchEvent);

/// Keeps the policies of this node's pods in force until `stop`. `asks` are the pods that wait at the [`crate::Gate`].
pub async fn run(
    config: NetworkPolicyConfig,
    client: Client,
    mut asks: mpsc::UnboundedReceiver<Ask>,
    stop: CancellationToken,
) {
    cni::filter_bridged();
    let (sender, mut events) = mpsc::channel(QUEUE);
    let mut node = Node::new(&config, client, sender);
    node.follow(Source::Policies);
    node.follow(Source::Namespaces);
    node.follow(Source::Dns);
    node.follow(Source::Local);
    loop {
        let deadline = node.deadline();
        tokio::select! {
            () = stop.cancelled() => return,
            Some(event) = events.recv() => node.event(event),
            Some(ask) = asks.recv() => node.ask(ask),
            () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {}
        }
        // all that came meanwhile goes into the same transaction
        while let Ok(event) = events.try_recv() {
            node.event(event);
        }
        while let Ok(ask) = asks.try_recv() {
            node.ask(ask);
        }
        node.look_around();
        node.commit().await;
    }
}

/// Addresses that a pod of this node was given and that the API may not know yet.
struct Given {
    uid: String,
    ips: Vec<IpAddr>,
    /// The API has said something of this pod since.
    seen: bool,
}

struct Node {
    name: String,
    client: Client,
    sender: mpsc::Sender<Event>,
    engine: Engine,
    followed: HashMap<Source, AbortOnDropHandle<()>>,
    /// Of what is followed, what has been listed.
    listed: BTreeSet<Source>,
    given: HashMap<String, Given>,
    /// The EndpointSlice of the DNS that is a part of skiff.
    dns: Option<String>,
    waiting: Vec<oneshot::Sender<()>>,
    /// Until when what is not listed yet is waited for.
    settle: Option<Instant>,
    sweep: Option<Instant>,
    retry: Option<Instant>,
    wait: Duration,
}

impl Node {
    fn new(config: &NetworkPolicyConfig, client: Client, sender: mpsc::Sender<Event>) -> Node {
        let family = |ip: &IpAddr| if ip.is_ipv6() { Family::Ipv6 } else { Family::Ipv4 };
        let families: BTreeSet<Family> = config.node_ips.iter().map(family).collect();
        let families: Vec<Family> = families.into_iter().collect();
        Node {
            name: config.node_name.clone(),
            client,
            sender,
            engine: Engine::new(&config.node_name, &config.table, &families),
            followed: HashMap::new(),
            listed: BTreeSet::new(),
            given: HashMap::new(),
            dns: None,
            waiting: Vec::new(),
            settle: None,
            sweep: None,
            retry: None,
            wait: Duration::ZERO,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        [self.settle, self.sweep, self.retry].into_iter().flatten().min()
    }

    fn follow(&mut self, source: Source) {
        let request: ListWatch = match &source {
            Source::Policies => Client::collection::<NetworkPolicy>(""),
            Source::Namespaces => Client::collection::<Namespace>(""),
            Source::Dns => Client::collection::<EndpointSlice>(DNS.0).fields(format!("metadata.name={}", DNS.1)),
            Source::Local => Client::collection::<ApiPod>("").fields(format!("spec.nodeName={}", self.name)),
            Source::Remote(namespace) => Client::collection::<ApiPod>(namespace.as_deref().unwrap_or_default()),
        };
        let (mut events, sender, of) = (self.client.list_watch(request), self.sender.clone(), source.clone());
        let task = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if sender.send((of.clone(), event)).await.is_err() {
                    return;
                }
            }
        });
        self.followed.insert(source, AbortOnDropHandle::new(task));
    }

    /// Follows the pods that have to be known, and forgets the others.
    fn look_around(&mut self) {
        let scope = self.engine.scope();
        let wanted: BTreeSet<Source> = match &scope {
            Scope::All => [Source::Remote(None)].into(),
            Scope::Namespaces(names) => names.iter().map(|n| Source::Remote(Some(n.clone()))).collect(),
        };
        let new: Vec<Source> = wanted
            .iter()
            .filter(|s| !self.followed.contains_key(*s))
            .cloned()
            .collect();
        if !new.is_empty() {
            self.settle = Some(Instant::now() + SETTLE);
        }
        for source in new {
            self.follow(source);
        }
        let remote = |source: &&Source| matches!(source, Source::Remote(_));
        let old: Vec<Source> = self
            .followed
            .keys()
            .filter(remote)
            .filter(|s| !wanted.contains(*s))
            .cloned()
            .collect();
        if old.is_empty() {
            return;
        }
        for source in old {
            self.followed.remove(&source);
            self.listed.remove(&source);
        }
        for key in self.engine.remote_pods(None) {
            if !self.engine.pod(&key).is_some_and(|p| scope.holds(&p.namespace)) {
                self.engine.set_pod(&key, None);
            }
        }
    }

    fn event(&mut self, (source, event): Event) {
        if !self.followed.contains_key(&source) {
            // it was let go of while the event was on its way
            return;
        }
        match event {
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Applied(object) => self.object(&source, &object, true),
            WatchEvent::Deleted(object) => self.object(&source, &object, false),
            WatchEvent::Restarted(objects) => {
                let keys: BTreeSet<String> = objects.iter().map(|o| o.key()).collect();
                for key in self.known(&source).into_iter().filter(|key| !keys.contains(key)) {
                    self.gone(&source, &key);
                }
                for object in &objects {
                    self.object(&source, object, true);
                }
                self.listed.insert(source);
            }
        }
    }

    fn known(&self, source: &Source) -> Vec<String> {
        match source {
            Source::Policies => self.engine.policy_keys(),
            Source::Namespaces => self.engine.namespace_names(),
            Source::Dns => self.dns.iter().cloned().collect(),
            Source::Local => self.engine.local_pods(),
            Source::Remote(namespace) => self.engine.remote_pods(namespace.as_deref()),
        }
    }

    /// A list has it no longer.
    fn gone(&mut self, source: &Source, key: &str) {
        match source {
            Source::Policies => self.engine.set_policy(key, None),
            Source::Namespaces => self.engine.set_namespace(key, None),
            Source::Dns => self.dns(key, Vec::new()),
            Source::Local if self.given.get(key).is_some_and(|g| !g.seen) => {}
            Source::Local => {
                self.given.remove(key);
                self.engine.set_pod(key, None);
            }
            Source::Remote(_) => self.engine.set_pod(key, None),
        }
    }

    fn object(&mut self, source: &Source, object: &Arc<Object>, there: bool) {
        let key = object.key();
        match source {
            Source::Policies => {
                let policy = there.then(|| Policy::read(object)).transpose();
                match policy {
                    Ok(policy) => self.engine.set_policy(&key, policy),
                    // what was known of it goes on holding
                    Err(error) => tracing::error!(policy = key, %error, "a network policy cannot be read"),
                }
            }
            Source::Namespaces => {
                let labels = there.then_some(&object.meta.labels);
                self.engine.set_namespace(&object.meta.name, labels);
            }
            Source::Dns => self.dns(&key, if there { answering(object) } else { Vec::new() }),
            Source::Local => self.local(&key, object, there),
            Source::Remote(_) => {
                let pod = read(object, there);
                // pods of this node are told of by the other watch
                if self.engine.pod(&key).is_some_and(|p| p.node == self.name)
                    || pod.as_ref().is_some_and(|p| p.node == self.name)
                {
                    return;
                }
                self.engine.set_pod(&key, pod.filter(|p| !p.ips.is_empty()));
            }
        }
    }

    fn dns(&mut self, key: &str, services: Vec<Service>) {
        self.dns = (!services.is_empty()).then(|| key.to_owned());
        self.engine.set_node_services(services);
    }

    fn local(&mut self, key: &str, object: &Arc<Object>, there: bool) {
        let mut pod = read(object, there);
        if let Some(given) = self.given.get_mut(key) {
            // what stands for a static pod in the API has another uid than the pod
            let mirror = object.meta.owners.iter().any(|o| &*o.kind == "Node");
            let same = *object.meta.uid == *given.uid || mirror;
            if !same && !given.seen {
                // an earlier pod of this name
                return;
            }
            given.seen |= same;
            match &mut pod {
                Some(pod) if same && given.ips.iter().any(|ip| !pod.ips.contains(ip)) => {
                    let more: Vec<IpAddr> = given.ips.iter().filter(|ip| !pod.ips.contains(ip)).copied().collect();
                    pod.ips.extend(more);
                }
                _ => {
                    self.given.remove(key);
                }
            }
        }
        self.engine.set_pod(key, pod);
    }

    fn ask(&mut self, ask: Ask) {
        let Ask { pod, done } = ask;
        let key = pod.key();
        let given = Given {
            uid: pod.uid.clone(),
            ips: pod.ips.clone(),
            seen: false,
        };
        let mut pod = pod;
        pod.node.clone_from(&self.name);
        let ips = pod.ips.clone();
        if self
            .engine
            .pod(&key)
            .is_some_and(|known| known.uid == pod.uid && ips.iter().all(|ip| known.ips.contains(ip)))
        {
            self.given.remove(&key);
        } else {
            self.given.insert(key.clone(), given);
            self.engine.set_pod(&key, Some(pod));
        }
        self.engine.give_addresses(&key, &ips);
        self.waiting.push(done);
    }

    /// Whether all is known that rules are made from, or has been waited for long enough.
    fn is_settled(&mut self) -> bool {
        let own = [Source::Policies, Source::Namespaces, Source::Local];
        if !own.iter().all(|source| self.listed.contains(source)) {
            return false;
        }
        let now = Instant::now();
        if self.followed.keys().all(|source| self.listed.contains(source)) || self.settle.is_some_and(|at| at <= now) {
            self.settle = None;
        }
        self.settle.is_none()
    }

    async fn commit(&mut self) {
        let now = Instant::now();
        if self.settle.is_some_and(|at| at <= now) && !self.listed.contains(&Source::Policies) {
            self.settle = None;
        }
        if !self.is_settled() || self.retry.is_some_and(|at| at > now) {
            return;
        }
        self.retry = None;
        let mut batches: Vec<Batch> = Vec::new();
        if self.sweep.is_some_and(|at| at <= now) {
            self.sweep = None;
            batches.extend(self.engine.sweeps());
        }
        batches.extend(self.engine.batches());
        if !batches.is_empty() {
            let commands: usize = batches.iter().map(Batch::len).sum();
            if let Err(error) = in_thread(batches).await {
                self.wait = (self.wait * 2).clamp(RETRY_FIRST, RETRY_MOST);
                self.retry = Some(Instant::now() + self.wait);
                tracing::error!(%error, "network policies: rules are not changed; trying again in {:?}", self.wait);
                self.engine.lost();
                return;
            }
            tracing::debug!(commands, "network policies: rules changed");
            self.sweep = Some(Instant::now() + SWEEP_AFTER);
        }
        self.wait = Duration::ZERO;
        for done in self.waiting.drain(..) {
            // who waited may have gone
            let _ = done.send(());
        }
    }
}

/// Where a slice of skiff's own says that the cluster's DNS answers; nowhere if it is somebody else's, which has pods.
fn answering(object: &Arc<Object>) -> Vec<Service> {
    if object.meta.label(MANAGED_BY) != Some("skiff") {
        return Vec::new();
    }
    let slice: EndpointSlice = match object.decode() {
        Ok(slice) => slice,
        Err(error) => {
            tracing::error!(slice = object.key(), %error, "an endpoint slice cannot be read");
            return Vec::new();
        }
    };
    let ports = slice.ports.into_iter().flatten().filter_map(|port| {
        let protocol = protocol_number(port.protocol.as_deref().unwrap_or("TCP"))?;
        Some((protocol, u16::try_from(port.port?).ok()?))
    });
    let ports: Vec<(u8, u16)> = ports.collect();
    let ips = slice
        .endpoints
        .iter()
        .flatten()
        .flat_map(|e| &e.addresses)
        .filter_map(|ip| ip.parse().ok());
    ips.flat_map(|ip| ports.iter().map(move |(protocol, port)| (ip, *protocol, *port)))
        .collect()
}

/// `None` is a pod that no policy is about.
fn read(object: &Arc<Object>, there: bool) -> Option<Pod> {
    if !there {
        return None;
    }
    Pod::read(object).unwrap_or_else(|error| {
        tracing::error!(pod = object.key(), %error, "a pod cannot be read");
        None
    })
}

async fn in_thread(batches: Vec<Batch>) -> Result<(), NetworkPolicyError> {
    let work = move || batches.into_iter().try_for_each(Batch::commit);
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|e| NetworkPolicyError::Task(e.to_string()))??)
}
