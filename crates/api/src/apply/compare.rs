//! The difference between two values as sets of fields: what is gone, what has changed, what is new.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::apply::field_set::{FieldSet, Step};
use crate::apply::place::{Parts, Place, items, members};

/// What differs between two values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Comparison {
    pub removed: FieldSet,
    pub modified: FieldSet,
    pub added: FieldSet,
}

impl Comparison {
    /// The difference of two objects; `of` says which of their members count.
    pub fn of_members(
        place: Place<'_>,
        before: Option<&Value>,
        after: Option<&Value>,
        of: impl Fn(&str) -> bool,
    ) -> Comparison {
        let mut out = Comparison::default();
        out.zip_members(place, before, after, of);
        out
    }

    /// What was changed or is new.
    pub fn written(&self) -> FieldSet {
        let mut set = self.modified.clone();
        set.union(&self.added);
        set
    }

    /// Changes each of the three sets.
    pub fn each(&mut self, change: impl Fn(&mut FieldSet)) {
        for set in [&mut self.removed, &mut self.modified, &mut self.added] {
            change(set);
        }
    }

    pub(crate) fn add(&mut self, step: Step, inner: Comparison) {
        self.removed.add(step.clone(), inner.removed);
        self.modified.add(step.clone(), inner.modified);
        self.added.add(step, inner.added);
    }

    /// Compares what stands at one place; at least one of the two is there.
    pub fn of(place: Place<'_>, before: Option<&Value>, after: Option<&Value>) -> Comparison {
        if before == after {
            return Comparison::default();
        }
        let (old, new) = (place.parts(before), place.parts(after));
        let mut out = Comparison::default();
        let mut leaf = false;
        // null takes whatever form the other one has
        if after.is_none() || (before.is_some() && old != new) {
            leaf |= out.walk(place, old, before, after);
        }
        if after.is_some() {
            leaf |= out.walk(place, new, before, after);
        }
        if !leaf {
            match (before, after) {
                (None, _) => out.added.own = true,
                (_, None) => out.removed.own = true,
                _ => {}
            }
        }
        out
    }

    /// Compares two values that are taken apart in one way; whether that was as a whole.
    fn walk(&mut self, place: Place<'_>, parts: Parts<'_>, before: Option<&Value>, after: Option<&Value>) -> bool {
        let whole = match parts {
            Parts::Scalar | Parts::Atomic | Parts::Map { atomic: true } => true,
            Parts::Map { atomic: false } => members(before).is_none() && members(after).is_none(),
            Parts::Set | Parts::ListMap(_) => items(before).is_empty() && items(after).is_empty(),
        };
        if whole {
            match (before, after) {
                (None, _) => self.added.own = true,
                (_, None) => self.removed.own = true,
                _ => self.modified.own |= before != after,
            }
            return true;
        }
        match parts {
            Parts::Map { .. } => self.zip_members(place, before, after, |_| true),
            _ => self.zip_items(place, parts, items(before), items(after)),
        }
        false
    }

    fn zip_members(
        &mut self,
        place: Place<'_>,
        before: Option<&Value>,
        after: Option<&Value>,
        of: impl Fn(&str) -> bool,
    ) {
        let (old, new) = (members(before), members(after));
        for (name, child) in old.into_iter().flatten().filter(|(name, _)| of(name)) {
            let now = new.and_then(|map| map.get(name));
            self.add(Step::field(name), Comparison::of(place.member(name), Some(child), now));
        }
        for (name, child) in new.into_iter().flatten().filter(|(name, _)| of(name)) {
            if old.is_none_or(|map| !map.contains_key(name)) {
                self.add(Step::field(name), Comparison::of(place.member(name), None, Some(child)));
            }
        }
    }

    fn zip_items(&mut self, place: Place<'_>, parts: Parts<'_>, before: &[Value], after: &[Value]) {
        let mut all: BTreeMap<Step, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for item in before {
            all.entry(place.step_to(parts, item)).or_default().0.push(item);
        }
        for item in after {
            all.entry(place.step_to(parts, item)).or_default().1.push(item);
        }
        let inner = place.item();
        let leaf = || Comparison {
            modified: FieldSet::leaf(),
            ..Comparison::default()
        };
        for (step, (old, new)) in all {
            match (old.as_slice(), new.as_slice()) {
                ([] | [_], [] | [_]) => {
                    let found = Comparison::of(inner, old.first().copied(), new.first().copied());
                    self.add(step, found);
                }
                // what stands more than once is one thing as a whole
                ([_, _, ..], [_, _, ..]) => {
                    if old != new {
                        self.add(step, leaf());
                    }
                }
                ([_, _, ..], few) => {
                    if let [one] = few {
                        self.add(step.clone(), Comparison::of(inner, None, Some(one)));
                    }
                    self.removed.add(step, FieldSet::leaf());
                }
                (few, _) => {
                    if let [one] = few {
                        self.add(step.clone(), Comparison::of(inner, Some(one), None));
                    }
                    self.added.add(step, FieldSet::leaf());
                }
            }
        }
    }
}
