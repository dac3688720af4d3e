//! Objects of built-in kinds on their way through the rules: preparation, defaults, validation, warnings, columns, as new objects and as
//! changes of one another.

use api::gvk::GroupVersionKind;
use api::schema::Schema;
use api::schema::rules::Rules;
use apiserver::fuzzing::builtin_resource;
use apiserver::http::negotiate::FormVersion;
use apiserver::http::user::User;
use apiserver::kinds;
use apiserver::kinds::check::Check;
use apiserver::kinds::disabled;
use apiserver::kinds::kind::Writer;
use apiserver::registry::metadata;
use apiserver::registry::resource::Resource;
use apiserver::table;
use serde_json::{Value, json};

use crate::{Form, Target};

pub const TARGET: Target = Target::new("kinds", Form::Trees, check);

const NOW: &str = "2026-12-01T00:00:00Z";
const SECONDS: i64 = 1_796_083_200;

fn check(input: &[u8]) {
    let mut parts = input.split(|byte| *byte == 0);
    let Some((resource, new)) = parts.next().and_then(|part| decoded(part, None)) else {
        return;
    };
    let created = create(resource, new);
    let Some((_, changed)) = parts.next().and_then(|part| decoded(part, Some(resource))) else {
        return;
    };
    let old = created.clone();
    for path in [""]
        .into_iter()
        .chain(resource.rules.parts.iter().map(|part| part.name))
    {
        update(resource, path, changed.clone(), &old);
    }
}

/// The object as the pipeline gets it.
fn decoded(part: &[u8], wanted: Option<&'static Resource>) -> Option<(&'static Resource, Value)> {
    let tree: Value = serde_json::from_slice(part).ok()?;
    let text = |key: &str| tree.get(key).and_then(Value::as_str).unwrap_or_default();
    let gvk = GroupVersionKind::from_api_version(text("apiVersion"), text("kind"));
    let resource = builtin_resource(&gvk)?;
    if wanted.is_some_and(|wanted| wanted.kind != resource.kind) {
        return None;
    }
    let schema = Schema::builtin();
    let mut tree = schema.decode_json(resource.root, part).ok()?.value;
    schema.set_defaults(resource.root, &mut tree);
    (resource.rules.read)(&mut tree);
    schema.normalize(resource.root, &mut tree);
    let object = metadata::of(&mut tree).ok()?;
    object.entry("name").or_insert(json!("a"));
    object.insert("uid".into(), json!("11111111-2222-3333-4444-555555555555"));
    object.insert("creationTimestamp".into(), json!(NOW));
    if resource.namespaced {
        object.insert("namespace".into(), json!("default"));
    }
    Some((resource, tree))
}

fn create(resource: &Resource, mut tree: Value) -> Value {
    let rules = resource.rules;
    let mut told = Vec::new();
    (rules.warn_before_creation)(&mut told, &tree);
    disabled::drop_disabled(rules, &resource.switched_off, &mut tree, None);
    let user = User::new("alice", &["system:authenticated"]);
    (rules.prepare_create)(&mut tree, &Writer { now: NOW, user: &user });
    settle(resource, "", &mut tree, None);
    tree
}

fn update(resource: &Resource, subresource: &str, mut tree: Value, old: &Value) {
    let rules = resource.rules;
    if metadata::keep_place(&mut tree, old)
        .and_then(|()| metadata::keep_times(&mut tree, old))
        .is_err()
    {
        return;
    }
    rules.confine(subresource, &mut tree, old);
    disabled::drop_disabled(rules, &resource.switched_off, &mut tree, Some(old));
    (rules.prepare_update)(&mut tree, old, NOW);
    if metadata::is_counted(rules, subresource, &tree, old) {
        let _ = metadata::bump_generation(&mut tree, old);
    }
    settle(resource, subresource, &mut tree, Some(old));
}

fn settle(resource: &Resource, subresource: &str, tree: &mut Value, old: Option<&Value>) {
    let (schema, rules) = (Schema::builtin(), resource.rules);
    schema.set_defaults(resource.root, tree);
    schema.normalize(resource.root, tree);
    let mut errors = kinds::metadata::validate(rules, tree, old, subresource);
    let check = Check {
        new: tree,
        old,
        subresource,
        custom: None,
        now: SECONDS,
    };
    (rules.admin_access)(&check);
    (rules.signs)(&check);
    errors.extend((rules.validate)(&check));
    if let Ok(declared) = Rules::builtin() {
        errors.extend(declared.check(schema, resource.root, tree, old));
    }
    for error in errors.iter() {
        let _ = (
            error.to_string(),
            error.cause(),
            schema.zero_at(resource.root, &error.field),
        );
    }
    let mut told = Vec::new();
    (rules.warn)(&mut told, tree, old);
    shown(resource, tree);
    let stored = resource.to_stored(tree.clone());
    resource.selectable_values(&stored);
    resource.to_served(stored);
    if let Some(hold) = &rules.hold
        && (hold.holds)(tree)
    {
        (hold.mark)(&mut tree.clone(), NOW);
    }
    (rules.grace)(tree, Some(30));
    // what is right is stored, and has to be read again
    if errors.is_empty() && resource.is_stored_version() {
        let again = schema.decode_json(resource.root, tree.to_string().as_bytes());
        let again =
            again.unwrap_or_else(|error| panic!("an object that passed validation is not read again: {error}: {tree}"));
        assert_eq!(*tree, again.value);
    }
}

fn shown(resource: &Resource, tree: &Value) {
    let text = tree.to_string();
    let table = table::of(resource, &[text.into()], FormVersion::V1);
    let table = table.unwrap_or_else(|error| panic!("{error:?}: {tree}"));
    let cells = table["rows"][0]["cells"].as_array().map_or(0, Vec::len);
    assert_eq!(Some(cells), table["columnDefinitions"].as_array().map(Vec::len));
}
