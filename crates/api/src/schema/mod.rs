//! The schema engine: an arena of types that drives decoding, defaulting, validation, patching and encoding of built-in
//! and custom resources alike.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde_json::Value;

use crate::gvk::GroupVersionKind;

pub mod document;
pub mod envelope;
pub mod go_json;
pub mod json;
pub mod normalize;
pub mod path;
pub mod proto_decode;
pub mod proto_encode;
pub mod rules;
pub mod scalar;
pub mod strategic_merge;
pub mod structural;
mod table;
pub mod weight;
mod zero;

pub use document::Document;
pub use json::{DecodeError, Decoded};

/// The place of a type in its [`Schema`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TypeId(pub(crate) u32);

/// A type without parts the engine looks into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scalar {
    /// A text.
    String,
    /// `true` or `false`.
    Bool,
    /// A whole number of 32 bits.
    Int32,
    /// A whole number of 64 bits.
    Int64,
    /// A number of 64 bits with a fraction.
    Double,
    /// Base64 in JSON.
    Bytes,
    /// RFC 3339 in whole seconds.
    Time,
    /// RFC 3339 with six digits of a second.
    MicroTime,
    /// Go's notation, as `1h30m`.
    Duration,
    /// An amount with a suffix, as `500m` or `1Gi`.
    Quantity,
    /// A number of 32 bits or a text, as of ports.
    IntOrString,
    /// A whole object kept as it is (`runtime.RawExtension`).
    Raw,
    /// A field set of managed fields.
    FieldsV1,
    /// Any JSON (`apiextensions.JSON`).
    Json,
    /// `JSONSchemaPropsOrArray`
    SchemaOrArray,
    /// `JSONSchemaPropsOrBool`
    SchemaOrBool,
    /// `JSONSchemaPropsOrStringArray`
    SchemaOrStrings,
    /// Any value, JSON only.
    Any,
}

/// How server-side apply and strategic merge treat a list.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum ListType {
    /// Replaced as a whole.
    #[default]
    Atomic,
    /// Items are told apart by what they are.
    Set,
    /// Items told apart by these fields.
    Map(Box<[Box<str>]>),
}

/// What a type is made of.
#[derive(Debug, Clone)]
pub enum Shape {
    /// A value without parts.
    Scalar(Scalar),
    /// A list, in JSON and in protobuf.
    List {
        /// The type of each item.
        item: TypeId,
        /// For struct fields the field's own facts count; this is for lists inside lists and maps.
        list: ListType,
    },
    /// Keys are strings.
    Map {
        /// The type of each value.
        value: TypeId,
    },
    /// A list that protobuf wraps in a message with the field `items` (`Verbs`, `ExtraValue`).
    WrappedList {
        /// The type of each item.
        item: TypeId,
    },
    /// Named fields.
    Struct(Struct),
}

/// A type with named fields.
#[derive(Debug, Clone, Default)]
pub struct Struct {
    /// In the order of protobuf tags.
    pub fields: Vec<Field>,
    /// Of `fields`, in the order in which Go declares them.
    declared: Box<[u16]>,
    /// Every JSON name, those of inlined structs included, sorted: where its field is.
    flat: Vec<(Box<str>, TypeId, u16)>,
    /// Of `flat`, those that Go writes also when they are empty.
    always: Box<[u16]>,
    /// Of `flat`, those with a default.
    defaulted: Box<[u16]>,
    /// Replaced as a whole by server-side apply.
    pub atomic: bool,
}

/// How strategic merge patch treats a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PatchStrategy {
    /// Lists are merged by the merge key, maps key by key.
    pub merge: bool,
    /// The value is replaced as a whole.
    pub replace: bool,
    /// Keys that the patch does not name in `$retainKeys` go.
    pub retain_keys: bool,
}

/// One field of a struct.
#[derive(Debug, Clone)]
pub struct Field {
    /// The name in JSON.
    pub name: Box<str>,
    /// Protobuf tag; 0 if the field is not in protobuf.
    pub tag: u32,
    /// The type of the value.
    pub ty: TypeId,
    /// Go's `omitempty`: the empty value is not written.
    pub omit_empty: bool,
    /// Go's `omitzero`: the zero value, also of a struct, is not written.
    pub omit_zero: bool,
    /// A Go pointer: absent and zero differ.
    pub pointer: bool,
    /// An embedded struct: its fields stand among ours in JSON.
    pub inline: bool,
    /// OpenAPI lists the field as required.
    pub required: bool,
    /// How a list here is merged.
    pub list: ListType,
    /// Whether it is said that the list is atomic, which all are of which nothing is said.
    pub says_atomic: bool,
    /// `x-kubernetes-map-type` at the field; `None` leaves it to the type.
    pub atomic: Option<bool>,
    /// How strategic merge patch treats the field.
    pub patch: PatchStrategy,
    /// The field by which strategic merge patch tells items apart.
    pub merge_key: Option<Box<str>>,
    /// The value that the OpenAPI document gives to a field that is not there.
    pub default: Option<Box<Value>>,
    /// The values that the OpenAPI document allows.
    pub values: Option<Box<[Box<str>]>>,
}

