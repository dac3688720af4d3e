//! DefaultStorageClass: a claim that names no class gets the default one, the newest of several.

use serde_json::{Value, json};

use crate::admission::{Attributes, Operation};

const DEFAULT: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

pub fn mutate(attributes: &Attributes<'_>, tree: &mut Value) {
    if !attributes.is("", "persistentvolumeclaims", Operation::Create)
        || tree.pointer("/spec/storageClassName").is_some()
    {
        return;
    }
    let classes = attributes.registry.list("storage.k8s.io", "storageclasses", "");
    let newest = classes
        .iter()
        .filter_map(|c| c.tree().ok())
        .filter(|c| {
            let annotations = c.pointer("/metadata/annotations");
            DEFAULT
                .iter()
                .any(|key| annotations.and_then(|a| a.get(*key)).is_some_and(|v| v == "true"))
        })
        .max_by(|a, b| {
            let key = |c: &Value| {
                let at = c["metadata"]["creationTimestamp"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                let name = c["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                (at, std::cmp::Reverse(name))
            };
            key(a).cmp(&key(b))
        });
    if let Some(class) = newest {
        tree["spec"]["storageClassName"] = json!(class["metadata"]["name"]);
    }
}
