//! The garbage collector: what has lost all its owners goes, in the background or before them, unless orphaned.

mod absent;
mod graph;
mod monitors;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::object::Object;
use client::{Client, DeleteParams, EventRecorder, Patch, Preconditions, WorkQueue};
use http::Method;
use k8s_openapi::api::core::v1::ObjectReference;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::Error;
use crate::context::Context;
use crate::discovery::ServedResource;
use absent::Absent;
use graph::{FOREGROUND, Graph, Identity, Node, ORPHAN, Todo};

#[derive(Clone)]
pub(super) struct Collector {
    client: Client,
    events: EventRecorder,
    graph: Arc<Mutex<Graph>>,
    kinds: Arc<Mutex<HashMap<(String, String), ServedResource>>>,
    absent: Arc<Mutex<Absent>>,
    deletions: WorkQueue<String>,
    orphanings: WorkQueue<String>,
}

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let collector = Collector {
        client: ctx.client.clone(),
        events: ctx.recorder("garbage-collector-controller"),
        graph: Arc::default(),
        kinds: Arc::default(),
        absent: Arc::default(),
        deletions: ctx.queue("garbage_collector_attempt_to_delete"),
        orphanings: ctx.queue("garbage_collector_attempt_to_orphan"),
    };
    let (sender, mut synced) = watch::channel(false);
    let monitors = tokio::spawn(monitors::run(ctx.clone(), collector.clone(), sender));
    tokio::select! {
        () = ctx.shutdown.cancelled() => return Ok(()),
        result = synced.wait_for(|s| *s) => if result.is_err() { return Ok(()); },
    }
    let workers = ctx.config.concurrent_gc_syncs;
    let (deleting, orphaning) = (collector.clone(), collector.clone());
    let delete = ctx.work(collector.deletions.clone(), workers, move |uid| {
        let collector = deleting.clone();
        async move { collector.attempt_delete(&uid).await.map(|()| None::<Duration>) }
    });
    let orphan = ctx.work(collector.orphanings.clone(), workers, move |uid| {
        let collector = orphaning.clone();
        async move { collector.attempt_orphan(&uid).await.map(|()| None::<Duration>) }
    });
    tokio::join!(delete, orphan);
    monitors.abort();
    Ok(())
}

/// What of a live object decides about it.
#[derive(Deserialize)]
struct Live {
    metadata: LiveMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LiveMeta {
    uid: String,
    resource_version: String,
    #[serde(default)]
    owner_references: Option<Vec<Value>>,
    #[serde(default)]
    finalizers: Option<Vec<String>>,
    #[serde(default)]
    deletion_timestamp: Option<String>,
}

impl LiveMeta {
    fn has(&self, finalizer: &str) -> bool {
        self.finalizers.iter().flatten().any(|f| f == finalizer)
    }
}

#[derive(Debug, PartialEq)]
enum OwnerState {
    Solid,
    Dangling,
    /// Being deleted in the foreground.
    Waiting,
}

impl Collector {
    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(&self, todo: Todo) {
        for uid in todo.attempt_delete {
            self.deletions.add(uid);
        }
        for uid in todo.attempt_orphan {
            self.orphanings.add(uid);
        }
        for (dependent, owner) in todo.misplaced {
            let about = ObjectReference {
                api_version: Some(dependent.api_version),
                kind: Some(dependent.kind),
                namespace: Some(dependent.namespace.clone()).filter(|n| !n.is_empty()),
                name: Some(dependent.name),
                uid: Some(dependent.uid),
                ..ObjectReference::default()
            };
            let message = format!(
                "ownerRef [{}/{}, namespace: {}, name: {}, uid: {}] does not exist in namespace {:?}",
                owner.api_version, owner.kind, owner.namespace, owner.name, owner.uid, dependent.namespace
            );
            self.events.warning(&about, "OwnerRefInvalidNamespace", message);
        }
    }

    pub(super) fn know(&self, resources: &HashSet<ServedResource>) {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        for resource in resources {
            kinds.insert((resource.group.clone(), resource.kind.clone()), resource.clone());
        }
    }

