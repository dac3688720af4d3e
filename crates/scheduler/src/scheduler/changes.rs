//! What changes in the API make of what the scheduler knows.

use std::sync::Arc;

use api::object::Object;
use api::selectors::LabelSelector;
use client::Change;
use serde_json::Value;

use super::Scheduler;
use crate::framework::ClusterEvent;
use crate::node::NodeFacts;
use crate::pod::PodInfo;
use crate::snapshot::Budget;
use crate::storage::{Claim, Class, Volume};

/// Which collection a change is of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    Node,
    Namespace,
    Claim,
    Volume,
    Class,
    Budget,
    Pod,
}

impl Scheduler {
    pub(super) fn apply(&mut self, source: Source, change: &Change) {
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
}
