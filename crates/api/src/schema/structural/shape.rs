//! The types of a custom resource as the schema engine has them, for server-side apply: made of its structural schema.

use super::node::{Additional, Node};
use crate::schema::{Field, ListType, PatchStrategy, Scalar, Schema, Shape, Struct, Type, TypeId};

/// Adds the types of an object to a schema. `root` says that it is the custom resource itself.
pub fn add(schema: &mut Schema, node: &Node, root: bool) -> TypeId {
    match &*node.kind {
        _ if node.int_or_string => scalar(schema, Scalar::Any),
        "object" => object(schema, node, root),
        "array" => {
            let item = match &node.items {
                Some(items) => add(schema, items, false),
                None => scalar(schema, Scalar::Any),
            };
            let list = node.list.clone();
            push(schema, Shape::List { item, list })
        }
        "integer" | "number" => scalar(schema, Scalar::Double),
        "boolean" => scalar(schema, Scalar::Bool),
        "string" if node.checks.as_ref().is_none_or(|c| matches!(&*c.format, "" | "byte")) => {
            scalar(schema, Scalar::String)
        }
        // a text with a format is any scalar
        "string" => scalar(schema, Scalar::IntOrString),
        _ => scalar(schema, Scalar::Any),
    }
}

fn push(schema: &mut Schema, shape: Shape) -> TypeId {
    let id = u32::try_from(schema.types.len()).unwrap_or(u32::MAX);
    schema.types.push(Type { name: "".into(), shape });
    TypeId(id)
}

fn scalar(schema: &mut Schema, scalar: Scalar) -> TypeId {
    push(schema, Shape::Scalar(scalar))
}

fn object(schema: &mut Schema, node: &Node, root: bool) -> TypeId {
    let embedded = root || node.embedded;
    if node.properties.is_empty() && !embedded && !node.atomic {
        let value = match &node.additional {
            Additional::Schema(inner) => add(schema, inner, false),
            _ => scalar(schema, Scalar::Any),
        };
        return push(schema, Shape::Map { value });
    }
    let mut fields = Vec::new();
    for (name, inner) in &node.properties {
        if embedded && matches!(&**name, "metadata" | "apiVersion" | "kind") {
            continue;
        }
        let ty = add(schema, inner, false);
        fields.push(Field {
            default: inner.default.clone().map(Box::new),
            ..field(name, ty)
        });
    }
    if embedded {
        let text = scalar(schema, Scalar::String);
        let metadata = metadata(schema);
        fields.extend([
            field("apiVersion", text),
            field("kind", text),
            field("metadata", metadata),
        ]);
    }
    let atomic = node.atomic;
    push(
        schema,
        Shape::Struct(Struct {
            fields,
            atomic,
            ..Struct::default()
        }),
    )
}

/// The shape of `ObjectMeta` as server-side apply needs it.
fn metadata(schema: &mut Schema) -> TypeId {
    let any = scalar(schema, Scalar::Any);
    let text = scalar(schema, Scalar::String);
    let strings = push(schema, Shape::Map { value: text });
    let list = ListType::Set;
    let set = push(schema, Shape::List { item: any, list });
    let reference = push(
        schema,
        Shape::Struct(Struct {
            atomic: true,
            ..Struct::default()
        }),
    );
    let list = ListType::Map(Box::new(["uid".into()]));
    let owners = push(schema, Shape::List { item: reference, list });
    let names = [
        "name",
        "generateName",
        "namespace",
        "selfLink",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "managedFields",
    ];
    let mut fields: Vec<Field> = names.into_iter().map(|n| field(n, any)).collect();
    fields.push(field("labels", strings));
    fields.push(field("annotations", strings));
    fields.push(field("finalizers", set));
    fields.push(field("ownerReferences", owners));
    push(
        schema,
        Shape::Struct(Struct {
            fields,
            ..Struct::default()
        }),
    )
}

fn field(name: &str, ty: TypeId) -> Field {
    Field {
        name: name.into(),
        tag: 0,
        ty,
        omit_empty: true,
        omit_zero: false,
        pointer: true,
        inline: false,
        required: false,
        list: ListType::Atomic,
        says_atomic: false,
        atomic: None,
        patch: PatchStrategy::default(),
        merge_key: None,
        default: None,
        values: None,
    }
}
