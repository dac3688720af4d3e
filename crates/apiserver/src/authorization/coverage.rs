//! Whether rules permit no more than other rules do, told down to the single permission.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::authorization::rbac::{PolicyRule, covers_url};

/// Single permissions that are compared one by one. A role of more is compared rule by rule only.
const MOST: usize = 100_000;

/// What of `wanted` is not permitted by one of `held`, in upstream's words, sorted; nothing when all is.
pub fn missing(held: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<String> {
    let held: Vec<Held<'_>> = held.iter().map(Held::of).collect();
    let mut left = MOST;
    let mut lacking = Lacking::default();
    let mut whole = BTreeSet::new();
    for rule in wanted {
        if held.iter().any(|one| one.has_all(rule)) {
            continue;
        }
        // names, resources, groups and verbs multiply
        match size(rule).filter(|size| *size <= left) {
            Some(size) => left -= size,
            None => {
                whole.insert(describe(rule));
                continue;
            }
        }
        each_permission(rule, |permission| {
            if !held.iter().any(|one| one.has(&permission)) {
                lacking.add(&permission);
            }
        });
    }
    whole.extend(lacking.describe());
    whole.into_iter().collect()
}

/// One verb on one resource or path.
#[derive(Debug, Clone, Copy)]
enum Permission<'a> {
    Resource {
        group: &'a str,
        resource: &'a str,
        verb: &'a str,
        name: Option<&'a str>,
    },
    Path {
        path: &'a str,
        verb: &'a str,
    },
}

fn size(rule: &PolicyRule) -> Option<usize> {
    let names = rule.resource_names.len().max(1);
    let resources = rule
        .api_groups
        .len()
        .checked_mul(rule.resources.len())?
        .checked_mul(names)?;
    resources
        .checked_add(rule.non_resource_urls.len())?
        .checked_mul(rule.verbs.len())
}

fn each_permission<'a>(rule: &'a PolicyRule, mut each: impl FnMut(Permission<'a>)) {
    let names: Vec<Option<&str>> = match rule.resource_names.as_slice() {
        [] => vec![None],
        names => names.iter().map(|n| Some(n.as_str())).collect(),
    };
    for group in &rule.api_groups {
        for resource in &rule.resources {
            for verb in &rule.verbs {
                for name in &names {
                    each(Permission::Resource {
                        group,
                        resource,
                        verb,
                        name: *name,
                    });
                }
            }
        }
    }
    for path in &rule.non_resource_urls {
        for verb in &rule.verbs {
            each(Permission::Path { path, verb });
        }
    }
}

fn set(list: &[String]) -> HashSet<&str> {
    list.iter().map(String::as_str).collect()
}

/// A rule that is held, ready to be asked often.
struct Held<'a> {
    verbs: HashSet<&'a str>,
    groups: HashSet<&'a str>,
    resources: HashSet<&'a str>,
    /// Empty for all names.
    names: HashSet<&'a str>,
    paths: &'a [String],
}

impl Held<'_> {
    fn of(rule: &PolicyRule) -> Held<'_> {
        Held {
            verbs: set(&rule.verbs),
            groups: set(&rule.api_groups),
            resources: set(&rule.resources),
            names: set(&rule.resource_names),
            paths: &rule.non_resource_urls,
        }
    }

    fn verb(&self, verb: &str) -> bool {
        self.verbs.contains("*") || self.verbs.contains(verb)
    }

    fn group(&self, group: &str) -> bool {
        self.groups.contains("*") || self.groups.contains(group)
    }

    fn resource(&self, resource: &str) -> bool {
        let of_any = || {
            let (_, subresource) = resource.split_once('/')?;
            Some(self.resources.contains(format!("*/{subresource}").as_str()))
        };
        self.resources.contains("*") || self.resources.contains(resource) || of_any().unwrap_or(false)
    }

    fn name(&self, name: Option<&str>) -> bool {
        self.names.is_empty() || name.is_some_and(|name| self.names.contains(name))
    }

    fn path(&self, path: &str) -> bool {
        self.paths.iter().any(|rule| covers_url(rule, path))
    }

    fn has(&self, permission: &Permission<'_>) -> bool {
        match permission {
            Permission::Resource {
                group,
                resource,
                verb,
                name,
            } => self.verb(verb) && self.group(group) && self.resource(resource) && self.name(*name),
            Permission::Path { path, verb } => self.verb(verb) && self.path(path),
        }
    }

    /// Whether this rule alone permits all of another.
    fn has_all(&self, rule: &PolicyRule) -> bool {
        let names = match rule.resource_names.as_slice() {
            [] => self.names.is_empty(),
            names => names.iter().all(|n| self.name(Some(n))),
        };
        // without a group or a resource there is nothing that a name could be of
        let nothing = rule.api_groups.is_empty() || rule.resources.is_empty();
        rule.verbs.iter().all(|v| self.verb(v))
            && (nothing
                || (names
                    && rule.api_groups.iter().all(|g| self.group(g))
                    && rule.resources.iter().all(|r| self.resource(r))))
            && rule.non_resource_urls.iter().all(|p| self.path(p))
    }
}

