//! Walks over values by their schema: the fields that one sets, and what of one is left without some fields.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::apply::field_set::{FieldSet, Step};
use crate::apply::place::{Parts, Place, Wanted};
use crate::go;

/// Every field that a value sets.
pub fn fields(place: Place<'_>, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    let parts = place.parts(Some(value));
    match (parts, value) {
        (Parts::Map { atomic: false }, Value::Object(map)) => {
            for (name, child) in map {
                let mut inner = fields(place.member(name), child);
                let empty = child.is_null() || child.as_object().is_some_and(serde_json::Map::is_empty);
                inner.own |= empty || !place.names(name);
                set.add(Step::field(name), inner);
            }
        }
        (Parts::Set | Parts::ListMap(_), Value::Array(list)) => {
            let item = place.item();
            let mut seen: HashMap<Step, usize> = HashMap::new();
            let steps = place.steps(parts, list);
            for step in &steps {
                *seen.entry(step.clone()).or_default() += 1;
            }
            for (step, child) in steps.into_iter().zip(list) {
                // items that have the same key are one thing as a whole
                let mut inner = match seen.get(&step) {
                    Some(1) => fields(item, child),
                    _ => FieldSet::default(),
                };
                inner.own = true;
                set.add(step, inner);
            }
        }
        (Parts::Map { atomic: false } | Parts::Set | Parts::ListMap(_), _) => {}
        (Parts::Scalar | Parts::Atomic | Parts::Map { atomic: true }, _) => set.own = true,
    }
    set
}

/// Takes fields out of a value. An object or list of which nothing is left becomes null.
pub fn remove(place: Place<'_>, value: &mut Value, gone: &FieldSet) {
    if gone.children.values().all(FieldSet::is_empty) {
        return;
    }
    let parts = place.parts(Some(value));
    let empty = match (parts, &mut *value) {
        (Parts::Scalar, _) => false,
        (Parts::Map { atomic: false }, Value::Object(map)) => {
            map.retain(|name, child| match gone.children.get(&Step::field(name)) {
                Some(set) if set.own => false,
                Some(set) => {
                    remove(place.member(name), child, set);
                    true
                }
                None => true,
            });
            map.is_empty()
        }
        (Parts::Set | Parts::ListMap(_), Value::Array(list)) => {
            let item = place.item();
            list.retain_mut(|child| match gone.children.get(&place.step_to(parts, child)) {
                Some(set) if set.own => false,
                Some(set) => {
                    remove(item, child, set);
                    true
                }
                None => true,
            });
            list.is_empty()
        }
        _ => true,
    };
    if empty {
        *value = Value::Null;
    }
}

/// What keeps a configuration from being applied: items that stand twice, keys that are missing, values of another
/// type, each with its path.
pub fn problems(place: Place<'_>, value: &Value) -> Vec<String> {
    problems_beside(place, value, &[])
}

/// The same of a value that still has fields which its decoder did not know: `unknown` are their paths, by the places of items.
pub fn problems_beside(place: Place<'_>, value: &Value, unknown: &[String]) -> Vec<String> {
    let mut out = Problems {
        unknown: unknown.iter().map(String::as_str).collect(),
        ..Problems::default()
    };
    find_problems(place, value, &mut String::new(), &mut out);
    out.texts
}

/// Whether an object cannot be taken apart into fields. Items that stand twice are no hindrance.
pub fn is_unfit(place: Place<'_>, value: &Value) -> bool {
    let found = problems(place, value);
    found.iter().any(|problem| !problem.contains(DUPLICATE))
}

const DUPLICATE: &str = "duplicate entries for key ";

/// The problems found so far. A path may be nearly as long as the document, and each problem bears its own: what is more than
/// anybody reads is not looked for.
#[derive(Default)]
struct Problems<'a> {
    texts: Vec<String>,
    bytes: usize,
    unknown: HashSet<&'a str>,
    /// Where the walk is, as a decoder says it.
    decoded: String,
}

impl Problems<'_> {
    const MOST: usize = 1000;
    const MOST_BYTES: usize = 1 << 20;

    fn is_full(&self) -> bool {
        self.texts.len() >= Problems::MOST || self.bytes >= Problems::MOST_BYTES
    }

    /// Goes a step, and says how long the path was.
    fn enter(&mut self, step: &str) -> usize {
        let here = self.decoded.len();
        if !self.unknown.is_empty() {
            self.decoded
                .push_str(if here == 0 { step.trim_start_matches('.') } else { step });
        }
        here
    }

    fn push(&mut self, text: String) {
        self.bytes += text.len();
        self.texts.push(text);
    }
}

