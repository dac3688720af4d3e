//! What is in force of one family, and the smallest change from it to what should be. Pure: a change is a batch that somebody
//! else commits.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use cni::nft::{Batch, Chain, Family, Field, Key, Rule, Set, Verdict};

use crate::blocks::Range;
use crate::rules;

/// What a set holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Addresses,
    /// Address, protocol and port.
    Services,
    /// Never changes: other ranges are another set.
    Ranges(Vec<Range>),
}

/// A thing in the table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Item {
    Set(Arc<str>),
    Chain(Arc<str>),
    /// Of a set or a map of the base.
    Element(Arc<str>, Key),
}

/// How it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Set(Kind),
    Chain(Vec<Rule>),
    Element(Option<Verdict>),
}

/// The rules of one family.
#[derive(Debug)]
pub(crate) struct Table {
    name: String,
    family: Family,
    items: HashMap<Item, Value>,
    /// What was there before the first change since the last batch.
    before: BTreeMap<Item, Option<Value>>,
    /// Chains that are empty and unreferenced, to be removed in a later batch: before Linux 6.2 a map's element goes on counting
    /// as a reference for a moment after its removal.
    stale: BTreeSet<Arc<str>>,
    kernel: Kernel,
}

/// What the kernel has of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kernel {
    /// It is not known: the next batch writes everything.
    Unknown,
    /// Nothing, so that packets cost nothing while no policy is about a pod of this node.
    Nothing,
    /// What was in the last batch.
    Batches,
}

/// A change, in the order in which the kernel takes it.
#[derive(Default)]
struct Delta<'a> {
    new_sets: Vec<(&'a str, &'a Kind)>,
    new_chains: Vec<&'a str>,
    removed: BTreeMap<&'a str, Vec<&'a Key>>,
    emptied: Vec<Arc<str>>,
    filled: Vec<(&'a str, &'a [Rule])>,
    added: BTreeMap<&'a str, Vec<(&'a Key, Option<&'a Verdict>)>>,
    old_sets: Vec<&'a str>,
}

impl Table {
    pub(crate) fn new(name: &str, family: Family) -> Table {
        Table {
            name: name.to_owned(),
            family,
            items: HashMap::new(),
            before: BTreeMap::new(),
            stale: BTreeSet::new(),
            kernel: Kernel::Unknown,
        }
    }

    pub(crate) fn family(&self) -> Family {
        self.family
    }

    pub(crate) fn is_v6(&self) -> bool {
        self.family == Family::Ipv6
    }

    /// Has it so, or with `None` not at all.
    pub(crate) fn want(&mut self, item: Item, value: Option<Value>) {
        if self.items.get(&item) == value.as_ref() {
            return;
        }
        let old = match value {
            Some(value) => self.items.insert(item.clone(), value),
            None => self.items.remove(&item),
        };
        self.before.entry(item).or_insert(old);
    }

    /// The next batch writes everything, in place of whatever the kernel has.
    pub(crate) fn lost(&mut self) {
        self.kernel = Kernel::Unknown;
    }

    fn set(&self, kind: &Kind) -> Set {
        let field = if self.is_v6() { Field::Ipv6 } else { Field::Ipv4 };
        match kind {
            Kind::Addresses => Set::new(&[field]),
            Kind::Services => Set::new(&[field, Field::Protocol, Field::Port]),
            Kind::Ranges(_) => Set::ranges(field),
        }
    }

    /// The change since the last batch. It counts as made.
    pub(crate) fn batch(&mut self) -> Batch {
        let mut batch = Batch::new(self.family, &self.name);
        let mut before = std::mem::take(&mut self.before);
        if self.is_idle() {
            self.stale.clear();
            if self.kernel != Kernel::Nothing {
                self.kernel = Kernel::Nothing;
                // removing needs the table to be there
                batch.add_table();
                batch.del_table();
            }
            return batch;
        }
        if self.kernel != Kernel::Batches {
            self.stale.clear();
            self.kernel = Kernel::Batches;
            before = self.items.keys().map(|item| (item.clone(), None)).collect();
            rules::base(&mut batch, self.family);
        }
        let mut delta = Delta::default();
        for (item, then) in &before {
            let now = self.items.get(item);
            if now == then.as_ref() {
                continue;
            }
            match (item, then, now) {
                (Item::Set(name), None, Some(Value::Set(kind))) => delta.new_sets.push((name, kind)),
                (Item::Set(name), Some(_), _) => delta.old_sets.push(name),
                (Item::Chain(name), then, Some(Value::Chain(rules))) => {
                    if then.is_some() || self.stale.remove(name) {
                        delta.emptied.push(name.clone());
                    } else {
                        delta.new_chains.push(name);
                    }
                    delta.filled.push((name, rules));
                }
                (Item::Chain(name), Some(_), _) => {
                    delta.emptied.push(name.clone());
                    self.stale.insert(name.clone());
                }
                (Item::Element(set, key), then, now) => {
                    if then.is_some() && self.holds(set) {
                        delta.removed.entry(set).or_default().push(key);
                    }
                    if let Some(Value::Element(verdict)) = now {
                        delta.added.entry(set).or_default().push((key, verdict.as_ref()));
                    }
                }
                (Item::Set(_) | Item::Chain(_), _, _) => {}
            }
        }
        self.write(&mut batch, &delta);
        batch
    }

