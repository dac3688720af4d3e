//! Rules: the operations, resources and scope that something is configured for
//! (`k8s.io/apiserver/pkg/admission/plugin/webhook/predicates/rules`).

use serde_json::Value;

use crate::admission::Operation;

/// What rules are held against.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub operation: Operation,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    /// A namespace itself is in the namespace of its name.
    pub namespace: &'a str,
    pub name: &'a str,
}

impl Asked<'_> {
    fn is_namespace(&self) -> bool {
        (self.group, self.version, self.resource) == ("", "v1", "namespaces")
    }
}

/// Names, or all of them.
#[derive(Debug, Default)]
struct Names {
    all: bool,
    names: Vec<Box<str>>,
}

impl Names {
    fn read(tree: &Value, key: &str) -> Names {
        let mut names = Names::default();
        for name in texts(tree, key) {
            match name {
                "*" => names.all = true,
                name => names.names.push(name.into()),
            }
        }
        names
    }

    fn has(&self, name: &str) -> bool {
        self.all || self.names.iter().any(|own| **own == *name)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    All,
    Cluster,
    Namespaced,
    /// A word that no version of the API knows.
    Unknown,
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    operations: Names,
    groups: Names,
    versions: Names,
    /// Resources with their subresources, each a name or `*`; without a subresource the second is empty.
    resources: Vec<(Box<str>, Box<str>)>,
    scope: Scope,
    /// The objects that it is for; none stands for all.
    names: Vec<Box<str>>,
}

fn texts<'a>(tree: &'a Value, key: &str) -> impl Iterator<Item = &'a str> {
    let list = tree.get(key).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str)
}

impl Rule {
    /// Reads a `RuleWithOperations` or a `NamedRuleWithOperations`.
    pub fn read(tree: &Value) -> Rule {
        let resources = texts(tree, "resources").map(|text| {
            let (resource, subresource) = text.split_once('/').unwrap_or((text, ""));
            (resource.into(), subresource.into())
        });
        Rule {
            operations: Names::read(tree, "operations"),
            groups: Names::read(tree, "apiGroups"),
            versions: Names::read(tree, "apiVersions"),
            resources: resources.collect(),
            scope: match tree.get("scope").and_then(Value::as_str) {
                None | Some("*") => Scope::All,
                Some("Cluster") => Scope::Cluster,
                Some("Namespaced") => Scope::Namespaced,
                Some(_) => Scope::Unknown,
            },
            names: texts(tree, "resourceNames").map(Into::into).collect(),
        }
    }

    /// Reads the rules in a field.
    pub fn read_all(tree: &Value, key: &str) -> Vec<Rule> {
        let list = tree.get(key).and_then(Value::as_array).into_iter().flatten();
        list.map(Rule::read).collect()
    }

    /// The resources that it is for; `None` for any.
    pub fn resources(&self) -> Option<impl Iterator<Item = &str>> {
        let all = self.resources.iter().any(|(resource, _)| **resource == *"*");
        (!all).then(|| self.resources.iter().map(|(resource, _)| &**resource))
    }

    /// Whether it is for this.
    pub fn matches(&self, asked: &Asked<'_>) -> bool {
        self.is_in_scope(asked)
            && self.operations.has(asked.operation.name())
            && self.groups.has(asked.group)
            && self.versions.has(asked.version)
            && self.has_resource(asked)
            && (self.names.is_empty() || self.names.iter().any(|name| **name == *asked.name))
    }

    fn is_in_scope(&self, asked: &Asked<'_>) -> bool {
        let of_cluster = asked.namespace.is_empty() || asked.is_namespace();
        match self.scope {
            Scope::All => true,
            Scope::Cluster => of_cluster,
            Scope::Namespaced => !of_cluster,
            Scope::Unknown => false,
        }
    }

    fn has_resource(&self, asked: &Asked<'_>) -> bool {
        let is = |own: &str, name: &str| own == "*" || own == name;
        let mut resources = self.resources.iter();
        resources.any(|(resource, subresource)| is(resource, asked.resource) && is(subresource, asked.subresource))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked<'a>(resource: &'a str, subresource: &'a str, namespace: &'a str) -> Asked<'a> {
        Asked {
            operation: Operation::Create,
            group: "",
            version: "v1",
            resource,
            subresource,
            namespace,
            name: "n",
        }
    }

    fn rule(resources: &[&str], more: Value) -> Rule {
        let mut tree = json!({ "operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": resources });
        for (key, value) in more.as_object().unwrap() {
            tree[key] = value.clone();
        }
        Rule::read(&tree)
    }

    #[test]
    fn a_star_stands_for_resources_and_a_second_one_for_subresources() {
        for (resources, plain, status) in [
            (&["*"][..], true, false),
            (&["*/*"], true, true),
            (&["pods"], true, false),
            (&["pods/*"], true, true),
            (&["pods/status"], false, true),
            (&["*/status"], false, true),
            (&["services", "pods/scale"], false, false),
        ] {
            let rule = rule(resources, json!({}));
            assert_eq!(rule.matches(&asked("pods", "", "a")), plain, "{resources:?}");
            assert_eq!(rule.matches(&asked("pods", "status", "a")), status, "{resources:?}");
        }
    }

    #[test]
    fn a_namespace_is_of_the_cluster_though_it_is_in_itself() {
        for (scope, pod, node, namespace) in [
            ("*", true, true, true),
            ("Namespaced", true, false, false),
            ("Cluster", false, true, true),
        ] {
            let rule = rule(&["*"], json!({ "scope": scope }));
            assert_eq!(rule.matches(&asked("pods", "", "a")), pod, "{scope}");
            assert_eq!(rule.matches(&asked("nodes", "", "")), node, "{scope}");
            assert_eq!(rule.matches(&asked("namespaces", "", "a")), namespace, "{scope}");
        }
    }

    #[test]
    fn operations_groups_versions_and_names_must_all_be_among_those_of_the_rule() {
        for (more, wanted) in [
            (json!({ "operations": ["UPDATE"] }), false),
            (json!({ "operations": ["UPDATE", "CREATE"] }), true),
            (json!({ "apiGroups": ["apps"] }), false),
            (json!({ "apiGroups": [""] }), true),
            (json!({ "apiVersions": ["v1beta1"] }), false),
            (json!({ "resourceNames": ["other"] }), false),
            (json!({ "resourceNames": ["other", "n"] }), true),
        ] {
            assert_eq!(
                rule(&["pods"], more.clone()).matches(&asked("pods", "", "a")),
                wanted,
                "{more}"
            );
        }
    }

    #[test]
    fn the_resources_of_a_rule_are_known_unless_it_is_for_all() {
        let of = |resources: &[&str]| {
            rule(resources, json!({}))
                .resources()
                .map(|r| r.map(str::to_owned).collect::<Vec<_>>())
        };
        assert_eq!(
            of(&["pods/status", "nodes"]),
            Some(vec!["pods".to_owned(), "nodes".to_owned()])
        );
        assert_eq!(of(&["pods", "*/scale"]), None);
    }
}
