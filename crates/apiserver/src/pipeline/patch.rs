//! PATCH: JSON Patch, JSON Merge Patch, strategic merge patch and server-side apply, each onto the served version.

use api::schema::Document;
use api::schema::json::Voice;
use api::schema::strategic_merge::PatchError;
use json_patch::PatchOperation;
use serde_json::Value;

use crate::http::MAX_BODY;
use crate::http::json_text;
use crate::http::status::{ApiError, Result};
use crate::registry::resource::Resource;

/// The four media types of a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchKind {
    Json,
    Merge,
    Strategic,
    Apply,
}

/// What upstream allows one JSON Patch of a client to hold.
const MAX_OPERATIONS: usize = 10_000;
/// Bytes that the `copy` operations of one patch may add, as upstream's.
const MAX_COPIED: usize = MAX_BODY;
/// Items of lists that the operations of one patch may move aside.
const MAX_MOVED: usize = 20_000_000;

impl PatchKind {
    /// # Errors
    /// `415` for any other media type, or a strategic merge of a custom resource.
    pub fn of(content_type: Option<&str>, resource: &Resource) -> Result<PatchKind> {
        let name = content_type
            .unwrap_or_default()
            .split(';')
            .next()
            .unwrap_or_default()
            .trim();
        let kind = match name {
            "application/json-patch+json" => PatchKind::Json,
            "application/merge-patch+json" => PatchKind::Merge,
            "application/strategic-merge-patch+json" if !resource.is_custom() => PatchKind::Strategic,
            "application/apply-patch+yaml" => PatchKind::Apply,
            _ if !resource.is_custom() => return Err(ApiError::unknown_patch_type()),
            _ => {
                let known = [
                    "application/json-patch+json",
                    "application/merge-patch+json",
                    "application/apply-patch+yaml",
                ];
                let message = format!(
                    "the body of the request was in an unknown format - accepted media types include: {}",
                    known.join(", ")
                );
                return Err(ApiError::unsupported_media_type(message));
            }
        };
        Ok(kind)
    }
}

/// A patch that was read.
#[derive(Debug)]
pub enum Patch {
    Json(json_patch::Patch),
    /// A list whose items are no operations. That is found where it is applied: an object that is absent is told first.
    Misfit,
    /// It is no list, or no object. That is found where it is applied, too.
    Unreadable(String),
    Merge(Value),
    Strategic(Value),
}

impl Patch {
    /// The patch, and what strict decoding objects to in its text.
    pub fn parse(kind: PatchKind, body: &[u8]) -> Result<(Patch, Vec<String>)> {
        let document = match Document::from_json(body) {
            Ok(document) => document,
            Err(_) => match json_text::beyond_float(body) {
                Some(number) => {
                    let mut why = format!("error decoding patch: {}", json_text::no_float(number));
                    if kind == PatchKind::Json {
                        why = why.replace("Go value", "Go struct field jsonPatchOp.value");
                    }
                    return Ok((Patch::Unreadable(why), Vec::new()));
                }
                None => return Err(ApiError::bad_request("invalid JSON patch")),
            },
        };
        let repeated = document.repeated.iter();
        let mut strict: Vec<String> = repeated.map(|r| format!("duplicate field \"{}\"", r.path)).collect();
        let tree = document.value;
        let patch = match kind {
            PatchKind::Json => {
                let mut tree = tree;
                let Value::Array(operations) = &mut tree else {
                    let found = json_text::kind(&tree);
                    let why = format!(
                        "error decoding patch: json: cannot unmarshal {found} into Go value of type []handlers.jsonPatchOp"
                    );
                    return Ok((Patch::Unreadable(why), strict));
                };
                strict.extend(unknown_in(operations));
                operations.iter_mut().for_each(escape_pointers);
                strict.iter_mut().for_each(|error| error.insert_str(0, "json patch "));
                // what is put in is read once more, as it was written
                let inside = document
                    .repeated
                    .iter()
                    .filter_map(|r| repeated_inside(operations, &r.path));
                strict.extend(inside.map(|path| format!("duplicate field \"{path}\"")));
                let Ok(patch) = serde_json::from_value::<json_patch::Patch>(tree) else {
                    return Ok((Patch::Misfit, strict));
                };
                if patch.0.len() > MAX_OPERATIONS {
                    let message = format!(
                        "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
                        patch.0.len()
                    );
                    return Err(ApiError::new(413, "RequestEntityTooLarge", message));
                }
                Patch::Json(patch)
            }
            _ if !tree.is_object() && !tree.is_null() => {
                let found = json_text::kind(&tree);
                let prefix = match kind {
                    PatchKind::Merge => "error decoding patch: ",
                    _ => "",
                };
                let why =
                    format!("{prefix}json: cannot unmarshal {found} into Go value of type map[string]interface {{}}");
                Patch::Unreadable(why)
            }
            // nothing is to change
            _ if tree.is_null() => Patch::Merge(Value::Object(serde_json::Map::new())),
            PatchKind::Merge => Patch::Merge(tree),
            PatchKind::Strategic | PatchKind::Apply => Patch::Strategic(tree),
        };
        Ok((patch, strict))
    }

