//! StorageClass.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Value, json};

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, flag, or, text_at};
use crate::kinds::rules::{immutable, one_of_or_none, qualified_name, require};
use crate::kinds::storage::{GROUP, parameters};
use crate::kinds::warnings::{deprecated_label, field, items};
use crate::kinds::{Again, Asked, Check, Cursor, Errors, Kind};

pub(in crate::kinds) const KIND: Kind = Kind {
    metadata: Asked::on_update(Again::BOTH),
    warn: |told, new, _| warn(told, new),
    returns_deleted: true,
    columns: COLUMNS,
    default_of: Some(default_of),
    ..Kind::plain(GROUP, "storageclasses", validate)
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Provisioner", "string", 0, |c| json!(text_at(c, "/provisioner"))),
    ("ReclaimPolicy", "string", 0, |c| or(c, "/reclaimPolicy", "Delete")),
    ("VolumeBindingMode", "string", 0, |c| {
        or(c, "/volumeBindingMode", "Immediate")
    }),
    ("AllowVolumeExpansion", "string", 0, |c| {
        json!(flag(c, "/allowVolumeExpansion"))
    }),
    AGE,
];

/// Claims without a class get the latest of the classes that say they are the default; of two of one time the first by name.
fn default_of(classes: &mut dyn Iterator<Item = Value>) -> Option<String> {
    const KEYS: [&str; 2] = [
        "storageclass.kubernetes.io/is-default-class",
        "storageclass.beta.kubernetes.io/is-default-class",
    ];
    let says_so = |class: &Value| {
        let annotations = class.pointer("/metadata/annotations");
        KEYS.iter().any(|key| annotations.is_some_and(|a| a[*key] == "true"))
    };
    let of = |class: Value| {
        let made = text_at(&class, "/metadata/creationTimestamp").to_owned();
        (made, std::cmp::Reverse(text_at(&class, "/metadata/name").to_owned()))
    };
    let latest = classes.filter(says_so).map(of).max()?;
    Some(latest.1.0)
}

fn warn(told: &mut Vec<String>, class: &Value) {
    for (i, topology) in items(class.get("allowedTopologies")).iter().enumerate() {
        for (j, expression) in items(topology.get("matchLabelExpressions")).iter().enumerate() {
            if let Some(why) = deprecated_label(field(expression, "key")) {
                told.push(format!("allowedTopologies[{i}].matchLabelExpressions[{j}].key: {why}"));
            }
        }
    }
}

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    if let Some(old) = check.before() {
        for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
            immutable(&mut errors, &root.get(field), &old.get(field));
        }
    }
    provisioner(&mut errors, &root.get("provisioner"));
    parameters(&mut errors, &root.get("parameters"));
    one_of_or_none(&mut errors, &root.get("reclaimPolicy"), &["Delete", "Retain"]);
    let mode = root.get("volumeBindingMode");
    if mode.is_some() {
        one_of_or_none(&mut errors, &mode, &["Immediate", "WaitForFirstConsumer"]);
    } else {
        errors.push(mode.required(""));
    }
    topologies(&mut errors, &root.get("allowedTopologies"));
    errors
}

/// Checks the name of a provisioner; capitals count as small letters.
pub fn provisioner(errors: &mut Errors, at: &Cursor) {
    if require(errors, at) {
        let found = api::names::qualified_name_errors(&at.text().to_lowercase());
        errors.extend(found.into_iter().map(|p| at.wrong(at.text().to_lowercase(), p)));
    }
}

/// Where volumes of a class may be: no term twice. An empty term is told once for each term there is, as upstream does.
fn topologies(errors: &mut Errors, list: &Cursor) {
    let mut before: HashMap<BTreeMap<&str, BTreeSet<&str>>, usize> = HashMap::new();
    before.insert(BTreeMap::new(), list.list().len());
    for term in list.items() {
        let mut keys: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let expressions = term.get("matchLabelExpressions");
        for expression in expressions.items() {
            let (key, values) = (expression.get("key"), expression.get("values"));
            if values.list().is_empty() {
                errors.push(values.required(""));
            }
            let mut unique = BTreeSet::new();
            for value in values.items().filter(|v| !unique.insert(v.text())) {
                errors.push(value.duplicate(value.text()));
            }
            qualified_name(errors, &key);
            if keys.insert(key.text(), unique).is_some() {
                errors.push(key.duplicate(key.text()));
            }
        }
        let alike = before.entry(keys).or_default();
        errors.extend((0..*alike).map(|_| expressions.duplicate("")));
        *alike += 1;
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_latest_class_that_says_so_is_the_default() {
        let class = |name: &str, made: &str, says: &str| {
            json!({ "metadata": { "name": name, "creationTimestamp": made,
                "annotations": { "storageclass.kubernetes.io/is-default-class": says } } })
        };
        let mut classes = vec![
            class("z", "2026-01-01T00:00:00Z", "true"),
            class("c", "2026-01-03T00:00:00Z", "false"),
        ];
        assert_eq!(default_of(&mut classes.clone().into_iter()).as_deref(), Some("z"));
        classes.extend([
            class("b", "2026-01-02T00:00:00Z", "true"),
            class("a", "2026-01-02T00:00:00Z", "true"),
        ]);
        assert_eq!(default_of(&mut classes.into_iter()).as_deref(), Some("a"));
        assert_eq!(default_of(&mut std::iter::empty()), None);
    }

    use serde_json::json;

    use super::*;

    fn found(terms: serde_json::Value) -> Errors {
        let class = json!({ "provisioner": "p", "volumeBindingMode": "Immediate", "allowedTopologies": terms });
        let check = Check {
            new: &class,
            old: None,
            subresource: "",
            custom: None,
            now: 0,
        };
        validate(&check)
    }

    #[test]
    fn terms_that_stand_twice_are_told_and_not_each_pair_of_many() {
        assert_eq!(found(json!([{}])).len(), 1);
        assert_eq!(found(json!([{}, {}])).len(), 5);
        assert_eq!(found(json!(vec![json!({}); 50_000])).len(), Errors::MOST);
    }
}
