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
            // what a patch sets it must retain
            let set = patch.iter().filter(|(key, value)| {
                let of_list = key.starts_with(DELETE_PRIMITIVES) || key.starts_with(SET_ORDER);
                !value.is_null() && *key != RETAIN && *key != DIRECTIVE && !of_list
            });
            if !set.map(|(key, _)| key.as_str()).all(|key| keys.contains(key)) {
                return Err(BAD_RETAIN);
            }
            out.retain(|key, _| keys.contains(key.as_str()));
        }
        for (key, order) in patch {
            if let Some(key) = key.strip_prefix(SET_ORDER) {
                self.check_order(ty, key, order, out.get(key), patch.get(key))?;
            }
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
                        Value::Object(p.clone())
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

    /// Holds the order of a list against the list, in the object and in the patch: both name items in the same order.
    fn check_order(
        &self,
        ty: Option<TypeId>,
        key: &str,
        order: &Value,
        original: Option<&Value>,
        patch: Option<&Value>,
    ) -> Result<()> {
        let list = |value: Option<&Value>| -> Result<Vec<Value>> {
            match value {
                None => Ok(Vec::new()),
                Some(Value::Array(list)) => Ok(list.clone()),
                Some(other) => Err(unlike("[]interface {}", other)),
            }
        };
        let order = list(Some(order))?;
        list(original)?;
        let patch = list(patch)?;
        let (field, inner) = self.patched_member(ty, key);
        let list_type = inner.is_some_and(|inner| matches!(self.shape(inner), Shape::List { .. }));
        if let (None, Some(ty)) = (field, ty)
            && let Shape::Struct(_) = self.shape(ty)
        {
            let name = self.go_name(ty);
            let name = name.rsplit('.').next().unwrap_or_default();
            return Err(PatchError::Unfit(format!(
                "unable to find api field in struct {name} for the json field {}",
                go::quote(key)
            )));
        }
        let Some(field) = field.filter(|_| list_type) else {
            return match ty.map(|ty| self.shape(ty)) {
                Some(Shape::Struct(_)) => Err(PatchError::Unfit(
                    "expected slice or array type, but got: struct".to_owned(),
                )),
                _ => Err(PatchError::Unfit(
                    "merging an object in json but data type is not struct, instead is: map".to_owned(),
                )),
            };
        };
        let merge_key = field.merge_key.as_deref();
        let mut wanted = order.iter();
        for item in &patch {
            // what is deleted has no place
            if item.get(DIRECTIVE).is_some() {
                continue;
            }
            loop {
                let Some(next) = wanted.next() else {
                    if order.is_empty() {
                        return Ok(());
                    }
                    let [patch, order] = [patch, order].map(|list| go::sprint(&Value::Array(list)));
                    return Err(PatchError::Unfit(format!(
                        "The order in patch list:\n{patch}\n doesn't match {} list:\n{order}\n",
                        SET_ORDER.trim_end_matches('/')
                    )));
                };
                let [here, there] = [item, next].map(|one| key_of(one, merge_key));
                if here? == there? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// A patch as a merge leaves it, which is what an error shows: what it could not merge has lost its nulls.
    pub fn spent_patch(&self, root: TypeId, original: &Value, patch: &Value) -> Value {
        let (Value::Object(original), Value::Object(patch)) = (original, patch) else {
            return patch.clone();
        };
        let spent = patch
            .iter()
            .filter(|(key, _)| *key != RETAIN && !key.starts_with(SET_ORDER));
        let spent = spent.map(|(key, value)| {
            let (field, inner) = self.patched_member(Some(root), key);
            let left = match (value, original.get(key), inner) {
                (Value::Object(_), Some(old @ Value::Object(_)), Some(inner))
                    if !field.is_some_and(|f| f.patch.replace) =>
                {
                    self.spent_patch(inner, old, value)
                }
                (Value::Object(_), Some(Value::Object(_)), _) | (Value::Array(_), Some(Value::Array(_)), _) => {
                    value.clone()
                }
                (Value::Null, _, _) => Value::Null,
                _ => without_nulls(value),
            };
            (key.clone(), left)
        });
        Value::Object(spent.collect())
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
            // what takes the place of another list is taken as it is
            return Ok(patch
                .iter()
                .filter(|item| !merges || item.get(DIRECTIVE).is_none())
                .cloned()
                .collect());
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

/// The error of a value of another type than a patch must have there.
fn unlike(expected: &str, found: &Value) -> PatchError {
    PatchError::Unfit(format!(
        "expected a {expected}, but received a {}",
        go::type_shown(found)
    ))
}

/// What an item of a list is known by.
fn key_of<'v>(item: &'v Value, merge_key: Option<&str>) -> Result<&'v Value> {
    let Some(merge_key) = merge_key else { return Ok(item) };
    let map = item
        .as_object()
        .ok_or_else(|| unlike("map[string]interface {}", item))?;
    map.get(merge_key).ok_or_else(|| {
        PatchError::Unfit(format!(
            "map: {} does not contain declared merge key: {merge_key}",
            go::sprint(item)
        ))
    })
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key.clone(), without_nulls(value))).collect())
        }
        Value::Array(list) => list.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

