//! Strategic merge patch: merges by the patch strategies and merge keys of the schema, with the directives `$patch`,
//! `$retainKeys`, `$deleteFromPrimitiveList/<field>` and `$setElementOrder/<field>`.

use serde_json::{Map, Value};

use crate::schema::{Field, Schema, Shape, TypeId};

/// Why a patch cannot be merged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatchError(pub String);

const DIRECTIVE: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

type Result<T> = std::result::Result<T, PatchError>;

impl Schema {
    /// `original` with `patch` merged into it.
    pub fn strategic_merge(&self, root: TypeId, original: &Value, patch: &Value) -> Result<Value> {
        let (Value::Object(original), Value::Object(patch)) = (original, patch) else {
            return Err(PatchError("strategic merge patch must be a JSON object".into()));
        };
        self.merge_map(Some(root), original, patch).map(Value::Object)
    }

    fn merge_map(
        &self,
        ty: Option<TypeId>,
        original: &Map<String, Value>,
        patch: &Map<String, Value>,
    ) -> Result<Map<String, Value>> {
        match patch.get(DIRECTIVE).and_then(Value::as_str) {
            Some("replace") => {
                let mut replaced = patch.clone();
                replaced.remove(DIRECTIVE);
                return Ok(replaced);
            }
            Some("delete") => return Ok(Map::new()),
            Some("merge") | None => {}
            Some(other) => return Err(PatchError(format!("unknown patch type found: {other}"))),
        }
        let mut out = original.clone();
        if let Some(keys) = patch.get(RETAIN) {
            let keys = keys
                .as_array()
                .ok_or_else(|| PatchError(format!("{RETAIN} must be a list")))?;
            out.retain(|key, _| keys.iter().any(|k| k == key));
        }
        for (key, value) in patch {
            if key == DIRECTIVE || key == RETAIN {
                continue;
            }
            if let Some(field) = key.strip_prefix(DELETE_PRIMITIVES) {
                let gone = value
                    .as_array()
                    .ok_or_else(|| PatchError(format!("{key} must be a list")))?;
                if let Some(list) = out.get_mut(field).and_then(Value::as_array_mut) {
                    list.retain(|item| !gone.contains(item));
                }
                continue;
            }
            if key.starts_with(SET_ORDER) {
                continue;
            }
            let merged = match (value, out.get(key)) {
                (Value::Null, _) => {
                    out.remove(key);
                    continue;
                }
                (Value::Object(p), Some(Value::Object(o))) => {
                    let (field, inner) = self.patched_member(ty, key);
                    if field.is_some_and(|f| f.patch.replace) {
                        Value::Object(strip_map(p))
                    } else {
                        Value::Object(self.merge_map(inner, o, p)?)
                    }
                }
                (Value::Object(p), _) => {
                    let (_, inner) = self.patched_member(ty, key);
                    Value::Object(self.merge_map(inner, &Map::new(), p)?)
                }
                (Value::Array(p), current) => {
                    let empty = Vec::new();
                    let current = current.and_then(Value::as_array).unwrap_or(&empty);
                    let order = patch.get(&format!("{SET_ORDER}{key}")).and_then(Value::as_array);
                    Value::Array(self.merge_list(ty, key, current, p, order)?)
                }
                (value, _) => value.clone(),
            };
            out.insert(key.clone(), merged);
        }
        // an order alone rearranges what is there
        for (key, order) in patch.iter().filter_map(|(k, v)| Some((k.strip_prefix(SET_ORDER)?, v))) {
            if !patch.contains_key(key)
                && let Some(list) = out.get(key).and_then(Value::as_array)
            {
                let order = order
                    .as_array()
                    .ok_or_else(|| PatchError(format!("{SET_ORDER}{key} must be a list")))?;
                let merge_key = self
                    .patched_member(ty, key)
                    .0
                    .and_then(|f| f.merge_key.as_deref())
                    .map(str::to_owned);
                let sorted = arrange(list.clone(), list, order, merge_key.as_deref());
                out.insert(key.to_owned(), Value::Array(sorted));
            }
        }
        Ok(out)
    }

    /// The field called `key` of a struct, and the type of its value; of a map the type of its values.
    fn patched_member(&self, ty: Option<TypeId>, key: &str) -> (Option<&Field>, Option<TypeId>) {
        let Some(ty) = ty else { return (None, None) };
        match self.shape(ty) {
            Shape::Map { value } => (None, Some(*value)),
            _ => match self.field(ty, key) {
                Some(field) => (Some(field), Some(field.ty)),
                None => (None, None),
            },
        }
    }

