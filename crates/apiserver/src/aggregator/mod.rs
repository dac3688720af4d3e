//! The aggregator (`k8s.io/kube-aggregator`): APIServices whose servers run elsewhere, as Services of the cluster.

pub mod api_service;
mod availability;
mod discovery;
pub mod error;
mod openapi;
pub mod remote;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use crate::api_services::{GROUP, PLURAL};
use crate::http::front_proxy::FrontProxy;
use crate::http::request_info::RequestInfo;
use crate::http::status::{ApiError, Result};
use crate::registry::Registry;
use crate::registry::cache::{Scope, Subscription};
use crate::registry::cached::Cached;
use api_service::Spec;
use remote::Remote;

/// How requests reach extension servers.
#[derive(Debug, Clone)]
pub struct Options {
    /// Requests go to endpoints of Services and not to their cluster IPs.
    pub to_endpoints: bool,
    /// Redirects are not passed on to clients.
    pub reject_redirects: bool,
}

/// APIServices with servers of their own: by group, then by version.
pub type Remotes = BTreeMap<String, BTreeMap<String, Arc<Remote>>>;

/// The servers that answer for other groups. A request reads one pointer, and where there are none it looks no further.
pub struct Aggregator {
    registry: Arc<Registry>,
    front_proxy: Arc<FrontProxy>,
    pub options: Options,
    remotes: ArcSwap<Remotes>,
    changed: AtomicU64,
}

impl Aggregator {
    /// The aggregator of a server. It knows no APIService until it follows them.
    pub fn new(registry: Arc<Registry>, front_proxy: Arc<FrontProxy>, options: Options) -> Arc<Aggregator> {
        Arc::new(Aggregator {
            registry,
            front_proxy,
            options,
            remotes: ArcSwap::default(),
            changed: AtomicU64::new(0),
        })
    }

    /// Those that there are now.
    pub fn remotes(&self) -> Arc<Remotes> {
        self.remotes.load_full()
    }

    /// Rises with every change of what other servers say of themselves: documents are right while it stays.
    pub fn changed(&self) -> u64 {
        self.changed.load(Ordering::Acquire)
    }

    /// The headers by which proxies in front of this server name users.
    pub fn front_proxy(&self) -> &FrontProxy {
        &self.front_proxy
    }

    /// The server that answers a request, if it is another one.
    pub fn find(&self, info: &RequestInfo) -> Option<Arc<Remote>> {
        let remotes = self.remotes.load();
        if remotes.is_empty() {
            return None;
        }
        let (group, version) = match info.path.as_str() {
            path if path == "/api" || path.starts_with("/api/") => ("", "v1"),
            path if path.starts_with("/apis/") && !info.group.is_empty() => (&*info.group, &*info.version),
            _ => return None,
        };
        remotes.get(group)?.get(version).cloned()
    }

    fn note_change(&self) {
        self.changed.fetch_add(1, Ordering::AcqRel);
    }
}

/// What follows APIServices.
pub struct Follower {
    aggregator: Arc<Aggregator>,
    changes: Subscription,
    /// By the name of the APIService: what it says, and the end of what checks it.
    workers: HashMap<String, (Arc<Remote>, CancellationToken)>,
}

impl Follower {
    /// Knows the APIServices that there are: requests for their groups are theirs from now on.
    ///
    /// # Errors
    /// When APIServices are not served.
    pub fn start(aggregator: Arc<Aggregator>) -> Result<Follower> {
        let changes = subscribe(&aggregator)?;
        let mut follower = Follower {
            aggregator,
            changes,
            workers: HashMap::new(),
        };
        for object in follower.aggregator.registry.list(GROUP, PLURAL, "") {
            follower.written(&object)?;
        }
        Ok(follower)
    }

    /// Follows them until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let change = tokio::select! {
                () = stop.cancelled() => break,
                change = self.changes.queue.recv() => change,
            };
            let done = match change {
                Some(change) if change.deleted => {
                    self.forget(&change.current.object.meta.name);
                    Ok(())
                }
                Some(change) => match self.written(&change.current) {
                    Ok(true) => worker::tell_local(&self.aggregator.registry, &change.current.object.meta.name).await,
                    done => done.map(|_| ()),
                },
                // too slow: everything is looked at again
                None => self.again(),
            };
            if let Err(error) = done {
                tracing::warn!(%error, "an APIService is not followed");
            }
        }
        for (_, stop) in self.workers.values() {
            stop.cancel();
        }
    }

    fn again(&mut self) -> Result<()> {
        self.changes = subscribe(&self.aggregator)?;
        let objects = self.aggregator.registry.list(GROUP, PLURAL, "");
        let known: Vec<String> = self.workers.keys().cloned().collect();
        for name in known {
            if !objects.iter().any(|object| *object.object.meta.name == *name) {
                self.forget(&name);
            }
        }
        objects.iter().try_for_each(|object| self.written(object).map(|_| ()))
    }

    /// An APIService is as it is now. Whether it is a local one whose status does not say so.
    fn written(&mut self, object: &Cached) -> Result<bool> {
        let name: &str = &object.object.meta.name;
        let tree = object.tree()?;
        let Some(spec) = Spec::read(&tree) else {
            self.forget(name);
            return Ok(!api_service::is_told_local(&tree));
        };
        // its own group is served here, whatever an APIService says
        if spec.group == GROUP {
            return Ok(false);
        }
        let available = api_service::is_available(&tree);
        if let Some((remote, _)) = self.workers.get(name)
            && remote.spec == spec
        {
            // somebody else wrote the status
            if remote.set_available(available) {
                remote.look.notify_one();
            }
            return Ok(false);
        }
        let before = self.workers.remove(name).map(|(remote, stop)| {
            stop.cancel();
            remote
        });
        let aggregator = &self.aggregator;
        let remote = Remote::new(
            spec,
            &aggregator.registry,
            &aggregator.front_proxy,
            aggregator.options.to_endpoints,
        );
        remote.set_available(available);
        if let Some(before) = before.filter(|b| b.spec.service == remote.spec.service) {
            remote.take_over(&before);
        }
        let (remote, stop) = (Arc::new(remote), CancellationToken::new());
        tokio::spawn(worker::run(aggregator.clone(), remote.clone(), stop.clone()));
        self.workers.insert(name.to_owned(), (remote, stop));
        self.publish();
        Ok(false)
    }

    fn forget(&mut self, name: &str) {
        if let Some((_, stop)) = self.workers.remove(name) {
            stop.cancel();
            self.publish();
        }
    }

    fn publish(&self) {
        let mut remotes = Remotes::new();
        for (remote, _) in self.workers.values() {
            let versions = remotes.entry(remote.spec.group.clone()).or_default();
            versions.insert(remote.spec.version.clone(), remote.clone());
        }
        self.aggregator.remotes.store(Arc::new(remotes));
        self.aggregator.note_change();
    }
}

fn subscribe(aggregator: &Aggregator) -> Result<Subscription> {
    let catalog = aggregator.registry.catalog();
    let served = catalog.stored(GROUP, PLURAL);
    let served = served.ok_or_else(|| ApiError::internal(format!("{PLURAL} are not served")))?;
    // what is listed comes from the cache: nothing between the two is missed, and what comes twice changes nothing
    let (changes, _, _) = served.cache.watch(Scope::All, "", None)?;
    Ok(changes)
}
