//! Sets of fields as server-side apply records them: `FieldsV1`, a tree of `f:name`, `k:{keys}`, `v:value`, with `.` for the
//! field itself.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// One step of a path, as `FieldsV1` writes it: `f:name`; `k:` or `v:` and the keys or the value of a list's item as
/// canonical JSON.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Step(Box<str>);

/// A set of paths, as a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// The node itself is in the set.
    pub own: bool,
    /// What is in the set below the node, by the step that leads there.
    pub children: BTreeMap<Step, FieldSet>,
}

/// A field set that is not written as `FieldsV1` are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no path element")]
pub struct BadFieldSet(String);

impl Step {
    fn new(kind: &str, rest: &str) -> Step {
        Step([kind, rest].concat().into())
    }

    /// The step to a member of an object: `f:name` in `FieldsV1`.
    pub fn field(name: &str) -> Step {
        Step::new("f:", name)
    }

    /// An item of a set.
    pub fn value(value: &Value) -> Step {
        Step::new("v:", &value.to_string())
    }

    /// An item of a list-map.
    pub fn key(keys: Map<String, Value>) -> Step {
        Step::new("k:", &Value::Object(keys).to_string())
    }

    /// The name of the field, if the step is one.
    pub fn name(&self) -> Option<&str> {
        self.0.strip_prefix("f:")
    }

    /// Whether the step leads to the item of a list that has certain keys.
    pub fn is_key(&self) -> bool {
        self.0.starts_with("k:")
    }

    fn decode(text: &str) -> Result<Step, BadFieldSet> {
        let bad = || BadFieldSet(text.to_owned());
        match text.split_at_checked(2) {
            Some(("f:", name)) => Ok(Step::field(name)),
            // items are compared as text: written the same way whoever wrote them
            Some((kind @ ("k:" | "v:"), rest)) => {
                let value: Value = serde_json::from_str(rest).map_err(|_| bad())?;
                if kind == "k:" && !value.is_object() {
                    return Err(bad());
                }
                Ok(Step::new(kind, &value.to_string()))
            }
            Some((kind @ "i:", index)) if index.parse::<i64>().is_ok() => Ok(Step::new(kind, index)),
            _ => Err(bad()),
        }
    }

    /// As a path is shown: `.spec`, `[name="a"]`, `[="x"]`.
    pub fn show(&self) -> String {
        match self.0.split_at(2) {
            ("k:", keys) => {
                let map: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let terms: Vec<String> = map.iter().map(|(k, v)| format!("{k}={v}")).collect();
                format!("[{}]", terms.join(","))
            }
            ("v:", value) => format!("[={value}]"),
            ("i:", index) => format!("[{index}]"),
            (_, name) => format!(".{name}"),
        }
    }
}

impl FieldSet {
    /// Returns whether neither the node nor anything below it is in the set.
    pub fn is_empty(&self) -> bool {
        !self.own && self.children.values().all(FieldSet::is_empty)
    }

    /// The node itself and nothing below it.
    pub fn leaf() -> FieldSet {
        FieldSet {
            own: true,
            ..FieldSet::default()
        }
    }

    /// Adds what is in the set of a child, unless that is empty.
    pub fn add(&mut self, step: Step, inner: FieldSet) {
        if inner.is_empty() {
            return;
        }
        match self.children.get_mut(&step) {
            Some(there) => there.union(&inner),
            None => {
                self.children.insert(step, inner);
            }
        }
    }

    /// Whether an item of a list stands in the set without any of its keys.
    pub fn has_keyless(&self) -> bool {
        let mut steps = self.children.iter();
        steps.any(|(step, inner)| &*step.0 == "k:{}" || inner.has_keyless())
    }

    /// Puts one path into the set.
    pub fn insert(&mut self, path: &[Step]) {
        let mut at = self;
        for step in path {
            at = at.children.entry(step.clone()).or_default();
        }
        at.own = true;
    }

