//! The annotation in which client-side apply keeps what it applied, for the change to server-side apply: kubectl may take
//! over what it says, and an apply of kubectl's writes it anew.

use serde_json::{Map, Value};

use crate::apply::compare::Comparison;
use crate::apply::field_set::FieldSet;
use crate::apply::place::Place;
use crate::apply::walk;

/// Where client-side apply keeps what it applied.
const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The manager that these rules are for; any other name opts out.
pub const MANAGER: &str = "kubectl";
/// What all annotations of an object may take, in bytes.
const MAX_ANNOTATIONS: usize = 256 << 10;

fn annotation(tree: &Value) -> Option<&str> {
    let annotations = tree.get("metadata")?.get("annotations")?;
    annotations.get(ANNOTATION)?.as_str().filter(|text| !text.is_empty())
}

/// The fields that client-side apply set and that are still as it set them: these are kubectl's own.
pub fn own_fields(place: Place<'_>, live: &Value, api_version: &str) -> Option<FieldSet> {
    let applied: Value = serde_json::from_str(annotation(live)?).ok()?;
    if applied.get("apiVersion").and_then(Value::as_str) != Some(api_version) {
        return None;
    }
    if !walk::problems(place, live).is_empty() || !walk::problems(place, &applied).is_empty() {
        return None;
    }
    let mut set = walk::fields(place, &applied);
    let differs = Comparison::of(place, Some(&applied), Some(live));
    for other in [&differs.modified, &differs.added, &differs.removed] {
        set.subtract(other);
    }
    Some(set)
}

/// Writes what was applied into the annotation, if the object has one.
pub fn refresh(tree: &mut Value, config: &Value) {
    if annotation(tree).is_none() {
        return;
    }
    let mut config = config.clone();
    let annotations = config
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut);
    if let Some(annotations) = annotations {
        annotations.remove(ANNOTATION);
        let empty = annotations.is_empty();
        if let (true, Some(metadata)) = (empty, config.get_mut("metadata").and_then(Value::as_object_mut)) {
            metadata.remove("annotations");
        }
    }
    let annotations = tree.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    let Some(annotations) = annotations else { return };
    annotations.insert(ANNOTATION.into(), Value::String(format!("{config}\n")));
    if size(annotations) > MAX_ANNOTATIONS {
        annotations.remove(ANNOTATION);
    }
}

fn size(annotations: &Map<String, Value>) -> usize {
    let each = annotations.iter();
    each.map(|(key, value)| key.len() + value.as_str().map_or(0, str::len))
        .sum()
}
