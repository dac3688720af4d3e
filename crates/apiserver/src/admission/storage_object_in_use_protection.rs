//! StorageObjectInUseProtection: claims, volumes and attribute classes get the finalizer that their protection
//! controller takes off once nobody uses them.

use serde_json::{Value, json};

use crate::admission::{Attributes, Operation, Plugin};
use crate::http::status::Result;

const FINALIZERS: [(&str, &str, &str); 3] = [
    ("", "persistentvolumes", "kubernetes.io/pv-protection"),
    ("", "persistentvolumeclaims", "kubernetes.io/pvc-protection"),
    (
        "storage.k8s.io",
        "volumeattributesclasses",
        "kubernetes.io/vac-protection",
    ),
];

fn finalizer(asked: &Attributes<'_>) -> Option<&'static str> {
    let own = |(group, plural, _): &&(&str, &str, &str)| asked.is(group, plural, Operation::Create);
    FINALIZERS.iter().find(own).map(|(_, _, finalizer)| *finalizer)
}

/// Protects what may be in use.
pub struct StorageObjectInUseProtection;

impl Plugin for StorageObjectInUseProtection {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        finalizer(asked).is_some()
    }

    fn admit(&self, asked: &Attributes<'_>, tree: &mut Value, _: Option<&Value>) -> Result<()> {
        if let Some(finalizer) = finalizer(asked) {
            add(tree, finalizer);
        }
        Ok(())
    }
}

fn add(tree: &mut Value, finalizer: &str) {
    let list = &mut tree["metadata"]["finalizers"];
    match list.as_array_mut() {
        Some(all) if all.iter().any(|f| f == finalizer) => {}
        Some(all) => all.push(json!(finalizer)),
        None => *list = json!([finalizer]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_finalizer_comes_once_and_after_those_that_are_there() {
        let mut tree = json!({"metadata": {"name": "a"}});
        add(&mut tree, "f");
        assert_eq!(tree["metadata"]["finalizers"], json!(["f"]));
        add(&mut tree, "f");
        add(&mut tree, "g");
        assert_eq!(tree["metadata"]["finalizers"], json!(["f", "g"]));
    }
}
