//! RBAC: roles and bindings compiled into a snapshot by subject; a request reads it and nothing else.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use api::object::Object;
use arc_swap::ArcSwap;
use serde::{Deserialize, Deserializer, Serialize};

use crate::authorization::{Attributes, Decision};
use crate::http::user::User;
use crate::registry::Registry;
use crate::registry::cached::Cached;

const GROUP: &str = "rbac.authorization.k8s.io";
const KINDS: [&str; 4] = ["clusterroles", "clusterrolebindings", "roles", "rolebindings"];

/// `PolicyRule`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRule {
    #[serde(deserialize_with = "list")]
    pub verbs: Vec<String>,
    #[serde(
        rename = "nonResourceURLs",
        deserialize_with = "list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub non_resource_urls: Vec<String>,
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
}

/// `null` is an empty list here as everywhere in Kubernetes; whatever else is not a list of texts is an error.
fn list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::<Vec<String>>::deserialize(from)?.unwrap_or_default())
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
    /// Returns whether the rule allows a request (`rbac.RuleAllows`).
    pub fn allows(&self, a: &Attributes<'_>) -> bool {
        if !any(&self.verbs, a.verb) {
            return false;
        }
        if !a.is_resource {
            return self.non_resource_urls.iter().any(|url| covers_url(url, a.path));
        }
        any(&self.api_groups, a.group)
            && self.allows_resource(a)
            && (self.resource_names.is_empty() || self.resource_names.iter().any(|n| n == a.name))
    }

    fn allows_resource(&self, a: &Attributes<'_>) -> bool {
        self.resources.iter().any(|rule| match rule.split_once('/') {
            _ if rule == "*" => true,
            Some(("*", subresource)) if !a.subresource.is_empty() => subresource == a.subresource,
            _ if a.subresource.is_empty() => rule == a.resource,
            _ => rule.strip_prefix(a.resource).and_then(|rest| rest.strip_prefix('/')) == Some(a.subresource),
        })
    }
}

/// Whether a path of a rule, which may end in `*`, has another in it.
pub fn covers_url(rule: &str, path: &str) -> bool {
    rule == path || (rule.ends_with('*') && path.starts_with(rule.trim_end_matches('*')))
}

/// The binding to a role, in words, and the role's rules.
#[derive(Debug)]
struct Grant {
    binding: Arc<str>,
    rules: Result<Arc<[PolicyRule]>, Arc<Missing>>,
}

/// A role that a binding names and that is not there.
#[derive(Debug, PartialEq, Eq)]
pub struct Missing {
    /// `roles` or `clusterroles`.
    plural: &'static str,
    name: String,
}

impl std::fmt::Display for Missing {
    /// As the authorizer says it; `{:#}` as the registry does.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let resource = match f.alternate() {
            true => self.plural,
            false => self.plural.trim_end_matches('s'),
        };
        write!(f, "{resource}.{GROUP} {:?} not found", self.name)
    }
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
#[derive(Debug, Default)]
pub struct Rbac {
    snapshot: ArcSwap<Snapshot>,
    sources: Mutex<Sources>,
}

impl Rbac {
    fn current(&self, registry: &Registry) -> Arc<Snapshot> {
        let catalog = registry.catalog();
        let versions = KINDS.map(|kind| catalog.changed(GROUP, kind));
        let now = self.snapshot.load_full();
        if now.of == versions {
            return now;
        }
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.snapshot.load_full();
        if now.of == versions {
            return now;
        }
        let next = Arc::new(compile(registry, &mut sources, versions));
        self.snapshot.store(next.clone());
        next
    }

    /// The binding by which the user may, or which roles of the user's bindings are missing.
    pub fn decide(&self, registry: &Registry, user: &User, attributes: &Attributes<'_>) -> Decision {
        let snapshot = self.current(registry);
        let mut missing = Vec::new();
        for grant in snapshot.grants(user, attributes.namespace) {
            match &grant.rules {
                Ok(rules) if rules.iter().any(|rule| rule.allows(attributes)) => {
                    return Decision {
                        allowed: true,
                        reason: format!("RBAC: allowed by {}", grant.binding),
                    };
                }
                Ok(_) => {}
                Err(role) => missing.push(role.to_string()),
            }
        }
        Decision::no_opinion(all_of(missing).map_or_else(String::new, |why| format!("RBAC: {why}")))
    }