/// A value without nulls; a map with a directive goes as a whole.
fn strip(value: &Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(DIRECTIVE) => None,
        Value::Object(map) => {
            let kept = map.iter().filter(|(_, value)| !value.is_null());
            Some(Value::Object(
                kept.filter_map(|(key, value)| Some((key.clone(), strip(value)?)))
                    .collect(),
            ))
        }
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

    fn refused(original: Value, patch: Value) -> String {
        let schema = Schema::builtin();
        let pod = schema.type_for(&GroupVersionKind::new("", "v1", "Pod")).unwrap();
        schema.strategic_merge(pod, &original, &patch).unwrap_err().to_string()
    }

    /// `validatePatchWithSetOrderList` and `applyRetainKeysDirective` of `strategicpatch`.
    #[test]
    fn an_order_and_what_is_retained_must_fit_the_patch() {
        let pod = json!({ "spec": { "containers": [{ "name": "a" }], "hostname": "x" } });
        let spec = |patch: Value| refused(pod.clone(), json!({ "spec": patch }));
        let containers = json!([{ "name": "b" }]);
        assert_eq!(
            spec(json!({ "containers": containers, "$setElementOrder/containers": ["b"] })),
            "expected a map[string]interface {}, but received a string"
        );
        assert_eq!(
            spec(json!({ "$setElementOrder/hostname": ["b"] })),
            "expected a []interface {}, but received a string"
        );
        let other = spec(json!({ "containers": containers, "$setElementOrder/containers": [{ "name": "a" }] }));
        assert!(
            other.starts_with("The order in patch list:\n[map[name:b]]\n doesn't match $setElementOrder list:"),
            "{other}"
        );
        assert_eq!(
            spec(json!({ "hostname": "y", "$retainKeys": ["containers"] })),
            "invalid patch format of retainKeys"
        );
        let nobody = spec(json!({ "$setElementOrder/nope": [] }));
        assert_eq!(
            nobody,
            "unable to find api field in struct PodSpec for the json field \"nope\""
        );
    }

    #[test]
    fn what_takes_the_place_of_a_list_is_taken_as_it_is() {
        let before = json!({ "spec": { "containers": [{ "name": "a", "args": ["x"] }] } });
        let patch = json!({ "spec": { "containers": [{ "name": "a", "args": [{ "$retainKeys": [] }, null] }] } });
        let args = &merge(before, patch)["spec"]["containers"][0]["args"];
        assert_eq!(*args, json!([{ "$retainKeys": [] }, null]));
    }

    #[test]
    fn an_error_shows_a_patch_without_the_nulls_of_what_was_not_there() {
        let schema = Schema::builtin();
        let service = schema.type_for(&GroupVersionKind::new("", "v1", "Service")).unwrap();
        let old = json!({ "spec": { "selector": { "a": "b" } } });
        let patch = json!({ "spec": { "externalIPs": { "a": null }, "selector": { "a": null }, "type": null } });
        let want = json!({ "spec": { "externalIPs": {}, "selector": { "a": null }, "type": null } });
        assert_eq!(schema.spent_patch(service, &old, &patch), want);
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
