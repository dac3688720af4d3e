//! Parts of objects: a subresource that is a view of the whole object and changes one part of it.

use api::apply::Reset;
use serde_json::Value;

use crate::tree::keep;

/// A subresource that writes a part of the object.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    pub name: &'static str,
    /// The fields that its writes leave as they are, and that nobody comes to manage by it.
    pub reset: Reset,
    /// Undoes in `new` what a write of this part may not change.
    pub confine: fn(&Part, new: &mut Value, old: &Value),
}

/// The status. The writers of most kinds' status may mark the object, claim and free it too.
pub const STATUS: Part = Part {
    name: "status",
    reset: Reset::Except(&[&["spec"]]),
    confine: |part, new, old| part.take(&MARKS, new, old, |result, new| keep(result, new, "status")),
};

/// The status of kinds whose writers of it may not mark the object.
pub const STATUS_ALONE: Part = Part {
    reset: Reset::Except(&[&["metadata"], &["spec"]]),
    ..STATUS
};

/// What a writer of a status may set of metadata.
pub const MARKS: [&str; 5] = ["labels", "annotations", "finalizers", "ownerReferences", "generateName"];

impl Part {
    /// Makes `new` the old object with one part of it changed.
    pub fn take(&self, marks: &[&str], new: &mut Value, old: &Value, take: impl FnOnce(&mut Value, &Value)) {
        let mut result = old.clone();
        take(&mut result, new);
        if let (Some(to), Some(from)) = (
            result.get_mut("metadata").and_then(Value::as_object_mut),
            new.get("metadata"),
        ) {
            let resets = |path: &[&str]| matches!(self.reset, Reset::Except(paths) if paths.contains(&path));
            // the uid and its like are taken to be refused where they are others
            const SYSTEM: [&str; 4] = [
                "managedFields",
                "uid",
                "deletionTimestamp",
                "deletionGracePeriodSeconds",
            ];
            let marks = if resets(&["metadata"]) { &[] } else { marks };
            for key in SYSTEM.iter().chain(marks).filter(|key| !resets(&["metadata", key])) {
                match from.get(*key) {
                    Some(value) => to.insert((*key).into(), value.clone()),
                    None => to.remove(*key),
                };
            }
        }
        *new = result;
    }
}
