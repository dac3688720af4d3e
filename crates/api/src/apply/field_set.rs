//! Sets of fields as server-side apply records them: `FieldsV1`, a tree of `f:name`, `k:{keys}`, `v:value`, with `.` for the
//! field itself.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::schema::{Field, ListType, Schema, Shape, TypeId};

/// One step of a path, as `FieldsV1` writes it: `f:name`; `k:` or `v:` and the keys or the value of a list's item as
/// canonical JSON.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step(Box<str>);

/// A set of paths, as a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// The node itself is in the set.
    pub own: bool,
    pub children: BTreeMap<Step, FieldSet>,
}

impl Step {
    fn new(kind: &str, rest: &str) -> Step {
        Step([kind, rest].concat().into())
    }

    fn field(name: &str) -> Step {
        Step::new("f:", name)
    }

    /// An item of a set.
    fn value(value: &Value) -> Step {
        Step::new("v:", &value.to_string())
    }

    /// An item of a list-map.
    fn key(keys: Map<String, Value>) -> Step {
        Step::new("k:", &Value::Object(keys).to_string())
    }

    /// The name of the field, if the step is one.
    pub fn name(&self) -> Option<&str> {
        self.0.strip_prefix("f:")
    }

    /// Whether the step leads to an item of a list.
    pub fn is_item(&self) -> bool {
        !self.0.starts_with("f:")
    }

    fn decode(text: &str) -> Option<Step> {
        match text.split_at_checked(2)? {
            ("f:", name) => Some(Step::field(name)),
            // items are compared as text: written the same way whoever wrote them
            (kind @ ("k:" | "v:"), rest) => {
                let value: Value = serde_json::from_str(rest).ok()?;
                Some(Step::new(kind, &value.to_string()))
            }
            _ => None,
        }
    }

    /// As a path is shown: `.spec`, `[name="a"]`, `[="x"]`.
    fn show(&self) -> String {
        match self.0.split_at(2) {
            ("k:", keys) => {
                let map: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let terms: Vec<String> = map.iter().map(|(k, v)| format!("{k}={v}")).collect();
                format!("[{}]", terms.join(","))
            }
            ("v:", value) => format!("[={value}]"),
            (_, name) => format!(".{name}"),
        }
    }
}

/// How the value at a place is taken apart.
enum Parts<'s> {
    /// As a whole.
    Leaf,
    Struct,
    Map,
    Set,
    ListMap(&'s [Box<str>]),
}

/// What the schema says of a value: its type and the field it stands in.
#[derive(Clone, Copy)]
pub struct Place<'s> {
    pub ty: Option<TypeId>,
    pub field: Option<&'s Field>,
}

fn parts<'s>(schema: &'s Schema, place: Place<'s>, value: &Value) -> Parts<'s> {
    let Some(ty) = place.ty else {
        // without a schema objects are taken apart and lists are not
        return if value.is_object() { Parts::Map } else { Parts::Leaf };
    };
    match (schema.shape(ty), value) {
        (_, Value::Object(_)) if schema.is_atomic(place.field, ty) => Parts::Leaf,
        (Shape::Struct(_), Value::Object(_)) => Parts::Struct,
        (Shape::Map { .. }, Value::Object(_)) => Parts::Map,
        (Shape::List { list, .. }, Value::Array(_)) => {
            match place
                .field
                .map_or(list, |f| if f.list == ListType::Atomic { list } else { &f.list })
            {
                ListType::Atomic => Parts::Leaf,
                ListType::Set => Parts::Set,
                ListType::Map(keys) => Parts::ListMap(keys),
            }
        }
        _ => Parts::Leaf,
    }
}

/// The place of one member of an object.
pub fn member<'s>(schema: &'s Schema, place: Place<'s>, name: &str) -> Place<'s> {
    let none = Place { ty: None, field: None };
    let Some(ty) = place.ty else { return none };
    match schema.shape(ty) {
        Shape::Map { value } => Place {
            ty: Some(*value),
            field: None,
        },
        Shape::Struct(_) => schema.field(ty, name).map_or(none, |f| Place {
            ty: Some(f.ty),
            field: Some(f),
        }),
        _ => none,
    }
}

