//! RBAC: roles and bindings compiled into a snapshot by subject; a request reads it and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use api::object::Object;
use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use crate::authorization::Attributes;
use crate::http::user::User;
use crate::registry::Registry;
use crate::registry::cached::Cached;

const GROUP: &str = "rbac.authorization.k8s.io";
const KINDS: [&str; 4] = ["clusterroles", "clusterrolebindings", "roles", "rolebindings"];

/// `PolicyRule`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRule {
    pub verbs: Vec<String>,
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Role {
    rules: Option<Vec<PolicyRule>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Binding {
    subjects: Option<Vec<Subject>>,
    role_ref: RoleRef,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RoleRef {
    kind: String,
    name: String,
}

fn any(list: &[String], value: &str) -> bool {
    list.iter().any(|v| v == "*" || v == value)
}

impl PolicyRule {
    pub fn allows(&self, a: &Attributes<'_>) -> bool {
        if !any(&self.verbs, a.verb) {
            return false;
        }
        if !a.is_resource {
            return self.non_resource_urls.iter().any(|url| match url.strip_suffix('*') {
                Some(prefix) => a.path.starts_with(prefix),
                None => url == a.path,
            });
        }
        any(&self.api_groups, a.group)
            && self.allows_resource(a)
            && (self.resource_names.is_empty() || self.resource_names.iter().any(|n| n == a.name))
    }

    fn allows_resource(&self, a: &Attributes<'_>) -> bool {
        self.resources.iter().any(|r| {
            if r == "*" {
                return true;
            }
            match r.split_once('/') {
                None => a.subresource.is_empty() && r == a.resource,
                Some(("*", sub)) => sub == a.subresource,
                Some((resource, sub)) => resource == a.resource && (sub == a.subresource),
            }
        })
    }

    /// Whether everything that `other` permits is permitted by one of `rules`.
    pub fn covered_by(&self, rules: &[PolicyRule]) -> bool {
        let one = |verb: &String| -> bool {
            let urls = self.non_resource_urls.iter().all(|url| {
                rules.iter().any(|r| {
                    any(&r.verbs, verb)
                        && r.non_resource_urls
                            .iter()
                            .any(|have| have == url || have.strip_suffix('*').is_some_and(|p| url.starts_with(p)))
                })
            });
            let resources = self.api_groups.iter().all(|group| {
                self.resources.iter().all(|resource| {
                    let named = |name: Option<&String>| {
                        rules.iter().any(|r| {
                            any(&r.verbs, verb)
                                && any(&r.api_groups, group)
                                && (any(&r.resources, resource)
                                    || resource
                                        .split_once('/')
                                        .is_some_and(|(_, s)| r.resources.iter().any(|x| *x == format!("*/{s}"))))
                                && (r.resource_names.is_empty() || name.is_some_and(|n| r.resource_names.contains(n)))
                        })
                    };
                    if self.resource_names.is_empty() {
                        named(None)
                    } else {
                        self.resource_names.iter().all(|n| named(Some(n)))
                    }
                })
            });
            urls && resources
        };
        self.verbs.iter().all(one)
    }
}

/// The rules of a role, and the binding that gives them, in words.
#[derive(Debug)]
struct Grant {
    rules: Arc<[PolicyRule]>,
    binding: Arc<str>,
}

/// Rules granted to one subject: everywhere, and by namespace.
#[derive(Debug, Default)]
struct Grants {
    everywhere: Vec<Grant>,
    within: HashMap<Arc<str>, Vec<Grant>>,
}

/// A binding as it was read: of which role, to whom.
#[derive(Debug)]
struct Bound {
    /// Empty for everywhere.
    namespace: Arc<str>,
    cluster_role: bool,
    role: String,
    to: Vec<Bearer>,
}

/// A subject as a request names it, and the binding to it in words.
#[derive(Debug)]
struct Bearer {
    group: bool,
    name: Arc<str>,
    binding: Arc<str>,
}

/// What was read of a kind's objects, each kept while its object stays as it is.
#[derive(Debug)]
struct Read<T>(BTreeMap<String, (u64, T)>);

impl<T> Default for Read<T> {
    fn default() -> Read<T> {
        Read(BTreeMap::new())
    }
}

impl<T> Read<T> {
    fn refresh(&mut self, objects: &[Arc<Cached>], read: impl Fn(&Object) -> T) {
        let mut before = std::mem::take(&mut self.0);
        let now = objects.iter().map(|cached| {
            let (object, key) = (&*cached.object, cached.object.key());
            let revision = object.meta.resource_version;
            match before.remove_entry(&key) {
                Some((key, (of, kept))) if of == revision => (key, (of, kept)),
                _ => (key, (revision, read(object))),
            }
        });
        self.0 = now.collect();
    }

    fn get(&self, key: &str) -> Option<&T> {
        self.0.get(key).map(|(_, read)| read)
    }

    fn all(&self) -> impl Iterator<Item = &T> {
        self.0.values().map(|(_, read)| read)
    }
}

/// What the next snapshot is made of.
#[derive(Debug, Default)]
struct Sources {
    cluster_roles: Read<Arc<[PolicyRule]>>,
    roles: Read<Arc<[PolicyRule]>>,
    cluster_role_bindings: Read<Bound>,
    role_bindings: Read<Bound>,
}

#[derive(Debug, Default)]
struct Snapshot {
    /// When each kind had last changed.
    of: [u64; 4],
    users: HashMap<Arc<str>, Grants>,
    groups: HashMap<Arc<str>, Grants>,
}

/// The RBAC authorizer.
pub struct Rbac {
    registry: Arc<Registry>,
    snapshot: ArcSwap<Snapshot>,
    sources: Mutex<Sources>,
}

impl Rbac {
    pub fn new(registry: Arc<Registry>) -> Rbac {
        Rbac {
            registry,
            snapshot: ArcSwap::default(),
            sources: Mutex::default(),
        }
    }

    fn versions(&self) -> [u64; 4] {
        let catalog = self.registry.catalog();
        KINDS.map(|kind| catalog.changed(GROUP, kind))
    }

    fn current(&self) -> Arc<Snapshot> {
        let versions = self.versions();
        let now = self.snapshot.load_full();
        if now.of == versions {
            return now;
        }
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.snapshot.load_full();
        if now.of == versions {
            return now;
        }
        let next = Arc::new(self.compile(&mut sources, versions));
        self.snapshot.store(next.clone());
        next
    }

    fn compile(&self, sources: &mut Sources, of: [u64; 4]) -> Snapshot {
        let objects = |kind: &str| self.registry.list(GROUP, kind, "");
        sources.cluster_roles.refresh(&objects("clusterroles"), rules_of);
        sources.roles.refresh(&objects("roles"), rules_of);
        sources
            .cluster_role_bindings
            .refresh(&objects("clusterrolebindings"), bound_by);
        sources.role_bindings.refresh(&objects("rolebindings"), bound_by);
        let mut snapshot = Snapshot {
            of,
            ..Snapshot::default()
        };
        for bound in sources.cluster_role_bindings.all().chain(sources.role_bindings.all()) {
            let rules = match bound.cluster_role {
                true => sources.cluster_roles.get(&bound.role),
                false => sources.roles.get(&format!("{}/{}", bound.namespace, bound.role)),
            };
            let Some(rules) = rules else { continue };
            for bearer in &bound.to {
                let bearers = if bearer.group {
                    &mut snapshot.groups
                } else {
                    &mut snapshot.users
                };
                let grants = bearers.entry(bearer.name.clone()).or_default();
                let grant = Grant {
                    rules: rules.clone(),
                    binding: bearer.binding.clone(),
                };
                if bound.namespace.is_empty() {
                    grants.everywhere.push(grant);
                } else {
                    grants.within.entry(bound.namespace.clone()).or_default().push(grant);
                }
            }
        }
        snapshot
    }

    /// The binding of the first rule that `each` takes.
    fn visit(&self, user: &User, namespace: &str, mut each: impl FnMut(&PolicyRule) -> bool) -> Option<Arc<str>> {
        let snapshot = self.current();
        let own = snapshot.users.get(user.name.as_str());
        let groups = user.groups.iter().filter_map(|g| snapshot.groups.get(g.as_str()));
        for grants in own.into_iter().chain(groups) {
            let here = grants.within.get(namespace).into_iter().flatten();
            for grant in grants.everywhere.iter().chain(here) {
                if grant.rules.iter().any(&mut each) {
                    return Some(grant.binding.clone());
                }
            }
        }
        None
    }

    /// The binding by which the user may, if they may.
    pub fn allows(&self, user: &User, attributes: &Attributes<'_>) -> Option<Arc<str>> {
        self.visit(user, attributes.namespace, |rule| rule.allows(attributes))
    }

    /// Everything that a user may do in a namespace.
    pub fn rules_for(&self, user: &User, namespace: &str) -> Vec<PolicyRule> {
        let mut rules = Vec::new();
        self.visit(user, namespace, |rule| {
            rules.push(rule.clone());
            false
        });
        rules
    }
}

fn rules_of(role: &Object) -> Arc<[PolicyRule]> {
    let rules = role.decode::<Role>().ok().and_then(|role| role.rules);
    rules.unwrap_or_default().into()
}

/// A binding that cannot be read gives nothing.
fn bound_by(object: &Object) -> Bound {
    let binding = object.decode::<Binding>().unwrap_or_default();
    let (namespace, name) = (&*object.meta.namespace, &*object.meta.name);
    let role = binding.role_ref;
    let of = if namespace.is_empty() {
        format!("ClusterRoleBinding {name:?} of {} {:?}", role.kind, role.name)
    } else {
        let name = format!("{name}/{namespace}");
        format!("RoleBinding {name:?} of {} {:?}", role.kind, role.name)
    };
    let bearer = |subject: Subject| {
        let kind = subject.kind.as_str();
        let (name, shown) = match kind {
            "User" | "Group" => (subject.name.clone(), subject.name),
            "ServiceAccount" => {
                let home = match subject.namespace.as_str() {
                    "" => namespace,
                    given => given,
                };
                let name = User::service_account_name(home, &subject.name);
                (name, format!("{}/{home}", subject.name))
            }
            _ => return None,
        };
        Some(Bearer {
            group: kind == "Group",
            name: name.into(),
            binding: format!("{of} to {kind} {shown:?}").into(),
        })
    };
    Bound {
        namespace: namespace.into(),
        cluster_role: role.kind == "ClusterRole",
        to: binding.subjects.into_iter().flatten().filter_map(bearer).collect(),
        role: role.name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]) -> PolicyRule {
        let own = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect();
        PolicyRule {
            verbs: own(verbs),
            api_groups: own(groups),
            resources: own(resources),
            resource_names: own(names),
            non_resource_urls: vec![],
        }
    }

    #[test]
    fn rules_match_resources_subresources_and_names() {
        let ask = |resource: &'static str, subresource: &'static str, name: &'static str| Attributes {
            verb: "get",
            is_resource: true,
            resource,
            subresource,
            name,
            ..Attributes::default()
        };
        let cases = [
            (rule(&["get"], &[""], &["pods"], &[]), ask("pods", "", "a"), true),
            (rule(&["get"], &[""], &["pods"], &[]), ask("pods", "log", "a"), false),
            (rule(&["get"], &[""], &["pods/log"], &[]), ask("pods", "log", "a"), true),
            (rule(&["get"], &[""], &["*/log"], &[]), ask("pods", "log", "a"), true),
            (rule(&["*"], &["*"], &["*"], &[]), ask("pods", "log", "a"), true),
            (rule(&["get"], &["apps"], &["pods"], &[]), ask("pods", "", "a"), false),
            (rule(&["get"], &[""], &["pods"], &["a"]), ask("pods", "", "a"), true),
            (rule(&["get"], &[""], &["pods"], &["a"]), ask("pods", "", "b"), false),
            (rule(&["list"], &[""], &["pods"], &[]), ask("pods", "", "a"), false),
        ];
        for (i, (rule, attributes, want)) in cases.iter().enumerate() {
            assert_eq!(rule.allows(attributes), *want, "case {i}");
        }
    }

    #[test]
    fn a_rule_is_covered_only_by_one_that_permits_as_much() {
        let wide = rule(&["*"], &["*"], &["*"], &[]);
        let narrow = rule(&["get"], &[""], &["pods"], &["a"]);
        assert!(narrow.covered_by(std::slice::from_ref(&wide)));
        assert!(!wide.covered_by(std::slice::from_ref(&narrow)));
        assert!(narrow.covered_by(&[rule(&["get"], &[""], &["pods"], &["a", "b"])]));
        assert!(!rule(&["get"], &[""], &["pods"], &[]).covered_by(&[narrow]));
    }
}
