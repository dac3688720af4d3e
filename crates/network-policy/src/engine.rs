//! What this node needs so that its pods' policies hold, kept up with changes of pods, namespaces and policies. Pure.
//!
//! Invariant: a chain, a set or an element is in a table as long as a pod of this node needs it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use cni::nft::{Batch, Family, Key, Verdict};

use crate::compile::{Compiled, chain_name, compile, name, set_name};
use crate::members::{Members, Source, Step};
use crate::pod::{Labels, Pod, label};
use crate::policy::{DIRECTIONS, Direction, Namespaces, Policy};
use crate::rules::{NODE_SERVICES, SELVES, group, map_of};
use crate::table::{Item, Kind, Table, Value};

/// More namespaces than these are followed as one: all.
const MOST_NAMESPACES: usize = 64;

/// Pods of which namespaces have to be known, besides those of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Pods of every namespace.
    All,
    /// Pods of these namespaces.
    Namespaces(BTreeSet<String>),
}

impl Scope {
    /// Returns whether pods of the namespace have to be known.
    pub fn holds(&self, namespace: &str) -> bool {
        match self {
            Scope::All => true,
            Scope::Namespaces(names) => names.contains(namespace),
        }
    }
}

/// A direction of a policy that selects a pod of this node.
#[derive(Debug)]
struct Active {
    users: usize,
    compiled: Compiled,
}

/// The policies that select a pod in a direction; pods of the same have one chain.
#[derive(Debug)]
struct Group {
    users: usize,
    policies: Vec<String>,
}

/// What a pod of this node has in the tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Judged {
    /// By direction, the chains of its groups.
    groups: [Option<Arc<str>>; 2],
    ips: Vec<IpAddr>,
}

/// The state of a node's policies: what is known of pods, namespaces and policies, and the tables that follow from it.
#[derive(Debug)]
pub struct Engine {
    node: String,
    namespaces: HashMap<String, Labels>,
    pods: HashMap<String, Pod>,
    pods_of: HashMap<String, BTreeSet<String>>,
    policies: HashMap<String, Policy>,
    policies_of: HashMap<String, BTreeSet<String>>,
    judged: HashMap<String, Judged>,
    /// Pods of this node that have an address; the last one has it in fact.
    holders: HashMap<IpAddr, Vec<String>>,
    active: HashMap<(Direction, String), Active>,
    groups: HashMap<(Direction, Arc<str>), Group>,
    sets: HashMap<Arc<str>, Members>,
    sets_of: HashMap<String, BTreeSet<Arc<str>>>,
    /// Sets of pods of namespaces by labels.
    wide: BTreeSet<Arc<str>>,
    /// What every pod may reach: address, protocol and port.
    node_services: Vec<Service>,
    tables: Vec<Table>,
}

/// Address, protocol and port.
pub type Service = (IpAddr, u8, u16);

fn index(direction: Direction) -> usize {
    match direction {
        Direction::Ingress => 0,
        Direction::Egress => 1,
    }
}

/// Adds the name to those of a namespace, or takes it out.
fn note<T: Ord>(of: &mut HashMap<String, BTreeSet<T>>, namespace: &str, name: T, there: bool) {
    if there {
        of.entry(namespace.to_owned()).or_default().insert(name);
    } else if let Some(names) = of.get_mut(namespace) {
        names.remove(&name);
        if names.is_empty() {
            of.remove(namespace);
        }
    }
}

impl Engine {
    /// `table` is the name of the nftables tables, one of each family.
    pub fn new(node: &str, table: &str, families: &[Family]) -> Engine {
        Engine {
            node: node.to_owned(),
            namespaces: HashMap::new(),
            pods: HashMap::new(),
            pods_of: HashMap::new(),
            policies: HashMap::new(),
            policies_of: HashMap::new(),
            judged: HashMap::new(),
            holders: HashMap::new(),
            active: HashMap::new(),
            groups: HashMap::new(),
            sets: HashMap::new(),
            sets_of: HashMap::new(),
            wide: BTreeSet::new(),
            node_services: Vec::new(),
            tables: families.iter().map(|family| Table::new(table, *family)).collect(),
        }
    }

