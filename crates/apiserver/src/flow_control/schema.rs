//! A FlowSchema as requests are held against it (`k8s.io/apiserver/pkg/util/flowcontrol/rule.go`).

use std::sync::Arc;

use api::names;
use http::HeaderValue;
use serde::Deserialize;

use super::level::Level;
use crate::http::request_info::RequestInfo;
use crate::http::user::User;

/// `flowcontrol.apiserver.k8s.io/v1` FlowSchemaSpec.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SchemaSpec {
    pub priority_level_configuration: Named,
    pub matching_precedence: i32,
    pub distinguisher_method: Option<Method>,
    pub rules: Vec<Rules>,
}

/// A reference by name: to a priority level, a user or a group.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Named {
    pub name: String,
}

/// How a schema tells flows apart: `ByUser` or `ByNamespace`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Method {
    pub r#type: String,
}

/// Requests that a schema is for: a subject and a rule must match.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rules {
    subjects: Vec<Subject>,
    resource_rules: Vec<ResourceRule>,
    non_resource_rules: Vec<NonResourceRule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Subject {
    kind: String,
    user: Option<Named>,
    group: Option<Named>,
    service_account: Option<Account>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Account {
    namespace: String,
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ResourceRule {
    verbs: Vec<String>,
    api_groups: Vec<String>,
    resources: Vec<String>,
    cluster_scope: bool,
    namespaces: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NonResourceRule {
    verbs: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    urls: Vec<String>,
}

const ALL: &str = "*";
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// Whether a list names a text; `*` alone names all.
fn has(list: &[String], text: &str) -> bool {
    matches!(list, [all] if all == ALL) || list.iter().any(|one| one == text)
}

impl Subject {
    fn matches(&self, user: &User) -> bool {
        match self.kind.as_str() {
            "User" => (self.user.as_ref()).is_some_and(|of| of.name == ALL || of.name == user.name),
            "Group" => (self.group.as_ref()).is_some_and(|of| of.name == ALL || user.in_group(&of.name)),
            "ServiceAccount" => (self.service_account.as_ref()).is_some_and(|of| of.matches(&user.name)),
            _ => false,
        }
    }
}

impl Account {
    fn matches(&self, user: &str) -> bool {
        let rest = user.strip_prefix(SERVICE_ACCOUNT);
        let rest = rest.and_then(|rest| rest.strip_prefix(self.namespace.as_str()));
        let name = rest.and_then(|rest| rest.strip_prefix(':'));
        name.is_some_and(|name| self.name == ALL || self.name == name)
    }
}

impl ResourceRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        let is_resource = |one: &String| match (one.split_once('/'), info.subresource.as_str()) {
            (None, "") => *one == info.resource,
            (Some((resource, part)), own) if !own.is_empty() => resource == info.resource && part == own,
            _ => false,
        };
        let of_all = matches!(self.resources.as_slice(), [all] if all == ALL);
        has(&self.verbs, info.verb)
            && (of_all || self.resources.iter().any(is_resource))
            && has(&self.api_groups, &info.group)
            && match info.namespace.as_str() {
                "" => self.cluster_scope,
                namespace => has(&self.namespaces, namespace),
            }
    }
}

impl NonResourceRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        let is_path = |url: &String| {
            if url == ALL || *url == info.path {
                return true;
            }
            let prefix = url.strip_suffix('*').unwrap_or(url);
            let rest = info.path.strip_prefix(prefix.strip_suffix('/').unwrap_or(prefix));
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        has(&self.verbs, info.verb) && self.urls.iter().any(is_path)
    }
}

impl Rules {
    fn matches(&self, info: &RequestInfo, user: &User) -> bool {
        self.subjects.iter().any(|subject| subject.matches(user))
            && match info.is_resource {
                true => self.resource_rules.iter().any(|rule| rule.matches(info)),
                false => self.non_resource_rules.iter().any(|rule| rule.matches(info)),
            }
    }
}

impl SchemaSpec {
    /// Whether a request is of this schema.
    pub fn matches(&self, info: &RequestInfo, user: &User) -> bool {
        self.rules.iter().any(|rules| rules.matches(info, user))
    }
}

/// What tells the flows of a schema apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distinguisher {
    Nothing,
    User,
    Namespace,
}

impl Distinguisher {
    /// Reads it; a schema without one does not tell its requests apart.
    pub fn of(spec: &SchemaSpec) -> Distinguisher {
        match spec.distinguisher_method.as_ref().map(|method| method.r#type.as_str()) {
            Some("ByUser") => Distinguisher::User,
            Some("ByNamespace") => Distinguisher::Namespace,
            _ => Distinguisher::Nothing,
        }
    }

    /// What tells the flow of a request from others of its schema.
    pub fn read<'r>(self, info: &'r RequestInfo, user: &'r User) -> &'r str {
        match self {
            Distinguisher::Nothing => "",
            Distinguisher::User => &user.name,
            Distinguisher::Namespace => &info.namespace,
        }
    }
}