fn item_place<'s>(schema: &'s Schema, place: Place<'s>) -> Place<'s> {
    let ty = place.ty.and_then(|ty| match schema.shape(ty) {
        Shape::List { item, .. } | Shape::WrappedList { item } => Some(*item),
        _ => None,
    });
    Place { ty, field: None }
}

/// The step to a list-map's item. An absent key counts with its default.
fn key_step(schema: &Schema, place: Place<'_>, keys: &[Box<str>], item: &Value) -> Step {
    let inner = item_place(schema, place);
    let mut map = Map::new();
    for key in keys {
        let default = || {
            inner
                .ty
                .and_then(|t| schema.field(t, key))
                .and_then(|f| f.default.as_deref().cloned())
        };
        if let Some(value) = item.get(&**key).cloned().or_else(default) {
            map.insert(key.to_string(), value);
        }
    }
    Step::key(map)
}

/// A value taken apart.
enum Children<'v> {
    /// It is not.
    None,
    /// Fields of an object, by name.
    Members(&'v Map<String, Value>),
    Items(Vec<(Step, &'v Value)>),
}

fn taken_apart<'v>(schema: &Schema, place: Place<'_>, value: &'v Value) -> Children<'v> {
    match (parts(schema, place, value), value) {
        (Parts::Struct | Parts::Map, Value::Object(map)) => Children::Members(map),
        (Parts::Set, Value::Array(list)) => Children::Items(list.iter().map(|v| (Step::value(v), v)).collect()),
        (Parts::ListMap(keys), Value::Array(list)) => {
            Children::Items(list.iter().map(|v| (key_step(schema, place, keys, v), v)).collect())
        }
        _ => Children::None,
    }
}

/// A value's children by step.
pub fn children<'v, 's>(
    schema: &'s Schema,
    place: Place<'s>,
    value: &'v Value,
) -> Option<Vec<(Step, Place<'s>, &'v Value)>> {
    match taken_apart(schema, place, value) {
        Children::None => None,
        Children::Members(map) => {
            let members = map.iter();
            let members = members.map(|(name, v)| (Step::field(name), member(schema, place, name), v));
            Some(members.collect())
        }
        Children::Items(list) => {
            let inner = item_place(schema, place);
            Some(list.into_iter().map(|(step, v)| (step, inner, v)).collect())
        }
    }
}

impl FieldSet {
    pub fn is_empty(&self) -> bool {
        !self.own && self.children.values().all(FieldSet::is_empty)
    }

    /// Every field that a value sets.
    pub fn of(schema: &Schema, place: Place<'_>, value: &Value) -> FieldSet {
        FieldSet::every(schema, place, value, false)
    }

    /// Every field of a value that was not there before, and what holds them.
    fn added(schema: &Schema, place: Place<'_>, value: &Value) -> FieldSet {
        FieldSet::every(schema, place, value, true)
    }

    fn every(schema: &Schema, place: Place<'_>, value: &Value, holders: bool) -> FieldSet {
        let mut set = FieldSet::default();
        match taken_apart(schema, place, value) {
            Children::None => set.own = true,
            Children::Members(map) => {
                // an empty object or list is set as such, and so is an item of a list
                set.own = holders || map.is_empty();
                for (name, child) in map {
                    let inner = FieldSet::every(schema, member(schema, place, name), child, holders);
                    set.children.insert(Step::field(name), inner);
                }
            }
            Children::Items(list) => {
                set.own = holders || list.is_empty();
                let place = item_place(schema, place);
                for (step, child) in list {
                    let mut inner = FieldSet::every(schema, place, child, holders);
                    inner.own = true;
                    set.add_item(step, inner);
                }
            }
        }
        set
    }

    /// Adds an item of a list. Items that have the same key are one thing as a whole.
    fn add_item(&mut self, step: Step, child: FieldSet) {
        let whole = || FieldSet {
            own: true,
            ..FieldSet::default()
        };
        self.children
            .entry(step)
            .and_modify(|there| *there = whole())
            .or_insert(child);
    }

    /// The fields that differ between two values. Of one that was null before, only what is in it is new.
    pub fn changed(schema: &Schema, place: Place<'_>, before: Option<&Value>, after: &Value) -> FieldSet {
        let Some(before) = before else {
            return FieldSet::added(schema, place, after);
        };
        if before == after {
            return FieldSet::default();
        }
        let mut set = FieldSet::default();
        match taken_apart(schema, place, after) {
            Children::None => return FieldSet::of(schema, place, after),
            Children::Members(map) => {
                set = FieldSet::changed_members(schema, place, before, map);
                set.own = map.is_empty();
            }
            Children::Items(list) => {
                set.own = list.is_empty();
                let Children::Items(old) = taken_apart(schema, place, before) else {
                    let added = FieldSet::added(schema, place, after);
                    return FieldSet { own: set.own, ..added };
                };
                let place = item_place(schema, place);
                for (step, child) in list {
                    let previous = old.iter().find(|(s, _)| *s == step).map(|(_, v)| *v);
                    let inner = FieldSet::changed(schema, place, previous, child);
                    if !inner.is_empty() {
                        set.add_item(step, inner);
                    }
                }
            }
        }
        set
    }

    /// The same of some members of an object.
    pub fn changed_members<'v>(
        schema: &Schema,
        place: Place<'_>,
        before: &Value,
        after: impl IntoIterator<Item = (&'v String, &'v Value)>,
    ) -> FieldSet {
        let mut set = FieldSet::default();
        for (name, child) in after {
            let inner = FieldSet::changed(schema, member(schema, place, name), before.get(name), child);
            set.add_member(name, inner);
        }
        set
    }

    /// Adds a field of an object, unless nothing of it is in the set.
    pub fn add_member(&mut self, name: &str, inner: FieldSet) {
        if !inner.is_empty() {
            self.children.insert(Step::field(name), inner);
        }
    }

    pub fn union(&mut self, other: &FieldSet) {
        self.own |= other.own;
        for (step, child) in &other.children {
            self.children.entry(step.clone()).or_default().union(child);
        }
    }

    /// Takes out what is in `other`.
    pub fn subtract(&mut self, other: &FieldSet) {
        self.own &= !other.own;
        for (step, child) in &other.children {
            if let Some(mine) = self.children.get_mut(step) {
                mine.subtract(child);
                if mine.is_empty() {
                    self.children.remove(step);
                }
            }
        }
    }

    /// What is in both.
    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        let mut out = FieldSet {
            own: self.own && other.own,
            ..FieldSet::default()
        };
        for (step, child) in &self.children {
            if let Some(theirs) = other.children.get(step) {
                let both = child.intersection(theirs);
                if !both.is_empty() {
                    out.children.insert(step.clone(), both);
                }
            }
        }
        out
    }

    /// Takes out what the value does not have.
    pub fn keep_present(&mut self, schema: &Schema, place: Place<'_>, value: &Value) {
        let Some(list) = children(schema, place, value) else {
            self.children.clear();
            return;
        };
        self.children
            .retain(|step, child| match list.iter().find(|(s, _, _)| s == step) {
                Some((_, place, value)) => {
                    child.keep_present(schema, *place, value);
                    !child.is_empty()
                }
                None => false,
            });
    }

    /// Whether the node is in the set, or anything below it.
    pub fn touches(&self, step: &Step) -> Option<&FieldSet> {
        self.children.get(step)
    }

    /// All paths, as they are shown in conflicts.
    pub fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.collect("", &mut out);
        out
    }

    fn collect(&self, prefix: &str, out: &mut Vec<String>) {
        if self.own {
            out.push(prefix.to_owned());
        }
        for (step, child) in &self.children {
            child.collect(&format!("{prefix}{}", step.show()), out);
        }
    }

    /// `FieldsV1`.
    pub fn encode(self) -> Value {
        let itself = (self.own && !self.children.is_empty()).then(|| (".".to_owned(), Value::Object(Map::new())));
        let children = self.children.into_iter();
        let children = children.map(|(step, child)| (step.0.into_string(), child.encode()));
        Value::Object(itself.into_iter().chain(children).collect())
    }

    /// Reads `FieldsV1`; what is not understood is left out.
    pub fn decode(value: &Value) -> FieldSet {
        let mut set = FieldSet::default();
        let Some(map) = value.as_object() else { return set };
        set.own = map.is_empty() || map.contains_key(".");
        for (key, child) in map {
            if let Some(step) = Step::decode(key) {
                set.children.insert(step, FieldSet::decode(child));
            }
        }
        set
    }
}
