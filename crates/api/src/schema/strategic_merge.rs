//! Strategic merge patch: merges by the patch strategies and merge keys of the schema, with the directives `$patch`,
//! `$retainKeys`, `$deleteFromPrimitiveList/<field>` and `$setElementOrder/<field>`.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use crate::go;
use crate::schema::{Field, Schema, Shape, TypeId};

/// Why a patch cannot be merged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch is none.
    #[error("{0}")]
    Format(&'static str),
    /// The patch does not fit the object.
    #[error("{0}")]
    Unfit(String),
}

const BAD_RETAIN: PatchError = PatchError::Format("invalid patch format of retainKeys");
const BAD_PRIMITIVES: PatchError = PatchError::Format("invalid patch format of primitive list");
const BAD_ORDER: PatchError = PatchError::Format("invalid patch format of setElementOrder list");

const DIRECTIVE: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

type Result<T> = std::result::Result<T, PatchError>;

impl Schema {
    /// `original` with `patch` merged into it.
    pub fn strategic_merge(&self, root: TypeId, original: &Value, patch: &Value) -> Result<Value> {
        let (Value::Object(original), Value::Object(patch)) = (original, patch) else {
            return Err(PatchError::Format("strategic merge patch must be a JSON object"));
        };
        self.merge_map(Some(root), original.clone(), patch).map(Value::Object)
    }

    /// Merges in place: what the patch does not name is never copied.
    fn merge_map(
        &self,
        ty: Option<TypeId>,
        mut out: Map<String, Value>,
        patch: &Map<String, Value>,
    ) -> Result<Map<String, Value>> {
        match patch.get(DIRECTIVE).map(|d| d.as_str().ok_or(d)) {
            Some(Ok("replace")) => {
                let mut replaced = patch.clone();
                replaced.remove(DIRECTIVE);
                return Ok(replaced);
            }
            Some(Ok("delete")) => return Ok(Map::new()),
            Some(Ok("merge")) | None => {}
            Some(other) => {
                let shown = match other {
                    Ok(text) => text.to_owned(),
                    Err(value) => format!("%!s({}={})", go::type_of(value), go::sprint(value)),
                };
                let map = go::sprint(&Value::Object(patch.clone()));
                return Err(PatchError::Unfit(format!("unknown patch type: {shown} in map: {map}")));
            }
        }
        if let Some(keys) = patch.get(RETAIN) {
            let keys = keys.as_array().ok_or(BAD_RETAIN)?;
            let keys: HashSet<&str> = keys.iter().filter_map(Value::as_str).collect();
            out.retain(|key, _| keys.contains(key.as_str()));
        }
        for (key, value) in patch {
            if key == DIRECTIVE || key == RETAIN {
                continue;
            }
            if let Some(field) = key.strip_prefix(DELETE_PRIMITIVES) {
                let gone = value.as_array().ok_or(BAD_PRIMITIVES)?;
                let gone: HashSet<&Value> = gone.iter().collect();
                if let Some(list) = out.get_mut(field).and_then(Value::as_array_mut) {
                    list.retain(|item| !gone.contains(item));
                }
                continue;
            }
            if key.starts_with(SET_ORDER) {
                continue;
            }
            let merged = match (value, out.remove(key)) {
                (Value::Null, _) => continue,
                (Value::Object(p), Some(Value::Object(o))) => {
                    let (field, inner) = self.patched_member(ty, key);
                    if field.is_some_and(|f| f.patch.replace) {
                        Value::Object(strip_map(p))
                    } else {
                        Value::Object(self.merge_map(inner, o, p)?)
                    }
                }
                (Value::Array(p), Some(Value::Array(current))) => {
                    let order = patch.get(&format!("{SET_ORDER}{key}")).and_then(Value::as_array);
                    Value::Array(self.merge_list(ty, key, current, p, order)?)
                }
                // there is nothing to merge with: the patch is taken as it is, items of one key side by side
                (value, _) => match strip(value) {
                    Some(value) => value,
                    None => continue,
                },
            };
            out.insert(key.clone(), merged);
        }
        // an order alone rearranges what is there
        for (key, order) in patch.iter().filter_map(|(k, v)| Some((k.strip_prefix(SET_ORDER)?, v))) {
            if !patch.contains_key(key)
                && let Some(Value::Array(list)) = out.get_mut(key)
            {
                let order = order.as_array().ok_or(BAD_ORDER)?;
                let merge_key = self
                    .patched_member(ty, key)
                    .0
                    .and_then(|f| f.merge_key.as_deref())
                    .map(str::to_owned);
                let before = places(list, merge_key.as_deref());
                *list = arrange(std::mem::take(list), &before, order, merge_key.as_deref());
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
        current: Vec<Value>,
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
            let plain = items.filter_map(|item| match item {
                Value::Object(map) => Some(Value::Object(strip_map(map))),
                other => strip(other),
            });
            return Ok(plain.collect());
        }
        let item_type = inner.and_then(|t| match self.shape(t) {
            Shape::List { item, .. } => Some(*item),
            _ => None,
        });
        let Some(merge_key) = field.and_then(|f| f.merge_key.as_deref()) else {
            let before = places(&current, None);
            let mut known: HashSet<&Value> = current.iter().collect();
            let added: Vec<&Value> = patch.iter().filter(|item| known.insert(*item)).collect();
            let out = current.iter().chain(added).cloned().collect();
            return Ok(arrange(out, &before, order.map_or(patch, Vec::as_slice), None));
        };
        // an item that a patch deletes leaves an empty place until the end
        let before = places(&current, Some(merge_key));
        let mut named: HashMap<Value, Vec<usize>> = HashMap::new();
        for (at, item) in current.iter().enumerate() {
            if let Some(id) = item.get(merge_key) {
                named.entry(id.clone()).or_default().push(at);
            }
        }
        let mut out: Vec<Option<Value>> = current.into_iter().map(Some).collect();
        for item in patch {
            let object = item
                .as_object()
                .ok_or_else(|| PatchError::Unfit(format!("{key}: expected a list of maps")))?;
            let id = object.get(merge_key).ok_or_else(|| {
                PatchError::Unfit(format!(
                    "map: {} does not contain declared merge key: {merge_key}",
                    go::sprint(item)
                ))
            })?;
            if object.get(DIRECTIVE).and_then(Value::as_str) == Some("delete") {
                for at in named.remove(id).unwrap_or_default() {
                    out[at] = None;
                }
                continue;
            }
            // what has the id is an object
            let at = named.get(id).and_then(|all| all.first().copied());
            match at.and_then(|i| Some((i, out[i].take()?))) {
                Some((i, Value::Object(there))) => {
                    out[i] = Some(Value::Object(self.merge_map(item_type, there, object)?));
                }
                _ => {
                    named.entry(id.clone()).or_default().push(out.len());
                    out.push(Some(Value::Object(self.merge_map(item_type, Map::new(), object)?)));
                }
            }
        }
        Ok(arrange(
            out.into_iter().flatten().collect(),
            &before,
            order.map_or(patch, Vec::as_slice),
            Some(merge_key),
        ))
    }
}

/// A map without nulls and directives.
fn strip_map(map: &Map<String, Value>) -> Map<String, Value> {
    let kept = map
        .iter()
        .filter(|(key, value)| !key.starts_with('$') && !value.is_null());
    kept.filter_map(|(key, value)| Some((key.clone(), strip(value)?)))
        .collect()
}

/// A value without nulls and directives; a map with a directive of its own goes as a whole.
fn strip(value: &Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(DIRECTIVE) => None,
        Value::Object(map) => Some(Value::Object(strip_map(map))),
        Value::Array(list) => Some(list.iter().filter_map(strip).collect()),
        other => Some(other.clone()),
    }
}

