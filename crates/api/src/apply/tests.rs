//! What KEP-555 and upstream's tests of structured-merge-diff promise, on Deployments.

use super::*;
use crate::gvk::GroupVersionKind;

fn context(manager: &str, operation: &str) -> ManagerContext {
    ManagerContext {
        manager: manager.into(),
        operation: operation.into(),
        subresource: String::new(),
        api_version: "apps/v1".into(),
        now: "2026-01-01T00:00:00Z".into(),
        force: false,
    }
}

fn deployment() -> TypeId {
    Schema::builtin()
        .type_for(&GroupVersionKind::new("apps", "v1", "Deployment"))
        .unwrap()
}

fn object(spec: Value) -> Value {
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" }, "spec": spec })
}

fn apply_as(manager: &str, live: Option<&Value>, spec: Value) -> Result<Value, ApplyError> {
    apply(
        Schema::builtin(),
        deployment(),
        live,
        &object(spec),
        &context(manager, "Apply"),
    )
}

fn managers(tree: &Value) -> Vec<(String, Vec<String>)> {
    entries(tree)
        .into_iter()
        .map(|e| (e.manager, e.fields.paths()))
        .collect()
}

#[test]
fn an_apply_owns_what_it_sets() {
    let tree = apply_as(
        "a",
        None,
        json!({ "replicas": 1, "selector": { "matchLabels": { "x": "y" } } }),
    )
    .unwrap();
    assert_eq!(tree["spec"]["replicas"], 1);
    // a label selector is atomic
    assert_eq!(
        managers(&tree),
        [(
            "a".into(),
            vec![".spec.replicas".to_owned(), ".spec.selector".to_owned()]
        )]
    );
}

#[test]
fn a_different_value_of_another_manager_is_a_conflict_unless_forced() {
    let mut live = object(json!({ "replicas": 3 }));
    track_update(
        Schema::builtin(),
        deployment(),
        None,
        &mut live,
        &context("kubectl", "Update"),
    );
    let refused = apply_as("a", Some(&live), json!({ "replicas": 1 })).unwrap_err();
    let text =
        "Apply failed with 1 conflict: conflict with \"kubectl\" using apps/v1 at 2026-01-01T00:00:00Z: .spec.replicas";
    assert_eq!(refused.to_string(), text);
    let same = apply_as("a", Some(&live), json!({ "replicas": 3 })).unwrap();
    assert_eq!(managers(&same).len(), 2);
    let forced = ManagerContext {
        force: true,
        ..context("a", "Apply")
    };
    let tree = apply(
        Schema::builtin(),
        deployment(),
        Some(&live),
        &object(json!({ "replicas": 1 })),
        &forced,
    )
    .unwrap();
    assert_eq!(tree["spec"]["replicas"], 1);
    assert_eq!(managers(&tree), [("a".into(), vec![".spec.replicas".to_owned()])]);
}

#[test]
fn what_is_applied_no_more_is_removed_unless_another_manager_has_it() {
    let first = apply_as(
        "a",
        None,
        json!({ "replicas": 1, "paused": true, "minReadySeconds": 5 }),
    )
    .unwrap();
    let second = apply_as("b", Some(&first), json!({ "minReadySeconds": 5 })).unwrap();
    let third = apply_as("a", Some(&second), json!({ "replicas": 1 })).unwrap();
    assert_eq!(third["spec"], json!({ "replicas": 1, "minReadySeconds": 5 }));
}

#[test]
fn list_maps_merge_by_key_and_drop_items_applied_no_more() {
    let containers = |list: Value| json!({ "template": { "spec": { "containers": list } } });
    let first = apply_as(
        "a",
        None,
        containers(json!([{ "name": "x", "image": "1" }, { "name": "y", "image": "1" }])),
    )
    .unwrap();
    let second = apply_as("b", Some(&first), containers(json!([{ "name": "z", "image": "9" }]))).unwrap();
    let third = apply_as("a", Some(&second), containers(json!([{ "name": "x", "image": "2" }]))).unwrap();
    let list = third.pointer("/spec/template/spec/containers").unwrap();
    let names: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (c["name"].as_str().unwrap(), c["image"].as_str().unwrap()))
        .collect();
    assert_eq!(names, [("x", "2"), ("z", "9")]);
}

#[test]
fn an_update_takes_over_only_what_it_changes() {
    let applied = apply_as("a", None, json!({ "replicas": 1, "paused": true })).unwrap();
    let mut updated = applied.clone();
    updated["spec"]["replicas"] = json!(5);
    track_update(
        Schema::builtin(),
        deployment(),
        Some(&applied),
        &mut updated,
        &context("kubectl", "Update"),
    );
    assert_eq!(
        managers(&updated),
        [
            ("a".into(), vec![".spec.paused".to_owned()]),
            ("kubectl".into(), vec![".spec.replicas".to_owned()])
        ]
    );
}

#[test]
fn field_sets_survive_their_encoding() {
    let tree = apply_as(
        "a",
        None,
        json!({ "template": { "spec": { "containers": [{ "name": "x", "ports": [{ "containerPort": 1 }] }] } } }),
    )
    .unwrap();
    let fields = &tree["metadata"]["managedFields"][0]["fieldsV1"];
    let container = &fields["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"x\"}"];
    assert_eq!(container["."], json!({}));
    assert!(
        container["f:ports"]
            .get("k:{\"containerPort\":1,\"protocol\":\"TCP\"}")
            .is_some(),
        "{fields}"
    );
    assert_eq!(FieldSet::decode(fields).encode(), *fields);
}
