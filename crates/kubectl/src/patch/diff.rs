//! Differences as strategic merge patches: lists with a merge key by their items, everything else by value.

use api::gvk::GroupVersionKind;
use api::schema::{Field, Schema, Shape as TypeShape, TypeId};
use serde_json::{Map, Value, json};

use crate::error::{Result, fail};
use crate::print::go;

const ORDER: &str = "$setElementOrder/";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";
const RETAIN: &str = "$retainKeys";

/// How the lists of a kind of objects are merged.
#[derive(Clone, Copy)]
pub struct Shape {
    schema: &'static Schema,
    root: TypeId,
}

impl Shape {
    /// `None` for kinds that are not built in: they know only JSON merge patch.
    pub fn of(api_version: &str, kind: &str) -> Option<Shape> {
        let schema = Schema::builtin();
        let root = schema.type_for(&GroupVersionKind::from_api_version(api_version, kind))?;
        Some(Shape { schema, root })
    }

    pub(crate) fn merge(&self, original: &Value, patch: &Value) -> Result<Value> {
        match self.schema.strategic_merge(self.root, original, patch) {
            Ok(merged) => Ok(merged),
            Err(e) => fail(e.to_string()),
        }
    }

    pub(super) fn diff(&self, original: &Value, modified: &Value, which: Which) -> Result<Map<String, Value>> {
        let differ = Differ {
            schema: self.schema,
            which,
        };
        match (original, modified) {
            (Value::Object(o), Value::Object(m)) => differ.maps(Some(self.root), o, m, false),
            _ => fail("a patch needs objects"),
        }
    }

    /// One patch that does what two do; of two values `b`'s counts.
    pub(super) fn combine(&self, a: Map<String, Value>, b: Map<String, Value>) -> Map<String, Value> {
        let differ = Differ {
            schema: self.schema,
            which: Which::All,
        };
        differ.combine(Some(self.root), a, b)
    }
}

/// Which differences go into the patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// What is new or other, and nothing that has gone.
    Changes,
    Deletions,
    All,
}

struct Differ {
    schema: &'static Schema,
    which: Which,
}

/// The strategic merge patch from one object to another.
pub fn two_way(shape: &Shape, original: &Value, modified: &Value) -> Result<Value> {
    shape.diff(original, modified, Which::All).map(Value::Object)
}

impl Differ {
    fn changes(&self) -> bool {
        self.which != Which::Deletions
    }

    fn deletions(&self) -> bool {
        self.which != Which::Changes
    }

    /// The field of a struct and the type of its value; of a map the type of its values.
    fn member(&self, ty: Option<TypeId>, key: &str) -> (Option<&'static Field>, Option<TypeId>) {
        let Some(ty) = ty else { return (None, None) };
        match self.schema.shape(ty) {
            TypeShape::Map { value } => (None, Some(*value)),
            _ => match self.schema.field(ty, key) {
                Some(field) => (Some(field), Some(field.ty)),
                None => (None, None),
            },
        }
    }

    fn item(&self, ty: Option<TypeId>) -> Option<TypeId> {
        match self.schema.shape(ty?) {
            TypeShape::List { item, .. } | TypeShape::WrappedList { item } => Some(*item),
            _ => None,
        }
    }

