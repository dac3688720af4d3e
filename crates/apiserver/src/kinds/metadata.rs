//! The rules of `metadata`. Upstream asks them of every object, and again in the rules of most kinds: an error stands in the
//! answer as often as it is found.

use std::borrow::Cow;
use std::collections::HashSet;

use api::field::{FieldError, FieldErrors, shown_list};
use api::names;
use serde_json::{Value, json};

use crate::kinds::Kind;

/// The rules of finalizers that are asked: those of all objects, or with them those of Kubernetes' own kinds, whose finalizers are
/// standard ones or have a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    Any,
    Own,
}

/// The rules that a kind asks again on update, besides those of every object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Again {
    /// The rules of an object as it is.
    whole: Option<Rules>,
    /// The rules of a change.
    change: Option<Rules>,
}

impl Again {
    /// Nothing.
    pub const NONE: Again = Again::of(None, None);
    /// A change, by the rules of Kubernetes' own kinds.
    pub const CHANGE: Again = Again::of(None, Some(Rules::Own));
    /// The object as it is, by the rules of Kubernetes' own kinds.
    pub const WHOLE: Again = Again::of(Some(Rules::Own), None);
    /// Both, by the rules of Kubernetes' own kinds.
    pub const BOTH: Again = Again::of(Some(Rules::Own), Some(Rules::Own));
    /// A change, by the rules of all objects.
    pub const CHANGE_OF_ANY: Again = Again::of(None, Some(Rules::Any));
    /// The object as it is, by the rules of all objects.
    pub const WHOLE_OF_ANY: Again = Again::of(Some(Rules::Any), None);
    /// Both, by the rules of all objects.
    pub const BOTH_OF_ANY: Again = Again::of(Some(Rules::Any), Some(Rules::Any));

    const fn of(whole: Option<Rules>, change: Option<Rules>) -> Again {
        Again { whole, change }
    }
}

/// The rules of metadata that a kind asks besides those of every object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Of the finalizers of a new object.
    pub finalizers: Rules,
    /// The rules of the kind say nothing of metadata: those of every object are asked when nothing else is wrong.
    pub last: bool,
    pub on_update: Again,
    pub on_status: Again,
}

impl Asked {
    /// As most kinds ask.
    pub const DEFAULT: Asked = Asked {
        finalizers: Rules::Own,
        last: false,
        on_update: Again::CHANGE,
        on_status: Again::CHANGE,
    };
    /// Of kinds whose rules say nothing of metadata.
    pub const LAST: Asked = Asked {
        finalizers: Rules::Any,
        last: true,
        on_update: Again::NONE,
        on_status: Again::NONE,
    };

    /// As most kinds ask, but for updates.
    pub const fn on_update(on_update: Again) -> Asked {
        Asked {
            on_update,
            ..Asked::DEFAULT
        }
    }

    /// The same, but for writes of the status.
    pub const fn and_on_status(self, on_status: Again) -> Asked {
        Asked { on_status, ..self }
    }

    /// The same, for a kind that takes finalizers without a domain.
    pub const fn of_any_finalizers(self) -> Asked {
        Asked {
            finalizers: Rules::Any,
            ..self
        }
    }
}

/// Everything in which the metadata of a new object, or of a changed one, breaks its rules.
pub fn validate(kind: &Kind, new: &Value, old: Option<&Value>, subresource: &str) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let base = kind.checks_generate_name;
    let Some(old) = old else {
        whole(&mut errors, base, new, kind.name, kind.metadata.finalizers);
        return errors;
    };
    whole(&mut errors, base, new, names::path_segment_errors, Rules::Any);
    change(&mut errors, new, old, Rules::Any);
    let again = match subresource {
        "status" => kind.metadata.on_status,
        _ => kind.metadata.on_update,
    };
    if let Some(rules) = again.whole {
        whole(&mut errors, base, new, kind.name, rules);
    }
    if let Some(rules) = again.change {
        change(&mut errors, new, old, rules);
    }
    errors
}

fn text<'a>(tree: &'a Value, key: &str) -> &'a str {
    crate::tree::text(tree, &["metadata", key]).unwrap_or_default()
}

type NameCheck = fn(&str) -> Vec<String>;