    /// Everything that a user may do in a namespace, and the roles of the user's bindings that are not there.
    pub fn granted(&self, registry: &Registry, user: &User, namespace: &str) -> (Vec<PolicyRule>, Vec<Arc<Missing>>) {
        let snapshot = self.current(registry);
        let (mut rules, mut missing) = (Vec::new(), Vec::new());
        for grant in snapshot.grants(user, namespace) {
            match &grant.rules {
                Ok(given) => rules.extend(given.iter().cloned()),
                Err(role) => missing.push(role.clone()),
            }
        }
        (rules, missing)
    }
}

/// Several errors in one text, each once.
pub fn all_of(errors: impl IntoIterator<Item = String>) -> Option<String> {
    let mut seen = HashSet::new();
    let mut once = Vec::new();
    for error in errors {
        if seen.insert(error.clone()) {
            once.push(error);
        }
    }
    match once.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        many => Some(format!("[{}]", many.join(", "))),
    }
}

impl Snapshot {
    /// What a user has by bindings for everywhere first, then by those of a namespace.
    fn grants(&self, user: &User, namespace: &str) -> impl Iterator<Item = &Grant> {
        let groups = user.groups.iter().filter_map(|g| self.groups.get(g.as_str()));
        let all: Vec<&Grants> = self.users.get(user.name.as_str()).into_iter().chain(groups).collect();
        let here: Vec<&Grant> = all
            .iter()
            .flat_map(|grants| grants.within.get(namespace))
            .flatten()
            .collect();
        all.into_iter().flat_map(|grants| &grants.everywhere).chain(here)
    }
}

fn compile(registry: &Registry, sources: &mut Sources, of: [u64; 4]) -> Snapshot {
    let objects = |kind: &str| registry.list(GROUP, kind, "");
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
        let (rules, plural) = match bound.cluster_role {
            true => (sources.cluster_roles.get(&bound.role), "clusterroles"),
            false => (
                sources.roles.get(&format!("{}/{}", bound.namespace, bound.role)),
                "roles",
            ),
        };
        let missing = || {
            let name = bound.role.clone();
            Arc::new(Missing { plural, name })
        };
        let rules = rules.cloned().ok_or_else(missing);
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

/// A role that cannot be read grants nothing.
fn rules_of(role: &Object) -> Arc<[PolicyRule]> {
    let read = role.decode::<Role>();
    let read = read.unwrap_or_else(|error| {
        tracing::warn!(%error, role = %role.key(), "the rules of a role cannot be read");
        Role::default()
    });
    read.rules.unwrap_or_default().into()
}

/// A binding that cannot be read gives nothing.
fn bound_by(object: &Object) -> Bound {
    let binding = object.decode::<Binding>();
    let binding = binding.unwrap_or_else(|error| {
        tracing::warn!(%error, binding = %object.key(), "a binding cannot be read");
        Binding::default()
    });
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
                if home.is_empty() {
                    return None;
                }
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
            (
                rule(&["get"], &[""], &["pods/log"], &[]),
                ask("pods/log", "", "a"),
                true,
            ),
            (rule(&["get"], &[""], &["*/"], &[]), ask("pods", "", "a"), false),
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
    fn a_rule_that_is_null_in_a_list_is_not_a_rule_that_cannot_be_read() {
        let read = |text: &str| serde_json::from_str::<PolicyRule>(text);
        let null =
            read(r#"{"verbs":["*"],"resources":["*"],"apiGroups":["*"],"resourceNames":null,"nonResourceURLs":null}"#);
        assert_eq!(null.unwrap(), rule(&["*"], &["*"], &["*"], &[]));
        assert!(read(r#"{"verbs":"get"}"#).is_err());
    }

    #[test]
    fn a_path_with_stars_at_its_end_has_all_below_it() {
        for (rule, path, want) in [
            ("/healthz", "/healthz", true),
            ("/healthz", "/healthz/etcd", false),
            ("/healthz/*", "/healthz/etcd", true),
            ("/healthz/*", "/healthz", false),
            ("*", "/anything", true),
            ("/a**", "/ab", true),
        ] {
            assert_eq!(covers_url(rule, path), want, "{rule} {path}");
        }
    }
}