/// Permissions that are lacking: those on the same resource become one rule.
#[derive(Default)]
struct Lacking {
    resources: BTreeMap<(String, String, Option<String>), Vec<String>>,
    paths: BTreeSet<(String, String)>,
}

impl Lacking {
    fn add(&mut self, permission: &Permission<'_>) {
        match permission {
            Permission::Resource {
                group,
                resource,
                verb,
                name,
            } => {
                let key = ((*group).to_owned(), (*resource).to_owned(), name.map(str::to_owned));
                self.resources.entry(key).or_default().push((*verb).to_owned());
            }
            Permission::Path { path, verb } => {
                self.paths.insert(((*path).to_owned(), (*verb).to_owned()));
            }
        }
    }

    fn describe(self) -> impl Iterator<Item = String> {
        let resources = self
            .resources
            .into_iter()
            .map(|((group, resource, name), verbs)| PolicyRule {
                verbs,
                api_groups: vec![group],
                resources: vec![resource],
                resource_names: name.into_iter().collect(),
                ..PolicyRule::default()
            });
        let paths = self.paths.into_iter().map(|(path, verb)| PolicyRule {
            verbs: vec![verb],
            non_resource_urls: vec![path],
            ..PolicyRule::default()
        });
        resources.chain(paths).map(|rule| describe(&rule))
    }
}

/// A list of texts as Go prints it.
pub fn quoted(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

fn describe(rule: &PolicyRule) -> String {
    let parts = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("ResourceNames", &rule.resource_names),
        ("Verbs", &rule.verbs),
    ];
    let parts = parts.iter().filter(|(_, list)| !list.is_empty());
    let parts: Vec<String> = parts.map(|(name, list)| format!("{name}:{}", quoted(list))).collect();
    format!("{{{}}}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]) -> PolicyRule {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        PolicyRule {
            verbs: own(verbs),
            api_groups: own(groups),
            resources: own(resources),
            resource_names: own(names),
            non_resource_urls: vec![],
        }
    }

    fn paths(verbs: &[&str], paths: &[&str]) -> PolicyRule {
        PolicyRule {
            non_resource_urls: paths.iter().map(|s| (*s).to_owned()).collect(),
            ..rule(verbs, &[], &[], &[])
        }
    }

    #[test]
    fn a_rule_is_covered_only_by_rules_that_permit_as_much() {
        let wide = rule(&["*"], &["*"], &["*"], &[]);
        let narrow = rule(&["get"], &[""], &["pods"], &["a"]);
        let covered = |held: &[PolicyRule], wanted: &PolicyRule| missing(held, std::slice::from_ref(wanted)).is_empty();
        assert!(covered(std::slice::from_ref(&wide), &narrow));
        assert!(!covered(std::slice::from_ref(&narrow), &wide));
        assert!(covered(&[rule(&["get"], &[""], &["pods"], &["a", "b"])], &narrow));
        assert!(!covered(&[narrow], &rule(&["get"], &[""], &["pods"], &[])));
        let two = [
            rule(&["get"], &[""], &["pods"], &[]),
            rule(&["list"], &["apps"], &["*/scale"], &[]),
        ];
        assert!(covered(&two, &rule(&["get"], &[""], &["pods"], &["x"])));
        assert!(covered(&two, &rule(&["list"], &["apps"], &["deployments/scale"], &[])));
        assert!(!covered(&two, &rule(&["list"], &["apps"], &["deployments"], &[])));
        assert!(covered(
            &[paths(&["get"], &["/healthz/*"])],
            &paths(&["get"], &["/healthz/a"])
        ));
        assert!(!covered(
            &[paths(&["get"], &["/healthz/a"])],
            &paths(&["get"], &["/healthz/*"])
        ));
        assert!(!covered(&[wide], &paths(&["get"], &["/"])));
    }

    #[test]
    fn what_is_missing_is_said_by_resource_with_its_verbs() {
        let wanted = rule(&["get", "list", "watch"], &[""], &["pods", "nodes"], &[]);
        let held = rule(&["list"], &[""], &["pods"], &[]);
        let want = [
            r#"{APIGroups:[""], Resources:["nodes"], Verbs:["get" "list" "watch"]}"#,
            r#"{APIGroups:[""], Resources:["pods"], Verbs:["get" "watch"]}"#,
        ];
        assert_eq!(missing(&[held], &[wanted]), want);
    }

    #[test]
    fn a_role_of_more_permissions_than_can_be_counted_is_compared_rule_by_rule() {
        let many: Vec<String> = (0..3000).map(|i| format!("x{i}")).collect();
        let huge = PolicyRule {
            verbs: many.clone(),
            api_groups: many.clone(),
            resources: many.clone(),
            resource_names: many,
            non_resource_urls: vec![],
        };
        let narrow = rule(&["get"], &[""], &["pods"], &[]);
        assert_eq!(missing(&[narrow], std::slice::from_ref(&huge)).len(), 1);
        let all = rule(&["*"], &["*"], &["*"], &[]);
        assert!(missing(&[all], &[huge]).is_empty());
    }
}
