//! Sets of fields as server-side apply records them: `FieldsV1`, a tree of `f:name`, `k:{keys}`, `v:value`, with `.` for the
//! field itself.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::schema::{Field, ListType, Schema, Shape, TypeId};

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Field(String),
    /// An item of a list-map: its keys as canonical JSON.
    Key(String),
    /// An item of a set: its value as canonical JSON.
    Value(String),
}

/// A set of paths, as a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// The node itself is in the set.
    pub own: bool,
    pub children: BTreeMap<Step, FieldSet>,
}

impl Step {
    fn encode(&self) -> String {
        match self {
            Step::Field(name) => format!("f:{name}"),
            Step::Key(keys) => format!("k:{keys}"),
            Step::Value(value) => format!("v:{value}"),
        }
    }

    fn decode(text: &str) -> Option<Step> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "f" => Some(Step::Field(rest.to_owned())),
            // keys are compared as text: written the same way whoever wrote them
            "k" => Some(Step::Key(serde_json::from_str::<Value>(rest).ok()?.to_string())),
            "v" => Some(Step::Value(serde_json::from_str::<Value>(rest).ok()?.to_string())),
            _ => None,
        }
    }

    /// As a path is shown: `.spec`, `[name="a"]`, `[="x"]`.
    fn show(&self) -> String {
        match self {
            Step::Field(name) => format!(".{name}"),
            Step::Value(value) => format!("[={value}]"),
            Step::Key(keys) => {
                let map: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let terms: Vec<String> = map.iter().map(|(k, v)| format!("{k}={v}")).collect();
                format!("[{}]", terms.join(","))
            }
        }
    }
}

/// How the value at a place is taken apart.
enum Parts {
    /// As a whole.
    Leaf,
    Struct,
    Map,
    Set,
    ListMap(Box<[Box<str>]>),
}

/// What the schema says of a value: its type and the field it stands in.
#[derive(Clone, Copy)]
pub struct Place<'s> {
    pub ty: Option<TypeId>,
    pub field: Option<&'s Field>,
}

fn parts(schema: &Schema, place: Place<'_>, value: &Value) -> Parts {
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
                ListType::Map(keys) => Parts::ListMap(keys.clone()),
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
    Step::Key(Value::Object(map).to_string())
}

/// A value's children by step.
pub fn children<'v, 's>(
    schema: &'s Schema,
    place: Place<'s>,
    value: &'v Value,
) -> Option<Vec<(Step, Place<'s>, &'v Value)>> {
    Some(match parts(schema, place, value) {
        Parts::Leaf => return None,
        Parts::Struct | Parts::Map => {
            let map = value.as_object()?;
            map.iter()
                .map(|(k, v)| (Step::Field(k.clone()), member(schema, place, k), v))
                .collect()
        }
        Parts::Set => value
            .as_array()?
            .iter()
            .map(|v| (Step::Value(v.to_string()), item_place(schema, place), v))
            .collect(),
        Parts::ListMap(keys) => {
            let list = value.as_array()?;
            list.iter()
                .map(|v| (key_step(schema, place, &keys, v), item_place(schema, place), v))
                .collect()
        }
    })
}

impl FieldSet {
    pub fn is_empty(&self) -> bool {
        !self.own && self.children.values().all(FieldSet::is_empty)
    }

    /// Every field that a value sets.
    pub fn of(schema: &Schema, place: Place<'_>, value: &Value) -> FieldSet {
        let mut set = FieldSet::default();
        match children(schema, place, value) {
            None => set.own = true,
            Some(list) => {
                // an empty object or list is set as such, and so is an item of a list
                set.own = list.is_empty();
                for (step, place, child) in list {
                    let item = matches!(step, Step::Key(_) | Step::Value(_));
                    let mut inner = FieldSet::of(schema, place, child);
                    inner.own |= item;
                    set.add(step, inner);
                }
            }
        }
        set
    }

    /// Adds a child. Items of a list that have the same key are one thing as a whole.
    fn add(&mut self, step: Step, child: FieldSet) {
        let whole = || FieldSet {
            own: true,
            ..FieldSet::default()
        };
        self.children
            .entry(step)
            .and_modify(|there| *there = whole())
            .or_insert(child);
    }

    /// Every field of a value that was not there before, and what holds them.
    fn added(schema: &Schema, place: Place<'_>, value: &Value) -> FieldSet {
        let mut set = FieldSet {
            own: true,
            ..FieldSet::default()
        };
        for (step, place, child) in children(schema, place, value).unwrap_or_default() {
            set.add(step, FieldSet::added(schema, place, child));
        }
        set
    }

    /// The fields that differ between two values. Of one that was null before, only what is in it is new.
    pub fn changed(schema: &Schema, place: Place<'_>, before: Option<&Value>, after: &Value) -> FieldSet {
        let Some(before) = before else {
            return FieldSet::added(schema, place, after);
        };
        if before == after {
            return FieldSet::default();
        }
        let Some(new) = children(schema, place, after) else {
            return FieldSet::of(schema, place, after);
        };
        let old = children(schema, place, before).unwrap_or_default();
        let mut set = FieldSet {
            own: new.is_empty(),
            ..FieldSet::default()
        };
        for (step, place, child) in new {
            let previous = old.iter().find(|(s, _, _)| *s == step).map(|(_, _, v)| *v);
            let inner = FieldSet::changed(schema, place, previous, child);
            if !inner.is_empty() {
                set.add(step, inner);
            }
        }
        set
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
    pub fn encode(&self) -> Value {
        let mut map = Map::new();
        if self.own && !self.children.is_empty() {
            map.insert(".".into(), Value::Object(Map::new()));
        }
        for (step, child) in &self.children {
            map.insert(step.encode(), child.encode());
        }
        Value::Object(map)
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