    /// The error of a patch that makes something else of the object than its kind.
    pub fn unfit(&self, resource: &Resource, old: &Value, patched: &Value, why: &str) -> ApiError {
        let shown = match self {
            Patch::Json(_) | Patch::Misfit | Patch::Unreadable(_) => {
                resource.schema.get().go_json(resource.root, patched, &Value::Null)
            }
            Patch::Merge(patch) => resource.schema.get().go_json(resource.root, patched, patch),
            Patch::Strategic(patch) => json_text::go_map(&resource.schema.get().spent_patch(resource.root, old, patch)),
        };
        let error = api::field::FieldError::invalid("patch", Value::String(shown), why);
        ApiError::invalid("", "", "", &[error])
    }

    /// Which decoder makes an object of the patched tree.
    pub fn voice(&self) -> Voice {
        match self {
            Patch::Strategic(_) => Voice::Converter,
            Patch::Json(_) | Patch::Misfit | Patch::Unreadable(_) | Patch::Merge(_) => Voice::Json,
        }
    }

    /// The object after the patch; not yet checked against the schema.
    pub fn apply(&self, resource: &Resource, old: &Value) -> Result<Value> {
        match self {
            Patch::Json(patch) => operate(old.clone(), &patch.0).map_err(|_| ApiError::unfit_patch()),
            Patch::Misfit => Err(ApiError::unfit_patch()),
            Patch::Unreadable(why) => Err(ApiError::bad_request(why.clone())),
            Patch::Merge(patch) => {
                let mut tree = old.clone();
                merge(&mut tree, patch);
                Ok(tree)
            }
            Patch::Strategic(patch) => resource
                .schema
                .get()
                .strategic_merge(resource.root, old, patch)
                .map_err(|e| match e {
                    PatchError::Format(why) => ApiError::bad_request(why),
                    PatchError::Unfit(why) => ApiError::plain(why),
                }),
        }
    }
}

/// Where a key that an operation's value has twice, such as `[0].value.a`, stands in the object.
fn repeated_inside(operations: &[Value], path: &str) -> Option<String> {
    let (place, rest) = path.strip_prefix('[')?.split_once("].value")?;
    let operation = operations.get(place.parse::<usize>().ok()?)?;
    let text = |key: &str| operation.get(key).and_then(Value::as_str);
    if !matches!(text("op")?, "add" | "replace") {
        return None;
    }
    let mut at = String::new();
    for step in text("path")?.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        match step.parse::<usize>() {
            Ok(index) => at.push_str(&format!("[{index}]")),
            Err(_) if at.is_empty() => at.push_str(&step),
            Err(_) => at.push_str(&format!(".{step}")),
        }
    }
    at.push_str(rest);
    Some(at)
}

/// Merges a patch into a tree as upstream's library does: beyond RFC 7386, no object of a list that is put in keeps a null.
fn merge(tree: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        let keeps = tree.is_object();
        *tree = patch.clone();
        if !keeps {
            drop_nulls(tree);
        }
        return;
    };
    let Value::Object(object) = tree else {
        *tree = patch.clone();
        return drop_nulls(tree);
    };
    for (key, value) in members {
        match object.get_mut(key) {
            _ if value.is_null() => drop(object.remove(key)),
            Some(there) if !there.is_null() => merge(there, value),
            _ => {
                let mut value = value.clone();
                drop_nulls(&mut value);
                object.insert(key.clone(), value);
            }
        }
    }
}

