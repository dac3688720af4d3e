//! Custom resources: the kinds that definitions make, and what their writers are warned of.

pub mod rules;

use std::collections::BTreeSet;

use api::field::{FieldError, FieldErrorKind};
use api::names;
use api::schema::structural::Written;
use serde_json::{Value, json};

use crate::kinds::{Again, Asked, Check, Errors, Follow, Generation, Kind, STATUS_ALONE};
use crate::tree::text;

/// A custom resource whose definition gives it no status.
pub static PLAIN: Kind = Kind {
    unconditional_update: false,
    generation: Generation::Counted,
    metadata: ASKED,
    warn: |told, new, old| told.extend(of(new, old)),
    follow: Follow::CustomObject,
    ..Kind::plain("", "", validate)
};

/// A custom resource with a status.
pub static WITH_STATUS: Kind = Kind {
    unconditional_update: false,
    generation: Generation::Counted,
    parts: &[STATUS_ALONE],
    metadata: ASKED,
    warn: |told, new, old| told.extend(of(new, old)),
    follow: Follow::CustomObject,
    ..Kind::new("", "", validate)
};

const ASKED: Asked = Asked::on_update(Again::CHANGE_OF_ANY)
    .and_on_status(Again::CHANGE_OF_ANY)
    .of_any_finalizers();

/// Holds an object to the schema of its definition, to the numbers that its `scale` shows, and to the definition's rules.
fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    if let Some(custom) = check.custom {
        let written = if check.is_status() {
            Written::Status
        } else {
            Written::Whole
        };
        errors.extend(custom.schema.validate_structural(check.new, check.old, written));
        errors.extend(custom.scale.iter().flat_map(|scale| scale.errors(check.new, written)));
        if let (Some(rules), Some(node)) = (custom.rules, custom.schema.structural()) {
            if custom.blocked || errors.iter().any(blocks_rules) {
                let why = "some validation rules were not checked because the object was invalid; correct the existing errors to \
                           complete validation";
                errors.push(FieldError::invalid("<nil>", Value::Null, why));
            } else {
                let found = rules.check(node, check.new, check.old);
                errors.extend(found.errors);
                found.warnings.into_iter().for_each(|told| custom.warnings.add(told));
            }
        }
    }
    errors
}

/// Whether an object with such an error cannot be read as its schema says, so that no rule is evaluated.
pub fn blocks_rules(error: &FieldError) -> bool {
    matches!(
        error.kind,
        FieldErrorKind::NotSupported
            | FieldErrorKind::Required
            | FieldErrorKind::TooLong
            | FieldErrorKind::TooMany
            | FieldErrorKind::TypeInvalid
    )
}

/// Finalizers that were added and may be somebody else's too.
fn of(new: &Value, old: Option<&Value>) -> Vec<String> {
    const STANDARD: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];
    let finalizers = |object: &Value| -> BTreeSet<String> {
        let list = object.pointer("/metadata/finalizers").and_then(Value::as_array);
        let names = list.into_iter().flatten().filter_map(Value::as_str);
        names.map(str::to_owned).collect()
    };
    let before = old.map(finalizers).unwrap_or_default();
    let mut told = Vec::new();
    for name in finalizers(new).difference(&before) {
        let at = format!("metadata.finalizers: {name:?}");
        let bad = names::qualified_name_errors(name).into_iter();
        told.extend(bad.map(|why| format!("{at}: {why}")));
        if !name.contains('/') && !STANDARD.contains(&name.as_str()) {
            let path = if name.contains('.') {
                " including a path (/)"
            } else {
                ""
            };
            told.push(format!(
                "{at}: prefer a domain-qualified finalizer name{path} to avoid accidental conflicts with other finalizer \
                 writers"
            ));
        }
    }
    told
}

/// That a version of a custom resource is on its way out: what its definition says, or upstream's sentence.
pub fn deprecated(version: &Value, spec: &Value) -> Option<String> {
    let is_deprecated = |version: &Value| version.get("deprecated") == Some(&Value::Bool(true));
    if !is_deprecated(version) {
        return None;
    }
    if let Some(own) = text(version, &["deprecationWarning"]) {
        return Some(own.to_owned());
    }
    let (group, kind) = (text(spec, &["group"])?, text(spec, &["names", "kind"])?);
    let name = text(version, &["name"])?;
    let others = spec.get("versions").and_then(Value::as_array).into_iter().flatten();
    let newest = others
        .filter(|v| v.get("served") == Some(&Value::Bool(true)) && !is_deprecated(v))
        .filter_map(|v| text(v, &["name"]))
        .filter(|other| maturity(other) > maturity(name))
        .max_by_key(|other| maturity(other));
    let instead = newest
        .map(|newest| format!("; use {group}/{newest} {kind}"))
        .unwrap_or_default();
    Some(format!("{group}/{name} {kind} is deprecated{instead}"))
}

