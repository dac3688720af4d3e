//! StorageObjectInUseProtection: claims, volumes and attribute classes get the finalizer that their protection
//! controller takes off once nobody uses them.

use serde_json::{Value, json};

use crate::admission::{Attributes, Operation};

fn finalizer(plural: &str) -> Option<(&'static str, &'static str)> {
    match plural {
        "persistentvolumes" => Some(("", "kubernetes.io/pv-protection")),
        "persistentvolumeclaims" => Some(("", "kubernetes.io/pvc-protection")),
        "volumeattributesclasses" => Some(("storage.k8s.io", "kubernetes.io/vac-protection")),
        _ => None,
    }
}

pub fn mutate(attributes: &Attributes<'_>, tree: &mut Value) {
    let Some((group, finalizer)) = finalizer(&attributes.resource.plural) else {
        return;
    };
    if !attributes.is(group, &attributes.resource.plural, Operation::Create) {
        return;
    }
    add(tree, finalizer);
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
