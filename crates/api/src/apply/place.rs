//! How server-side apply takes a value apart: what the schema says of it, its children, and the steps that lead to them.

use serde_json::{Map, Value};

use crate::apply::field_set::{FieldSet, Step};
use crate::schema::{Field, ListType, Scalar, Schema, Shape, TypeId};

/// What the schema says of a value: its type and the field it stands in.
#[derive(Clone, Copy)]
pub struct Place<'s> {
    /// The schema that the types are of.
    pub schema: &'s Schema,
    /// `None` where the schema says nothing: objects are taken apart and lists are not.
    ty: Option<TypeId>,
    field: Option<&'s Field>,
}

/// How the value at a place is taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts<'s> {
    /// It has none.
    Scalar,
    /// An object, field by field; atomic ones as a whole.
    Map { atomic: bool },
    /// A list that is replaced as a whole.
    Atomic,
    /// A list whose items are told apart by what they are.
    Set,
    /// A list whose items are told apart by these fields.
    ListMap(&'s [Box<str>]),
}

/// What a scalar has to be. What reads itself, such as a time, may be any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Numeric,
    String,
    Boolean,
    Untyped,
}

impl<'s> Place<'s> {
    /// What the scalar here has to be, where the schema says it.
    pub fn wanted(self) -> Option<Wanted> {
        match self.schema.shape(self.ty?) {
            Shape::Scalar(Scalar::String | Scalar::Bytes) => Some(Wanted::String),
            Shape::Scalar(Scalar::Bool) => Some(Wanted::Boolean),
            Shape::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Double) => Some(Wanted::Numeric),
            Shape::Scalar(
                Scalar::Time | Scalar::MicroTime | Scalar::Duration | Scalar::Quantity | Scalar::IntOrString,
            ) => Some(Wanted::Untyped),
            _ => None,
        }
    }

    /// Whether the schema names the members of what is here.
    pub fn is_struct(self) -> bool {
        self.ty
            .is_some_and(|ty| self.schema.structural.is_none() && self.schema.structure(ty).is_some())
    }

    /// The place of a whole object of the type `root`.
    pub fn root(schema: &'s Schema, root: TypeId) -> Place<'s> {
        Place {
            schema,
            ty: Some(root),
            field: None,
        }
    }

    fn of_type(self, ty: Option<TypeId>) -> Place<'s> {
        Place {
            schema: self.schema,
            ty,
            field: None,
        }
    }

    /// How a value here is taken apart. Where the schema leaves it open null counts as an object.
    pub fn parts(self, value: Option<&Value>) -> Parts<'s> {
        let by_value = |atomic| match value {
            None | Some(Value::Null | Value::Object(_)) => Parts::Map { atomic },
            Some(Value::Array(_)) => Parts::Atomic,
            Some(_) => Parts::Scalar,
        };
        let Some(ty) = self.ty else { return by_value(false) };
        let list = |own: &'s ListType| match self.field {
            Some(field) if field.list != ListType::Atomic => &field.list,
            _ => own,
        };
        match self.schema.shape(ty) {
            Shape::Struct(_) | Shape::Map { .. } => Parts::Map {
                atomic: self.schema.is_atomic(self.field, ty),
            },
            Shape::List { list: own, .. } => match list(own) {
                ListType::Atomic => Parts::Atomic,
                ListType::Set => Parts::Set,
                ListType::Map(keys) => Parts::ListMap(keys),
            },
            Shape::WrappedList { .. } => Parts::Atomic,
            Shape::Scalar(Scalar::Raw) => by_value(true),
            Shape::Scalar(
                Scalar::Any
                | Scalar::Json
                | Scalar::FieldsV1
                | Scalar::SchemaOrArray
                | Scalar::SchemaOrBool
                | Scalar::SchemaOrStrings,
            ) => by_value(self.field.and_then(|f| f.atomic).unwrap_or(false)),
            Shape::Scalar(_) => Parts::Scalar,
        }
    }

    /// The place of one member of an object.
    pub fn member(self, name: &str) -> Place<'s> {
        let Some(ty) = self.ty else { return self.of_type(None) };
        match self.schema.shape(ty) {
            Shape::Map { value } => self.of_type(Some(*value)),
            Shape::Struct(_) => match self.schema.field(ty, name) {
                Some(field) => Place {
                    schema: self.schema,
                    ty: Some(field.ty),
                    field: Some(field),
                },
                None => self.of_type(None),
            },
            _ => self.of_type(None),
        }
    }

    /// Whether the schema names a member of an object: as a field, not as the key of a map.
    pub fn names(self, member: &str) -> bool {
        self.ty.is_some_and(|ty| self.schema.field(ty, member).is_some())
    }

    /// The place of the items of a list.
    pub fn item(self) -> Place<'s> {
        let ty = self.ty.and_then(|ty| match self.schema.shape(ty) {
            Shape::List { item, .. } | Shape::WrappedList { item } => Some(*item),
            _ => None,
        });
        self.of_type(ty)
    }

    /// The place that a step leads to.
    fn step(self, step: &Step) -> Place<'s> {
        match step.name() {
            Some(name) => self.member(name),
            None if step.is_key() => self.item(),
            None => self.of_type(None),
        }
    }

    /// The step to a list's item. An absent key counts with its default.
    pub fn step_to(self, parts: Parts<'_>, item: &Value) -> Step {
        let Parts::ListMap(keys) = parts else {
            return Step::value(item);
        };
        let inner = self.item();
        let default = |key: &str| {
            inner
                .ty
                .and_then(|ty| self.schema.field(ty, key)?.default.as_deref().cloned())
        };
        let named = keys.iter().filter_map(|key| {
            let value = item.get(&**key).cloned().or_else(|| default(key))?;
            Some((key.to_string(), value))
        });
        Step::key(named.collect())
    }

    /// The steps to all items of a list, in its order.
    pub fn steps(self, parts: Parts<'_>, list: &[Value]) -> Vec<Step> {
        list.iter().map(|item| self.step_to(parts, item)).collect()
    }

    /// Every field of the schema that something below is in the set of, as a member of the set itself.
    #[must_use]
    pub fn with_parents(self, set: &FieldSet) -> FieldSet {
        let mut out = FieldSet {
            own: set.own,
            ..FieldSet::default()
        };
        for (step, child) in &set.children {
            let mut inner = self.step(step).with_parents(child);
            let below = child.children.values().any(|c| !c.is_empty());
            inner.own |= below && step.name().is_some_and(|name| self.names(name));
            out.children.insert(step.clone(), inner);
        }
        out
    }

    /// A set as the schema takes objects apart now: of what has become atomic only the whole can be had.
    #[must_use]
    pub fn reconcile(self, set: &FieldSet) -> FieldSet {
        let has_children = set.children.values().any(|c| !c.is_empty());
        if !has_children {
            return set.clone();
        }
        match self.parts(None) {
            Parts::Map { atomic: true } | Parts::Atomic if self.ty.is_some() => return FieldSet::leaf(),
            _ => {}
        }
        let mut out = FieldSet {
            own: set.own,
            ..FieldSet::default()
        };
        for (step, child) in &set.children {
            out.children.insert(step.clone(), self.step(step).reconcile(child));
        }
        out
    }
}

/// The members of an object; of anything else there are none.
pub fn members(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object).filter(|map| !map.is_empty())
}

/// The items of a list; of anything else there are none.
pub fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}
