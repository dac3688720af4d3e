//! The strategy of claims: where a volume's first content comes from is said in two fields that must agree. KEP-1495.

use serde_json::Value;

use crate::strategy::{DEFAULT, Strategy, text};

pub static CLAIM: Strategy = Strategy {
    prepare_create: |claim, _| sources(claim, None),
    prepare_update: |new, old, _| sources(new, Some(old)),
    ..DEFAULT
};

fn has(claim: &Value, field: &str) -> bool {
    claim
        .get("spec")
        .and_then(|s| s.get(field))
        .is_some_and(|v| !v.is_null())
}

fn sources(claim: &mut Value, old: Option<&Value>) {
    let same = |field: &str| old.is_some_and(|old| old["spec"].get(field) == claim["spec"].get(field));
    if same("dataSource") && same("dataSourceRef") {
        return;
    }
    let (was_set, was_referred) = match old {
        Some(old) => (has(old, "dataSource"), has(old, "dataSourceRef")),
        None => (false, false),
    };
    let Some(spec) = claim.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    let set = |spec: &serde_json::Map<String, Value>, field: &str| spec.get(field).filter(|v| !v.is_null()).cloned();
    let mut reference = set(spec, "dataSourceRef");
    // sources in other namespaces are off by default upstream, and dropped
    let elsewhere = |reference: &Value| text(reference, &["namespace"]).is_some_and(|n| !n.is_empty());
    if !was_referred && reference.as_ref().is_some_and(elsewhere) {
        reference = None;
    }
    let mut source = set(spec, "dataSource");
    // of old only claims and snapshots counted; anything else was as if it were not there
    if !was_set && !was_referred && reference.is_none() {
        source = source.filter(|source| {
            let group = text(source, &["apiGroup"]).unwrap_or_default();
            let kind = text(source, &["kind"]).unwrap_or_default();
            matches!(
                (group, kind),
                ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
            )
        });
    }
    match (&source, &reference) {
        (Some(one), None) => reference = Some(one.clone()),
        (None, Some(one)) if !elsewhere(one) => source = Some(one.clone()),
        _ => {}
    }
    for (field, value) in [("dataSource", source), ("dataSourceRef", reference)] {
        match value {
            Some(value) => spec.insert(field.into(), value),
            None => spec.remove(field),
        };
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn both(spec: Value) -> (Value, Value) {
        let mut claim = json!({ "spec": spec });
        sources(&mut claim, None);
        (
            claim["spec"]["dataSource"].take(),
            claim["spec"]["dataSourceRef"].take(),
        )
    }

    #[test]
    fn each_of_the_two_sources_is_copied_to_the_other_and_old_ones_of_other_kinds_are_dropped() {
        let claim = json!({ "kind": "PersistentVolumeClaim", "name": "x" });
        assert_eq!(both(json!({ "dataSource": claim })), (claim.clone(), claim.clone()));
        let filler = json!({ "apiGroup": "pop.example.com", "kind": "Filler", "name": "x" });
        assert_eq!(both(json!({ "dataSourceRef": filler })), (filler.clone(), filler));
        let pod = json!({ "kind": "Pod", "name": "x" });
        assert_eq!(both(json!({ "dataSource": pod })), (Value::Null, Value::Null));
        let elsewhere = json!({ "kind": "PersistentVolumeClaim", "name": "x", "namespace": "n" });
        assert_eq!(both(json!({ "dataSourceRef": elsewhere })), (Value::Null, Value::Null));
    }
}
