//! Changes of JSON trees that know the schema: a change of single bytes seldom leaves an object that a decoder takes.

use api::gvk::GroupVersionKind;
use api::schema::{Scalar, Schema, Shape, TypeId};
use serde_json::{Map, Value, json};

use crate::Random;

/// Levels below which nothing is made up any more.
const DEEPEST: usize = 6;

/// Texts at which rules of names, quantities, times, selectors and paths go wrong.
const TEXTS: &[&str] = &[
    "",
    "a",
    "A",
    "-",
    ".",
    "a.b/c",
    "a/b/c",
    "/",
    "..",
    "../x",
    "%",
    "100%",
    "-1",
    "0",
    "1",
    "65536",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "1e400",
    "0x10",
    "1Ki",
    "1.5Gi",
    "1e3",
    "100m",
    "999999999999999999999E",
    "-0.5n",
    "1n",
    "2026-12-01T00:00:00Z",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999999+14:00",
    "1h",
    "-1m",
    "10.0.0.1",
    "10.0.0.0/8",
    "::1",
    "fd00::/64",
    "::ffff:10.0.0.1",
    "TCP",
    "UDP",
    "None",
    "Always",
    "In",
    "Exists",
    "*",
    "* * * * *",
    "*/0 * * * *",
    "@every 1h",
    "a=b,c!=d",
    "metadata.name=x",
    "$(A)",
    "$$(A)",
    "{.a}",
    "self.x",
    "kubernetes.io/hostname",
    "http://[::1",
    "https://a.b:443/c",
    "\u{0}",
    "\u{feff}",
    "ü",
    "日本",
    "\u{1f600}",
    "a\nb",
    "k8s.io",
    "system:masters",
    "YQ==",
    "YQ",
    "sha256:0",
];
const NUMBERS: &[i64] = &[
    0,
    1,
    -1,
    2,
    3,
    10,
    80,
    443,
    255,
    256,
    1000,
    32767,
    32768,
    65535,
    65536,
    1 << 31,
    (1 << 31) - 1,
    -(1 << 31),
    1 << 32,
    1 << 53,
    i64::MAX,
    i64::MIN,
];

/// The input with one of its trees changed.
pub fn mutated(input: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let mut parts: Vec<Vec<u8>> = input.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    let which = random.below(parts.len());
    let part = parts.get_mut(which)?;
    let mut tree: Value = serde_json::from_slice(part).ok()?;
    let schema = Schema::builtin();
    let root = type_of(&tree);
    for _ in 0..=random.below(3) {
        change(schema, &mut tree, root, random);
    }
    *part = tree.to_string().into_bytes();
    Some(parts.join(&0))
}

/// The built-in type that a tree says it is of.
pub fn type_of(tree: &Value) -> Option<TypeId> {
    let text = |key: &str| tree.get(key).and_then(Value::as_str);
    let gvk = GroupVersionKind::from_api_version(text("apiVersion")?, text("kind")?);
    Schema::builtin().type_for(&gvk)
}

/// A whole object of a kind, with fields by chance.
pub fn generated(gvk: &GroupVersionKind, root: TypeId, random: &mut Random) -> Value {
    let mut tree = made(Schema::builtin(), Some(root), 0, random);
    if let Some(object) = tree.as_object_mut() {
        object.insert("apiVersion".into(), json!(gvk.api_version()));
        object.insert("kind".into(), json!(gvk.kind));
    }
    tree
}

fn change(schema: &Schema, tree: &mut Value, ty: Option<TypeId>, random: &mut Random) {
    let deeper = !random.one_in(4);
    match tree {
        Value::Object(members) if deeper && !members.is_empty() => {
            let at = random.below(members.len());
            if let Some((key, value)) = members.iter_mut().nth(at) {
                let inner = member_type(schema, ty, key);
                change(schema, value, inner, random);
            }
        }
        Value::Array(items) if deeper && !items.is_empty() => {
            let at = random.below(items.len());
            let inner = item_type(schema, ty);
            if let Some(item) = items.get_mut(at) {
                change(schema, item, inner, random);
            }
        }
        Value::Object(members) => change_object(schema, members, ty, random),
        Value::Array(items) => change_list(schema, items, ty, random),
        other if random.one_in(8) => *other = odd(random),
        other => *other = made(schema, ty, DEEPEST / 2, random),
    }
}

fn change_object(schema: &Schema, members: &mut Map<String, Value>, ty: Option<TypeId>, random: &mut Random) {
    let some = members.keys().nth(random.below(members.len())).cloned();
    match (random.below(4), some) {
        (0, Some(key)) => drop(members.remove(&key)),
        (1, Some(key)) => {
            members.insert(key, odd(random));
        }
        _ => {
            let fields: Vec<(String, TypeId)> = ty
                .map(|ty| {
                    schema
                        .json_fields(ty)
                        .map(|field| (field.name.to_string(), field.ty))
                        .collect()
                })
                .unwrap_or_default();
            let (name, inner) = match fields.get(random.below(fields.len())) {
                Some((name, ty)) => (name.clone(), Some(*ty)),
                None => (random.of(TEXTS).to_owned(), member_type(schema, ty, "")),
            };
            members.insert(name, made(schema, inner, DEEPEST / 2, random));
        }
    }
}