/// Takes out the members that are null, at any depth.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => map.retain(|_, inner| {
            drop_nulls(inner);
            !inner.is_null()
        }),
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Makes pointers of the paths of an operation in which a `~` stands for itself: upstream's library reads `~0` and `~1` and takes
/// any other as it is.
fn escape_pointers(operation: &mut Value) {
    for key in ["path", "from"] {
        let Some(Value::String(path)) = operation.get_mut(key) else {
            continue;
        };
        let parts: Vec<&str> = path.split('~').collect();
        let mut escaped = parts[0].to_owned();
        for part in &parts[1..] {
            escaped.push_str(if part.starts_with(['0', '1']) { "~" } else { "~0" });
            escaped.push_str(part);
        }
        *path = escaped;
    }
}

/// Why the operations of a patch do not apply, in upstream's words.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    #[error(
        "Unable to complete the copy, the accumulated size increase of copy is {0}, exceeding the limit {MAX_COPIED}"
    )]
    Copies(usize),
    #[error("the operations move more than {MAX_MOVED} items of lists")]
    Moves,
    #[error("{0}")]
    Operation(String),
}

/// The tree after the operations.
///
/// # Errors
/// For the first operation that does not apply.
pub fn operate(tree: Value, operations: &[PatchOperation]) -> std::result::Result<Value, Unfit> {
    let mut operating = Operating::on(tree);
    for operation in operations {
        operating.apply(operation)?;
    }
    Ok(operating.done())
}

/// A tree that operations change. What they copy, and what they move aside in lists, is bounded: each may be far more than the
/// patch itself.
#[derive(Debug)]
pub struct Operating {
    tree: Value,
    copied: usize,
    moved: usize,
}

impl Operating {
    /// Operations on a tree; nothing was copied or moved yet.
    pub fn on(tree: Value) -> Operating {
        Operating {
            tree,
            copied: 0,
            moved: 0,
        }
    }

    /// What has become of the tree.
    pub fn done(self) -> Value {
        self.tree
    }

    /// Does an operation.
    ///
    /// # Errors
    /// When it does not apply, or there have been too many of its kind.
    pub fn apply(&mut self, operation: &PatchOperation) -> std::result::Result<(), Unfit> {
        let Operating { tree, copied, moved } = self;
        let places = match operation {
            PatchOperation::Copy(copy) => {
                *copied += tree.pointer(copy.from.as_str()).map_or(0, json_text::length);
                [Some(&copy.path), None]
            }
            PatchOperation::Add(add) => [Some(&add.path), None],
            PatchOperation::Remove(remove) => [Some(&remove.path), None],
            PatchOperation::Move(it) => [Some(&it.path), Some(&it.from)],
            PatchOperation::Replace(_) | PatchOperation::Test(_) => [None, None],
        };
        for place in places.into_iter().flatten() {
            let list = place.as_str().rsplit_once('/').filter(|(_, index)| *index != "-");
            let list = list.and_then(|(parent, _)| tree.pointer(parent)?.as_array());
            *moved += list.map_or(0, Vec::len);
        }
        if *copied > MAX_COPIED {
            return Err(Unfit::Copies(*copied));
        }
        if *moved > MAX_MOVED {
            return Err(Unfit::Moves);
        }
        if !lenient(tree, operation) && json_patch::patch_unsafe(tree, std::slice::from_ref(operation)).is_err() {
            return Err(Unfit::Operation(why_unfit(tree, operation)));
        }
        Ok(())
    }
}

