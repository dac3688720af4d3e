//! What writers of custom resources are warned of.

use std::collections::BTreeSet;

use api::names;
use api::schema::structural::definition::unknown_formats;
use serde_json::Value;

use super::text;

/// Finalizers that were added and may be somebody else's too.
pub fn of(new: &Value, old: Option<&Value>) -> Vec<String> {
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

/// Formats in the schemas of a definition that nothing is held against, and that it did not have before.
pub fn formats(new: &Value, old: Option<&Value>) -> Vec<String> {
    let unknown = |definition: &Value| -> Vec<String> {
        let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
        let schemas = versions
            .into_iter()
            .flatten()
            .filter_map(|v| v.pointer("/schema/openAPIV3Schema"));
        schemas.flat_map(unknown_formats).collect()
    };
    let before: BTreeSet<String> = old.map(unknown).into_iter().flatten().collect();
    let added = unknown(new).into_iter().filter(|format| !before.contains(format));
    added.map(|format| format!("unrecognized format {format:?}")).collect()
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
