//! Whether a value keeps to its structural schema: the checks and the words of `kube-openapi/pkg/validation/validate`.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::ERRORS;
use super::formats;
use super::node::{Additional, Checks, Node};
use crate::field::FieldError;
use crate::go;
use crate::schema::ListType;
use crate::schema::path::Path;

/// What was found wrong, and how much was found right: of several alternatives the one that fits best is shown.
#[derive(Default)]
struct Outcome {
    errors: Vec<FieldError>,
    matches: usize,
}

impl Outcome {
    fn merge(&mut self, other: Outcome) {
        other.errors.into_iter().for_each(|error| self.tell(error));
        self.matches += other.matches;
    }

    /// Adds an error, unless one that reads the same is there: several alternatives may say it.
    fn tell(&mut self, error: FieldError) {
        let same =
            |other: &FieldError| other.kind == error.kind && other.detail == error.detail && other.field == error.field;
        if !self.errors.iter().any(same) {
            self.errors.push(error);
        }
    }
}

impl Node {
    /// Everything in which a value breaks the schema. `at` is its path. What was there before may stay: of a value that
    /// did not change nothing is said, item by item where lists tell their items apart by keys.
    pub fn check(&self, value: &Value, old: Option<&Value>, at: &Path<'_>) -> Vec<FieldError> {
        self.outcome(value, old, at).errors
    }

    /// The same of a part of an object that stands at `under`: its fields are named from there, but errors begin with it.
    pub fn check_part(&self, value: &Value, old: Option<&Value>, under: &str) -> Vec<FieldError> {
        let mut errors = self.check(value, old, &Path::Root);
        for error in &mut errors {
            error.field = match error.field.as_str() {
                "<nil>" | "." => under.to_owned(),
                // one dot goes; a key without a name leaves another
                field => format!("{under}.{}", field.strip_prefix('.').unwrap_or(field)),
            };
        }
        errors
    }

    fn outcome(&self, value: &Value, old: Option<&Value>, at: &Path<'_>) -> Outcome {
        let mut out = Outcome::default();
        self.check_type(value, at, &mut out);
        if value.is_null() {
            self.check_values(value, at, &mut out);
        } else {
            out.matches += 4;
            if let Some(checks) = &self.checks {
                out.merge(alternatives(checks, value, at));
            }
            match value {
                Value::String(text) => {
                    self.check_text(text, value, at, &mut out);
                    out.matches += 1;
                }
                Value::Number(_) => {
                    self.check_number(value, at, &mut out);
                    out.matches += 2;
                }
                Value::Array(list) => self.check_list(list, old, at, &mut out),
                Value::Object(map) => self.check_object(map, old, at, &mut out),
                _ => {}
            }
            self.check_values(value, at, &mut out);
        }
        if old == Some(value) && !out.errors.is_empty() {
            return Outcome::default();
        }
        out
    }

    fn check_type(&self, value: &Value, at: &Path<'_>, out: &mut Outcome) {
        let format = self.checks.as_ref().map_or("", |checks| &*checks.format);
        let expected = match (self.int_or_string, &*self.kind) {
            (true, _) => "integer,string",
            (_, "") if format.is_empty() => return,
            (_, kind) => kind,
        };
        let (found, of_value) = type_of(value);
        let wants = |kind: &str| expected.split(',').any(|one| one == kind);
        let fits = match value {
            Value::Null => self.nullable || expected.is_empty(),
            // upstream holds these against their format alone
            Value::String(_) | Value::Array(_) if !format.is_empty() && !wants("integer") && !wants("number") => true,
            Value::Number(_) if found == "number" && whole(value) => wants("integer") || wants("number"),
            Value::Number(_) => wants(found) || found == "integer" && wants("number"),
            _ => wants(found),
        };
        if fits || !format.is_empty() && format == of_value {
            out.matches += 1;
            return;
        }
        let by_format = !format.is_empty() && matches!(value, Value::Bool(_) | Value::Number(_) | Value::Object(_));
        let (expected, found) = if by_format {
            (format, of_value)
        } else {
            (expected, found)
        };
        let why = format!("{at} in body must be of type {expected}: {}", go::quote(found));
        out.errors.push(FieldError::type_invalid(field(at), json!(found), why));
    }

