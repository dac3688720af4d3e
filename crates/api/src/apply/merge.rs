//! The two halves of an apply: laying a configuration over an object, and taking out what is applied no more.

use serde_json::Value;

use crate::apply::field_set::{FieldSet, Place, Step, children, member};
use crate::schema::Schema;

/// `live` with everything that `config` sets.
pub fn merge(schema: &Schema, place: Place<'_>, live: &Value, config: &Value) -> Value {
    match (live, config) {
        (Value::Object(old), Value::Object(new)) => {
            if children(schema, place, config).is_none() {
                return config.clone();
            }
            let mut out = old.clone();
            for (key, value) in new {
                let inner = member(schema, place, key);
                let merged = match old.get(key) {
                    Some(before) => merge(schema, inner, before, value),
                    None => value.clone(),
                };
                out.insert(key.clone(), merged);
            }
            Value::Object(out)
        }
        (Value::Array(_), Value::Array(_)) => {
            let (Some(old), Some(new)) = (children(schema, place, live), children(schema, place, config)) else {
                return config.clone();
            };
            // what is applied stands in its order; what others have keeps its place before it
            let mut out: Vec<Value> = Vec::with_capacity(old.len() + new.len());
            let mut rest = new.iter().peekable();
            for (step, _, value) in &old {
                if !new.iter().any(|(s, _, _)| s == step) {
                    out.push((*value).clone());
                    continue;
                }
                // every applied item up to this one
                while let Some((next, inner, wanted)) = rest.peek() {
                    let before = old.iter().find(|(s, _, _)| s == next).map(|(_, _, v)| *v);
                    out.push(before.map_or_else(|| (*wanted).clone(), |b| merge(schema, *inner, b, wanted)));
                    let reached = next == step;
                    rest.next();
                    if reached {
                        break;
                    }
                }
            }
            for (next, inner, wanted) in rest {
                let before = old.iter().find(|(s, _, _)| s == next).map(|(_, _, v)| *v);
                out.push(before.map_or_else(|| (*wanted).clone(), |b| merge(schema, *inner, b, wanted)));
            }
            Value::Array(out)
        }
        _ => config.clone(),
    }
}

/// Takes the fields of `dropped` out of a tree. A parent that becomes empty goes too, unless it is applied itself.
pub fn remove(schema: &Schema, place: Place<'_>, tree: &mut Value, dropped: &FieldSet, kept: &FieldSet) {
    let none = FieldSet::default();
    let Some(list) = children(schema, place, tree) else {
        return;
    };
    let mut gone: Vec<Step> = Vec::new();
    let mut changed: Vec<(Step, Value)> = Vec::new();
    for (step, inner, value) in list {
        let Some(set) = dropped.children.get(&step) else {
            continue;
        };
        let wanted = kept.children.get(&step).unwrap_or(&none);
        let mut copy = value.clone();
        remove(schema, inner, &mut copy, set, wanted);
        let emptied = match &copy {
            Value::Object(map) => map.is_empty(),
            Value::Array(items) => items.is_empty(),
            _ => false,
        };
        let whole = children(schema, inner, value).is_none();
        let item = step.is_item();
        // an item of a list is dropped by its own mark; a field by having been set, or by becoming empty
        if wanted.is_empty() && ((set.own && (whole || item || emptied)) || (emptied && !whole)) {
            gone.push(step);
        } else {
            changed.push((step, copy));
        }
    }
    match tree {
        Value::Object(map) => {
            for step in gone {
                if let Some(name) = step.name() {
                    map.remove(name);
                }
            }
            for (step, value) in changed {
                if let Some(name) = step.name() {
                    map.insert(name.to_owned(), value);
                }
            }
        }
        Value::Array(_) => {
            let Some(list) = children(schema, place, tree) else {
                return;
            };
            let items = list
                .into_iter()
                .filter(|(step, _, _)| !gone.contains(step))
                .map(|(step, _, value)| {
                    changed
                        .iter()
                        .find(|(s, _)| *s == step)
                        .map_or_else(|| value.clone(), |(_, v)| v.clone())
                })
                .collect();
            *tree = Value::Array(items);
        }
        _ => {}
    }
}
