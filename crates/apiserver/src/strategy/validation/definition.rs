//! Rules of CustomResourceDefinitions.

use std::collections::HashSet;

use api::names;
use api::schema::Schema;
use serde_json::Value;

use super::Check;
use crate::strategy::validation::common::{Errors, immutable, require};
use crate::strategy::validation::cursor::Cursor;

const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 9] = [
    "int32",
    "int64",
    "float",
    "double",
    "byte",
    "date",
    "date-time",
    "password",
    "",
];

pub fn definition(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    let spec = root.get("spec");
    if !check.is_status() {
        let (name, plural, group) = (
            root.at(&["metadata", "name"]),
            spec.at(&["names", "plural"]),
            spec.get("group"),
        );
        if check.old.is_none() && name.text() != format!("{}.{}", plural.text(), group.text()) {
            errors.push(name.wrong(name.text(), "must be spec.names.plural+\".\"+spec.group"));
        }
        whole_spec(&mut errors, &spec);
        if let Some(old) = check.before() {
            update(&mut errors, &spec, &old);
        }
    }
    stored_versions(&mut errors, &root);
    errors
}

/// The problems of a name in one sentence.
fn label(errors: &mut Errors, at: &Cursor, lower: bool) {
    let text = if lower {
        at.text().to_lowercase()
    } else {
        at.text().to_owned()
    };
    let found = names::dns1035_label_errors(&text);
    if at.text().is_empty() || found.is_empty() {
        return;
    }
    let prefix = if lower {
        "may have mixed case, but should otherwise match: "
    } else {
        ""
    };
    errors.push(at.invalid(format!("{prefix}{}", found.join(","))));
}

fn whole_spec(errors: &mut Errors, spec: &Cursor) {
    let group = spec.get("group");
    let found = names::dns1123_subdomain_errors(group.text());
    if group.text().is_empty() {
        errors.push(group.required(""));
    } else if !found.is_empty() {
        errors.push(group.invalid(found.join(",")));
    } else if !group.text().contains('.') {
        errors.push(group.invalid("should be a domain with at least one dot"));
    }
    let scope = spec.get("scope");
    if !matches!(scope.text(), "Cluster" | "Namespaced") {
        if scope.text().is_empty() {
            errors.push(scope.required(""));
        } else {
            errors.push(scope.not_supported(&["Cluster", "Namespaced"]));
        }
    }
    let versions = spec.get("versions");
    for version in versions.items() {
        let schema = version.at(&["schema", "openAPIV3Schema"]);
        if !schema.is_some() {
            errors.push(schema.required(""));
        }
    }
    // what all versions share is named as the definition's own
    let shared = |field: &'static str| {
        let mut values = versions.items().map(|v| v.get(field).value.clone());
        let first = values.next();
        first.is_some() && values.all(|v| Some(&v) == first.as_ref())
    };
    let [schemas, subresources, columns] = ["schema", "subresources", "additionalPrinterColumns"].map(shared);
    let mut seen = HashSet::new();
    let mut unique = true;
    for version in versions.items() {
        let name = version.get("name");
        unique &= seen.insert(name.text());
        let found = names::dns1035_label_errors(name.text());
        if !found.is_empty() {
            errors.push(name.wrong(name.text(), found.join(",")));
        }
        if !schemas {
            structural(errors, &version.at(&["schema", "openAPIV3Schema"]));
        }
        if !subresources {
            scale(errors, &version.get("subresources"));
        }
        if !columns {
            printer_columns(errors, &version.get("additionalPrinterColumns"));
        }
    }
    if !unique {
        errors.push(versions.invalid("must contain unique version names"));
    }
    if versions.items().filter(|v| v.get("storage").is_true()).count() != 1 {
        let shown = Value::Array(versions.list().to_vec());
        errors.push(versions.wrong(shown, "must have exactly one version marked as storage version"));
    }
    resource_names(errors, &spec.get("names"));
    if let Some(first) = versions.items().next() {
        if schemas {
            let schema = first.at(&["schema", "openAPIV3Schema"]);
            structural(
                errors,
                &schema.named(format!("{}.validation.openAPIV3Schema", spec.path)),
            );
        }
        if subresources {
            scale(
                errors,
                &first.get("subresources").named(format!("{}.subresources", spec.path)),
            );
        }
        if columns {
            let at = format!("{}.additionalPrinterColumns", spec.path);
            printer_columns(errors, &first.get("additionalPrinterColumns").named(at));
        }
    }
    let strategy = spec.at(&["conversion", "strategy"]);
    if strategy.text() == "Webhook" {
        errors.push(strategy.forbidden("webhook conversion is not supported by this server"));
    }
}

