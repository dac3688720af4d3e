//! A strategic merge as kustomize makes it: what a patch names in a list comes first. Pure.

use api::gvk::GroupVersionKind;
use api::schema::{Field, ListType, Schema, Shape, TypeId};
use serde_json::{Map, Value};

const DIRECTIVE: &str = "$patch";

/// Merges a patch into an object of a kind; nothing is left where the patch deletes it. Lists of kinds that are not built in are replaced.
pub fn merge(object: &Value, patch: &Value) -> Option<Value> {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    let kind = GroupVersionKind::from_api_version(text("apiVersion"), text("kind"));
    let schema = Schema::builtin();
    let root = schema.type_for(&kind);
    Merger { schema }.value(root, None, object, patch)
}

struct Merger {
    schema: &'static Schema,
}

impl Merger {
    fn member(&self, ty: Option<TypeId>, name: &str) -> (Option<&'static Field>, Option<TypeId>) {
        let Some(ty) = ty else { return (None, None) };
        match self.schema.shape(ty) {
            Shape::Map { value } => (None, Some(*value)),
            _ => match self.schema.field(ty, name) {
                Some(field) => (Some(field), Some(field.ty)),
                None => (None, None),
            },
        }
    }

    fn item(&self, ty: Option<TypeId>) -> Option<TypeId> {
        match self.schema.shape(ty?) {
            Shape::List { item, .. } | Shape::WrappedList { item } => Some(*item),
            _ => None,
        }
    }

    fn value(&self, ty: Option<TypeId>, field: Option<&Field>, old: &Value, patch: &Value) -> Option<Value> {
        match (old, patch) {
            (_, Value::Null) => None,
            (Value::Object(old), Value::Object(patch)) => self.map(ty, old, patch).map(Value::Object),
            (Value::Array(old), Value::Array(patch)) => Some(Value::Array(self.list(ty, field, old, patch))),
            (_, Value::Object(patch)) => self.map(ty, &Map::new(), patch).map(Value::Object),
            (_, Value::Array(patch)) => Some(Value::Array(self.list(ty, field, &[], patch))),
            (_, other) => Some(other.clone()),
        }
    }

    fn map(
        &self,
        ty: Option<TypeId>,
        old: &Map<String, Value>,
        patch: &Map<String, Value>,
    ) -> Option<Map<String, Value>> {
        let mut made = match patch.get(DIRECTIVE).and_then(Value::as_str) {
            Some("delete") => return None,
            Some("replace") => Map::new(),
            _ => old.clone(),
        };
        for (name, value) in patch.iter().filter(|(name, _)| *name != DIRECTIVE) {
            let (field, inner) = self.member(ty, name);
            let before = made.get(name).unwrap_or(&Value::Null);
            match self.value(inner, field, before, value) {
                Some(value) => made.insert(name.clone(), value),
                None => made.remove(name),
            };
        }
        Some(made)
    }

    fn list(&self, ty: Option<TypeId>, field: Option<&Field>, old: &[Value], patch: &[Value]) -> Vec<Value> {
        let is_directive = |item: &Value| {
            item.as_object()
                .is_some_and(|map| map.len() == 1 && map.contains_key(DIRECTIVE))
        };
        let replaces = patch
            .iter()
            .any(|item| is_directive(item) && item[DIRECTIVE] == "replace");
        let items: Vec<&Value> = patch.iter().filter(|item| !is_directive(item)).collect();
        let inner = self.item(ty);
        let plain = |item: &&Value| self.value(inner, None, &Value::Null, item);
        let merges = field.is_some_and(|field| field.patch.merge);
        if replaces || !merges {
            return items.iter().filter_map(plain).collect();
        }
        let keys = field.map_or_else(Vec::new, keys);
        // a key that no item has tells none apart
        let keys: Vec<&str> = keys
            .into_iter()
            .filter(|key| items.iter().copied().chain(old).any(|item| !item[key].is_null()))
            .collect();
        let merged = |item: &Value| {
            let mut patches = items.iter().filter(|patch| are_one(&keys, item, patch));
            patches.try_fold(item.clone(), |item, patch| self.value(inner, None, &item, patch))
        };
        let before = |item: &Value| old.iter().find(|other| are_one(&keys, other, item));
        // items told apart by several keys stay where they were
        let stay = keys.len() > 1;
        let first = items.iter().filter_map(|item| match before(item) {
            Some(_) if stay => None,
            Some(old) => merged(old),
            None => plain(item),
        });
        let rest = old
            .iter()
            .filter(|item| stay || !items.iter().any(|patch| are_one(&keys, item, patch)));
        first.chain(rest.filter_map(merged)).collect()
    }
}

/// The fields that tell the items of a list apart; none where items are plain values.
fn keys(field: &Field) -> Vec<&str> {
    match &field.list {
        ListType::Map(keys) => keys.iter().map(|key| &**key).collect(),
        _ => field.merge_key.as_deref().into_iter().collect(),
    }
}

/// Whether two items are the same one. A key that one of them leaves out may have any value.
fn are_one(keys: &[&str], item: &Value, other: &Value) -> bool {
    let both = keys.iter().filter(|key| !item[key].is_null() && !other[key].is_null());
    match keys {
        [] => item == other,
        _ => both.clone().next().is_some() && both.clone().all(|key| item[key] == other[key]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_are_merged_by_their_keys_and_what_is_new_comes_first() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"finalizers": ["a/b"]}, "spec": {"hostNetwork": true, "containers": [
            {"name": "a", "image": "x", "env": [{"name": "E", "value": "1"}]}, {"name": "b", "image": "y"}]}});
        let patch = json!({"metadata": {"finalizers": ["c/d"]}, "spec": {"hostNetwork": null, "containers": [
            {"name": "c", "image": "z"}, {"name": "a", "env": [{"name": "F", "value": "2"}]}, {"name": "b", "$patch": "delete"}]}});
        let expected = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"finalizers": ["c/d", "a/b"]}, "spec": {"containers": [
            {"name": "c", "image": "z"}, {"name": "a", "image": "x", "env": [{"name": "F", "value": "2"}, {"name": "E", "value": "1"}]}]}});
        assert_eq!(merge(&pod, &patch), Some(expected));
        assert_eq!(merge(&pod, &json!({"$patch": "delete"})), None);
    }

    #[test]
    fn ports_are_told_apart_by_two_keys_and_stay_where_they_were() {
        let ports = |list: Value| json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": list}});
        let service =
            ports(json!([{"port": 1, "name": "a"}, {"port": 2, "protocol": "UDP"}, {"port": 2, "protocol": "TCP"}]));
        let patch = ports(json!([{"port": 2, "protocol": "UDP", "name": "b"}, {"port": 3, "protocol": "TCP"}]));
        let expected = ports(
            json!([{"port": 3, "protocol": "TCP"}, {"port": 1, "name": "a"}, {"port": 2, "protocol": "UDP", "name": "b"},
            {"port": 2, "protocol": "TCP"}]),
        );
        assert_eq!(merge(&service, &patch), Some(expected));
    }

    #[test]
    fn lists_of_unknown_kinds_are_replaced() {
        let object = json!({"apiVersion": "x.io/v1", "kind": "X", "spec": {"list": [{"name": "a"}]}});
        let merged = merge(&object, &json!({"spec": {"list": [{"name": "b"}]}})).unwrap();
        assert_eq!(merged["spec"]["list"], json!([{"name": "b"}]));
    }
}