    fn check_values(&self, value: &Value, at: &Path<'_>, out: &mut Outcome) {
        let Some(values) = self.checks.as_ref().and_then(|c| c.values.as_ref()) else {
            return;
        };
        let same = |other: &Value| match (other, value) {
            // a number is made one of the listed one's type, which cuts off its fraction
            (Value::Number(a), Value::Number(b)) if a.is_i64() => a.as_f64() == b.as_f64().map(f64::trunc),
            (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
            (a, b) => a == b && !a.is_null(),
        };
        if values.iter().any(same) {
            return;
        }
        let shown: Vec<String> = values
            .iter()
            .map(|v| v.as_str().map_or_else(|| v.to_string(), Into::into))
            .collect();
        let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
        out.errors.push(match value {
            Value::String(text) => FieldError::text_not_supported(field(at), text, &shown),
            other => FieldError::not_supported(field(at), other.clone(), &shown),
        });
    }

    fn check_text(&self, text: &str, value: &Value, at: &Path<'_>, out: &mut Outcome) {
        let Some(checks) = &self.checks else { return };
        let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
        let invalid = |why: String| FieldError::invalid(field(at), value.clone(), format!("{at} in body {why}"));
        if let Some(most) = checks.max_length.filter(|most| length > *most) {
            let most = usize::try_from(most).unwrap_or_default();
            out.errors.push(FieldError::too_long(field(at), most));
        } else if let Some(least) = checks.min_length.filter(|least| length < *least) {
            out.errors
                .push(invalid(format!("should be at least {least} chars long")));
        } else if let Some(pattern) = &checks.pattern {
            let text_of = pattern.text();
            match pattern.matches(text) {
                Ok(true) => {}
                Ok(false) => out.errors.push(invalid(format!("should match '{text_of}'"))),
                Err(why) => {
                    let why = format!("should match '{text_of}, but pattern is invalid: {why}'");
                    out.errors.push(invalid(why));
                }
            }
        }
        // only texts have formats of these, and what may be of any type
        let of_text = matches!(&*self.kind, "" | "string") && !self.int_or_string;
        if of_text && formats::is_known(&checks.format) && !formats::holds(&checks.format, text) {
            let format = &checks.format;
            let why = format!("{at} in body must be of type {format}: {}", go::quote(text));
            out.errors.push(FieldError::type_invalid(field(at), value.clone(), why));
        }
    }

    fn check_number(&self, value: &Value, at: &Path<'_>, out: &mut Outcome) {
        let none = Checks::default();
        let checks = self.checks.as_deref().unwrap_or(&none);
        let whole = value.as_i64();
        let real = value.as_f64().unwrap_or(f64::NAN);
        let format = match (&*self.kind, &*checks.format) {
            _ if self.int_or_string => "",
            ("integer", format @ ("int32" | "int64")) | ("number", format @ ("float" | "double")) => format,
            _ => "",
        };
        // what is wrong with a bound or a value as a number of its type
        let misfit = |what: &str, real: f64, whole: Option<i64>| -> Option<FieldError> {
            let integer = &*self.kind == "integer" && !self.int_or_string;
            let holds = match (integer, format) {
                (true, "int32") => whole.is_some_and(|n| i32::try_from(n).is_ok()),
                (true, _) => whole.is_some(),
                (false, "float") => real.abs() <= f64::from(f32::MAX),
                _ => true,
            };
            let of = match format {
                "" => format!("{} (default format)", self.kind),
                format => format!("{} with format {format}", self.kind),
            };
            (!holds)
                .then(|| FieldError::invalid("<nil>", json!(""), format!("{what} value must be of type {of} in {at}")))
        };
        let as_whole = |real: f64| (real.fract() == 0.0 && real.abs() < 9.2e18).then_some(real as i64);
        let invalid = |why: String| FieldError::invalid(field(at), value.clone(), format!("{at} in body {why}"));
        out.errors
            .extend(misfit("Checked", real, whole.or_else(|| as_whole(real))));
        if let Some(step) = checks.multiple_of {
            match misfit("MultipleOf", step, as_whole(step)) {
                Some(error) => {
                    out.errors.push(error);
                    out.errors.extend(multiple_of(real, step).map(invalid));
                }
                None => match whole {
                    // an integer is divided as one
                    Some(_) if step < 1.0 => {
                        let why = format!("factor MultipleOf declared for {at} must be positive: 0");
                        out.errors.push(FieldError::invalid(field(at), json!(0), why));
                    }
                    Some(n) if n % (step as i64) != 0 => {
                        out.errors
                            .push(invalid(format!("should be a multiple of {}", step as i64)));
                    }
                    Some(_) => {}
                    None => out.errors.extend(multiple_of(real, step).map(invalid)),
                },
            }
        }
        for (what, bound, exclusive) in [
            ("Maximum boundary", checks.maximum, checks.exclusive_maximum),
            ("Minimum boundary", checks.minimum, checks.exclusive_minimum),
        ] {
            let Some(bound) = bound else { continue };
            let upper = what.starts_with("Max");
            let error = misfit(what, bound, as_whole(bound));
            // an integer is held against the bound's whole part
            let beyond = match (whole, &error) {
                (Some(n), None) => beyond(&n, &(bound as i64), upper, exclusive),
                _ => beyond(&real, &bound, upper, exclusive),
            };
            let shown = match (whole, &error) {
                (Some(_), None) => (bound as i64).to_string(),
                _ => go::float(bound),
            };
            out.errors.extend(error);
            if beyond {
                let word = match (upper, exclusive) {
                    (true, false) => "less than or equal to",
                    (true, true) => "less than",
                    (false, false) => "greater than or equal to",
                    (false, true) => "greater than",
                };
                out.errors.push(invalid(format!("should be {word} {shown}")));
            }
        }
    }

    fn check_list(&self, list: &[Value], old: Option<&Value>, at: &Path<'_>, out: &mut Outcome) {
        out.matches += 2;
        if let Some(items) = &self.items {
            let before = self.old_items(old);
            for (i, item) in list.iter().enumerate() {
                if out.errors.len() >= ERRORS {
                    break;
                }
                let old = before.get(&self.key_of(item)).copied().filter(|_| !before.is_empty());
                out.merge(items.outcome(item, old, &Path::Index(at, i)));
            }
        }
        let Some(checks) = &self.checks else { return };
        let size = i64::try_from(list.len()).unwrap_or(i64::MAX);
        if let Some(least) = checks.min_items.filter(|least| size < *least) {
            let why = format!("{at} in body should have at least {least} items");
            out.errors.push(FieldError::invalid(field(at), json!(size), why));
        }
        if let Some(most) = checks.max_items.filter(|most| size > *most) {
            let most = usize::try_from(most).unwrap_or_default();
            out.errors.push(FieldError::too_many(field(at), list.len(), most));
        }
    }

    /// The keys of an item of a list-map as one text; empty for other lists.
    fn key_of(&self, item: &Value) -> String {
        let ListType::Map(keys) = &self.list else {
            return String::new();
        };
        let named = keys
            .iter()
            .map(|key| item.get(&**key).unwrap_or(&Value::Null).to_string());
        named.collect::<Vec<_>>().join(",")
    }

    /// The items of a list-map before, by their keys.
    fn old_items<'v>(&self, old: Option<&'v Value>) -> HashMap<String, &'v Value> {
        match (&self.list, old.and_then(Value::as_array)) {
            (ListType::Map(_), Some(list)) => list.iter().map(|item| (self.key_of(item), item)).collect(),
            _ => HashMap::new(),
        }
    }

    fn check_object(&self, map: &Map<String, Value>, old: Option<&Value>, at: &Path<'_>, out: &mut Outcome) {
        out.matches += 1;
        if let Some(checks) = &self.checks {
            let size = i64::try_from(map.len()).unwrap_or(i64::MAX);
            if let Some(least) = checks.min_properties.filter(|least| size < *least) {
                let why = format!("{at} in body should have at least {least} properties");
                out.errors.push(FieldError::invalid(field(at), json!(size), why));
            }
            if let Some(most) = checks.max_properties.filter(|most| size > *most) {
                let most = usize::try_from(most).unwrap_or_default();
                out.errors.push(FieldError::too_many(field(at), map.len(), most));
            }
        }
        for (key, inner) in map {
            if out.errors.len() >= ERRORS {
                break;
            }
            let (node, at) = match (self.properties.get(&**key), &self.additional) {
                (Some(node), _) => (node, Path::Key(at, key)),
                // a message begins with a dot where the map is the whole
                (None, Additional::Schema(node)) => (&**node, Path::Entry(at, key)),
                (None, Additional::Allowed(false)) => {
                    let why = format!("{at}.{key} in body is a forbidden property");
                    out.errors.push(FieldError::invalid(field(at), json!(key), why));
                    continue;
                }
                _ => continue,
            };
            let before = old.and_then(|old| old.get(key));
            out.merge(node.outcome(inner, before, &at));
        }
        for name in self.checks.iter().flat_map(|c| c.required.iter()) {
            if !map.contains_key(&**name) {
                out.errors.push(FieldError::required(&Path::Key(at, name), ""));
            }
        }
    }
}