fn structural(errors: &mut Errors, at: &Cursor) {
    if at.is_some() {
        errors.extend(
            Schema::from_crd(at.value, &at.path.to_string())
                .err()
                .unwrap_or_default(),
        );
    }
}

fn resource_names(errors: &mut Errors, at: &Cursor) {
    let [plural, singular, kind, list_kind] = ["plural", "singular", "kind", "listKind"].map(|field| at.get(field));
    for name in [&plural, &singular, &kind, &list_kind] {
        require(errors, name);
    }
    label(errors, &plural, false);
    label(errors, &singular, false);
    label(errors, &kind, true);
    label(errors, &list_kind, true);
    for name in at.get("shortNames").items() {
        label(errors, &name, false);
    }
    if !kind.text().is_empty() && kind.text() == list_kind.text() {
        errors.push(list_kind.invalid("kind and listKind may not be the same"));
    }
    for category in at.get("categories").items() {
        label(errors, &category, false);
    }
}

fn scale(errors: &mut Errors, at: &Cursor) {
    let Some(scale) = at.get("scale").present() else { return };
    for (field, below) in [("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")] {
        let path = scale.get(field);
        if require(errors, &path) && !path.text().starts_with(below) {
            let parent = below.trim_end_matches('.');
            errors.push(path.invalid(format!("should be a json path under {parent}")));
        }
    }
    let labels = scale.get("labelSelectorPath");
    let text = labels.text();
    if !text.is_empty() && !text.starts_with(".spec.") && !text.starts_with(".status.") {
        errors.push(labels.invalid("should be a json path under either .spec or .status"));
    }
}

fn printer_columns(errors: &mut Errors, list: &Cursor) {
    for column in list.items() {
        require(errors, &column.get("name"));
        let kind = column.get("type");
        let why = format!("must be one of {}", COLUMN_TYPES.join(","));
        if kind.text().is_empty() {
            errors.push(kind.required(&why));
        } else if !COLUMN_TYPES.contains(&kind.text()) {
            errors.push(kind.invalid(why));
        }
        let format = column.get("format");
        if !COLUMN_FORMATS.contains(&format.text()) {
            let mut sorted = COLUMN_FORMATS[..8].to_vec();
            sorted.sort_unstable();
            errors.push(format.invalid(format!("must be one of {}", sorted.join(","))));
        }
        require(
            errors,
            &column.get("jsonPath").named(format!("{}.JSONPath", column.path)),
        );
    }
}

fn update(errors: &mut Errors, spec: &Cursor, old: &Cursor) {
    let before = old.get("spec");
    let established = old
        .at(&["status", "conditions"])
        .items()
        .any(|c| c.get("type").text() == "Established" && c.get("status").text() == "True");
    let fixed: &[&[&str]] = if established {
        &[&["scope"], &["names", "kind"], &["group"], &["names", "plural"]]
    } else {
        &[&["group"], &["names", "plural"]]
    };
    for way in fixed {
        immutable(errors, &spec.at(way), &before.at(way));
    }
}

/// Objects may be stored in every version that is listed: none may go missing.
fn stored_versions(errors: &mut Errors, root: &Cursor) {
    let stored = root.at(&["status", "storedVersions"]);
    if stored.list().is_empty() {
        errors.push(stored.wrong(Value::Null, "must have at least one stored version"));
        return;
    }
    let versions = root.at(&["spec", "versions"]);
    for version in versions.items().filter(|v| v.get("storage").is_true()) {
        let name = version.get("name");
        if !stored.list().contains(name.value) {
            errors.push(stored.invalid(format!("must have the storage version {}", name.text())));
        }
    }
    for name in stored.items() {
        if !versions.items().any(|v| v.get("name").text() == name.text()) {
            let text = name.text();
            errors.push(name.invalid(format!(
                "missing from spec.versions; {text} was previously a storage version, and must remain in spec.versions \
                 until a storage migration ensures no data remains persisted in {text} and removes {text} from \
                 status.storedVersions"
            )));
        }
    }
}