    fn maps(
        &self,
        ty: Option<TypeId>,
        original: &Map<String, Value>,
        modified: &Map<String, Value>,
        retain: bool,
    ) -> Result<Map<String, Value>> {
        let mut patch = Map::new();
        for (key, new) in modified {
            let Some(old) = original.get(key) else {
                if self.changes() {
                    patch.insert(key.clone(), new.clone());
                }
                continue;
            };
            let (field, inner) = self.member(ty, key);
            let strategy = field.map(|f| f.patch).unwrap_or_default();
            match (old, new) {
                (Value::Object(o), Value::Object(m)) if !strategy.replace => {
                    let inner = self.maps(inner, o, m, strategy.retain_keys)?;
                    if !inner.is_empty() {
                        patch.insert(key.clone(), Value::Object(inner));
                    }
                }
                (Value::Array(o), Value::Array(m)) if strategy.merge => {
                    let merge_key = field.and_then(|f| f.merge_key.as_deref());
                    self.lists(self.item(inner), key, o, m, merge_key, strategy.retain_keys, &mut patch)?;
                }
                (o, m) if self.changes() && o != m => {
                    patch.insert(key.clone(), m.clone());
                }
                _ => {}
            }
        }
        if self.deletions() {
            for key in original.keys().filter(|k| !modified.contains_key(*k)) {
                patch.insert(key.clone(), Value::Null);
            }
        }
        if retain && (!patch.is_empty() || original.keys().any(|k| !modified.contains_key(k))) {
            let keys: Vec<Value> = modified
                .iter()
                .filter(|(_, v)| !v.is_null())
                .map(|(k, _)| json!(k))
                .collect();
            if !keys.is_empty() {
                patch.insert(RETAIN.to_owned(), Value::Array(keys));
            }
        }
        Ok(patch)
    }

    fn lists(
        &self,
        item: Option<TypeId>,
        key: &str,
        original: &[Value],
        modified: &[Value],
        merge_key: Option<&str>,
        retain: bool,
        patch: &mut Map<String, Value>,
    ) -> Result<()> {
        if original.is_empty() {
            if !modified.is_empty() && self.changes() {
                patch.insert(key.to_owned(), Value::Array(modified.to_vec()));
            }
            return Ok(());
        }
        let Some(merge_key) = merge_key else {
            self.scalars(key, original, modified, patch);
            return Ok(());
        };
        let key_of = |item: &Value| -> Result<Value> {
            match item.get(merge_key) {
                Some(value) => Ok(value.clone()),
                None => fail(format!(
                    "map: {} does not contain declared merge key: {merge_key}",
                    go::sprint(item)
                )),
            }
        };
        let old_keys: Vec<Value> = original.iter().map(key_of).collect::<Result<_>>()?;
        let new_keys: Vec<Value> = modified.iter().map(key_of).collect::<Result<_>>()?;
        let mut list = Vec::new();
        for (new, id) in modified.iter().zip(&new_keys) {
            match old_keys.iter().position(|k| k == id) {
                Some(at) => {
                    let (Value::Object(o), Value::Object(m)) = (&original[at], new) else {
                        continue;
                    };
                    let mut inner = self.maps(item, o, m, retain)?;
                    if !inner.is_empty() {
                        inner.insert(merge_key.to_owned(), id.clone());
                        list.push(Value::Object(inner));
                    }
                }
                None if self.changes() => list.push(new.clone()),
                None => {}
            }
        }
        if self.deletions() {
            let gone = old_keys.iter().filter(|id| !new_keys.contains(id));
            list.extend(gone.map(|id| json!({"$patch": "delete", merge_key: id})));
        }
        if !list.is_empty() || (self.changes() && old_keys != new_keys) {
            let order = new_keys.iter().map(|id| json!({merge_key: id})).collect();
            patch.insert(format!("{ORDER}{key}"), Value::Array(order));
        }
        if !list.is_empty() {
            patch.insert(key.to_owned(), Value::Array(list));
        }
        Ok(())
    }

    fn scalars(&self, key: &str, original: &[Value], modified: &[Value], patch: &mut Map<String, Value>) {
        let new: Vec<Value> = modified.iter().filter(|v| !original.contains(v)).cloned().collect();
        let gone: Vec<Value> = original.iter().filter(|v| !modified.contains(v)).cloned().collect();
        let drops = self.deletions() && !gone.is_empty();
        if drops || (self.changes() && original != modified) {
            patch.insert(format!("{ORDER}{key}"), Value::Array(modified.to_vec()));
        }
        if self.changes() && !new.is_empty() {
            patch.insert(key.to_owned(), Value::Array(new));
        }
        if drops {
            patch.insert(format!("{DELETE_PRIMITIVES}{key}"), Value::Array(gone));
        }
    }