/// Orders versions as Kubernetes does: stable ones over beta over alpha, then by their numbers; other names last.
fn maturity(version: &str) -> (u8, u64, u64) {
    let (stage, major, minor) = match version.strip_prefix('v') {
        None => return (0, 0, 0),
        Some(rest) => match (rest.split_once("alpha"), rest.split_once("beta")) {
            (Some((major, minor)), _) => (1, major, minor),
            (_, Some((major, minor))) => (2, major, minor),
            _ => (3, rest, "0"),
        },
    };
    match (major.parse(), minor.parse()) {
        (Ok(major), Ok(minor)) => (stage, major, minor),
        _ => (0, 0, 0),
    }
}

/// Where a custom resource keeps what its `scale` subresource shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalePaths {
    pub spec_replicas: String,
    pub status_replicas: String,
    pub label_selector: Option<String>,
}

impl ScalePaths {
    /// What keeps `scale` from being shown of an object.
    pub fn errors(&self, tree: &Value, written: Written) -> Vec<FieldError> {
        let replicas = |path: &String| {
            let at = format!(".{path}");
            let value = match nested(tree, path, &at) {
                Ok(value) => value?,
                Err(why) => return Some(FieldError::invalid(at, json!(0), why.to_string())),
            };
            match value.as_i64() {
                None => {
                    let why = unlike(&at, value, "int64");
                    Some(FieldError::invalid(at, json!(0), why.to_string()))
                }
                Some(n) if n < 0 => Some(FieldError::invalid(at, json!(n), "should be a non-negative integer")),
                Some(n) if n > i64::from(i32::MAX) => {
                    let why = format!("should be less than or equal to {}", i32::MAX);
                    Some(FieldError::invalid(at, json!(n), why))
                }
                Some(_) => None,
            }
        };
        let selector = |path: &String| {
            let at = format!(".{path}");
            let why = match nested(tree, path, &at) {
                Ok(None | Some(Value::String(_))) => return None,
                Ok(Some(value)) => unlike(&at, value, "string"),
                Err(why) => why,
            };
            Some(FieldError::invalid(at, json!(""), why.to_string()))
        };
        let mut errors = Vec::new();
        if written == Written::Whole {
            errors.extend(replicas(&self.spec_replicas));
        }
        errors.extend(replicas(&self.status_replicas));
        errors.extend(self.label_selector.as_ref().and_then(selector));
        errors
    }
}

/// The value at a dotted path; what stands on the way must be objects.
fn nested<'t>(tree: &'t Value, path: &str, at: &str) -> std::result::Result<Option<&'t Value>, AccessError> {
    let mut value = tree;
    for key in path.split('.').filter(|p| !p.is_empty()) {
        value = match value {
            Value::Object(map) => match map.get(key) {
                Some(inner) => inner,
                None => return Ok(None),
            },
            Value::Null => return Ok(None),
            other => return Err(unlike(at, other, "map[string]interface{}")),
        };
    }
    Ok(Some(value))
}

/// A value on a path has another type, told as Go's accessors tell it.
#[derive(Debug, thiserror::Error)]
#[error("{at} accessor error: {shown} is of the type {found}, expected {wanted}")]
struct AccessError {
    at: String,
    shown: String,
    found: &'static str,
    wanted: &'static str,
}

fn unlike(at: &str, value: &Value, wanted: &'static str) -> AccessError {
    AccessError {
        at: at.to_owned(),
        shown: api::go::sprint(value),
        found: api::go::type_of(value),
        wanted,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_deprecated_version_names_the_newest_one_to_use_instead() {
        let version = |name: &str, deprecated: bool| json!({ "name": name, "served": true, "deprecated": deprecated });
        let versions = [
            version("v1beta1", true),
            version("v1", false),
            version("v2alpha1", false),
            version("v1beta2", false),
        ];
        let spec = json!({ "group": "g.io", "names": { "kind": "K" }, "versions": versions });
        let told = deprecated(&versions[0], &spec);
        assert_eq!(told.as_deref(), Some("g.io/v1beta1 K is deprecated; use g.io/v1 K"));
        assert_eq!(deprecated(&versions[1], &spec), None);
    }

    #[test]
    fn only_new_finalizers_without_a_path_are_told_of() {
        let object = |list: &[&str]| json!({ "metadata": { "finalizers": list } });
        let old = object(&["foreground.example.com"]);
        let new = object(&[
            "foreground.example.com",
            "a.example.com",
            "b",
            "c.example.com/d",
            "orphan",
        ]);
        let told = of(&new, Some(&old));
        let end = "to avoid accidental conflicts with other finalizer writers";
        let want = [
            format!(
                "metadata.finalizers: \"a.example.com\": prefer a domain-qualified finalizer name including a path (/) {end}"
            ),
            format!("metadata.finalizers: \"b\": prefer a domain-qualified finalizer name {end}"),
        ];
        assert_eq!(told, want);
    }
}