fn list<'a>(tree: &'a Value, key: &str) -> &'a [Value] {
    let list = tree.get("metadata").and_then(|m| m.get(key)).and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

/// The rules of an object as it is.
fn whole(errors: &mut FieldErrors, checks_base: bool, new: &Value, check: NameCheck, rules: Rules) {
    let (name, base) = (text(new, "name"), text(new, "generateName"));
    if !base.is_empty() && checks_base {
        for problem in check(&masked(base)) {
            errors.push(FieldError::invalid("metadata.generateName", json!(base), problem));
        }
    }
    if name.is_empty() {
        errors.push(FieldError::required(
            "metadata.name",
            "name or generateName is required",
        ));
    } else {
        for problem in check(name) {
            errors.push(FieldError::invalid("metadata.name", json!(name), problem));
        }
    }
    let generation = new.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
    if generation < 0 {
        let why = "must be greater than or equal to 0";
        errors.push(FieldError::invalid("metadata.generation", json!(generation), why));
    }
    marks(errors, new);
    finalizers(errors, new);
    if rules == Rules::Own {
        own_finalizers(errors, new);
    }
}

/// The rules of a change.
fn change(errors: &mut FieldErrors, new: &Value, old: &Value, rules: Rules) {
    if !text(old, "deletionTimestamp").is_empty() {
        let had: HashSet<&Value> = list(old, "finalizers").iter().collect();
        let mut added: Vec<String> = list(new, "finalizers")
            .iter()
            .filter(|f| !had.contains(f))
            .map(Value::to_string)
            .collect();
        added.sort_unstable();
        added.dedup();
        if !added.is_empty() {
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            errors.push(FieldError::forbidden("metadata.finalizers", why));
        }
    }
    for key in ["uid", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let of = |tree: &Value| {
            tree.get("metadata")
                .and_then(|m| m.get(key))
                .cloned()
                .unwrap_or_default()
        };
        let value = of(new);
        if value != of(old) {
            let at = format!("metadata.{key}");
            errors.push(FieldError::invalid(at, value, "field is immutable"));
        }
    }
    marks(errors, new);
    if rules == Rules::Own {
        own_finalizers(errors, new);
    }
}

/// Labels, annotations, owners and managed fields.
fn marks(errors: &mut FieldErrors, new: &Value) {
    let map = |key: &str| new.get("metadata").and_then(|m| m.get(key)).and_then(Value::as_object);
    for (key, value) in map("labels").into_iter().flatten() {
        for problem in names::qualified_name_errors(key) {
            errors.push(FieldError::invalid("metadata.labels", json!(key), problem));
        }
        let value = value.as_str().unwrap_or_default();
        for problem in names::label_value_errors(value) {
            errors.push(FieldError::invalid("metadata.labels", json!(value), problem));
        }
    }
    let mut size = 0;
    for (key, value) in map("annotations").into_iter().flatten() {
        size += key.len() + value.as_str().map_or(0, str::len);
        for problem in names::qualified_name_errors(&key.to_lowercase()) {
            errors.push(FieldError::invalid("metadata.annotations", json!(key), problem));
        }
    }
    if size > 256 << 10 {
        errors.push(FieldError::too_long("metadata.annotations", 256 << 10));
    }
    owners(errors, new);
    for (i, entry) in list(new, "managedFields").iter().enumerate() {
        managed(errors, entry, &format!("metadata.managedFields[{i}]"));
    }
}