/// One type.
#[derive(Debug, Clone)]
pub struct Type {
    /// `core.v1.Pod` for structs, empty for others.
    pub name: Box<str>,
    /// What it is made of.
    pub shape: Shape,
}

/// An arena of types.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    types: Vec<Type>,
    packages: Vec<(Box<str>, Box<str>)>,
    kinds: HashMap<GroupVersionKind, TypeId>,
    /// `JSONSchemaProps`, which the schema-or-something scalars contain.
    json_schema: Option<TypeId>,
    /// Of a custom resource: what its structural schema demands.
    pub(crate) structural: Option<Box<structural::Node>>,
}

impl Schema {
    /// Every built-in type. Parsed on first use.
    pub fn builtin() -> &'static Schema {
        static SCHEMA: OnceLock<Schema> = OnceLock::new();
        SCHEMA.get_or_init(|| table::parse(include_str!("../../data/schema.txt")))
    }

    /// The type of a kind's objects, also of kinds that are no resources (`DeleteOptions`, `Status`, lists).
    pub fn type_for(&self, gvk: &GroupVersionKind) -> Option<TypeId> {
        self.kinds.get(gvk).copied()
    }

    /// Every kind with a type.
    pub fn kinds(&self) -> impl Iterator<Item = (&GroupVersionKind, TypeId)> {
        self.kinds.iter().map(|(k, t)| (k, *t))
    }

    /// The type called `core.v1.Pod`.
    pub fn type_named(&self, name: &str) -> Option<TypeId> {
        self.types
            .iter()
            .position(|t| &*t.name == name)
            .map(|i| TypeId(i as u32))
    }

    /// The type behind an id of this schema.
    pub fn get(&self, id: TypeId) -> &Type {
        &self.types[id.0 as usize]
    }

    /// What the type behind an id is made of.
    pub fn shape(&self, id: TypeId) -> &Shape {
        &self.get(id).shape
    }

    /// The struct behind an id, if it is one.
    pub fn structure(&self, id: TypeId) -> Option<&Struct> {
        match self.shape(id) {
            Shape::Struct(s) => Some(s),
            _ => None,
        }
    }

    /// The field that JSON calls `name`, looked up also in inlined structs.
    pub fn field(&self, id: TypeId, name: &str) -> Option<&Field> {
        let s = self.structure(id)?;
        let at = s.flat.binary_search_by(|(n, _, _)| (**n).cmp(name)).ok()?;
        self.standing_at(&s.flat[at])
    }

    fn standing_at(&self, (_, owner, index): &(Box<str>, TypeId, u16)) -> Option<&Field> {
        self.structure(*owner)?.fields.get(usize::from(*index))
    }

    /// Every field as JSON has them, inlined ones included, sorted by name.
    pub fn json_fields(&self, id: TypeId) -> impl Iterator<Item = &Field> {
        self.structure(id)
            .into_iter()
            .flat_map(|s| s.flat.iter())
            .filter_map(|at| self.standing_at(at))
    }

    /// The fields that Go writes also when they are empty.
    fn always_written(&self, id: TypeId) -> impl Iterator<Item = &Field> {
        self.some_fields(id, |s| &s.always)
    }

    /// The fields with a default.
    pub(crate) fn defaulted_fields(&self, id: TypeId) -> impl Iterator<Item = &Field> {
        self.some_fields(id, |s| &s.defaulted)
    }

    fn some_fields(&self, id: TypeId, which: impl Fn(&Struct) -> &[u16]) -> impl Iterator<Item = &Field> {
        self.structure(id).into_iter().flat_map(move |s| {
            let fields = which(s).iter();
            fields.filter_map(|at| self.standing_at(&s.flat[usize::from(*at)]))
        })
    }

    /// Whether the object at this field is replaced as a whole by server-side apply.
    pub fn is_atomic(&self, field: Option<&Field>, id: TypeId) -> bool {
        if let Some(atomic) = field.and_then(|f| f.atomic) {
            return atomic;
        }
        matches!(self.shape(id), Shape::Struct(s) if s.atomic)
    }

    /// The name OpenAPI gives a struct: `io.k8s.api.core.v1.Pod`.
    pub fn open_name(&self, id: TypeId) -> Option<String> {
        let (package, name) = self.get(id).name.rsplit_once('.')?;
        let (_, open) = self.packages.iter().find(|(short, _)| &**short == package)?;
        Some(format!("{open}.{name}"))
    }

    /// The way Go names a type in messages: `v1.PodSpec`, `[]v1.Container`, `map[string]string`, `int32`.
    pub fn go_name(&self, id: TypeId) -> String {
        let ty = self.get(id);
        match &ty.shape {
            Shape::Struct(_) => match ty.name.split_once('.') {
                Some((_, rest)) => rest.to_owned(),
                None => ty.name.to_string(),
            },
            Shape::List { item, .. } | Shape::WrappedList { item } => format!("[]{}", self.go_name(*item)),
            Shape::Map { value } => format!("map[string]{}", self.go_name(*value)),
            Shape::Scalar(s) => scalar::go_name(*s).to_owned(),
        }
    }
}