    fn combine(&self, ty: Option<TypeId>, mut a: Map<String, Value>, b: Map<String, Value>) -> Map<String, Value> {
        let order = |key: &str| {
            b.get(&format!("{ORDER}{key}"))
                .or_else(|| a.get(&format!("{ORDER}{key}")))
                .cloned()
        };
        let orders: Map<String, Value> = b.keys().filter_map(|key| Some((key.clone(), order(key)?))).collect();
        for (key, new) in b {
            let (field, inner) = self.member(ty, &key);
            let order = orders.get(&key).and_then(Value::as_array);
            let merged = match (a.remove(&key), new) {
                (Some(Value::Object(old)), Value::Object(new)) => Value::Object(self.combine(inner, old, new)),
                (Some(Value::Array(old)), Value::Array(new)) if field.is_some_and(|f| f.patch.merge) => {
                    let merge_key = field.and_then(|f| f.merge_key.as_deref());
                    let before = old.clone();
                    let all = self.combine_lists(self.item(inner), old, new, merge_key);
                    Value::Array(match order {
                        Some(order) => arranged(all, &before, order, merge_key),
                        None => all,
                    })
                }
                (_, new) => new,
            };
            a.insert(key, merged);
        }
        a
    }

    fn combine_lists(
        &self,
        item: Option<TypeId>,
        old: Vec<Value>,
        new: Vec<Value>,
        merge_key: Option<&str>,
    ) -> Vec<Value> {
        let mut all = old;
        for entry in new {
            let same = merge_key.and_then(|key| all.iter().position(|o| o[key] == entry[key]));
            match (same, entry) {
                (Some(at), Value::Object(entry)) => {
                    let before = all[at].as_object().cloned().unwrap_or_default();
                    all[at] = Value::Object(self.combine(item, before, entry));
                }
                (_, entry) if merge_key.is_none() && all.contains(&entry) => {}
                (_, entry) => all.push(entry),
            }
        }
        all
    }
}

/// Items that `order` names, in that order, and between them the others, whose places among them are as they were before; one without
/// such a place comes last.
fn arranged(all: Vec<Value>, before: &[Value], order: &[Value], merge_key: Option<&str>) -> Vec<Value> {
    let id = |item: &Value| merge_key.map_or_else(|| item.clone(), |key| item[key].clone());
    let place = |list: &[Value], item: &Value| list.iter().position(|one| id(one) == id(item));
    let (mut named, others): (Vec<Value>, Vec<Value>) = all.into_iter().partition(|item| place(order, item).is_some());
    named.sort_by_key(|item| place(order, item));
    let mut out = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for item in named {
        while let Some(other) = others.peek() {
            match (place(before, &item), place(before, other)) {
                (Some(here), Some(there)) if there < here => out.extend(others.next()),
                _ => break,
            }
        }
        out.push(item);
    }
    out.extend(others);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_of_lists_are_told_apart_by_their_key() {
        let shape = Shape::of("apps/v1", "Deployment").unwrap();
        let of = |containers: Value| json!({"spec": {"template": {"spec": {"containers": containers}}}});
        let original = of(json!([{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]));
        let modified = of(json!([{"name": "a", "image": "z"}, {"name": "c", "image": "w"}]));
        let patch = two_way(&shape, &original, &modified).unwrap();
        assert_eq!(
            patch["spec"]["template"]["spec"],
            json!({
                "$setElementOrder/containers": [{"name": "a"}, {"name": "c"}],
                "containers": [{"name": "a", "image": "z"}, {"name": "c", "image": "w"}, {"$patch": "delete", "name": "b"}],
            })
        );
        assert_eq!(shape.merge(&original, &patch).unwrap(), modified);
    }

    #[test]
    fn primitive_lists_say_what_has_gone() {
        let shape = Shape::of("v1", "Pod").unwrap();
        let of = |finalizers: Value| json!({"metadata": {"finalizers": finalizers}});
        let patch = two_way(&shape, &of(json!(["a", "b"])), &of(json!(["b", "c"]))).unwrap();
        assert_eq!(
            patch["metadata"],
            json!({"$setElementOrder/finalizers": ["b", "c"], "$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]})
        );
    }
}