/// What upstream's library says of an operation that does not apply.
fn why_unfit(tree: &Value, operation: &PatchOperation) -> String {
    let (verb, from, path) = match operation {
        PatchOperation::Add(it) => ("add", None, it.path.as_str()),
        PatchOperation::Remove(it) => ("remove", None, it.path.as_str()),
        PatchOperation::Replace(it) => ("replace", None, it.path.as_str()),
        PatchOperation::Test(it) => ("test", None, it.path.as_str()),
        PatchOperation::Move(it) => ("move", Some(it.from.as_str()), it.path.as_str()),
        PatchOperation::Copy(it) => ("copy", Some(it.from.as_str()), it.path.as_str()),
    };
    let key = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let container = |path: &str| {
        let (parent, _) = path.rsplit_once('/')?;
        tree.pointer(parent).filter(|at| at.is_object() || at.is_array())
    };
    let absent = |path: &str| match container(path) {
        Some(Value::Object(_)) => format!("Unable to remove nonexistent key: {}: missing value", key(path)),
        _ => index_problem(&key(path)),
    };
    if let Some(from) = from {
        if container(from).is_none() {
            return format!("{verb} operation does not apply: doc is missing from path: {from}: missing value");
        }
        // a copy of what an object does not have is null
        match container(from) {
            _ if tree.pointer(from).is_some() => {}
            _ if verb == "move" => return format!("error in move for path: '{}': {}", key(from), absent(from)),
            Some(Value::Object(_)) => {}
            _ => return format!("error in copy for from: '{from}': {}", absent(from)),
        }
        if container(path).is_none() {
            return format!("{verb} operation does not apply: doc is missing destination path: {path}: missing value");
        }
        return match verb {
            "move" => format!("error in move for path: '{path}': {}", index_problem(&key(path))),
            _ => format!("error while adding value during copy: {}", index_problem(&key(path))),
        };
    }
    match (verb, container(path)) {
        ("test", None) => format!("test operation does not apply: is missing path: {path}: missing value"),
        ("test", _) => format!("testing value {path} failed: test failed"),
        ("add" | "remove", None) => {
            format!("{verb} operation does not apply: doc is missing path: \"{path}\": missing value")
        }
        ("replace", None) => format!("replace operation does not apply: doc is missing path: {path}: missing value"),
        ("replace", _) => format!("replace operation does not apply: doc is missing key: {path}: missing value"),
        ("remove", _) => format!("error in remove for path: '{path}': {}", absent(path)),
        _ => format!("error in {verb} for path: '{path}': {}", index_problem(&key(path))),
    }
}

fn index_problem(key: &str) -> String {
    match key.parse::<i64>() {
        Ok(index) => format!("Unable to access invalid index: {index}: invalid index referenced"),
        Err(_) => {
            let quoted = api::go::quote(key);
            format!("value was not a proper array index: '{key}': strconv.Atoi: parsing {quoted}: invalid syntax")
        }
    }
}

/// What upstream's library takes though the standard does not: an object's member that is not there is replaced as if it
/// were, is equal to null, and is copied as null.
fn lenient(tree: &mut Value, operation: &PatchOperation) -> bool {
    let path = match operation {
        PatchOperation::Replace(replace) => &replace.path,
        PatchOperation::Test(test) if test.value.is_null() => &test.path,
        PatchOperation::Copy(copy) => &copy.from,
        _ => return false,
    };
    let (Some((parent, key)), None) = (path.split_back(), tree.pointer(path.as_str())) else {
        return false;
    };
    let Some(object) = tree.pointer_mut(parent.as_str()).and_then(Value::as_object_mut) else {
        return false;
    };
    match operation {
        PatchOperation::Replace(replace) => {
            object.insert(key.decoded().into_owned(), replace.value.clone());
        }
        PatchOperation::Copy(copy) => {
            let (path, value) = (copy.path.clone(), Value::Null);
            let add = PatchOperation::Add(json_patch::AddOperation { path, value });
            return json_patch::patch_unsafe(tree, &[add]).is_ok();
        }
        _ => {}
    }
    true
}

