//! Who owns whom, as the watches told it so far; pure.

use std::collections::{HashMap, HashSet};

use api::object::{Meta, OwnerReference};

use crate::discovery::ServedResource;

pub(super) const FOREGROUND: &str = "foregroundDeletion";
pub(super) const ORPHAN: &str = "orphan";

/// Where an object is found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub api_version: String,
    pub kind: String,
    /// Of the object, or of the dependent that named it; empty for cluster-scoped ones.
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl Identity {
    /// What a dependent names as its owner.
    fn named(owner: &OwnerReference, dependent: &Identity) -> Identity {
        Identity {
            api_version: owner.api_version.to_string(),
            kind: owner.kind.to_string(),
            namespace: dependent.namespace.clone(),
            name: owner.name.to_string(),
            uid: owner.uid.to_string(),
        }
    }

    /// Whether a reference leads to this object. The version does not matter, and what is in no namespace may own
    /// whatever is in one.
    fn is_named_by(&self, named: &Identity) -> bool {
        let group = |identity: &Identity| api::gvk::split_api_version(&identity.api_version).0.to_owned();
        self.kind == named.kind && self.name == named.name && group(self) == group(named) && self.is_near(named)
    }

    fn is_near(&self, named: &Identity) -> bool {
        self.namespace.is_empty() || self.namespace == named.namespace
    }
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub identity: Identity,
    pub owners: Vec<OwnerReference>,
    pub dependents: HashSet<String>,
    pub deleting: bool,
    /// Its dependents are being made orphans.
    pub orphaning: bool,
    /// Waits for its dependents: foreground deletion has begun.
    pub deleting_dependents: bool,
    /// Known only because a dependent named it.
    pub is_virtual: bool,
}

/// What a change of the graph calls for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Todo {
    pub attempt_delete: Vec<String>,
    pub attempt_orphan: Vec<String>,
    /// Dependents that name an owner in a namespace where it is not, and what they name.
    pub misplaced: Vec<(Identity, Identity)>,
}

#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: HashMap<String, Node>,
}

/// Has a dependent looked at again whose reference does not lead to the object of that uid.
fn doubt(owner: &Identity, dependent: &Identity, named: &Identity, todo: &mut Todo) {
    if owner.is_named_by(named) {
        return;
    }
    todo.attempt_delete.push(dependent.uid.clone());
    if !owner.is_near(named) {
        todo.misplaced.push((dependent.clone(), named.clone()));
    }
}

fn has(meta: &Meta, finalizer: &str) -> bool {
    meta.finalizers.iter().any(|f| &**f == finalizer)
}

impl Graph {
    pub(super) fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// An object is there or has changed.
    pub(super) fn observe(&mut self, resource: &ServedResource, meta: &Meta) -> Todo {
        let mut todo = Todo::default();
        let uid = meta.uid.to_string();
        let identity = Identity {
            api_version: resource.api_version(),
            kind: resource.kind.clone(),
            namespace: meta.namespace.to_string(),
            name: meta.name.to_string(),
            uid: uid.clone(),
        };
        let was_virtual = self.nodes.get(&uid).is_some_and(|node| node.is_virtual);
        let old_owners = match self.nodes.get_mut(&uid) {
            Some(node) => {
                node.is_virtual = false;
                node.identity = identity.clone();
                std::mem::replace(&mut node.owners, meta.owners.to_vec())
            }
            None => {
                let node = Node {
                    identity: identity.clone(),
                    owners: meta.owners.to_vec(),
                    dependents: HashSet::new(),
                    deleting: false,
                    orphaning: false,
                    deleting_dependents: false,
                    is_virtual: false,
                };
                self.nodes.insert(uid.clone(), node);
                Vec::new()
            }
        };
        self.relink(&identity, &old_owners, &meta.owners, &mut todo);
        if was_virtual {
            self.meet(&uid, &mut todo);
        }
        self.note_deletion(&uid, meta, &mut todo);
        todo
    }

    fn relink(&mut self, identity: &Identity, old: &[OwnerReference], new: &[OwnerReference], todo: &mut Todo) {
        for gone in old {
            let kept = new.iter().find(|o| o.uid == gone.uid);
            if let Some(owner) = self.nodes.get_mut(&*gone.uid) {
                if kept.is_none() {
                    owner.dependents.remove(&identity.uid);
                }
                let unblocked = gone.block_owner_deletion && kept.is_none_or(|o| !o.block_owner_deletion);
                if unblocked && owner.deleting_dependents {
                    todo.attempt_delete.push(gone.uid.to_string());
                }
            }
        }
        for owner in new {
            let is_new = !self.nodes.contains_key(&*owner.uid);
            let named = Identity::named(owner, identity);
            let node = self.nodes.entry(owner.uid.to_string()).or_insert_with(|| Node {
                identity: named.clone(),
                owners: Vec::new(),
                dependents: HashSet::new(),
                deleting: false,
                orphaning: false,
                deleting_dependents: false,
                is_virtual: true,
            });
            node.dependents.insert(identity.uid.clone());
            if is_new {
                todo.attempt_delete.push(owner.uid.to_string());
            } else if !node.is_virtual {
                doubt(&node.identity, identity, &named, todo);
            }
        }
    }