    /// Whether a path is in the set.
    pub fn has(&self, path: &[Step]) -> bool {
        let mut at = self;
        for step in path {
            match at.children.get(step) {
                Some(next) => at = next,
                None => return false,
            }
        }
        at.own
    }

    /// Adds what the other set has.
    pub fn union(&mut self, other: &FieldSet) {
        self.own |= other.own;
        for (step, child) in &other.children {
            match self.children.get_mut(step) {
                Some(mine) => mine.union(child),
                None => {
                    self.children.insert(step.clone(), child.clone());
                }
            }
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

    /// Takes out a field of fields and everything below it.
    pub fn cut(&mut self, path: &[&str]) {
        match path {
            [] => {}
            [name] => {
                self.children.remove(&Step::field(name));
            }
            [name, rest @ ..] => {
                let step = Step::field(name);
                if let Some(child) = self.children.get_mut(&step) {
                    child.cut(rest);
                    if child.is_empty() {
                        self.children.remove(&step);
                    }
                }
            }
        }
    }

    /// Keeps only what lies on or below one of some paths of fields; `*` stands for any step.
    pub fn keep_below(&mut self, paths: &[&[&str]]) {
        if paths.iter().any(|p| p.is_empty()) {
            return;
        }
        self.children.retain(|step, child| {
            let fits = |first: &str| first == "*" || step.name() == Some(first);
            let below: Vec<&[&str]> = paths.iter().filter(|p| fits(p[0])).map(|p| &p[1..]).collect();
            if below.is_empty() {
                return false;
            }
            child.keep_below(&below);
            !child.is_empty()
        });
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        let mut out = FieldSet {
            own: self.own && other.own,
            ..FieldSet::default()
        };
        for (step, child) in &self.children {
            if let Some(theirs) = other.children.get(step) {
                out.add(step.clone(), child.intersection(theirs));
            }
        }
        out
    }

    /// Whether everything in the set is in `other` too.
    pub fn is_within(&self, other: &FieldSet) -> bool {
        (!self.own || other.own)
            && self.children.iter().all(|(step, child)| {
                child.is_empty() || other.children.get(step).is_some_and(|theirs| child.is_within(theirs))
            })
    }

    /// All paths.
    pub fn paths(&self) -> Vec<Vec<Step>> {
        let mut out = Vec::new();
        self.collect(&mut Vec::new(), &mut out);
        out
    }

    fn collect(&self, at: &mut Vec<Step>, out: &mut Vec<Vec<Step>>) {
        if self.own {
            out.push(at.clone());
        }
        for (step, child) in &self.children {
            at.push(step.clone());
            child.collect(at, out);
            at.pop();
        }
    }

    /// `FieldsV1`.
    pub fn encode(self) -> Value {
        let itself = (self.own && !self.children.is_empty()).then(|| (".".to_owned(), Value::Object(Map::new())));
        let children = self.children.into_iter();
        let children = children.map(|(step, child)| (step.0.into_string(), child.encode()));
        Value::Object(itself.into_iter().chain(children).collect())
    }

    /// Reads `FieldsV1`.
    ///
    /// # Errors
    /// A key that is no path element.
    pub fn decode(value: &Value) -> Result<FieldSet, BadFieldSet> {
        let Some(map) = value.as_object() else {
            return Ok(FieldSet::default());
        };
        let mut set = FieldSet::decode_below(map)?;
        // the whole object is nobody's field
        set.own = false;
        Ok(set)
    }

    fn decode_below(map: &Map<String, Value>) -> Result<FieldSet, BadFieldSet> {
        let mut set = FieldSet {
            own: map.is_empty() || map.contains_key("."),
            ..FieldSet::default()
        };
        for (key, child) in map.iter().filter(|(key, _)| *key != ".") {
            let empty = Map::new();
            let child = FieldSet::decode_below(child.as_object().unwrap_or(&empty))?;
            set.children.insert(Step::decode(key)?, child);
        }
        Ok(set)
    }
}

/// A path as it is shown in conflicts: `.spec.containers[name="a"].image`.
pub fn show(path: &[Step]) -> String {
    path.iter().map(Step::show).collect()
}