fn find_problems(place: Place<'_>, value: &Value, at: &mut String, out: &mut Problems<'_>) {
    if out.is_full() {
        return;
    }
    let parts = place.parts(Some(value));
    let here = at.len();
    let descend =
        |at: &mut String, [shown, decoded]: [&str; 2], place: Place<'_>, value: &Value, out: &mut Problems<'_>| {
            at.push_str(shown);
            let before = out.enter(decoded);
            find_problems(place, value, at, out);
            out.decoded.truncate(before);
            at.truncate(here);
        };
    match (parts, value) {
        (_, Value::Null) => {}
        (Parts::Scalar, _) => {
            let why = place.wanted().and_then(|wanted| unlike(wanted, value));
            if let Some(why) = why {
                out.push(problem(at, &why));
            }
        }
        (Parts::Map { .. }, Value::Object(map)) => {
            for (name, child) in map {
                if out.is_full() {
                    return;
                }
                let step = format!(".{name}");
                let before = out.enter(&step);
                let is_unknown = out.unknown.contains(out.decoded.as_str());
                out.decoded.truncate(before);
                if is_unknown || place.is_struct() && !place.names(name) {
                    out.push(format!("{at}{step}: field not declared in schema"));
                    continue;
                }
                descend(at, [&step, &step], place.member(name), child, out);
            }
        }
        (Parts::Atomic, Value::Array(list)) => {
            for (i, child) in list.iter().enumerate() {
                let step = format!("[{i}]");
                descend(at, [&step, &step], place.item(), child, out);
            }
        }
        (Parts::Set | Parts::ListMap(_), Value::Array(list)) => {
            let mut seen = HashSet::new();
            for (i, child) in list.iter().enumerate() {
                if out.is_full() {
                    return;
                }
                let why = match (parts, child) {
                    (Parts::ListMap(_), Value::Null) => "associative list with keys may not have a null element",
                    (Parts::ListMap(_), Value::Object(_)) => "",
                    (Parts::ListMap(_), _) => "associative list with keys may not have non-map elements",
                    (_, Value::Object(_)) => "associative list without keys has an element that's a map type",
                    (_, Value::Array(_)) => "not supported: associative list with lists as elements",
                    (_, Value::Null) => "associative list without keys has an element that's an explicit null",
                    _ => "",
                };
                if !why.is_empty() {
                    out.push(problem(at, &format!("element {i}: {why}")));
                    return;
                }
                let step = place.step_to(parts, child);
                if let Parts::ListMap(keys) = parts
                    && step == Step::key(serde_json::Map::new())
                {
                    let names: Vec<String> = keys.iter().map(|k| format!("{k:?}")).collect();
                    let why = format!(
                        "element {i}: associative list with keys has an element that omits all key fields [{}] (and doesn't \
                         have default values for any key fields)",
                        names.join(" ")
                    );
                    out.push(problem(at, &why));
                    return;
                }
                let shown = step.show();
                if !seen.insert(step) {
                    out.push(problem(at, &format!("{DUPLICATE}{shown}")));
                }
                descend(at, [&shown, &format!("[{i}]")], place.item(), child, out);
            }
        }
        (Parts::Map { .. }, _) => out.push(problem(at, &format!("expected map, got {}", go_value(value)))),
        (_, _) => out.push(problem(at, &format!("expected list, got {}", go_value(value)))),
    }
}

fn problem(at: &str, why: &str) -> String {
    if at.is_empty() {
        why.to_owned()
    } else {
        format!("{at}: {why}")
    }
}

/// A value as Go shows it between braces.
fn go_value(value: &Value) -> String {
    format!("&{{{}}}", go::sprint(value))
}

/// Why a value is not the scalar that is wanted.
fn unlike(wanted: Wanted, value: &Value) -> Option<String> {
    match (wanted, value) {
        (Wanted::Numeric, Value::Number(_))
        | (Wanted::String, Value::String(_))
        | (Wanted::Boolean, Value::Bool(_)) => None,
        (Wanted::Untyped, value) if !value.is_object() && !value.is_array() => None,
        (Wanted::Numeric, value) => Some(format!("expected numeric (int or float), got {}", go::type_of(value))),
        (Wanted::String, value) => Some(format!(
            "expected string, got &value.valueUnstructured{{Value:{}}}",
            go::syntax(value)
        )),
        (Wanted::Boolean, value) => Some(format!("expected boolean, got {}", go_value(value))),
        (Wanted::Untyped, value) => Some(format!("expected any scalar, got {}", go_value(value))),
    }
}