    pub(super) fn observe(&self, resource: &ServedResource, object: &Object) {
        let todo = self.graph().observe(resource, &object.meta);
        self.enqueue(todo);
    }

    pub(super) fn remove(&self, uid: &str) {
        let todo = self.graph().remove(uid);
        self.enqueue(todo);
    }

    pub(super) fn restart(&self, resource: &ServedResource, objects: &[Arc<Object>]) {
        let there: HashSet<&str> = objects.iter().map(|o| &*o.meta.uid).collect();
        let gone: Vec<String> = {
            let graph = self.graph();
            let known = graph.uids_of(resource);
            known.into_iter().filter(|uid| !there.contains(uid.as_str())).collect()
        };
        for uid in gone {
            self.remove(&uid);
        }
        for object in objects {
            self.observe(resource, object);
        }
    }

    /// The path of an object; references name group and kind, the version may be another one. `None` for a kind that is
    /// in namespaces where none is given: a cluster-scoped object names it as its owner.
    fn path(&self, identity: &Identity) -> Result<Option<String>, Error> {
        let (group, _) = api::gvk::split_api_version(&identity.api_version);
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let resource = kinds.get(&(group.to_owned(), identity.kind.clone())).ok_or_else(|| {
            Error::State(format!(
                "no matches for kind {:?} in {:?}",
                identity.kind, identity.api_version
            ))
        })?;
        let nowhere = resource.namespaced && identity.namespace.is_empty();
        Ok((!nowhere).then(|| resource.object(&identity.namespace, &identity.name)))
    }