    /// The changes since the last call, a transaction a family. They count as made.
    pub fn batches(&mut self) -> Vec<Batch> {
        let batches = self.tables.iter_mut().map(Table::batch);
        batches.filter(|batch| !batch.is_empty()).collect()
    }

    /// Removes chains that earlier changes left empty.
    pub fn sweeps(&mut self) -> Vec<Batch> {
        self.tables.iter_mut().filter_map(Table::sweep).collect()
    }

    /// Nothing is known about the kernel any more: the next batches write everything.
    pub fn lost(&mut self) {
        self.tables.iter_mut().for_each(Table::lost);
    }

    /// The pod with the key `namespace/name`, if it is known and some policy can be about it.
    pub fn pod(&self, key: &str) -> Option<&Pod> {
        self.pods.get(key)
    }

    /// Pods of other nodes that are known, of one namespace or, with none, all.
    pub fn remote_pods(&self, namespace: Option<&str>) -> Vec<String> {
        let remote = |key: &&String| self.pods.get(*key).is_some_and(|p| p.node != self.node);
        match namespace {
            Some(namespace) => self
                .pods_of
                .get(namespace)
                .into_iter()
                .flatten()
                .filter(remote)
                .cloned()
                .collect(),
            None => self.pods.keys().filter(remote).cloned().collect(),
        }
    }

    /// Keys (`namespace/name`) of this node's pods that are known.
    pub fn local_pods(&self) -> Vec<String> {
        let local = self.pods.iter().filter(|(_, p)| p.node == self.node);
        local.map(|(key, _)| key.clone()).collect()
    }

    /// Keys (`namespace/name`) of the policies that are known.
    pub fn policy_keys(&self) -> Vec<String> {
        self.policies.keys().cloned().collect()
    }

    /// Names of the namespaces whose labels are known.
    pub fn namespace_names(&self) -> Vec<String> {
        self.namespaces.keys().cloned().collect()
    }

    /// Which other nodes' pods have to be known.
    pub fn scope(&self) -> Scope {
        let mut names = BTreeSet::new();
        for set in self.sets.values().filter(|s| !s.source.local) {
            match &set.source.selection.namespaces {
                Namespaces::One(name) => {
                    names.insert(name.clone());
                }
                Namespaces::Labelled(selector) if selector.is_empty() => return Scope::All,
                Namespaces::Labelled(_) => names.extend(set.namespaces.iter().cloned()),
            }
        }
        if names.len() > MOST_NAMESPACES {
            Scope::All
        } else {
            Scope::Namespaces(names)
        }
    }

    /// Services of the nodes themselves, which every pod may reach.
    pub fn set_node_services(&mut self, services: Vec<Service>) {
        let old = std::mem::replace(&mut self.node_services, services);
        let steps = old.iter().map(|s| (*s, self.node_services.contains(s)));
        let steps: Vec<_> = steps.chain(self.node_services.iter().map(|s| (*s, true))).collect();
        for ((ip, protocol, port), there) in steps {
            for table in self.tables.iter_mut().filter(|t| t.is_v6() == ip.is_ipv6()) {
                let item = Item::Element(NODE_SERVICES.into(), Key::service(ip, protocol, port));
                table.want(item, there.then_some(Value::Element(None)));
            }
        }
    }

    /// A namespace came, changed or (with `None`) went.
    pub fn set_namespace(&mut self, name: &str, labels: Option<&Labels>) {
        match labels {
            Some(labels) if self.namespaces.get(name) == Some(labels) => return,
            Some(labels) => self.namespaces.insert(name.to_owned(), labels.clone()),
            None => self.namespaces.remove(name),
        };
        for set in self.wide.clone() {
            let Some(members) = self.sets.get_mut(&set) else {
                continue;
            };
            let selected = members.source.is_in_namespace(name, labels);
            let changed = if selected {
                members.namespaces.insert(name.to_owned())
            } else {
                members.namespaces.remove(name)
            };
            if !changed {
                continue;
            }
            let mut steps = Vec::new();
            for pod in self
                .pods_of
                .get(name)
                .into_iter()
                .flatten()
                .filter_map(|key| self.pods.get(key))
            {
                let (old, new) = if selected { (None, Some(pod)) } else { (Some(pod), None) };
                steps.extend(members.change(old, new, &self.node));
            }
            self.elements(&set, &steps);
        }
    }