fn change_list(schema: &Schema, items: &mut Vec<Value>, ty: Option<TypeId>, random: &mut Random) {
    let at = random.below(items.len());
    match random.below(4) {
        0 if !items.is_empty() => drop(items.remove(at)),
        1 if !items.is_empty() => {
            let twice = items[at].clone();
            items.push(twice);
        }
        2 => items.reverse(),
        _ => items.push(made(schema, item_type(schema, ty), DEEPEST / 2, random)),
    }
}

fn member_type(schema: &Schema, ty: Option<TypeId>, key: &str) -> Option<TypeId> {
    match schema.shape(ty?) {
        Shape::Struct(_) => schema.field(ty?, key).map(|field| field.ty),
        Shape::Map { value } => Some(*value),
        _ => None,
    }
}

fn item_type(schema: &Schema, ty: Option<TypeId>) -> Option<TypeId> {
    match schema.shape(ty?) {
        Shape::List { item, .. } | Shape::WrappedList { item } => Some(*item),
        _ => None,
    }
}

/// A value of a type, or of any.
fn made(schema: &Schema, ty: Option<TypeId>, depth: usize, random: &mut Random) -> Value {
    let Some(ty) = ty else { return odd(random) };
    let few = |random: &mut Random| if depth >= DEEPEST { 0 } else { random.below(3) };
    match schema.shape(ty) {
        Shape::Struct(_) => {
            let mut members = Map::new();
            for field in schema.json_fields(ty) {
                let wanted = field.required || random.one_in(2 + depth);
                if wanted && depth < DEEPEST {
                    let value = match &field.values {
                        Some(values) if !values.is_empty() && !random.one_in(8) => {
                            json!(values[random.below(values.len())])
                        }
                        _ => made(schema, Some(field.ty), depth + 1, random),
                    };
                    members.insert(field.name.to_string(), value);
                }
            }
            Value::Object(members)
        }
        Shape::Map { value } => {
            let entry = |random: &mut Random| {
                (
                    random.of(TEXTS).to_owned(),
                    made(schema, Some(*value), depth + 1, random),
                )
            };
            (0..few(random)).map(|_| entry(random)).collect()
        }
        Shape::List { item, .. } | Shape::WrappedList { item } => (0..few(random))
            .map(|_| made(schema, Some(*item), depth + 1, random))
            .collect(),
        Shape::Scalar(scalar) => scalar_of(*scalar, random),
    }
}

fn scalar_of(scalar: Scalar, random: &mut Random) -> Value {
    let number = NUMBERS[random.below(NUMBERS.len())];
    let small = i32::try_from(number).unwrap_or(i32::MAX);
    match scalar {
        Scalar::String => json!(random.of(TEXTS)),
        Scalar::Bool => json!(random.one_in(2)),
        Scalar::Int32 => json!(small),
        Scalar::Int64 => json!(number),
        Scalar::Double => json!(number as f64 / 8.0),
        Scalar::Bytes => json!(random.of(&["", "YQ==", "AAECAw==", "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg=="])),
        Scalar::Time => json!(random.of(&["2026-12-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])),
        Scalar::MicroTime => json!(random.of(&["2026-12-01T00:00:00.000001Z", "1969-12-31T23:59:59.999999Z"])),
        Scalar::Duration => json!(random.of(&["1h0m0s", "-1ns", "0s", "2562047h47m16.854775807s"])),
        Scalar::Quantity => json!(random.of(&[
            "0",
            "1",
            "100m",
            "1Gi",
            "-5k",
            "1e9",
            "0.001n",
            "9223372036854775807",
            "1Ei"
        ])),
        Scalar::IntOrString => match random.below(2) {
            0 => json!(small),
            _ => json!(random.of(&["50%", "http", "0", ""])),
        },
        Scalar::Raw => json!({ "apiVersion": "v1", "kind": "Pod", "a": [1, null] }),
        Scalar::FieldsV1 => json!({ "f:spec": { "f:replicas": {}, "k:{\"name\":\"a\"}": { ".": {} } } }),
        Scalar::SchemaOrArray | Scalar::SchemaOrBool | Scalar::SchemaOrStrings => json!({ "type": "string" }),
        Scalar::Json | Scalar::Any => odd(random),
    }
}

/// A value that may well be of the wrong type.
fn odd(random: &mut Random) -> Value {
    match random.below(8) {
        0 => Value::Null,
        1 => json!(random.one_in(2)),
        2 => json!(NUMBERS[random.below(NUMBERS.len())]),
        3 => json!([1.5, -0.0, 1e308, 5e-324][random.below(4)]),
        4 => json!([random.of(TEXTS), 1]),
        5 => json!({ random.of(TEXTS): random.of(TEXTS) }),
        _ => json!(random.of(TEXTS)),
    }
}
