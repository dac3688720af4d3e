//! Whatever an apply sets and the next one leaves out is gone again, with all that was defaulted because of it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::*;
use crate::resources::{Row, all};
use crate::schema::{Field, ListType, Scalar, Shape};

const MAX_DEPTH: usize = 9;
/// Types are looked into this often: a pod's spec need not be tried in each kind that makes pods.
const MAX_VISITS: usize = 2;
/// Fields that make others beside them be defaulted, which nobody applied and so nobody takes away.
const WITH_NEIGHBOURS: [&str; 6] = [
    "serviceAccount",
    "serviceAccountName",
    "metadata.labels",
    "externalIPs",
    "completions",
    "podFailurePolicy",
];

/// Some value of a type; of a struct the least that tells its items apart.
fn sample(schema: &Schema, ty: TypeId, field: &Field, depth: usize) -> Value {
    if let Some(values) = &field.values
        && let Some(first) = values.first()
    {
        return json!(&**first);
    }
    match schema.shape(ty) {
        Shape::Scalar(scalar) => match scalar {
            Scalar::String => json!("a"),
            Scalar::Bool => json!(true),
            Scalar::Int32 | Scalar::Int64 | Scalar::IntOrString | Scalar::Double => json!(3),
            Scalar::Bytes => json!("YQ=="),
            Scalar::Time => json!("2026-01-01T00:00:00Z"),
            Scalar::MicroTime => json!("2026-01-01T00:00:00.000000Z"),
            Scalar::Duration => json!("1s"),
            Scalar::Quantity => json!("1"),
            Scalar::SchemaOrArray | Scalar::SchemaOrBool | Scalar::SchemaOrStrings => json!({ "type": "object" }),
            Scalar::Raw | Scalar::FieldsV1 | Scalar::Json | Scalar::Any => json!({ "a": "b" }),
        },
        Shape::Map { value } => json!({ "k": sample(schema, *value, &plain(field), depth + 1) }),
        Shape::List { item, .. } | Shape::WrappedList { item } => {
            Value::Array(vec![keyed(schema, *item, field, depth)])
        }
        Shape::Struct(_) => keyed(schema, ty, field, depth),
    }
}

fn plain(field: &Field) -> Field {
    Field {
        values: None,
        list: ListType::Atomic,
        ..field.clone()
    }
}

/// A list's item, or a struct, with its keys and one field beside: of one that is applied empty nothing would be left.
fn keyed(schema: &Schema, ty: TypeId, field: &Field, depth: usize) -> Value {
    if schema.structure(ty).is_none() {
        return sample(schema, ty, &plain(field), depth + 1);
    }
    let mut map = Map::new();
    if let ListType::Map(keys) = &field.list {
        for key in keys {
            if let Some(f) = schema.field(ty, key) {
                map.insert(key.to_string(), sample(schema, f.ty, f, depth + 1));
            }
        }
    }
    let beside = schema.json_fields(ty).find(|f| {
        let scalar = matches!(
            schema.shape(f.ty),
            Shape::Scalar(Scalar::String | Scalar::Int32 | Scalar::Bool)
        );
        scalar && !map.contains_key(&*f.name)
    });
    if let Some(f) = beside {
        map.insert(f.name.to_string(), sample(schema, f.ty, f, depth + 1));
    }
    Value::Object(map)
}

/// Every configuration that sets one more field of a type than `base`, which leads to it.
fn cases(
    schema: &Schema,
    ty: TypeId,
    base: &Value,
    at: &mut Vec<String>,
    seen: &mut BTreeMap<u32, usize>,
    out: &mut Vec<(String, Value, Value)>,
) {
    if at.len() > MAX_DEPTH || seen.get(&ty.0).copied().unwrap_or(0) >= MAX_VISITS {
        return;
    }
    *seen.entry(ty.0).or_default() += 1;
    for field in schema.json_fields(ty) {
        if at.is_empty() && matches!(&*field.name, "apiVersion" | "kind" | "metadata" | "status") {
            continue;
        }
        let pointer = format!("/{}", at.join("/")).trim_end_matches('/').to_owned();
        let spot = base.pointer(&pointer).unwrap_or(&Value::Null);
        // what is applied empty is gone when the last field in it goes, as upstream has it
        let alone = !at.is_empty() && spot.as_object().is_some_and(Map::is_empty);
        if spot.get(&*field.name).is_some() {
            continue;
        }
        let mut with = base.clone();
        let value = sample(schema, field.ty, field, 0);
        with.pointer_mut(&pointer).unwrap()[&*field.name] = value.clone();
        let shown = format!("{}.{}", at.join("."), field.name);
        if !alone {
            out.push((shown, base.clone(), with.clone()));
        }
        let (inner, index) = match schema.shape(field.ty) {
            Shape::Struct(_) => (field.ty, None),
            Shape::List { item, .. } if matches!(field.list, ListType::Map(_)) => (*item, Some("0")),
            _ => continue,
        };
        at.push(field.name.to_string());
        at.extend(index.map(str::to_owned));
        cases(schema, inner, &with, at, seen, out);
        at.pop();
        if index.is_some() {
            at.pop();
        }
    }
}

fn applied(resource: &Row, live: Option<&Value>, config: &Value) -> Value {
    let schema = Schema::builtin();
    let context = ManagerContext {
        manager: "a".into(),
        operation: "Apply".into(),
        subresource: String::new(),
        api_version: resource.api_version(),
        now: "2026-01-01T00:00:00Z".into(),
        force: false,
        reset: Reset::NOTHING,
    };
    let target = Target::new(schema, resource.type_id);
    let mut tree = apply(&target, live, config, &context).unwrap();
    schema.set_defaults(resource.type_id, &mut tree);
    schema.normalize(resource.type_id, &mut tree);
    tree
}

#[test]
fn of_every_built_in_kind_a_field_that_is_applied_no_more_is_gone_with_its_defaults() {
    let schema = Schema::builtin();
    let mut count = 0;
    let mut wrong = Vec::new();
    let mut seen = BTreeMap::new();
    for resource in all().iter().filter(|r| r.has_verb("patch")) {
        let base = json!({ "apiVersion": resource.api_version(), "kind": resource.kind, "metadata": { "name": "n" } });
        let mut found = Vec::new();
        cases(schema, resource.type_id, &base, &mut Vec::new(), &mut seen, &mut found);
        for (shown, without, with) in found {
            count += 1;
            let first = applied(resource, None, &with);
            let second = applied(resource, Some(&first), &without);
            let want = applied(resource, None, &without);
            let neighbours = WITH_NEIGHBOURS.iter().any(|field| shown.ends_with(field));
            if !neighbours && second != want {
                wrong.push(format!("{} {shown}:\n  {second}\n  {want}", resource.kind));
            }
        }
    }
    assert!(count > 1000, "{count}");
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}