    /// An object that dependents named before it was seen: those that named another are looked at again.
    fn meet(&self, uid: &str, todo: &mut Todo) {
        let Some(owner) = self.nodes.get(uid) else { return };
        for dependent in self.dependents(uid) {
            let references = dependent.owners.iter().filter(|o| &*o.uid == uid);
            for reference in references {
                let named = Identity::named(reference, &dependent.identity);
                doubt(&owner.identity, &dependent.identity, &named, todo);
            }
        }
    }

    /// An owner that nobody has seen is not where it was named. Where another dependent names it in a place that is not
    /// known to be empty, it is looked for there; the node stays for them.
    pub(super) fn not_there(&mut self, named: &Identity, is_empty: impl Fn(&Identity) -> bool) -> Todo {
        let mut todo = Todo::default();
        let mut elsewhere = None;
        for dependent in self.dependents(&named.uid) {
            for reference in dependent.owners.iter().filter(|o| *o.uid == *named.uid) {
                let other = Identity::named(reference, &dependent.identity);
                if other == *named {
                    todo.attempt_delete.push(dependent.identity.uid.clone());
                } else if !is_empty(&other) {
                    elsewhere = Some(other);
                }
            }
        }
        match (elsewhere, self.nodes.get_mut(&named.uid)) {
            (Some(other), Some(node)) => {
                node.identity = other;
                todo.attempt_delete.push(named.uid.clone());
                todo
            }
            _ => self.remove(&named.uid),
        }
    }

    fn note_deletion(&mut self, uid: &str, meta: &Meta, todo: &mut Todo) {
        let Some(node) = self.nodes.get_mut(uid) else { return };
        if !meta.deleting {
            return;
        }
        node.deleting = true;
        // the finalizer may come back with another deletion
        let orphaning = has(meta, ORPHAN);
        if !std::mem::replace(&mut node.orphaning, orphaning) && orphaning {
            todo.attempt_orphan.push(uid.to_owned());
            return;
        }
        if has(meta, FOREGROUND) && !std::mem::replace(&mut node.deleting_dependents, true) {
            todo.attempt_delete.extend(node.dependents.iter().cloned());
            todo.attempt_delete.push(uid.to_owned());
        }
    }

    /// An object is gone, or never was.
    pub(super) fn remove(&mut self, uid: &str) -> Todo {
        let mut todo = Todo::default();
        let Some(node) = self.nodes.remove(uid) else {
            return todo;
        };
        for owner in &node.owners {
            let Some(of) = self.nodes.get_mut(&*owner.uid) else {
                continue;
            };
            of.dependents.remove(uid);
            if of.deleting_dependents {
                todo.attempt_delete.push(owner.uid.to_string());
            }
            if of.is_virtual && of.dependents.is_empty() {
                self.nodes.remove(&*owner.uid);
            }
        }
        todo.attempt_delete.extend(node.dependents.iter().cloned());
        todo
    }

    /// Dependents that must be gone before the owner may go.
    pub(super) fn blocking(&self, uid: &str) -> Vec<&Node> {
        let dependents = self.nodes.get(uid).into_iter().flat_map(|n| n.dependents.iter());
        dependents
            .filter_map(|d| self.nodes.get(d))
            .filter(|d| d.owners.iter().any(|o| &*o.uid == uid && o.block_owner_deletion))
            .collect()
    }

    pub(super) fn dependents(&self, uid: &str) -> Vec<&Node> {
        let dependents = self.nodes.get(uid).into_iter().flat_map(|n| n.dependents.iter());
        dependents.filter_map(|d| self.nodes.get(d)).collect()
    }