    /// A pod came, changed or (with `None`) went.
    pub fn set_pod(&mut self, key: &str, pod: Option<Pod>) {
        if self.pods.get(key) == pod.as_ref() {
            return;
        }
        let old = self.pods.remove(key);
        let Some(namespace) = old.as_ref().or(pod.as_ref()).map(|p| p.namespace.clone()) else {
            return;
        };
        let sets: Vec<Arc<str>> = self
            .sets_of
            .get(&namespace)
            .into_iter()
            .flatten()
            .chain(&self.wide)
            .cloned()
            .collect();
        for set in sets {
            let Some(members) = self.sets.get_mut(&set) else {
                continue;
            };
            if !self.wide.contains(&set) || members.namespaces.contains(&namespace) {
                let steps = members.change(old.as_ref(), pod.as_ref(), &self.node);
                self.elements(&set, &steps);
            }
        }
        note(&mut self.pods_of, &namespace, key.to_owned(), pod.is_some());
        if let Some(pod) = pod {
            self.pods.insert(key.to_owned(), pod);
        }
        self.judge(key);
    }

    /// These addresses are this pod's from now on, whoever had them before.
    pub fn give_addresses(&mut self, key: &str, ips: &[IpAddr]) {
        for ip in ips {
            let Some(holders) = self.holders.get_mut(ip) else {
                continue;
            };
            if let Some(at) = holders.iter().position(|k| k == key) {
                let key = holders.remove(at);
                holders.push(key);
                self.show(*ip);
            }
        }
    }

    /// A policy came, changed or (with `None`) went.
    pub fn set_policy(&mut self, key: &str, policy: Option<Policy>) {
        if self.policies.get(key) == policy.as_ref() {
            return;
        }
        let old = self.policies.remove(key);
        let Some(namespace) = old.as_ref().or(policy.as_ref()).map(|p| p.namespace.clone()) else {
            return;
        };
        note(&mut self.policies_of, &namespace, key.to_owned(), policy.is_some());
        if let Some(policy) = policy {
            for direction in DIRECTIONS {
                if policy.rules(direction).is_some() && self.active.contains_key(&(direction, key.to_owned())) {
                    self.recompile(&policy, direction);
                }
            }
            self.policies.insert(key.to_owned(), policy);
        }
        let mine = self.pods_of.get(&namespace).into_iter().flatten();
        let mine = mine.filter(|k| self.pods.get(*k).is_some_and(|p| p.node == self.node));
        for pod in mine.cloned().collect::<Vec<_>>() {
            self.judge(&pod);
        }
    }

    /// The policies that select a pod in a direction, in order.
    fn selecting(&self, pod: &Pod, direction: Direction) -> Vec<String> {
        let all = self.policies_of.get(&pod.namespace).into_iter().flatten();
        let selects = |policy: &Policy| {
            policy.rules(direction).is_some() && policy.pods.pods.matches(|key| label(&pod.labels, key))
        };
        all.filter(|key| self.policies.get(*key).is_some_and(selects))
            .cloned()
            .collect()
    }

