//! `describe` of roles and their bindings.

use std::collections::BTreeMap;

use serde_json::Value;

use super::text::{Text, items, str_of};

fn head(w: &mut Text, object: &Value) {
    w.pair(0, "Name", str_of(&object["metadata"]["name"]));
    w.labels("", "Labels", &object["metadata"]["labels"]);
    w.annotations("Annotations", &object["metadata"]["annotations"]);
}

/// What a line of the table of rules is about.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Resource {
        group: String,
        resource: String,
        name: Option<String>,
    },
    Path(String),
}

pub(crate) fn role(w: &mut Text, role: &Value) {
    head(w, role);
    w.line(0, "PolicyRule:");
    w.line(1, "Resources\tNon-Resource URLs\tResource Names\tVerbs");
    w.line(1, "---------\t-----------------\t--------------\t-----");
    for (subject, verbs) in rules(&role["rules"]) {
        let verbs = verbs.join(" ");
        let line = match &subject {
            Subject::Resource { group, resource, name } => {
                let name = name.as_deref().unwrap_or_default();
                format!("{}\t[]\t[{name}]\t[{verbs}]", combined(resource, group))
            }
            Subject::Path(path) => format!("\t[{path}]\t[]\t[{verbs}]"),
        };
        w.line(1, &line);
    }
}

/// `deployments.apps/scale`.
fn combined(resource: &str, group: &str) -> String {
    let (resource, sub) = match resource.split_once('/') {
        Some((resource, sub)) => (resource, format!("/{sub}")),
        None => (resource, String::new()),
    };
    let group = if group.is_empty() {
        String::new()
    } else {
        format!(".{group}")
    };
    format!("{resource}{group}{sub}")
}

/// The rules with a resource and at most one name each, and all verbs of each; paths keep one verb a line. In upstream's order, which
/// is that of a rule printed by Go.
fn rules(rules: &Value) -> Vec<(Subject, Vec<String>)> {
    let mut found: BTreeMap<Subject, Vec<String>> = BTreeMap::new();
    let mut paths = Vec::new();
    for rule in items(rules) {
        let texts = |field: &str| items(&rule[field]).map(|v| str_of(v).to_owned()).collect::<Vec<_>>();
        let verbs = texts("verbs");
        let names: Vec<Option<String>> = match texts("resourceNames") {
            names if names.is_empty() => vec![None],
            names => names.into_iter().map(Some).collect(),
        };
        for group in texts("apiGroups") {
            for resource in texts("resources") {
                for name in &names {
                    let (group, resource, name) = (group.clone(), resource.clone(), name.clone());
                    let known = found.entry(Subject::Resource { group, resource, name }).or_default();
                    for verb in &verbs {
                        if !known.contains(verb) {
                            known.push(verb.clone());
                        }
                    }
                }
            }
        }
        for path in texts("nonResourceURLs") {
            paths.extend(
                verbs
                    .iter()
                    .map(|verb| (Subject::Path(path.clone()), vec![verb.clone()])),
            );
        }
    }
    let mut all: Vec<(Subject, Vec<String>)> = found.into_iter().chain(paths).collect();
    all.retain(|(_, verbs)| !verbs.is_empty());
    all.sort_by_cached_key(|(subject, verbs)| as_go_prints(subject, verbs));
    all
}

fn as_go_prints(subject: &Subject, verbs: &[String]) -> String {
    let (groups, resources, names, paths) = match subject {
        Subject::Resource { group, resource, name } => (
            group.as_str(),
            resource.as_str(),
            name.as_deref().unwrap_or_default(),
            "",
        ),
        Subject::Path(path) => ("", "", "", path.as_str()),
    };
    let verbs = verbs.join(" ");
    format!(
        "&PolicyRule{{Verbs:[{verbs}],APIGroups:[{groups}],Resources:[{resources}],ResourceNames:[{names}],NonResourceURLs:[{paths}],}}"
    )
}

pub(crate) fn binding(w: &mut Text, binding: &Value) {
    head(w, binding);
    w.line(0, "Role:");
    w.pair(1, "Kind", str_of(&binding["roleRef"]["kind"]));
    w.pair(1, "Name", str_of(&binding["roleRef"]["name"]));
    w.line(0, "Subjects:");
    w.line(1, "Kind\tName\tNamespace");
    w.line(1, "----\t----\t---------");
    for subject in items(&binding["subjects"]) {
        let text = |field: &str| str_of(&subject[field]);
        w.line(1, &[text("kind"), text("name"), text("namespace")].join("\t"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_are_parted_by_resource_and_sorted_by_their_verbs() {
        let mut w = Text::raw();
        role(
            &mut w,
            &json!({"metadata": {"name": "r"}, "rules": [
                {"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]},
                {"verbs": ["get"], "apiGroups": ["", "apps"], "resources": ["pods", "x/scale"]},
                {"verbs": ["get"], "nonResourceURLs": ["/healthz"]},
            ]}),
        );
        let text = w.end();
        let lines: Vec<&str> = text.lines().skip(6).map(str::trim_start).collect();
        assert_eq!(
            lines,
            [
                "[/healthz]\t[]\t[get]",
                "x/scale\t[]\t[]\t[get]",
                "pods.apps\t[]\t[]\t[get]",
                "x.apps/scale\t[]\t[]\t[get]",
                "pods\t[]\t[]\t[list get]",
            ]
        );
    }
}