fn owners(errors: &mut FieldErrors, new: &Value) {
    const AT: &str = "metadata.ownerReferences";
    let mut controller: Option<String> = None;
    for (i, owner) in list(new, "ownerReferences").iter().enumerate() {
        if errors.is_full() {
            return;
        }
        let at = format!("{AT}[{i}]");
        let of = |key: &str| owner.get(key).and_then(Value::as_str).unwrap_or_default();
        let missing = |key: &str| FieldError::required(format!("{at}.{key}"), "must not be empty");
        let version = of("apiVersion");
        // of `group/` the version is empty too
        if version.is_empty() {
            errors.push(missing("apiVersion"));
        } else if version.ends_with('/') || version.matches('/').count() > 1 {
            let why = "must be <group>/<version> or <version>";
            errors.push(FieldError::invalid(format!("{at}.apiVersion"), json!(version), why));
        }
        for key in ["kind", "name", "uid"] {
            if of(key).is_empty() {
                errors.push(missing(key));
            }
        }
        if (version, of("kind")) == ("v1", "Event") {
            let why = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::invalid(at.as_str(), owner.clone(), why));
        }
        if owner.get("controller") == Some(&Value::Bool(true)) {
            let this = format!("{}/{}", of("kind"), of("name"));
            match &controller {
                Some(first) => {
                    let why = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                    );
                    let all = shown_list(list(new, "ownerReferences"));
                    errors.push(FieldError::invalid(AT, all, why));
                }
                None => controller = Some(this),
            }
        }
    }
}

/// An entry of the managed fields.
fn managed(errors: &mut FieldErrors, entry: &Value, at: &str) {
    const SUBRESOURCE: usize = 256;
    let of = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
    if !matches!(of("operation"), "Apply" | "Update") {
        let at = format!("{at}.operation");
        errors.push(FieldError::invalid(
            at,
            json!(of("operation")),
            "must be `Apply` or `Update`",
        ));
    }
    if !matches!(of("fieldsType"), "" | "FieldsV1") {
        let at = format!("{at}.fieldsType");
        errors.push(FieldError::invalid(at, json!(of("fieldsType")), "must be `FieldsV1`"));
    }
    if of("subresource").len() > SUBRESOURCE {
        errors.push(FieldError::too_long(format!("{at}.subresource"), SUBRESOURCE));
    }
}

/// The rules of the finalizers of every object.
pub fn finalizers(errors: &mut FieldErrors, new: &Value) {
    const AT: &str = "metadata.finalizers";
    const OPPOSED: [&str; 2] = ["orphan", "foregroundDeletion"];
    let all = list(new, "finalizers");
    for finalizer in all {
        let text = finalizer.as_str().unwrap_or_default();
        let found = names::qualified_name_errors(text).into_iter();
        errors.extend(found.map(|p| FieldError::invalid(AT, json!(text), p)));
    }
    if OPPOSED.iter().all(|name| all.iter().any(|f| f == name)) {
        let why = format!("finalizer {} and {} cannot be both set", OPPOSED[1], OPPOSED[0]);
        errors.push(FieldError::invalid(AT, shown_list(all), why));
    }
}

/// Finalizers of Kubernetes' own kinds are standard ones or have a domain.
fn own_finalizers(errors: &mut FieldErrors, new: &Value) {
    for (i, finalizer) in list(new, "finalizers").iter().enumerate() {
        let text = finalizer.as_str().unwrap_or_default();
        if let Some(problem) = names::finalizer_error(text) {
            let at = format!("metadata.finalizers[{i}]");
            errors.push(FieldError::invalid(at, json!(text), problem));
        }
    }
}

/// The base of a generated name as upstream checks it: what makes a trailing dash right takes its neighbour along.
fn masked(base: &str) -> Cow<'_, str> {
    let cut = base.strip_suffix('-').and_then(|rest| rest.char_indices().next_back());
    match cut {
        Some((at, _)) => Cow::Owned(format!("{}a", &base[..at])),
        None => Cow::Borrowed(base),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_owners_that_control_are_not_shown_once_for_each() {
        let owners = |count: usize| -> Vec<Value> {
            let owner = |i| json!({ "apiVersion": "v1", "kind": "Pod", "name": format!("p{i}"), "uid": "u", "controller": true });
            (0..count).map(owner).collect()
        };
        let found = |count: usize| {
            let mut errors = FieldErrors::new();
            super::owners(
                &mut errors,
                &json!({ "metadata": { "ownerReferences": owners(count) } }),
            );
            errors
        };
        assert_eq!(found(1).len(), 0);
        let three = found(3);
        assert_eq!((three.len(), &three[1].bad_value), (2, &Some(json!(owners(3)))));
        let many = found(30_000);
        assert_eq!(
            (many.len(), &many[0].bad_value),
            (FieldErrors::MOST, &Some(json!("<30000 items>")))
        );
    }
}
