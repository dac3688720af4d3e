//! DefaultStorageClass and DefaultIngressClass: what names no class gets the default one, the newest of several.

use std::cmp::Reverse;

use serde_json::{Value, json};

use crate::admission::{Attributes, Operation, Plugin};
use crate::http::status::Result;

const STORAGE: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
const INGRESS: [&str; 1] = ["ingressclass.kubernetes.io/is-default-class"];
/// How an ingress named its class before it had a field.
const INGRESS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// Gives claims the default storage class.
pub struct DefaultStorageClass;

impl Plugin for DefaultStorageClass {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        asked.is("", "persistentvolumeclaims", Operation::Create)
    }

    fn admit(&self, asked: &Attributes<'_>, tree: &mut Value, _: Option<&Value>) -> Result<()> {
        if tree.pointer("/spec/storageClassName").is_none() {
            let classes = classes(asked, "storage.k8s.io", "storageclasses")?;
            if let Some(name) = default(&classes, &STORAGE) {
                tree["spec"]["storageClassName"] = name;
            }
        }
        Ok(())
    }
}

/// Gives ingresses the default ingress class.
pub struct DefaultIngressClass;

impl Plugin for DefaultIngressClass {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        asked.is("networking.k8s.io", "ingresses", Operation::Create)
    }

    fn admit(&self, asked: &Attributes<'_>, tree: &mut Value, _: Option<&Value>) -> Result<()> {
        if !names_class(tree) {
            let classes = classes(asked, "networking.k8s.io", "ingressclasses")?;
            if let Some(name) = default(&classes, &INGRESS) {
                tree["spec"]["ingressClassName"] = name;
            }
        }
        Ok(())
    }
}

fn names_class(ingress: &Value) -> bool {
    let annotations = ingress.pointer("/metadata/annotations");
    ingress.pointer("/spec/ingressClassName").is_some_and(|n| !n.is_null())
        || annotations.is_some_and(|a| a.get(INGRESS_ANNOTATION).is_some())
}

fn classes(attributes: &Attributes<'_>, group: &str, plural: &str) -> Result<Vec<Value>> {
    let classes = attributes.registry.list(group, plural, "");
    classes.iter().map(|class| class.tree()).collect()
}

/// The name of the class that one of the annotations makes the default.
fn default(classes: &[Value], annotations: &[&str]) -> Option<Value> {
    let is_default = |class: &&Value| {
        let its = class.pointer("/metadata/annotations");
        annotations
            .iter()
            .any(|key| its.and_then(|a| a.get(*key)).is_some_and(|v| v == "true"))
    };
    let age = |class: &&Value| {
        let text = |key: &str| class["metadata"][key].as_str().unwrap_or_default().to_owned();
        (text("creationTimestamp"), Reverse(text("name")))
    };
    let newest = classes.iter().filter(is_default).max_by_key(age)?;
    Some(json!(newest["metadata"]["name"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_default_is_taken_and_of_equally_new_ones_the_first_by_name() {
        let class = |name: &str, second: u8, default: &str| {
            json!({ "metadata": {
                "name": name, "creationTimestamp": format!("2026-01-01T00:00:0{second}Z"), "annotations": { INGRESS[0]: default },
            } })
        };
        let mut classes = vec![class("new", 9, "false"), class("old", 1, "true")];
        assert_eq!(default(&classes[..1], &INGRESS), None);
        assert_eq!(default(&classes, &STORAGE), None);
        assert_eq!(default(&classes, &INGRESS), Some(json!("old")));
        classes.extend([class("b", 5, "true"), class("a", 5, "true"), class("c", 5, "true")]);
        assert_eq!(default(&classes, &INGRESS), Some(json!("a")));
    }

    #[test]
    fn an_ingress_names_its_class_in_a_field_or_an_annotation() {
        assert!(!names_class(&json!({ "spec": { "ingressClassName": null } })));
        assert!(names_class(&json!({ "spec": { "ingressClassName": "" } })));
        assert!(names_class(
            &json!({ "metadata": { "annotations": { INGRESS_ANNOTATION: "" } } })
        ));
    }
}
