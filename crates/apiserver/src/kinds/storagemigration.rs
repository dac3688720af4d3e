//! StorageVersionMigration: the objects of a resource are written again, in the version that is stored now. KEP-4192.

use api::names;
use serde_json::{Value, json};

use crate::kinds::columns::{BuiltinColumn, NAME, list_at, text_at};
use crate::kinds::conditions::{conditions, is_true};
use crate::kinds::{Again, Asked, Check, Cursor, Errors, Kind, STATUS_ALONE};

pub(in crate::kinds) const KIND: Kind = Kind {
    unconditional_update: false,
    parts: &[STATUS_ALONE],
    metadata: Asked::on_update(Again::BOTH),
    columns: COLUMNS,
    ..Kind::new("storagemigration.k8s.io", "storageversionmigrations", validate)
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Resource", "string", 0, |m| {
        let (group, resource) = (
            text_at(m, "/spec/resource/group"),
            text_at(m, "/spec/resource/resource"),
        );
        json!(if group.is_empty() {
            resource.to_owned()
        } else {
            format!("{resource}.{group}")
        })
    }),
    ("Status", "string", 0, |m| {
        let known = ["Running", "Failed", "Succeeded"];
        let mut told = list_at(m, "/status/conditions")
            .filter(|c| c["status"] == "True")
            .filter_map(|c| c["type"].as_str());
        json!(told.rfind(|kind| known.contains(kind)).unwrap_or("Unknown"))
    }),
];

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    let old = check.before();
    if let (true, Some(old)) = (check.is_status(), &old) {
        status(&mut errors, &root.get("status"), &old.get("status"));
        return errors;
    }
    let spec = root.get("spec");
    let (group, resource) = (spec.at(&["resource", "group"]), spec.at(&["resource", "resource"]));
    if resource.text().is_empty() {
        errors.push(resource.required("resource is required to be set"));
    } else {
        together(&mut errors, &resource, &names::dns1035_label_errors(resource.text()));
    }
    if !group.text().is_empty() {
        together(&mut errors, &group, &names::dns1123_subdomain_errors(group.text()));
    }
    if old.is_some_and(|old| old.get("spec").value != spec.value) {
        errors.push(spec.invalid("field is immutable"));
    }
    errors
}

fn together(errors: &mut Errors, at: &Cursor, found: &[String]) {
    if !found.is_empty() {
        errors.push(at.invalid(found.join(",")));
    }
}

/// A migration ends once, and goes by the revision that it began with.
fn status(errors: &mut Errors, status: &Cursor, before: &Cursor) {
    let (list, revision) = (status.get("conditions"), status.get("resourceVersion"));
    let (had, was) = (before.get("conditions"), before.get("resourceVersion").text());
    if !is_revision(revision.text()) {
        let why = format!("resource version is not well formed: {}", revision.text());
        errors.push(revision.invalid(why));
    }
    conditions(errors, &list);
    if !was.is_empty() && was != revision.text() {
        errors.push(revision.wrong(revision.text(), "field is immutable"));
    }
    let shown = match list.value {
        Value::Null => json!([]),
        value => value.clone(),
    };
    if is_true(&list, "Succeeded") && is_true(&list, "Failed") {
        let why = "Both success and failed conditions cannot be true at the same time";
        errors.push(list.wrong(shown.clone(), why));
    }
    for (kind, why) in [
        ("Succeeded", "Success condition cannot be set to false once it is true"),
        ("Failed", "Failed condition cannot be set to false once it is true"),
    ] {
        if is_true(&had, kind) && !is_true(&list, kind) {
            errors.push(list.wrong(shown.clone(), why));
        }
    }
}

/// Whether a text is empty, or digits without a zero in front.
fn is_revision(text: &str) -> bool {
    text.bytes().all(|c| c.is_ascii_digit()) && !text.starts_with('0')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(new: &Value, old: Option<&Value>, subresource: &str) -> Vec<String> {
        let check = Check {
            new,
            old,
            subresource,
            custom: None,
            now: 0,
        };
        validate(&check).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_migration_is_of_one_resource_for_ever() {
        let of =
            |group: &str, resource: &str| json!({ "spec": { "resource": { "group": group, "resource": resource } } });
        assert!(found(&of("", "pods"), None, "").is_empty());
        assert!(found(&of("a.b", "c"), Some(&of("a.b", "c")), "").is_empty());
        assert!(found(&of("", ""), None, "")[0].contains("Required value: resource is required to be set"));
        assert!(found(&of("A", "B"), None, "").len() == 2);
        assert!(found(&of("", "pods"), Some(&of("", "nodes")), "")[0].contains("field is immutable"));
    }

    #[test]
    fn a_migration_ends_once() {
        let condition = |kind: &str, status: &str| json!({ "type": kind, "status": status, "reason": "R", "lastTransitionTime": "2026-11-29T18:47:13Z" });
        let of = |revision: &str, list: Value| json!({ "status": { "resourceVersion": revision, "conditions": list } });
        let (yes, no) = (condition("Succeeded", "True"), condition("Succeeded", "False"));
        for (new, old, why) in [
            (of("5", json!([yes])), of("", json!([])), ""),
            (of("6", json!([])), of("5", json!([])), "field is immutable"),
            (of("05", json!([])), of("", json!([])), "not well formed"),
            (of("5", json!([no])), of("5", json!([yes])), "cannot be set to false"),
            (
                of("5", json!([yes, condition("Failed", "True")])),
                of("5", json!([])),
                "cannot be true at the same time",
            ),
        ] {
            let errors = found(&new, Some(&old), "status");
            match why {
                "" => assert!(errors.is_empty(), "{errors:?}"),
                _ => assert!(errors.len() == 1 && errors[0].contains(why), "{errors:?}"),
            }
        }
    }
}