    /// The uids seen of a kind, to find what a new list no longer has.
    pub(super) fn uids_of(&self, resource: &ServedResource) -> Vec<String> {
        let api_version = resource.api_version();
        let of_kind =
            |n: &&Node| !n.is_virtual && n.identity.kind == resource.kind && n.identity.api_version == api_version;
        self.nodes
            .values()
            .filter(of_kind)
            .map(|n| n.identity.uid.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource() -> ServedResource {
        ServedResource {
            group: String::new(),
            version: "v1".into(),
            plural: "things".into(),
            kind: "Thing".into(),
            namespaced: true,
            verbs: crate::discovery::Verbs::default(),
        }
    }

    fn meta(uid: &str, owners: &[(&str, bool)], deleting: bool, finalizers: &[&str]) -> Meta {
        Meta {
            namespace: "n".into(),
            name: uid.into(),
            uid: uid.into(),
            owners: owners
                .iter()
                .map(|(uid, block)| OwnerReference {
                    api_version: "v1".into(),
                    kind: "Thing".into(),
                    name: (*uid).into(),
                    uid: (*uid).into(),
                    controller: true,
                    block_owner_deletion: *block,
                })
                .collect(),
            deleting,
            finalizers: finalizers.iter().map(|f| (*f).into()).collect(),
            ..Meta::default()
        }
    }

    #[test]
    fn an_owner_nobody_has_seen_is_looked_for_once() {
        let mut graph = Graph::default();
        assert_eq!(
            graph
                .observe(&resource(), &meta("a", &[("o", true)], false, &[]))
                .attempt_delete,
            ["o"]
        );
        assert!(
            graph
                .observe(&resource(), &meta("b", &[("o", true)], false, &[]))
                .attempt_delete
                .is_empty()
        );
        assert!(graph.get("o").unwrap().is_virtual);
        let mut todo = graph.remove("o").attempt_delete;
        todo.sort();
        assert_eq!(todo, ["a", "b"]);
    }

    #[test]
    fn foreground_deletion_waits_for_what_blocks_it() {
        let mut graph = Graph::default();
        graph.observe(&resource(), &meta("o", &[], false, &[]));
        graph.observe(&resource(), &meta("a", &[("o", true)], false, &[]));
        graph.observe(&resource(), &meta("b", &[("o", false)], false, &[]));
        let mut todo = graph
            .observe(&resource(), &meta("o", &[], true, &[FOREGROUND]))
            .attempt_delete;
        todo.sort();
        assert_eq!(todo, ["a", "b", "o"]);
        assert_eq!(graph.blocking("o").len(), 1);
        assert_eq!(graph.remove("a").attempt_delete, ["o"]);
        assert!(graph.blocking("o").is_empty());
    }

    #[test]
    fn a_reference_that_leads_elsewhere_is_doubted_and_takes_nothing_from_others() {
        let of_kind = |uid: &str, kind: &str, namespace: &str| {
            let mut meta = meta(uid, &[("o", true)], false, &[]);
            meta.owners[0].kind = kind.into();
            meta.namespace = namespace.into();
            meta
        };
        let mut graph = Graph::default();
        graph.observe(&resource(), &meta("o", &[], false, &[]));
        assert_eq!(
            graph.observe(&resource(), &of_kind("child", "Thing", "n")),
            Todo::default()
        );
        assert_eq!(
            graph
                .observe(&resource(), &of_kind("wrong", "Other", "n"))
                .attempt_delete,
            ["wrong"]
        );
        let todo = graph.observe(&resource(), &of_kind("far", "Thing", "m"));
        assert_eq!(todo.attempt_delete, ["far"]);
        assert_eq!(todo.misplaced[0].0.uid, "far");

        // named wrongly before it was seen
        let mut graph = Graph::default();
        graph.observe(&resource(), &of_kind("wrong", "Other", "n"));
        graph.observe(&resource(), &of_kind("child", "Thing", "n"));
        let named = graph.get("o").unwrap().identity.clone();
        assert_eq!(named.kind, "Other");
        assert_eq!(graph.not_there(&named, |_| false).attempt_delete, ["wrong", "o"]);
        assert_eq!(graph.get("o").unwrap().identity.kind, "Thing");
        let todo = graph.observe(&resource(), &meta("o", &[], false, &[]));
        assert_eq!(todo.attempt_delete, ["wrong"]);
        assert_eq!(graph.dependents("o").len(), 2);
    }

    #[test]
    fn orphaning_is_asked_for_once() {
        let mut graph = Graph::default();
        graph.observe(&resource(), &meta("a", &[("o", true)], false, &[]));
        graph.observe(&resource(), &meta("o", &[], false, &[ORPHAN]));
        assert_eq!(
            graph
                .observe(&resource(), &meta("o", &[], true, &[ORPHAN]))
                .attempt_orphan,
            ["o"]
        );
        assert_eq!(
            graph.observe(&resource(), &meta("o", &[], true, &[ORPHAN])),
            Todo::default()
        );
        graph.observe(&resource(), &meta("a", &[], false, &[]));
        assert!(graph.dependents("o").is_empty());
        // another finalizer holds it, and a second deletion orphans again
        graph.observe(&resource(), &meta("o", &[], true, &["other"]));
        let again = graph.observe(&resource(), &meta("o", &[], true, &["other", ORPHAN]));
        assert_eq!(again.attempt_orphan, ["o"]);
    }

    #[test]
    fn an_unblocked_owner_is_tried_again() {
        let mut graph = Graph::default();
        graph.observe(&resource(), &meta("o", &[], true, &[FOREGROUND]));
        graph.observe(&resource(), &meta("a", &[("o", true)], false, &[]));
        let todo = graph.observe(&resource(), &meta("a", &[("o", false)], false, &[]));
        assert_eq!(todo.attempt_delete, ["o"]);
    }
}