    /// Whether there is nothing that a pod is held to.
    fn is_idle(&self) -> bool {
        let aside = |item: &Item| matches!(item, Item::Element(set, _) if **set == *rules::NODE_SERVICES);
        self.items.keys().all(aside)
    }

    /// Whether the set will be there afterwards; those of the base always are.
    fn holds(&self, set: &Arc<str>) -> bool {
        rules::BASE_SETS.contains(&&**set) || self.items.contains_key(&Item::Set(set.clone()))
    }

    fn write(&self, batch: &mut Batch, delta: &Delta<'_>) {
        for (name, kind) in &delta.new_sets {
            batch.add_set(name, &self.set(kind));
            if let Kind::Ranges(ranges) = kind {
                batch.add_ranges(name, ranges);
            }
        }
        for name in &delta.new_chains {
            batch.add_chain(name, &Chain::regular());
        }
        for (set, keys) in &delta.removed {
            batch.del_elements(set, keys.iter().copied());
        }
        for name in &delta.emptied {
            batch.flush_chain(name);
        }
        for (name, rules) in &delta.filled {
            for rule in *rules {
                batch.add_rule(name, rule);
            }
        }
        for (set, elements) in &delta.added {
            batch.add_elements(set, elements.iter().copied());
        }
        for name in &delta.old_sets {
            batch.del_set(name);
        }
    }

    /// Removes the chains that earlier batches left empty; none if there are none.
    pub(crate) fn sweep(&mut self) -> Option<Batch> {
        if self.stale.is_empty() || self.kernel != Kernel::Batches {
            return None;
        }
        let mut batch = Batch::new(self.family, &self.name);
        for name in std::mem::take(&mut self.stale) {
            batch.del_chain(&name);
        }
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(n: u8) -> Item {
        Item::Element("s".into(), Key::ip([10, 42, 0, n].into()))
    }

    #[test]
    fn a_change_costs_what_changed_and_one_that_is_taken_back_costs_nothing() {
        let mut table = Table::new("t", Family::Ipv4);
        table.want(Item::Set("s".into()), Some(Value::Set(Kind::Addresses)));
        for n in 0..100 {
            table.want(element(n), Some(Value::Element(None)));
        }
        let full = table.batch().len();
        assert!(full > 2, "the base, the set, its elements");
        assert!(table.batch().is_empty());
        table.want(element(1), None);
        table.want(element(1), Some(Value::Element(None)));
        assert!(table.batch().is_empty());
        table.want(element(1), None);
        assert_eq!(table.batch().len(), 1);
        table.want(element(1), Some(Value::Element(Some(Verdict::Drop))));
        table.want(element(2), Some(Value::Element(Some(Verdict::Drop))));
        assert_eq!(table.batch().len(), 2, "elements of a set go together: removed, added");
        table.lost();
        assert_eq!(table.batch().len(), full);
    }

    #[test]
    fn without_a_policy_there_is_no_table_and_one_that_was_left_goes() {
        let mut table = Table::new("t", Family::Ipv4);
        assert_eq!(table.batch().len(), 2);
        assert!(table.batch().is_empty());
        table.want(Item::Set("s".into()), Some(Value::Set(Kind::Addresses)));
        assert!(table.batch().len() > 2);
        table.want(Item::Set("s".into()), None);
        assert_eq!(table.batch().len(), 2);
        assert!(table.batch().is_empty());
    }

    #[test]
    fn a_set_that_goes_takes_its_elements_along() {
        let mut table = Table::new("t", Family::Ipv4);
        table.want(Item::Set("s".into()), Some(Value::Set(Kind::Addresses)));
        table.want(element(1), Some(Value::Element(None)));
        table.batch();
        table.want(Item::Chain("c".into()), Some(Value::Chain(Vec::new())));
        table.batch();
        table.want(element(1), None);
        table.want(Item::Set("s".into()), None);
        assert_eq!(table.batch().len(), 1);
    }

    #[test]
    fn a_chain_that_goes_is_emptied_first_and_comes_back_if_it_is_wanted_again() {
        let mut table = Table::new("t", Family::Ipv4);
        table.want(Item::Set("s".into()), Some(Value::Set(Kind::Addresses)));
        let chain = || Item::Chain("c".into());
        let rules = || Some(Value::Chain(vec![Rule::new().verdict(Verdict::Drop)]));
        table.want(chain(), rules());
        table.batch();
        table.want(chain(), None);
        assert_eq!(table.batch().len(), 1, "emptied");
        table.want(chain(), rules());
        assert_eq!(table.batch().len(), 2, "emptied and filled, not made anew");
        assert!(table.sweep().is_none());
        table.want(chain(), None);
        table.batch();
        assert_eq!(table.sweep().map(|b| b.len()), Some(1));
        assert!(table.sweep().is_none());
    }
}
