//! Rules of Roles and their bindings.

use api::field::FieldError;

use super::Check;
use crate::strategy::validation::common::{Errors, dns_subdomain, go_struct, label_selector, problems, require};
use crate::strategy::validation::cursor::Cursor;

const GROUP: &str = "rbac.authorization.k8s.io";

pub fn role(check: &Check) -> Errors {
    rules(check, true)
}

pub fn cluster_role(check: &Check) -> Errors {
    let mut errors = rules(check, false);
    let Some(aggregation) = check.root().get("aggregationRule").present() else {
        return errors;
    };
    let selectors = aggregation.get("clusterRoleSelectors");
    if selectors.list().is_empty() {
        let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.push(selectors.required(why));
    }
    for selector in selectors.items() {
        let count = errors.len();
        label_selector(&mut errors, &selector);
        if errors.len() > count {
            errors.push(selector.wrong(serde_json::Value::Null, "invalid label selector."));
        }
    }
    errors
}

fn rules(check: &Check, namespaced: bool) -> Errors {
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

pub fn role_binding(check: &Check) -> Errors {
    binding(check, &["Role", "ClusterRole"], true)
}

pub fn cluster_role_binding(check: &Check) -> Errors {
    binding(check, &["ClusterRole"], false)
}

fn binding(check: &Check, kinds: &[&str], namespaced: bool) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    let reference = root.get("roleRef");
    let [group, kind, name] = ["apiGroup", "kind", "name"].map(|field| reference.get(field));
    if group.text() != GROUP {
        errors.push(group.not_supported(&[GROUP]));
    }
    if !kinds.contains(&kind.text()) {
        errors.push(kind.not_supported(kinds));
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
                .invalid("cannot change roleRef")
                .shown(&go_struct(&reference, &fields)),
        );
    }
    errors
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
                errors.push(group.not_supported(&[""]));
            }
            if !namespaced && namespace.text().is_empty() {
                errors.push(namespace.required(""));
            }
        }
        "User" | "Group" => {
            if group.text() != GROUP {
                errors.push(FieldError::not_supported(&group.path, group.text().into(), &[GROUP]));
            }
        }
        _ => errors.push(kind.not_supported(&["ServiceAccount", "User", "Group"])),
    }
}
