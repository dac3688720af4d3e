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
        reset: Reset::NOTHING,
    }
}

fn deployment() -> TypeId {
    Schema::builtin()
        .type_for(&GroupVersionKind::new("apps", "v1", "Deployment"))
        .unwrap()
}

fn target() -> Target<'static> {
    Target::new(Schema::builtin(), deployment())
}

fn object(spec: Value) -> Value {
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" }, "spec": spec })
}

fn apply_as(manager: &str, live: Option<&Value>, spec: Value) -> Result<Value, ApplyError> {
    apply(&target(), live, &object(spec), &context(manager, "Apply"))
}

fn managers(tree: &Value) -> Vec<(String, Vec<String>)> {
    let show = |path: Vec<Step>| field_set::show(&path);
    let entries = Managed::of(tree).unwrap().0.into_iter();
    entries
        .map(|e| (e.manager, e.fields.paths().into_iter().map(show).collect()))
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
    track_update(&target(), None, &mut live, &context("kubectl", "Update"));
    let refused = apply_as("a", Some(&live), json!({ "replicas": 1 })).unwrap_err();
    let text = "Apply failed with 1 conflict: conflict with \"kubectl\" using apps/v1: .spec.replicas";
    assert_eq!(refused.to_string(), text);
    let same = apply_as("a", Some(&live), json!({ "replicas": 3 })).unwrap();
    assert_eq!(managers(&same).len(), 2);
    let forced = ManagerContext {
        force: true,
        ..context("a", "Apply")
    };
    let tree = apply(&target(), Some(&live), &object(json!({ "replicas": 1 })), &forced).unwrap();
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
    let left = ["replicas", "minReadySeconds", "paused"].map(|field| third["spec"].get(field).cloned());
    assert_eq!(left, [Some(json!(1)), Some(json!(5)), None]);
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
    track_update(&target(), Some(&applied), &mut updated, &context("kubectl", "Update"));
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
    assert_eq!(FieldSet::decode(fields).unwrap().encode(), *fields);
}

fn updated(before: Option<&Value>, spec: Value, edit: impl FnOnce(&mut Value), context: &ManagerContext) -> Value {
    let mut tree = before.cloned().unwrap_or_else(|| object(json!({})));
    tree["spec"] = spec;
    edit(&mut tree);
    track_update(&target(), before, &mut tree, context);
    tree
}

#[test]
fn kubectl_takes_over_what_its_client_side_apply_set_and_writes_the_annotation_anew() {
    let old = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" }, "spec": { "replicas": 1 } });
    let live = updated(
        None,
        json!({ "replicas": 1, "paused": true }),
        |tree| tree["metadata"]["annotations"] = json!({ (last_applied_key()): old.to_string() }),
        &context("kubectl-client-side-apply", "Update"),
    );
    let config = object(json!({ "replicas": 2 }));
    let tree = apply(&target(), Some(&live), &config, &context("kubectl", "Apply")).unwrap();
    assert_eq!(tree["spec"]["replicas"], 2);
    let annotation = tree["metadata"]["annotations"][last_applied_key()].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(annotation).unwrap(), config);
    assert!(annotation.ends_with('\n'));
    // any other manager gets the conflict, and kubectl one on what its annotation does not say
    let other = apply(&target(), Some(&live), &config, &context("me", "Apply")).unwrap_err();
    assert!(other.to_string().contains(".spec.replicas"), "{other}");
    let paused = object(json!({ "paused": false }));
    let refused = apply(&target(), Some(&live), &paused, &context("kubectl", "Apply")).unwrap_err();
    assert!(
        refused.to_string().ends_with("using apps/v1: .spec.paused"),
        "{refused}"
    );
}

fn last_applied_key() -> &'static str {
    "kubectl.kubernetes.io/last-applied-configuration"
}

