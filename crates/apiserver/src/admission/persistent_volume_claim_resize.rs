//! PersistentVolumeClaimResize: a claim grows only when it is bound and its storage class lets volumes grow.

use api::quantity::Quantity;
use serde_json::Value;

use crate::admission::{Attributes, Operation, Plugin};
use crate::http::status::Result;
use crate::tree::text;

/// Lets claims grow whose class allows it.
pub struct PersistentVolumeClaimResize;

impl Plugin for PersistentVolumeClaimResize {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        asked.is("", "persistentvolumeclaims", Operation::Update)
    }

    fn validate(&self, asked: &Attributes<'_>, tree: &Value, old: Option<&Value>) -> Result<()> {
        let Some(old) = old.filter(|old| size(tree) > size(old)) else {
            return Ok(());
        };
        let refuse = |why: &str| Err(asked.resource.forbidden(asked.name, why));
        if text(old, &["status", "phase"]) != Some("Bound") {
            return refuse("Only bound persistent volume claims can be expanded");
        }
        let class = Some(class(tree)).filter(|name| !name.is_empty() && *name == class(old));
        let class = class.and_then(|name| asked.registry.get("storage.k8s.io", "storageclasses", "", name));
        let grows = match class {
            Some(class) => class.tree()?["allowVolumeExpansion"] == true,
            None => false,
        };
        if grows {
            return Ok(());
        }
        refuse(
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
        )
    }
}

fn size(claim: &Value) -> Quantity {
    let asked = text(claim, &["spec", "resources", "requests", "storage"]);
    asked.and_then(|q| q.parse().ok()).unwrap_or(Quantity::ZERO)
}

/// The annotation is from before there was a field, and comes first.
fn class(claim: &Value) -> &str {
    let annotation = text(
        claim,
        &["metadata", "annotations", "volume.beta.kubernetes.io/storage-class"],
    );
    annotation
        .or(text(claim, &["spec", "storageClassName"]))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sizes_are_compared_as_quantities_and_the_class_of_the_annotation_comes_first() {
        let claim = |size: &str| json!({ "spec": { "storageClassName": "a", "resources": { "requests": { "storage": size } } } });
        assert!(size(&claim("1Gi")) > size(&claim("1G")));
        assert!(size(&claim("1024Mi")) <= size(&claim("1Gi")));
        assert_eq!(class(&claim("1")), "a");
        let mut old = claim("1");
        old["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"] = json!("b");
        assert_eq!(class(&old), "b");
    }
}
