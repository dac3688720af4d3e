//! Defaults of `storage.k8s.io`.

use serde_json::{Map, Value, json};

use super::{made, set};
use crate::features;

pub(crate) fn default(kind: &str, top: &mut Map<String, Value>) {
    match kind {
        "StorageClass" => {
            set(top, "reclaimPolicy", "Delete");
            set(top, "volumeBindingMode", "Immediate");
        }
        "CSIDriver" => csi_driver(top),
        _ => {}
    }
}

fn csi_driver(top: &mut Map<String, Value>) {
    let Some(spec) = made(top, "spec") else { return };
    set(spec, "attachRequired", true);
    for field in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
        set(spec, field, false);
    }
    if features::enabled("VolumeLimitScaling") {
        set(spec, "preventPodSchedulingIfMissing", false);
    }
    set(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    if spec
        .get("volumeLifecycleModes")
        .and_then(Value::as_array)
        .is_none_or(Vec::is_empty)
    {
        spec.insert("volumeLifecycleModes".to_owned(), json!(["Persistent"]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_csi_driver_that_says_nothing_attaches_and_keeps_its_volumes() {
        let mut top = Map::new();
        default("CSIDriver", &mut top);
        let want = json!({"spec": {
            "attachRequired": true, "podInfoOnMount": false, "storageCapacity": false, "requiresRepublish": false,
            "seLinuxMount": false, "preventPodSchedulingIfMissing": false, "fsGroupPolicy": "ReadWriteOnceWithFSType", "volumeLifecycleModes": ["Persistent"]
        }});
        assert_eq!(Value::Object(top), want);
        let said = json!({"spec": {"attachRequired": false, "volumeLifecycleModes": ["Ephemeral"]}});
        let mut top = said.as_object().unwrap().clone();
        default("CSIDriver", &mut top);
        assert_eq!(
            (&top["spec"]["attachRequired"], &top["spec"]["volumeLifecycleModes"]),
            (&json!(false), &json!(["Ephemeral"]))
        );
    }
}