    fn merge_list(
        &self,
        ty: Option<TypeId>,
        key: &str,
        current: &[Value],
        patch: &[Value],
        order: Option<&Vec<Value>>,
    ) -> Result<Vec<Value>> {
        let (field, inner) = self.patched_member(ty, key);
        let merges = field.is_some_and(|f| f.patch.merge);
        let is_replace = |item: &Value| item.get(DIRECTIVE).and_then(Value::as_str) == Some("replace");
        if !merges || patch.iter().any(is_replace) {
            let items = patch
                .iter()
                .filter(|i| !is_replace(i) || i.as_object().is_some_and(|o| o.len() > 1));
            return Ok(items.map(strip).collect());
        }
        let item_type = inner.and_then(|t| match self.shape(t) {
            Shape::List { item, .. } => Some(*item),
            _ => None,
        });
        let Some(merge_key) = field.and_then(|f| f.merge_key.as_deref()) else {
            let mut out = current.to_vec();
            for item in patch {
                if !out.contains(item) {
                    out.push(item.clone());
                }
            }
            return Ok(arrange(out, current, order.map_or(patch, Vec::as_slice), None));
        };
        let mut out = current.to_vec();
        for item in patch {
            let object = item
                .as_object()
                .ok_or_else(|| PatchError(format!("{key}: expected a list of maps")))?;
            let id = object
                .get(merge_key)
                .ok_or_else(|| PatchError(format!("map: {item} does not contain declared merge key: {merge_key}")))?;
            let at = out.iter().position(|o| o.get(merge_key) == Some(id));
            if object.get(DIRECTIVE).and_then(Value::as_str) == Some("delete") {
                out.retain(|o| o.get(merge_key) != Some(id));
                continue;
            }
            match at.and_then(|i| out[i].as_object().cloned().map(|o| (i, o))) {
                Some((i, before)) => out[i] = Value::Object(self.merge_map(item_type, &before, object)?),
                None => out.push(Value::Object(self.merge_map(item_type, &Map::new(), object)?)),
            }
        }
        Ok(arrange(
            out,
            current,
            order.map_or(patch, Vec::as_slice),
            Some(merge_key),
        ))
    }
}

fn strip_map(map: &Map<String, Value>) -> Map<String, Value> {
    map.iter()
        .filter(|(k, v)| !k.starts_with('$') && !v.is_null())
        .map(|(k, v)| (k.clone(), strip(v)))
        .collect()
}

/// A value without directives.
fn strip(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(strip_map(map)),
        other => other.clone(),
    }
}

/// Items that `order` names stand in that order; the others keep their places among them as they were before.
fn arrange(items: Vec<Value>, before: &[Value], order: &[Value], merge_key: Option<&str>) -> Vec<Value> {
    let id = |item: &Value| match merge_key {
        Some(key) => item.get(key).cloned().unwrap_or_default(),
        None => item.clone(),
    };
    let rank: Vec<Value> = order.iter().map(&id).collect();
    let place = |item: &Value| before.iter().position(|b| id(b) == id(item));
    let (mut named, others): (Vec<Value>, Vec<Value>) = items.into_iter().partition(|i| rank.contains(&id(i)));
    named.sort_by_key(|i| rank.iter().position(|r| *r == id(i)));
    let mut out = Vec::with_capacity(named.len() + others.len());
    let mut named = named.into_iter().peekable();
    for other in others {
        while let Some(next) = named.peek() {
            let stays_behind = match (place(next), place(&other)) {
                (Some(n), Some(o)) => n > o,
                (None, _) => false,
                (Some(_), None) => false,
            };
            if stays_behind {
                break;
            }
            out.extend(named.next());
        }
        out.push(other);
    }
    out.extend(named);
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::gvk::GroupVersionKind;

    fn merge(original: Value, patch: Value) -> Value {
        let schema = Schema::builtin();
        let pod = schema.type_for(&GroupVersionKind::new("", "v1", "Pod")).unwrap();
        schema.strategic_merge(pod, &original, &patch).unwrap()
    }

    #[test]
    fn lists_merge_by_their_key() {
        let before =
            json!({ "spec": { "containers": [{ "name": "a", "image": "1" }, { "name": "b", "image": "1" }] } });
        let after = merge(
            before,
            json!({ "spec": { "containers": [{ "name": "b", "image": "2" }, { "name": "c", "image": "3" }] } }),
        );
        let want = json!([{ "name": "a", "image": "1" }, { "name": "b", "image": "2" }, { "name": "c", "image": "3" }]);
        assert_eq!(after["spec"]["containers"], want);
    }

    #[test]
    fn items_and_maps_are_deleted_and_replaced_by_directive() {
        let before =
            json!({ "spec": { "containers": [{ "name": "a" }, { "name": "b" }], "nodeSelector": { "x": "1" } } });
        let after = merge(
            before.clone(),
            json!({ "spec": { "containers": [{ "name": "a", "$patch": "delete" }], "nodeSelector": { "$patch": "replace", "y": "2" } } }),
        );
        assert_eq!(
            after,
            json!({ "spec": { "containers": [{ "name": "b" }], "nodeSelector": { "y": "2" } } })
        );
        let after = merge(
            before,
            json!({ "spec": { "containers": [{ "name": "z" }, { "$patch": "replace" }] } }),
        );
        assert_eq!(after["spec"]["containers"], json!([{ "name": "z" }]));
    }

    #[test]
    fn null_removes_and_retain_keys_keeps_only_those() {
        let before = json!({ "metadata": { "labels": { "a": "1", "b": "2" } }, "spec": { "volumes": [{ "name": "v", "emptyDir": {} }] } });
        let after = merge(
            before,
            json!({ "metadata": { "labels": { "a": null } }, "spec": { "volumes": [{ "name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": { "path": "/" } }] } }),
        );
        assert_eq!(after["metadata"]["labels"], json!({ "b": "2" }));
        assert_eq!(
            after["spec"]["volumes"],
            json!([{ "name": "v", "hostPath": { "path": "/" } }])
        );
    }

    #[test]
    fn primitive_lists_merge_delete_and_order() {
        let before = json!({ "metadata": { "finalizers": ["a/x", "b/x", "c/x"] } });
        let after = merge(
            before,
            json!({ "metadata": {
                "$deleteFromPrimitiveList/finalizers": ["b/x"],
                "$setElementOrder/finalizers": ["c/x", "a/x", "d/x"],
                "finalizers": ["d/x"],
            } }),
        );
        assert_eq!(after["metadata"]["finalizers"], json!(["c/x", "a/x", "d/x"]));
    }
}
