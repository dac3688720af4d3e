//! Lays a configuration over an object.

use std::collections::{HashMap, HashSet, VecDeque};

use serde_json::{Map, Value};

use crate::apply::field_set::Step;
use crate::apply::place::{Parts, Place, items, members};

/// `live` with everything that `config` sets; nothing when both are empty.
pub fn merge(place: Place<'_>, live: Option<&Value>, config: Option<&Value>) -> Option<Value> {
    let (Some(old), Some(new)) = (live, config) else {
        return config.or(live).cloned();
    };
    let leaf = || Some(new.clone());
    let parts = place.parts(config);
    match parts {
        Parts::Scalar | Parts::Atomic | Parts::Map { atomic: true } => leaf(),
        Parts::Map { atomic: false } => match (members(live), members(config)) {
            (None, None) => leaf(),
            (old, new) => {
                let mut out = old.cloned().unwrap_or_default();
                for (name, value) in new.into_iter().flatten() {
                    match merge(place.member(name), out.get(name), Some(value)) {
                        Some(merged) => out.insert(name.clone(), merged),
                        None => out.remove(name),
                    };
                }
                Some(Value::Object(out))
            }
        },
        Parts::Set | Parts::ListMap(_) if items(live).is_empty() && items(config).is_empty() => leaf(),
        Parts::Set | Parts::ListMap(_) => merge_items(place, parts, items(Some(old)), items(Some(new))),
    }
}

/// The items of the configuration in its order, those of the object where they stood before the next that both have.
fn merge_items(place: Place<'_>, parts: Parts<'_>, live: &[Value], config: &[Value]) -> Option<Value> {
    let inner = place.item();
    let (old, new) = (place.steps(parts, live), place.steps(parts, config));
    let mut in_live: HashMap<&Step, &Value> = HashMap::with_capacity(old.len());
    const TWICE: &Value = &Value::Null;
    for (step, item) in old.iter().zip(live) {
        in_live.entry(step).and_modify(|v| *v = TWICE).or_insert(item);
    }
    let in_config: HashMap<&Step, &Value> = new.iter().zip(config).collect();
    let mut shared: VecDeque<&Step> = new.iter().filter(|step| in_live.contains_key(step)).collect();
    let mut next = shared.pop_front();
    let mut merged: HashSet<&Step> = HashSet::new();
    let mut out: Vec<Value> = Vec::with_capacity(old.len().max(new.len()));
    let (mut l, mut r) = (0, 0);
    while l < old.len() || r < new.len() {
        if l < old.len() && r < new.len() {
            let step = &old[l];
            if *step == new[r] {
                merged.insert(step);
                out.extend(merge(inner, in_live.get(step).copied(), in_config.get(step).copied()));
                (l, r) = (l + 1, r + 1);
                next = shared.pop_front();
                continue;
            }
            if in_config.contains_key(step) && next.is_some_and(|next| next != step) {
                // both have it, but it is not its turn
                l += 1;
                continue;
            }
        }
        if l < old.len() {
            let step = &old[l];
            if !in_config.contains_key(step) {
                out.push(live[l].clone());
                l += 1;
                continue;
            } else if merged.contains(step) {
                l += 1;
            }
        }
        if r < new.len() {
            let step = &new[r];
            merged.insert(step);
            out.extend(merge(inner, in_live.get(step).copied(), in_config.get(step).copied()));
            r += 1;
            if next == Some(step) {
                next = shared.pop_front();
            }
        }
    }
    (!out.is_empty()).then_some(Value::Array(out))
}

/// The members of a configuration over those of an object.
pub fn merge_objects(place: Place<'_>, live: &Value, config: &Value) -> Value {
    merge(place, Some(live), Some(config)).unwrap_or_else(|| Value::Object(Map::new()))
}
