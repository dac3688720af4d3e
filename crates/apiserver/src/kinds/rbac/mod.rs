//! Roles and their bindings: the rules and columns that their four kinds share.

pub mod cluster_role;
pub mod cluster_role_binding;
pub mod role;
pub mod role_binding;

use api::field::FieldError;
use api::names;
use serde_json::{Value, json};

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, list_at, text_at};
use crate::kinds::rules::{dns_subdomain, go_struct, problems, require};
use crate::kinds::{Again, Asked, Check, Cursor, Errors, Kind};

/// A kind of this group, but for its columns.
const fn of_rbac(plural: &'static str, validate: fn(&Check) -> Errors) -> Kind {
    Kind {
        create_on_update: true,
        name: names::path_segment_errors,
        metadata: Asked::on_update(Again::BOTH),
        ..Kind::plain(GROUP, plural, validate)
    }
}

const BINDINGS: &[BuiltinColumn] = &[
    NAME,
    ("Role", "string", 0, |b| {
        json!(format!(
            "{}/{}",
            text_at(b, "/roleRef/kind"),
            text_at(b, "/roleRef/name")
        ))
    }),
    AGE,
    ("Users", "string", 1, |b| subjects(b, "User")),
    ("Groups", "string", 1, |b| subjects(b, "Group")),
    ("ServiceAccounts", "string", 1, |b| subjects(b, "ServiceAccount")),
];

fn subjects(binding: &Value, kind: &str) -> Value {
    let of_kind = list_at(binding, "/subjects").filter(|s| s["kind"] == kind);
    let name = |s: &Value| match (kind, text_at(s, "/namespace")) {
        ("ServiceAccount", namespace) if !namespace.is_empty() => format!("{namespace}/{}", text_at(s, "/name")),
        _ => text_at(s, "/name").to_owned(),
    };
    json!(of_kind.map(name).collect::<Vec<_>>().join(", "))
}

const GROUP: &str = "rbac.authorization.k8s.io";

/// The rules of a role.
pub fn rules(check: &Check, namespaced: bool) -> Errors {
    let mut errors = Errors::new();
    for rule in check.root().get("rules").items() {
        let [verbs, urls, groups, resources] =
            ["verbs", "nonResourceURLs", "apiGroups", "resources"].map(|field| rule.get(field));
        if verbs.list().is_empty() {
            errors.push(verbs.required("verbs must contain at least one value"));
        }
        if !urls.list().is_empty() {
            if namespaced {
                errors.push(urls.invalid("namespaced rules cannot apply to non-resource URLs"));
            }
            let names = rule.get("resourceNames");
            if [&groups, &resources, &names].iter().any(|l| !l.list().is_empty()) {
                errors.push(urls.invalid("rules cannot apply to both regular resources and non-resource URLs"));
            }
            continue;
        }
        if groups.list().is_empty() {
            errors.push(groups.required("resource rules must supply at least one api group"));
        }
        if resources.list().is_empty() {
            errors.push(resources.required("resource rules must supply at least one resource"));
        }
    }
    errors
}

/// The rules of a binding to one of these kinds of roles.
pub fn binding(check: &Check, kinds: &[&str], namespaced: bool) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    let reference = root.get("roleRef");
    let [group, kind, name] = ["apiGroup", "kind", "name"].map(|field| reference.get(field));
    if group.text() != GROUP {
        errors.push(unlike(&group, &[GROUP]));
    }
    if !kinds.contains(&kind.text()) {
        errors.push(unlike(&kind, kinds));
    }
    if require(&mut errors, &name) {
        problems(&mut errors, &name, api::names::path_segment_errors(name.text()));
    }
    for subject in root.get("subjects").items() {
        binding_subject(&mut errors, &subject, namespaced);
    }
    if check
        .before()
        .is_some_and(|old| old.get("roleRef").value != reference.value)
    {
        let fields = [
            ("APIGroup", "apiGroup", "\"\""),
            ("Kind", "kind", "\"\""),
            ("Name", "name", "\"\""),
        ];
        errors.push(
            reference
                .invalid("field is immutable")
                .shown(&go_struct(&reference, &fields)),
        );
    }
    errors
}

/// The error of a text that is none of these: it is of no type of its own, and so is quoted as a text.
fn unlike(at: &Cursor, supported: &[&str]) -> FieldError {
    at.not_supported(supported).shown(&api::go::quote(at.text()))
}

fn binding_subject(errors: &mut Errors, subject: &Cursor, namespaced: bool) {
    let [kind, name, group, namespace] = ["kind", "name", "apiGroup", "namespace"].map(|field| subject.get(field));
    require(errors, &name);
    match kind.text() {
        "ServiceAccount" => {
            if !name.text().is_empty() {
                dns_subdomain(errors, &name);
            }
            if !group.text().is_empty() {
                errors.push(unlike(&group, &[""]));
            }
            if !namespaced && namespace.text().is_empty() {
                errors.push(namespace.required(""));
            }
        }
        "User" | "Group" => {
            if group.text() != GROUP {
                errors.push(unlike(&group, &[GROUP]));
            }
        }
        _ => errors.push(unlike(&kind, &["ServiceAccount", "User", "Group"])),
    }
}
