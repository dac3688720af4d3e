//! What is in force, service by service, and the smallest change from it to what should be. Pure: a change is a
//! batch that somebody else commits.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cni::nft::{Batch, Chain, Field, Key, Set, Verdict};

use crate::base;
use crate::rules::{Fragment, Node};

type ElementKey = (&'static str, Key);

/// The rules of one family.
pub(crate) struct Table {
    node: Node,
    fragments: HashMap<String, Fragment>,
    /// Services that want an element. Two may want the same, as an external address of both: the first by name gets
    /// it, and the other one when that goes.
    owners: HashMap<ElementKey, BTreeMap<String, Option<Verdict>>>,
    /// Chains that are empty and unreferenced, to be removed in a later batch: before Linux 6.2 a map's element goes
    /// on counting as a reference for a moment after its removal.
    stale: BTreeSet<String>,
}

/// A change being gathered, in the order in which the kernel takes it.
#[derive(Default)]
struct Delta {
    new_chains: Vec<String>,
    new_sets: Vec<(String, u64)>,
    touched: BTreeSet<ElementKey>,
    /// Service and chain.
    filled_chains: Vec<(String, String)>,
    emptied_chains: Vec<String>,
    old_sets: Vec<String>,
}

impl Table {
    pub(crate) fn new(node: Node) -> Table {
        Table {
            node,
            fragments: HashMap::new(),
            owners: HashMap::new(),
            stale: BTreeSet::new(),
        }
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// Forgets all; the next `full` writes only what is put in from here on.
    pub(crate) fn reset(&mut self, node: Node) {
        *self = Table::new(node);
    }

    /// Everything, in place of whatever the kernel has.
    pub(crate) fn full(&mut self) -> Batch {
        self.stale.clear();
        let mut batch = Batch::new(self.node.family, base::TABLE);
        base::write(&mut batch, &self.node);
        let chains = || self.fragments.values().flat_map(|f| &f.chains);
        for (set, timeout) in self.fragments.values().flat_map(|f| &f.affinity) {
            batch.add_set(set, &self.affinity_set(*timeout));
        }
        for (name, _) in chains() {
            batch.add_chain(name, &Chain::regular());
        }
        for (name, rules) in chains() {
            for rule in rules {
                batch.add_rule(name, rule);
            }
        }
        let mut by_map: BTreeMap<&str, Vec<(&Key, Option<&Verdict>)>> = BTreeMap::new();
        for ((map, key), owners) in &self.owners {
            if let Some(verdict) = owners.values().next() {
                by_map.entry(map).or_default().push((key, verdict.as_ref()));
            }
        }
        for (map, elements) in by_map {
            batch.add_elements(map, elements);
        }
        batch
    }

    /// Puts in, changes or (with an empty fragment) removes services, and gives the change.
    pub(crate) fn apply(&mut self, changes: Vec<(String, Fragment)>) -> Batch {
        let mut delta = Delta::default();
        let mut before: HashMap<ElementKey, Option<Verdict>> = HashMap::new();
        for (service, new) in changes {
            let old = self.fragments.remove(&service).unwrap_or_default();
            self.chains(&service, &old, &new, &mut delta);
            for (element, _) in old.elements.iter().filter(|(e, _)| !new.elements.contains_key(*e)) {
                self.note(element, &mut before, &mut delta);
                if let Some(owners) = self.owners.get_mut(element) {
                    owners.remove(&service);
                    if owners.is_empty() {
                        self.owners.remove(element);
                    }
                }
            }
            for (element, verdict) in &new.elements {
                if old.elements.get(element) != Some(verdict) {
                    self.note(element, &mut before, &mut delta);
                    let owners = self.owners.entry(element.clone()).or_default();
                    owners.insert(service.clone(), verdict.clone());
                }
            }
            if new != Fragment::default() {
                self.fragments.insert(service, new);
            }
        }
        self.batch(&delta, &before)
    }

    /// Remembers what the kernel has for an element before the first change to it.
    fn note(&self, element: &ElementKey, before: &mut HashMap<ElementKey, Option<Verdict>>, delta: &mut Delta) {
        if delta.touched.insert(element.clone())
            && let Some(verdict) = self.owners.get(element).and_then(|o| o.values().next())
        {
            before.insert(element.clone(), verdict.clone());
        }
    }

    fn chains(&mut self, service: &str, old: &Fragment, new: &Fragment, delta: &mut Delta) {
        for (name, rules) in &new.chains {
            match old.chains.get(name) {
                Some(same) if same == rules => continue,
                Some(_) => {}
                None => delta.new_chains.push(name.clone()),
            }
            self.stale.remove(name);
            delta.filled_chains.push((service.to_owned(), name.clone()));
        }
        let gone = old.chains.keys().filter(|n| !new.chains.contains_key(*n));
        delta.emptied_chains.extend(gone.cloned());
        let sets = new.affinity.iter().filter(|(n, _)| !old.affinity.contains_key(*n));
        delta.new_sets.extend(sets.map(|(n, t)| (n.clone(), *t)));
        let sets = old.affinity.keys().filter(|n| !new.affinity.contains_key(*n));
        delta.old_sets.extend(sets.cloned());
    }

    fn affinity_set(&self, timeout: u64) -> Set {
        let v6 = self.node.family == cni::nft::Family::Ipv6;
        Set::recent(if v6 { Field::Ipv6 } else { Field::Ipv4 }, timeout)
    }

    fn batch(&mut self, delta: &Delta, before: &HashMap<ElementKey, Option<Verdict>>) -> Batch {
        let mut batch = Batch::new(self.node.family, base::TABLE);
        for name in &delta.new_chains {
            batch.add_chain(name, &Chain::regular());
        }
        for (name, timeout) in &delta.new_sets {
            batch.add_set(name, &self.affinity_set(*timeout));
        }
        let mut removed: BTreeMap<&str, Vec<&Key>> = BTreeMap::new();
        let mut added: BTreeMap<&str, Vec<(&Key, Option<&Verdict>)>> = BTreeMap::new();
        for element in &delta.touched {
            let now = self.owners.get(element).and_then(|o| o.values().next());
            let then = before.get(element);
            if now == then {
                continue;
            }
            if then.is_some() {
                removed.entry(element.0).or_default().push(&element.1);
            }
            if let Some(verdict) = now {
                added.entry(element.0).or_default().push((&element.1, verdict.as_ref()));
            }
        }
        for (map, keys) in removed {
            batch.del_elements(map, keys);
        }
        let filled = delta.filled_chains.iter().map(|(_, name)| name);
        for name in delta.emptied_chains.iter().chain(filled) {
            batch.flush_chain(name);
        }
        for (service, name) in &delta.filled_chains {
            let rules = self.fragments.get(service).and_then(|f| f.chains.get(name));
            for rule in rules.into_iter().flatten() {
                batch.add_rule(name, rule);
            }
        }
        for (map, elements) in added {
            batch.add_elements(map, elements);
        }
        for name in &delta.old_sets {
            batch.del_set(name);
        }
        self.stale.extend(delta.emptied_chains.iter().cloned());
        batch
    }

    /// Removes the chains that earlier changes left empty; none if there are none.
    pub(crate) fn sweep(&mut self) -> Option<Batch> {
        if self.stale.is_empty() {
            return None;
        }
        let mut batch = Batch::new(self.node.family, base::TABLE);
        for name in std::mem::take(&mut self.stale) {
            batch.del_chain(&name);
        }
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::fragment;
    use crate::rules::tests::{endpoint, node, service_port};

    #[test]
    fn a_change_costs_what_changed_and_the_same_again_costs_nothing() {
        let mut table = Table::new(node());
        let one = || fragment(&[(service_port(), vec![endpoint(1, false)])], &node());
        table.apply(vec![("ns/svc".into(), one())]);
        assert!(table.apply(vec![("ns/svc".into(), one())]).is_empty());
        let two = fragment(
            &[(service_port(), vec![endpoint(1, false), endpoint(2, false)])],
            &node(),
        );
        // Flush one chain, and a rule an endpoint.
        assert_eq!(table.apply(vec![("ns/svc".into(), two)]).len(), 3);
        assert!(table.sweep().is_none());
        table.apply(vec![("ns/svc".into(), Fragment::default())]);
        assert_eq!(table.sweep().map(|b| b.len()), Some(1));
    }

    #[test]
    fn two_services_that_want_the_same_address_take_turns() {
        let mut table = Table::new(node());
        let named = |name: &str| {
            let mut port = service_port();
            port.name = name.into();
            port.cluster_ip = [10, 43, 0, name.as_bytes()[0]].into();
            port.external_ips = vec![[203, 0, 113, 1].into()];
            fragment(&[(port, vec![endpoint(1, false)])], &node())
        };
        table.apply(vec![("ns/a".into(), named("a"))]);
        let key = (base::SERVICE_IPS, Key::service([203, 0, 113, 1].into(), 6, 80));
        let now = |t: &Table| t.owners.get(&key).and_then(|o| o.keys().next().cloned());
        table.apply(vec![("ns/b".into(), named("b"))]);
        assert_eq!(now(&table).as_deref(), Some("ns/a"));
        table.apply(vec![("ns/a".into(), Fragment::default())]);
        assert_eq!(now(&table).as_deref(), Some("ns/b"));
    }
}