/// What an item is known by: its merge key, or itself.
fn id(item: &Value, merge_key: Option<&str>) -> Value {
    match merge_key {
        Some(key) => item.get(key).cloned().unwrap_or_default(),
        None => item.clone(),
    }
}

/// The first place of each item.
fn places(list: &[Value], merge_key: Option<&str>) -> HashMap<Value, usize> {
    let mut places = HashMap::new();
    for (at, item) in list.iter().enumerate() {
        places.entry(id(item, merge_key)).or_insert(at);
    }
    places
}

/// Items that `order` names stand in that order; the others keep their places among them as they were before.
fn arrange(items: Vec<Value>, before: &HashMap<Value, usize>, order: &[Value], merge_key: Option<&str>) -> Vec<Value> {
    let rank = places(order, merge_key);
    let rank = |item: &Value| rank.get(&id(item, merge_key)).copied();
    let place = |item: &Value| before.get(&id(item, merge_key)).copied();
    let (mut named, others): (Vec<Value>, Vec<Value>) = items.into_iter().partition(|i| rank(i).is_some());
    named.sort_by_cached_key(rank);
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
    fn items_of_one_key_stand_side_by_side_where_there_were_none_and_else_merge_with_the_first() {
        let ports = json!([{ "containerPort": 5 }, { "containerPort": 5, "protocol": "UDP" }]);
        let patch = json!({ "spec": { "containers": [{ "name": "c", "ports": ports }] } });
        let fresh = merge(json!({ "spec": { "containers": [{ "name": "c" }] } }), patch);
        assert_eq!(fresh["spec"]["containers"][0]["ports"], ports);
        let change =
            json!({ "spec": { "containers": [{ "name": "c", "ports": [{ "containerPort": 5, "name": "x" }] }] } });
        let both = merge(fresh, change);
        let want = json!([{ "containerPort": 5, "name": "x" }, { "containerPort": 5, "protocol": "UDP" }]);
        assert_eq!(both["spec"]["containers"][0]["ports"], want);
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