    /// Brings a pod's part of the tables up to date.
    fn judge(&mut self, key: &str) {
        let mut now = Judged::default();
        if let Some(pod) = self.pods.get(key).filter(|p| p.node == self.node) {
            let policies = DIRECTIONS.map(|direction| self.selecting(pod, direction));
            now.ips.clone_from(&pod.ips);
            for (direction, policies) in DIRECTIONS.into_iter().zip(policies) {
                // what is to be let go of is let go of below, so that what stays in use is not made anew
                now.groups[index(direction)] = (!policies.is_empty()).then(|| self.enter(direction, policies));
            }
        }
        let old = match now == Judged::default() {
            true => self.judged.remove(key).unwrap_or_default(),
            false => self.judged.insert(key.to_owned(), now.clone()).unwrap_or_default(),
        };
        for ip in old.ips.iter().filter(|ip| !now.ips.contains(ip)) {
            if let Some(holders) = self.holders.get_mut(ip) {
                holders.retain(|k| k != key);
                if holders.is_empty() {
                    self.holders.remove(ip);
                }
            }
        }
        for ip in now.ips.iter().filter(|ip| !old.ips.contains(ip)) {
            // who has it keeps it until it is said to be this pod's
            self.holders.entry(*ip).or_default().insert(0, key.to_owned());
        }
        let ips: HashSet<IpAddr> = old.ips.iter().chain(&now.ips).copied().collect();
        for ip in ips {
            self.show(ip);
        }
        for direction in DIRECTIONS {
            if let Some(group) = &old.groups[index(direction)] {
                self.leave(direction, group);
            }
        }
    }

    /// Puts an address's holder into the maps.
    fn show(&mut self, ip: IpAddr) {
        let holder = self.holders.get(&ip).and_then(|h| h.last());
        let judged = holder.and_then(|h| self.judged.get(h)).cloned().unwrap_or_default();
        for table in self.tables.iter_mut().filter(|t| t.is_v6() == ip.is_ipv6()) {
            for direction in DIRECTIONS {
                let verdict = judged.groups[index(direction)]
                    .as_ref()
                    .map(|g| Verdict::Goto(g.to_string()));
                let item = Item::Element(map_of(direction).into(), Key::ip(ip));
                table.want(item, verdict.map(|v| Value::Element(Some(v))));
            }
            let twice = Key([Key::ip(ip).0, Key::ip(ip).0].concat());
            let isolated = judged.groups.iter().any(Option::is_some);
            table.want(
                Item::Element(SELVES.into(), twice),
                isolated.then_some(Value::Element(None)),
            );
        }
    }

    fn enter(&mut self, direction: Direction, policies: Vec<String>) -> Arc<str> {
        let prefix = match direction {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        };
        let chain = name(prefix, &policies.join("\n"));
        if let Some(group) = self.groups.get_mut(&(direction, chain.clone())) {
            group.users += 1;
            return chain;
        }
        for policy in &policies {
            self.activate(direction, policy);
        }
        let chains: Vec<_> = policies.iter().map(|p| (chain_name(direction, p), p.clone())).collect();
        for table in &mut self.tables {
            table.want(Item::Chain(chain.clone()), Some(Value::Chain(group(&chains))));
        }
        let group = Group { users: 1, policies };
        self.groups.insert((direction, chain.clone()), group);
        chain
    }

    fn leave(&mut self, direction: Direction, chain: &Arc<str>) {
        let key = (direction, chain.clone());
        let Some(group) = self.groups.get_mut(&key) else { return };
        group.users -= 1;
        if group.users > 0 {
            return;
        }
        let policies = self.groups.remove(&key).map(|g| g.policies).unwrap_or_default();
        for table in &mut self.tables {
            table.want(Item::Chain(chain.clone()), None);
        }
        for policy in policies {
            self.deactivate(direction, &policy);
        }
    }

    fn activate(&mut self, direction: Direction, policy: &str) {
        let key = (direction, policy.to_owned());
        if let Some(active) = self.active.get_mut(&key) {
            active.users += 1;
            return;
        }
        let Some(policy) = self.policies.get(policy) else {
            return;
        };
        let compiled = compile(policy, direction);
        self.put(&compiled);
        self.active.insert(key, Active { users: 1, compiled });
    }

    fn deactivate(&mut self, direction: Direction, policy: &str) {
        let key = (direction, policy.to_owned());
        let Some(active) = self.active.get_mut(&key) else {
            return;
        };
        active.users -= 1;
        if active.users == 0
            && let Some(active) = self.active.remove(&key)
        {
            self.take(&active.compiled, &Compiled::default());
        }
    }

    fn recompile(&mut self, policy: &Policy, direction: Direction) {
        let compiled = compile(policy, direction);
        self.put(&compiled);
        let key = (direction, policy.key.clone());
        let Some(active) = self.active.get_mut(&key) else {
            return;
        };
        let old = std::mem::replace(&mut active.compiled, compiled);
        if let Some(active) = self.active.remove(&key) {
            self.take(&old, &active.compiled);
            self.active.insert(key, active);
        }
    }