/// A FlowSchema whose level is there.
#[derive(Debug)]
pub struct Schema {
    pub name: String,
    pub spec: SchemaSpec,
    pub distinguisher: Distinguisher,
    pub level: Arc<Level>,
    /// The uids of the schema and of its level, as answers name them.
    pub headers: [HeaderValue; 2],
}

/// A header's value of a uid; an object that is not there has none.
pub fn uid_header(uid: &str) -> HeaderValue {
    let valid = names::path_segment_errors(uid).is_empty();
    let value = HeaderValue::from_str(uid).ok().filter(|_| valid);
    value.unwrap_or_else(|| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use http::Method as Verb;
    use serde_json::{Value, json};

    use super::*;
    use crate::http::request_info::Query;

    fn matches(rules: Value, verb: &Verb, path: &str, user: &User) -> bool {
        let spec: SchemaSpec = serde_json::from_value(json!({ "rules": [rules] })).unwrap();
        let info = RequestInfo::parse(verb, path, &Query::default()).unwrap();
        spec.matches(&info, user)
    }

    #[test]
    fn subjects_are_users_groups_and_service_accounts() {
        let user = User::new("system:serviceaccount:n:a", &["g"]);
        let by = |subject: Value| {
            let rules = json!({
                "subjects": [subject],
                "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
            });
            matches(rules, &Verb::GET, "/version", &user)
        };
        for (subject, want) in [
            (json!({ "kind": "User", "user": { "name": "*" } }), true),
            (
                json!({ "kind": "User", "user": { "name": "system:serviceaccount:n:a" } }),
                true,
            ),
            (json!({ "kind": "User", "user": { "name": "b" } }), false),
            (json!({ "kind": "User", "group": { "name": "g" } }), false),
            (json!({ "kind": "Group", "group": { "name": "g" } }), true),
            (json!({ "kind": "Group", "group": { "name": "*" } }), true),
            (json!({ "kind": "Group", "group": { "name": "h" } }), false),
            (
                json!({ "kind": "ServiceAccount", "serviceAccount": { "namespace": "n", "name": "a" } }),
                true,
            ),
            (
                json!({ "kind": "ServiceAccount", "serviceAccount": { "namespace": "n", "name": "*" } }),
                true,
            ),
            (
                json!({ "kind": "ServiceAccount", "serviceAccount": { "namespace": "", "name": "*" } }),
                false,
            ),
            (
                json!({ "kind": "ServiceAccount", "serviceAccount": { "namespace": "m", "name": "*" } }),
                false,
            ),
        ] {
            assert_eq!(by(subject.clone()), want, "{subject}");
        }
    }

    #[test]
    fn rules_name_resources_with_their_subresources_and_paths_with_what_is_below() {
        let anybody = User::new("u", &[]);
        let subject = json!({ "kind": "Group", "group": { "name": "*" } });
        let resource = |resources: Value, namespaces: Value, cluster: bool| {
            json!({ "subjects": [subject], "resourceRules": [{
                "verbs": ["get", "list"], "apiGroups": [""], "resources": resources, "namespaces": namespaces, "clusterScope": cluster,
            }] })
        };
        for (rules, path, want) in [
            (
                resource(json!(["pods"]), json!(["*"]), false),
                "/api/v1/namespaces/a/pods",
                true,
            ),
            (resource(json!(["pods"]), json!(["*"]), false), "/api/v1/pods", false),
            (resource(json!(["pods"]), json!([]), true), "/api/v1/pods", true),
            (
                resource(json!(["pods"]), json!(["b"]), true),
                "/api/v1/namespaces/a/pods",
                false,
            ),
            (
                resource(json!(["pods"]), json!(["*"]), true),
                "/api/v1/namespaces/a/pods/p/log",
                false,
            ),
            (
                resource(json!(["pods/log"]), json!(["*"]), true),
                "/api/v1/namespaces/a/pods/p/log",
                true,
            ),
            (
                resource(json!(["*"]), json!(["*"]), true),
                "/api/v1/namespaces/a/pods/p/log",
                true,
            ),
            (
                resource(json!(["*"]), json!(["*"]), true),
                "/apis/apps/v1/deployments",
                false,
            ),
        ] {
            assert_eq!(
                matches(rules.clone(), &Verb::GET, path, &anybody),
                want,
                "{rules} {path}"
            );
            assert!(!matches(rules, &Verb::DELETE, path, &anybody));
        }
        let urls = |urls: Value| json!({ "subjects": [subject], "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": urls }] });
        for (url, path, want) in [
            ("/healthz", "/healthz", true),
            ("/healthz", "/healthz/etcd", true),
            ("/healthz", "/healthzy", false),
            ("/healthz/*", "/healthz/etcd", true),
            ("/healthz/*", "/healthz", false),
            ("*", "/x", true),
        ] {
            assert_eq!(
                matches(urls(json!([url])), &Verb::GET, path, &anybody),
                want,
                "{url} {path}"
            );
        }
    }
}
