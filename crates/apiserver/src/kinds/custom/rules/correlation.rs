//! Values of an update and those they were before: `k8s.io/apiserver/pkg/cel/common` (`CorrelatedObject`, `MapList`).

use std::cell::OnceCell;
use std::collections::HashMap;
use std::fmt::Write;

use api::schema::ListType;
use api::schema::structural::{Additional, Node};
use serde_json::Value;

/// The items of a list by what tells them apart.
pub(super) struct KeyedItems<'a> {
    keys: &'a [Box<str>],
    items: HashMap<String, &'a Value>,
}

impl<'a> KeyedItems<'a> {
    /// The items of a list whose schema names keys; of items with the same key the first.
    pub fn new(node: &'a Node, list: &'a [Value]) -> Option<KeyedItems<'a>> {
        let ListType::Map(keys) = &node.list else { return None };
        if keys.is_empty() || list.is_empty() {
            return None;
        }
        let mut items = HashMap::new();
        for item in list {
            if let Some(key) = key_of(keys, item) {
                items.entry(key).or_insert(item);
            }
        }
        Some(KeyedItems { keys, items })
    }

    /// The item with the key of another one.
    pub fn like(&self, item: &Value) -> Option<&'a Value> {
        self.items.get(&key_of(self.keys, item)?).copied()
    }
}

/// The scalars that tell an item apart, in one text; `None` when one is missing.
fn key_of(keys: &[Box<str>], item: &Value) -> Option<String> {
    let item = item.as_object()?;
    let mut out = String::new();
    for key in keys {
        let written = match item.get(&**key)? {
            Value::Bool(b) => write!(out, "\0b{b}"),
            Value::Number(n) if n.is_f64() => write!(out, "\0f{:.6}", n.as_f64().unwrap_or_default()),
            Value::Number(n) => write!(out, "\0i{n}"),
            Value::String(text) => write!(out, "\0s{}", api::go::quote(text)),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        written.ok()?;
    }
    Some(out)
}

/// A value and what it was before.
pub(super) struct Correlated<'a> {
    new: &'a Value,
    old: &'a Value,
    node: &'a Node,
    keyed: OnceCell<Option<KeyedItems<'a>>>,
    same: OnceCell<bool>,
}

impl<'a> Correlated<'a> {
    /// A value and the one that it replaces, both of this schema.
    pub fn new(new: &'a Value, old: &'a Value, node: &'a Node) -> Correlated<'a> {
        Correlated {
            new,
            old,
            node,
            keyed: OnceCell::new(),
            same: OnceCell::new(),
        }
    }

    /// The value of a key, when both have it and the schema knows it.
    pub fn key(&self, key: &str) -> Option<Correlated<'a>> {
        let (new, old) = (self.new.as_object()?.get(key)?, self.old.as_object()?.get(key)?);
        let node = match (self.node.properties.get(key), &self.node.additional) {
            (Some(property), _) => property,
            (None, Additional::Schema(values)) => values,
            _ => return None,
        };
        Some(Correlated::new(new, old, node))
    }

    /// The item at a place, when the list tells its items apart and had it before.
    pub fn index(&self, at: usize) -> Option<Correlated<'a>> {
        let (new, old) = (self.new.as_array()?.get(at)?, self.old.as_array()?);
        let keyed = self.keyed.get_or_init(|| KeyedItems::new(self.node, old));
        let old = keyed.as_ref()?.like(new)?;
        Some(Correlated::new(new, old, self.node.items.as_deref()?))
    }

    /// Whether nothing changed. Fields that no schema knows count as changed.
    pub fn is_same(&self) -> bool {
        *self.same.get_or_init(|| match (self.new, self.old) {
            (Value::Array(new), Value::Array(old)) => {
                new.len() == old.len()
                    && match self.node.list {
                        ListType::Map(_) => (0..new.len()).all(|at| self.index(at).is_some_and(|item| item.is_same())),
                        ListType::Atomic | ListType::Set => new == old,
                    }
            }
            (Value::Object(new), Value::Object(old)) => {
                new.len() == old.len() && new.keys().all(|key| self.key(key).is_some_and(|value| value.is_same()))
            }
            (new, old) => new == old,
        })
    }
}

/// How a value is correlated with what it was before, on the way down an object.
#[derive(Clone, Copy, Default)]
pub(super) struct Kin<'k, 'a> {
    /// The value itself, when it can be correlated.
    pub current: Option<&'k Correlated<'a>>,
    /// The nearest value above that can.
    pub nearest: Option<&'k Correlated<'a>>,
}

impl Kin<'_, '_> {
    /// Whether what is wrong here was so before: nothing changed here, or in the nearest value above that can be compared.
    pub fn is_same(self) -> bool {
        self.current.or(self.nearest).is_some_and(Correlated::is_same)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_did_not_change_is_found_by_schema() {
        let node = Node::compile(&json!({
            "type": "object",
            "properties": {
                "map": { "type": "object", "additionalProperties": { "type": "integer" } },
                "any": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
                "atomic": { "type": "array", "items": { "type": "integer" } },
                "keyed": {
                    "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k", "n"],
                    "items": { "type": "object", "properties": { "k": { "type": "string" }, "n": { "type": "integer" }, "v": { "type": "string" } } },
                },
            },
        }));
        let item = |k: &str, n: i64, v: &str| json!({ "k": k, "n": n, "v": v });
        for (field, old, new, same) in [
            ("map", json!({ "a": 1 }), json!({ "a": 1 }), true),
            ("map", json!({ "a": 1 }), json!({ "a": 2 }), false),
            ("any", json!({ "a": 1 }), json!({ "a": 1 }), false),
            ("any", json!({}), json!({}), true),
            ("atomic", json!([1, 2]), json!([1, 2]), true),
            ("atomic", json!([1, 2]), json!([2, 1]), false),
            (
                "keyed",
                json!([item("a", 1, "x"), item("a", 2, "y")]),
                json!([item("a", 2, "y"), item("a", 1, "x")]),
                true,
            ),
            ("keyed", json!([item("a", 1, "x")]), json!([item("a", 1, "y")]), false),
            ("keyed", json!([item("a", 1, "x")]), json!([item("b", 1, "x")]), false),
        ] {
            let (old, new) = (json!({ field: old }), json!({ field: new }));
            let root = Correlated::new(&new, &old, &node);
            assert_eq!(root.key(field).is_some_and(|c| c.is_same()), same, "{old} {new}");
        }
        let (old, new) = (
            json!({ "atomic": [1], "keyed": [item("a", 1, "x")] }),
            json!({ "atomic": [1], "keyed": [item("a", 1, "y")] }),
        );
        let root = Correlated::new(&new, &old, &node);
        assert!(root.key("atomic").is_some_and(|list| list.index(0).is_none()));
        assert!(
            root.key("keyed")
                .is_some_and(|list| list.index(0).is_some_and(|item| !item.is_same()))
        );
        assert!(root.key("map").is_none());
    }
}