#[test]
fn what_a_client_writes_into_managed_fields_counts() {
    let live = updated(None, json!({ "replicas": 1 }), |_| {}, &context("a", "Update"));
    let renamed = updated(
        Some(&live),
        live["spec"].clone(),
        |tree| tree["metadata"]["managedFields"][0]["manager"] = json!("b"),
        &context("c", "Update"),
    );
    assert_eq!(managers(&renamed), [("b".into(), vec![".spec.replicas".to_owned()])]);
    // a list that cannot be read counts as none was sent
    let broken = updated(
        Some(&live),
        live["spec"].clone(),
        |tree| tree["metadata"]["managedFields"][0]["operation"] = json!("Sing"),
        &context("c", "Update"),
    );
    assert_eq!(managers(&broken), managers(&live));
    // cleared: nobody is tracked until somebody applies, and then all that was there is an update's
    let cleared = updated(
        Some(&live),
        live["spec"].clone(),
        |tree| tree["metadata"]["managedFields"] = json!([]),
        &context("c", "Update"),
    );
    assert_eq!(cleared["metadata"].get("managedFields"), None);
    let more = updated(
        Some(&cleared),
        json!({ "replicas": 4 }),
        |_| {},
        &context("c", "Update"),
    );
    assert_eq!(more["metadata"].get("managedFields"), None);
    let applied = apply_as("d", Some(&more), json!({ "paused": true })).unwrap();
    let names: Vec<String> = managers(&applied).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["d", "before-first-apply"]);
}

#[test]
fn a_subresource_can_say_nothing_of_managed_fields_and_status_is_nobodys_by_the_object() {
    let status = ManagerContext {
        subresource: "status".into(),
        reset: Reset::Except(&[&["spec"]]),
        ..context("controller", "Update")
    };
    let main = ManagerContext {
        reset: Reset::Except(&[&["status"]]),
        ..context("a", "Update")
    };
    let live = updated(
        None,
        json!({ "replicas": 1 }),
        |tree| tree["status"] = json!({ "replicas": 9 }),
        &main,
    );
    assert_eq!(managers(&live), [("a".into(), vec![".spec.replicas".to_owned()])]);
    let written = updated(
        Some(&live),
        json!({ "replicas": 7 }),
        |tree| {
            tree["status"] = json!({ "replicas": 8 });
            tree["metadata"]["managedFields"] = json!([]);
        },
        &status,
    );
    let all = managers(&written);
    assert!(
        all.contains(&("a".into(), vec![".spec.replicas".to_owned()])),
        "{all:?}"
    );
    assert!(
        all.contains(&("controller".into(), vec![".status.replicas".to_owned()])),
        "{all:?}"
    );
}

#[test]
fn the_oldest_updates_are_put_together_when_there_are_more_than_ten() {
    let mut live = updated(None, json!({ "replicas": 0 }), |_| {}, &context("m0", "Update"));
    for i in 1..14 {
        let one = ManagerContext {
            now: format!("2026-01-01T00:00:{i:02}Z"),
            ..context(&format!("m{i}"), "Update")
        };
        let spec = live["spec"].clone();
        live = updated(
            Some(&live),
            spec,
            |tree| tree["metadata"]["annotations"][format!("a{i}")] = json!("x"),
            &one,
        );
    }
    let names: Vec<String> = managers(&live).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 10, "{names:?}");
    assert_eq!(names[0], "ancient-changes");
}

#[test]
fn items_that_stand_twice_are_kept_and_can_not_be_applied() {
    let containers = |env: Value| json!({ "template": { "spec": { "containers": [{ "name": "c", "env": env }] } } });
    let twice = json!([{ "name": "A", "value": "1" }, { "name": "B", "value": "2" }, { "name": "A", "value": "3" }]);
    let live = updated(None, containers(twice.clone()), |_| {}, &context("u", "Update"));
    let mut labels = object(json!({}));
    labels["metadata"]["labels"] = json!({ "l": "m" });
    labels.as_object_mut().unwrap().remove("spec");
    let tree = apply(&target(), Some(&live), &labels, &context("a", "Apply")).unwrap();
    let env = tree.pointer("/spec/template/spec/containers/0/env").unwrap();
    assert_eq!(*env, twice);
    let refused = apply_as("a", Some(&live), containers(twice)).unwrap_err().to_string();
    let want = ".spec.template.spec.containers[name=\"c\"].env: duplicate entries for key [name=\"A\"]";
    assert_eq!(refused, want);
}

#[test]
fn problems_are_bounded_however_long_the_path_that_each_bears() {
    let mut container = json!({ "name": "n".repeat(100_000) });
    for i in 0..5_000 {
        container[format!("x{i}")] = json!(1);
    }
    let schema = Schema::builtin();
    let pod = schema
        .type_for(&crate::gvk::GroupVersionKind::new("", "v1", "Pod"))
        .unwrap();
    let told = unfit(schema, pod, &json!({ "spec": { "containers": [container] } }), &[]).unwrap();
    assert!(
        told.contains("field not declared in schema"),
        "{}",
        &told[told.len() - 200..]
    );
    assert!(told.len() < 2 << 20, "{}", told.len());
}