/// Upstream calls the whole object nothing in errors of its fields.
fn field(at: &Path<'_>) -> String {
    if at.is_root() {
        "<nil>".to_owned()
    } else {
        at.text(true)
    }
}

fn beyond<T: PartialOrd>(value: &T, bound: &T, upper: bool, exclusive: bool) -> bool {
    match (upper, exclusive) {
        (true, false) => value > bound,
        (true, true) => value >= bound,
        (false, false) => value < bound,
        (false, true) => value <= bound,
    }
}

fn multiple_of(value: f64, step: f64) -> Option<String> {
    let times = if step < 1.0 { 1.0 / step * value } else { value / step };
    (step > 0.0 && !is_whole(times)).then(|| format!("should be a multiple of {}", go::float(step)))
}

/// As `swag.IsFloat64AJSONInteger`: nearly whole, and such that JSON has it exactly.
fn is_whole(real: f64) -> bool {
    const MOST: f64 = 9_007_199_254_740_991.0;
    let rounded = real.round();
    let near = real == rounded || rounded != 0.0 && (real - rounded).abs() < 1e-9 * rounded.abs();
    near && real.abs() <= MOST
}

/// `anyOf`, `oneOf`, `allOf` and `not`.
fn alternatives(checks: &Checks, value: &Value, at: &Path<'_>) -> Outcome {
    let mut out = Outcome {
        matches: 1,
        ..Outcome::default()
    };
    // what says nothing of a certain field is a plain error
    let message = |text: String| FieldError::invalid("<nil>", json!(""), text);
    let shown = || format!("{:?}", at.text(true));
    let try_all = |nodes: &[Node]| -> (usize, Option<Outcome>, Option<Outcome>) {
        let (mut valid, mut first, mut best): (usize, Option<Outcome>, Option<Outcome>) = (0, None, None);
        for node in nodes {
            let outcome = node.outcome(value, None, at);
            if outcome.errors.is_empty() {
                valid += 1;
                best = None;
                first.get_or_insert(outcome);
            } else if valid == 0 && best.as_ref().is_none_or(|b| outcome.matches > b.matches) {
                best = Some(outcome);
            }
        }
        (valid, first, best)
    };
    if !checks.any_of.is_empty() {
        let (valid, first, best) = try_all(&checks.any_of);
        if valid == 0 {
            out.errors.push(message(format!(
                "{} must validate at least one schema (anyOf)",
                shown()
            )));
        }
        best.or(first).into_iter().for_each(|o| out.merge(o));
    }
    if !checks.one_of.is_empty() {
        let (valid, first, best) = try_all(&checks.one_of);
        if valid == 1 {
            first.into_iter().for_each(|o| out.merge(o));
        } else {
            let found = if valid == 0 {
                "Found none valid".to_owned()
            } else {
                format!("Found {valid} valid alternatives")
            };
            let text = format!("{} must validate one and only one schema (oneOf). {found}", shown());
            out.errors.push(message(text));
            best.into_iter().for_each(|o| out.merge(o));
        }
    }
    if !checks.all_of.is_empty() {
        let mut valid = 0;
        for node in &checks.all_of {
            let outcome = node.outcome(value, None, at);
            valid += usize::from(outcome.errors.is_empty());
            out.merge(outcome);
        }
        if valid != checks.all_of.len() {
            let none = if valid == 0 { ". None validated" } else { "" };
            out.errors.push(message(format!(
                "{} must validate all the schemas (allOf){none}",
                shown()
            )));
        }
    }
    if let Some(not) = &checks.not
        && not.outcome(value, None, at).errors.is_empty()
    {
        out.errors
            .push(message(format!("{} must not validate the schema (not)", shown())));
    }
    out
}

/// The type of a value and the format that upstream sees in it.
fn type_of(value: &Value) -> (&'static str, &'static str) {
    match value {
        Value::Null => ("null", ""),
        Value::Bool(_) => ("boolean", ""),
        Value::Number(n) if n.is_i64() => ("integer", "int64"),
        Value::Number(_) => ("number", "float64"),
        Value::String(_) => ("string", ""),
        Value::Array(_) => ("array", ""),
        Value::Object(_) => ("object", ""),
    }
}

/// Tells of a real number that it is an integer, which it is only where it is exact.
fn whole(value: &Value) -> bool {
    const MOST: f64 = 9_007_199_254_740_991.0;
    value.as_f64().is_some_and(|f| f.fract() == 0.0 && f.abs() <= MOST)
}