    /// The live object with this uid, if it is still there.
    async fn live(&self, path: &str, uid: &str) -> Result<Option<LiveMeta>, Error> {
        match self.client.json::<Live>(Method::GET, path, &[], None::<&()>).await {
            Ok(live) if live.metadata.uid == uid => Ok(Some(live.metadata)),
            Ok(_) => Ok(None),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn attempt_delete(&self, uid: &str) -> Result<(), Error> {
        let Some(node) = self.graph().get(uid).cloned() else {
            return Ok(());
        };
        if node.deleting && !node.deleting_dependents {
            return Ok(());
        }
        let Some(path) = self.path(&node.identity)? else {
            self.not_there(&node.identity);
            return Ok(());
        };
        let Some(live) = self.live(&path, uid).await? else {
            self.remember_absent(&node.identity);
            if node.is_virtual {
                self.not_there(&node.identity);
            } else {
                self.remove(uid);
            }
            return Ok(());
        };
        if node.is_virtual {
            // Its own watch brings the rest.
            return Ok(());
        }
        if node.deleting_dependents {
            return self.finish_foreground(uid, &path, &live).await;
        }
        let references = live.owner_references.clone().unwrap_or_default();
        if references.is_empty() {
            return Ok(());
        }
        let (mut solid, mut rest) = (Vec::new(), Vec::new());
        let mut waiting = false;
        for reference in references {
            match self.classify(&node, &reference).await? {
                OwnerState::Solid => solid.push(reference),
                state => {
                    waiting |= state == OwnerState::Waiting;
                    rest.push(reference);
                }
            }
        }
        if !solid.is_empty() {
            if rest.is_empty() {
                return Ok(());
            }
            let patch = json!({"metadata": {"resourceVersion": live.resource_version, "ownerReferences": solid}});
            return self.patch(&path, patch).await;
        }
        let mut version = Some(live.resource_version.clone());
        let policy = if waiting && !node.dependents.is_empty() {
            if self.in_a_circle(uid) {
                let unblocked: Vec<Value> = rest
                    .into_iter()
                    .map(|mut r| {
                        r["blockOwnerDeletion"] = json!(false);
                        r
                    })
                    .collect();
                let patch =
                    json!({"metadata": {"resourceVersion": live.resource_version, "ownerReferences": unblocked}});
                self.patch(&path, patch).await?;
                version = None;
            }
            "Foreground"
        } else if live.has(ORPHAN) {
            "Orphan"
        } else if live.has(FOREGROUND) {
            "Foreground"
        } else {
            "Background"
        };
        let params = DeleteParams {
            preconditions: Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: version,
            },
            ..DeleteParams::propagation(policy)
        };
        match self.client.delete_path(&path, &params).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Whether a dependent of this object waits for its own dependents: waiting for each other would never end.
    fn in_a_circle(&self, uid: &str) -> bool {
        self.graph().dependents(uid).iter().any(|d| d.deleting_dependents)
    }

    async fn finish_foreground(&self, uid: &str, path: &str, live: &LiveMeta) -> Result<(), Error> {
        let blocking: Vec<(String, bool)> = {
            let graph = self.graph();
            let blocking = graph.blocking(uid);
            blocking
                .iter()
                .map(|d| (d.identity.uid.clone(), d.deleting_dependents))
                .collect()
        };
        if blocking.is_empty() {
            return self.remove_finalizer(path, live, FOREGROUND).await;
        }
        for (dependent, deleting_dependents) in blocking {
            if !deleting_dependents {
                self.deletions.add(dependent);
            }
        }
        Ok(())
    }

    async fn remove_finalizer(&self, path: &str, live: &LiveMeta, finalizer: &str) -> Result<(), Error> {
        if !live.has(finalizer) {
            return Ok(());
        }
        let left: Vec<&String> = live.finalizers.iter().flatten().filter(|f| *f != finalizer).collect();
        self.patch(
            path,
            json!({"metadata": {"resourceVersion": live.resource_version, "finalizers": left}}),
        )
        .await
    }

    async fn patch(&self, path: &str, patch: Value) -> Result<(), Error> {
        match self.client.patch_path::<Value>(path, &Patch::Merge(patch)).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn absent(&self) -> MutexGuard<'_, Absent> {
        self.absent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember_absent(&self, owner: &Identity) {
        self.absent().insert(owner);
    }

    /// An owner that no watch has told of is not where it was named.
    fn not_there(&self, named: &Identity) {
        let todo = self.graph().not_there(named, |other| self.absent().contains(other));
        self.enqueue(todo);
    }

    async fn classify(&self, dependent: &Node, reference: &Value) -> Result<OwnerState, Error> {
        let text = |field: &str| reference[field].as_str().unwrap_or_default().to_owned();
        let identity = Identity {
            api_version: text("apiVersion"),
            kind: text("kind"),
            namespace: dependent.identity.namespace.clone(),
            name: text("name"),
            uid: text("uid"),
        };
        if self.absent().contains(&identity) {
            return Ok(OwnerState::Dangling);
        }
        let Some(path) = self.path(&identity)? else {
            // an owner that cannot be asked for keeps its dependent
            return Ok(OwnerState::Solid);
        };
        match self.live(&path, &identity.uid).await? {
            None => {
                self.remember_absent(&identity);
                Ok(OwnerState::Dangling)
            }
            Some(live) if live.deletion_timestamp.is_some() && live.has(FOREGROUND) => Ok(OwnerState::Waiting),
            Some(_) => Ok(OwnerState::Solid),
        }
    }

    async fn attempt_orphan(&self, uid: &str) -> Result<(), Error> {
        let (owner, dependents): (Option<Identity>, Vec<Identity>) = {
            let graph = self.graph();
            let dependents = graph.dependents(uid);
            (
                graph.get(uid).map(|n| n.identity.clone()),
                dependents.iter().map(|d| d.identity.clone()).collect(),
            )
        };
        let Some(owner) = owner else { return Ok(()) };
        for dependent in dependents {
            let Some(path) = self.path(&dependent)? else { continue };
            let Some(live) = self.live(&path, &dependent.uid).await? else {
                continue;
            };
            let before = live.owner_references.unwrap_or_default();
            let after: Vec<&Value> = before.iter().filter(|r| r["uid"].as_str() != Some(uid)).collect();
            if after.len() < before.len() {
                let patch = json!({"metadata": {"resourceVersion": live.resource_version, "ownerReferences": after}});
                self.patch(&path, patch).await?;
            }
        }
        let Some(path) = self.path(&owner)? else { return Ok(()) };
        match self.live(&path, uid).await? {
            Some(live) => self.remove_finalizer(&path, &live, ORPHAN).await,
            None => Ok(()),
        }
    }
}