    /// Puts what a policy needs into the tables.
    fn put(&mut self, compiled: &Compiled) {
        for source in &compiled.sources {
            self.use_set(source);
        }
        for table in &mut self.tables {
            for (name, v4, v6) in &compiled.blocks {
                let ranges = if table.is_v6() { v6 } else { v4 };
                if !ranges.is_empty() {
                    table.want(Item::Set(name.clone()), Some(Value::Set(Kind::Ranges(ranges.clone()))));
                }
            }
            for (chain, rules) in compiled.chains(table.family()) {
                table.want(Item::Chain(chain), Some(Value::Chain(rules)));
            }
        }
    }

    /// Takes out what a policy needed and, as it is now, needs no longer.
    fn take(&mut self, old: &Compiled, now: &Compiled) {
        for table in &mut self.tables {
            let kept: HashSet<Arc<str>> = now.chains(table.family()).into_iter().map(|(chain, _)| chain).collect();
            for (chain, _) in old
                .chains(table.family())
                .into_iter()
                .filter(|(c, _)| !kept.contains(c))
            {
                table.want(Item::Chain(chain), None);
            }
            for (name, _, _) in old
                .blocks
                .iter()
                .filter(|(n, _, _)| !now.blocks.iter().any(|(k, _, _)| k == n))
            {
                table.want(Item::Set(name.clone()), None);
            }
        }
        for source in &old.sources {
            self.drop_set(&set_name(source));
        }
    }

    fn use_set(&mut self, source: &Source) {
        let set = set_name(source);
        if let Some(members) = self.sets.get_mut(&set) {
            members.users += 1;
            return;
        }
        let mut members = Members::new(source.clone());
        members.users = 1;
        match &source.selection.namespaces {
            Namespaces::One(namespace) => note(&mut self.sets_of, namespace, set.clone(), true),
            Namespaces::Labelled(_) => {
                self.wide.insert(set.clone());
                let selected = self
                    .namespaces
                    .iter()
                    .filter(|(n, labels)| source.is_in_namespace(n, Some(labels)));
                members.namespaces = selected.map(|(name, _)| name.clone()).collect();
            }
        }
        let namespaces: Vec<String> = match &source.selection.namespaces {
            Namespaces::One(namespace) => vec![namespace.clone()],
            Namespaces::Labelled(_) => members.namespaces.iter().cloned().collect(),
        };
        let mut steps = Vec::new();
        for pod in namespaces
            .iter()
            .filter_map(|n| self.pods_of.get(n))
            .flatten()
            .filter_map(|k| self.pods.get(k))
        {
            steps.extend(members.change(None, Some(pod), &self.node));
        }
        for table in &mut self.tables {
            table.want(Item::Set(set.clone()), Some(Value::Set(source.kind())));
        }
        self.sets.insert(set.clone(), members);
        self.elements(&set, &steps);
    }

    fn drop_set(&mut self, set: &Arc<str>) {
        let Some(members) = self.sets.get_mut(set) else { return };
        members.users -= 1;
        if members.users > 0 {
            return;
        }
        let Some(members) = self.sets.remove(set) else { return };
        self.wide.remove(set);
        if let Namespaces::One(namespace) = &members.source.selection.namespaces {
            note(&mut self.sets_of, namespace, set.clone(), false);
        }
        let steps: Vec<Step> = members.elements().map(|e| (e, false)).collect();
        self.elements(set, &steps);
        for table in &mut self.tables {
            table.want(Item::Set(set.clone()), None);
        }
    }

    fn elements(&mut self, set: &Arc<str>, steps: &[Step]) {
        for (element, there) in steps {
            for table in self.tables.iter_mut().filter(|t| t.is_v6() == element.ip.is_ipv6()) {
                table.want(
                    Item::Element(set.clone(), element.key()),
                    there.then_some(Value::Element(None)),
                );
            }
        }
    }
}