/// Fields of a JSON patch's operations that operations do not have.
fn unknown_in(operations: &[Value]) -> impl Iterator<Item = String> {
    const FIELDS: [&str; 4] = ["op", "path", "value", "from"];
    let fields = |(i, operation): (usize, &Value)| -> Vec<String> {
        let keys = operation.as_object().into_iter().flat_map(|o| o.keys());
        keys.filter(|k| !FIELDS.contains(&k.as_str()))
            .map(|k| format!("unknown field \"[{i}].{k}\""))
            .collect()
    };
    operations.iter().enumerate().flat_map(fields)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(tree: Value, operations: Value) -> std::result::Result<Value, Unfit> {
        let patch: json_patch::Patch = serde_json::from_value(operations).unwrap();
        operate(tree, &patch.0)
    }

    #[test]
    fn a_tilde_that_escapes_nothing_is_one() {
        let patch = br#"[{"op": "add", "path": "/a/~2~1~", "value": 1}]"#;
        let Patch::Json(patch) = Patch::parse(PatchKind::Json, patch).unwrap().0 else {
            panic!("no patch")
        };
        assert_eq!(
            operate(json!({ "a": {} }), &patch.0).unwrap(),
            json!({ "a": { "~2/~": 1 } })
        );
    }

    #[test]
    fn what_a_patch_copies_is_bounded() {
        let double = |to: usize| json!({ "op": "copy", "from": "/data", "path": format!("/data/{to}") });
        let tree = json!({ "data": { "seed": "x".repeat(64) } });
        assert!(patched(tree.clone(), (0..10).map(double).collect()).is_ok());
        let refused = patched(tree, (0..30).map(double).collect()).unwrap_err();
        assert!(matches!(refused, Unfit::Copies(_)));
        let list = json!({ "l": ["x".repeat(64)] });
        let append = json!({ "op": "copy", "from": "/l", "path": "/l/-" });
        assert!(matches!(patched(list, vec![append; 30].into()), Err(Unfit::Copies(_))));
    }

    #[test]
    fn a_key_that_stands_twice_in_a_value_is_told_where_it_comes_to_stand() {
        let body = br#"[{"op":"add","path":"/spec/l/0","value":{"a":{"b":1,"b":2}}}]"#;
        let (_, strict) = Patch::parse(PatchKind::Json, body).unwrap();
        let wanted = [
            "json patch duplicate field \"[0].value.a.b\"",
            "duplicate field \"spec.l[0].a.b\"",
        ];
        assert_eq!(strict, wanted);
    }

    /// `evanphx/json-patch`.
    #[test]
    fn a_merge_leaves_no_null_in_what_it_puts_in() {
        let merged = |mut tree: Value, patch: Value| {
            merge(&mut tree, &patch);
            tree
        };
        let patch = json!({ "a": null, "l": [{ "x": null, "y": 1 }, null], "n": { "x": null, "y": { "z": null } } });
        let want = json!({ "l": [{ "y": 1 }, null], "n": { "y": {} } });
        assert_eq!(merged(json!({ "a": 1, "l": [5] }), patch.clone()), want);
        assert_eq!(merged(json!({}), patch), want);
        // what was an object takes a list as it is
        let list = json!({ "a": [{ "x": null }] });
        assert_eq!(merged(json!({ "a": {} }), list.clone()), list);
    }

    #[test]
    fn a_member_that_is_not_there_is_replaced_and_is_null() {
        let replace = json!([{ "op": "replace", "path": "/a/b~1c", "value": 1 }]);
        assert_eq!(
            patched(json!({ "a": {} }), replace.clone()).unwrap(),
            json!({ "a": { "b/c": 1 } })
        );
        assert!(patched(json!({}), replace).is_err());
        assert!(
            patched(
                json!({ "a": [] }),
                json!([{ "op": "replace", "path": "/a/0", "value": 1 }])
            )
            .is_err()
        );
        let test = |value: Value| json!([{ "op": "test", "path": "/x", "value": value }]);
        assert!(patched(json!({}), test(Value::Null)).is_ok());
        assert!(patched(json!({}), test(json!(0))).is_err());
    }

    #[test]
    fn a_member_that_is_not_there_is_copied_as_null() {
        let copy = |from: &str, path: &str| json!([{ "op": "copy", "from": from, "path": path }]);
        let tree = json!({ "a": {}, "l": [1] });
        let with = |member: &str| patched(tree.clone(), copy("/a/x", member)).unwrap();
        assert_eq!(with("/a/y"), json!({ "a": { "y": null }, "l": [1] }));
        assert_eq!(with("/l/-"), json!({ "a": {}, "l": [1, null] }));
        let refused = |from: &str, path: &str| patched(tree.clone(), copy(from, path)).unwrap_err().to_string();
        assert!(refused("/x/y", "/a/y").contains("missing from path"));
        assert!(refused("/l/7", "/a/y").contains("error in copy for from"));
        assert!(refused("/a/x", "/x/y").contains("missing destination path"));
    }

    #[test]
    fn what_a_patch_moves_aside_is_bounded() {
        let tree = json!({ "l": vec![0; 100_000] });
        let insert = json!({ "op": "add", "path": "/l/0", "value": 1 });
        assert!(patched(tree.clone(), vec![insert.clone(); 10].into()).is_ok());
        assert!(matches!(
            patched(tree.clone(), vec![insert; 300].into()),
            Err(Unfit::Moves)
        ));
        let append = json!({ "op": "add", "path": "/l/-", "value": 1 });
        assert!(patched(tree, vec![append; 300].into()).is_ok());
    }
}
