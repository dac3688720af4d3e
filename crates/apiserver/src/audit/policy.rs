//! `audit.k8s.io/v1` Policy: which requests are recorded, how much of them, and at which stages
//! (`k8s.io/apiserver/pkg/audit/policy`).

use crate::audit::policy_file::{PolicyFile, RuleFile};
use crate::http::request_info::RequestInfo;
use crate::http::user::User;

/// How much of a request is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    #[default]
    None,
    /// Who asked for what, and how it ended.
    Metadata,
    /// With the object that was sent.
    Request,
    /// With the object that was answered.
    RequestResponse,
}

/// When an event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Before anything is done for the request.
    RequestReceived,
    /// The head of an answer that may last has been sent.
    ResponseStarted,
    /// Nothing more is sent.
    ResponseComplete,
    /// The server failed by its own fault. Policies may name it; this server has no such stage, for a panic ends it.
    Panic,
}

impl Level {
    /// All levels, from least to most.
    pub const ALL: [Level; 4] = [Level::None, Level::Metadata, Level::Request, Level::RequestResponse];

    /// The level as policies and events write it.
    pub fn name(self) -> &'static str {
        match self {
            Level::None => "None",
            Level::Metadata => "Metadata",
            Level::Request => "Request",
            Level::RequestResponse => "RequestResponse",
        }
    }
}

impl Stage {
    /// All stages in their order.
    pub const ALL: [Stage; 4] = [
        Stage::RequestReceived,
        Stage::ResponseStarted,
        Stage::ResponseComplete,
        Stage::Panic,
    ];

    /// The stage as policies and events write it.
    pub fn name(self) -> &'static str {
        match self {
            Stage::RequestReceived => "RequestReceived",
            Stage::ResponseStarted => "ResponseStarted",
            Stage::ResponseComplete => "ResponseComplete",
            Stage::Panic => "Panic",
        }
    }
}

/// A set of stages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stages(u8);

impl Stages {
    /// The set of these stages.
    pub fn of(stages: impl IntoIterator<Item = Stage>) -> Stages {
        Stages(stages.into_iter().fold(0, |set, stage| set | 1 << stage as u8))
    }

    /// Whether a stage is in the set.
    pub fn has(self, stage: Stage) -> bool {
        self.0 & 1 << stage as u8 != 0
    }
}

/// What a policy says of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    pub level: Level,
    /// The stages at which nothing is written.
    pub omit: Stages,
    /// Objects are written without their managed fields.
    pub omit_managed_fields: bool,
}

/// A policy as requests are held against it: the first rule that matches decides.
#[derive(Debug, Default)]
pub struct Policy {
    rules: Vec<Rule>,
    otherwise: Applied,
}

#[derive(Debug)]
struct Rule {
    applied: Applied,
    file: RuleFile,
}

impl Policy {
    /// Compiles a policy that was checked.
    pub fn of(file: PolicyFile) -> Policy {
        let all = Stages::of(file.omit_stages.iter().copied());
        let otherwise = Applied {
            level: Level::None,
            omit: all,
            omit_managed_fields: file.omit_managed_fields,
        };
        let rule = |rule: RuleFile| Rule {
            applied: Applied {
                level: rule.level,
                omit: Stages(all.0 | Stages::of(rule.omit_stages.iter().copied()).0),
                omit_managed_fields: rule.omit_managed_fields.unwrap_or(file.omit_managed_fields),
            },
            file: rule,
        };
        Policy {
            rules: file.rules.into_iter().map(rule).collect(),
            otherwise,
        }
    }

    /// What is to be recorded of a request. `user` is `None` where nobody knows who asks.
    pub fn evaluate(&self, info: &RequestInfo, user: Option<&User>) -> Applied {
        let matching = self.rules.iter().find(|rule| rule.file.matches(info, user));
        matching.map_or(self.otherwise, |rule| rule.applied)
    }
}

fn has(list: &[String], text: &str) -> bool {
    list.iter().any(|one| one == text)
}

impl RuleFile {
    fn matches(&self, info: &RequestInfo, user: Option<&User>) -> bool {
        if !self.users.is_empty() && !user.is_some_and(|user| has(&self.users, &user.name)) {
            return false;
        }
        let in_groups = |user: &User| user.groups.iter().any(|group| has(&self.user_groups, group));
        if !self.user_groups.is_empty() && !user.is_some_and(in_groups) {
            return false;
        }
        if !self.verbs.is_empty() && !has(&self.verbs, info.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return info.is_resource && self.matches_resource(info);
        }
        if !self.non_resource_urls.is_empty() {
            return !info.is_resource && self.non_resource_urls.iter().any(|spec| is_path(spec, &info.path));
        }
        true
    }

    fn matches_resource(&self, info: &RequestInfo) -> bool {
        // what is of no namespace has the empty one
        if !self.namespaces.is_empty() && !has(&self.namespaces, &info.namespace) {
            return false;
        }
        let concerns = |spec: &str| match (spec.split_once('/'), info.subresource.as_str()) {
            _ if spec == "*" => true,
            (None, "") => spec == info.resource,
            (None, _) => false,
            (Some((resource, "*")), _) if resource == info.resource => true,
            (Some(_), "") => false,
            (Some((resource, part)), own) => part == own && (resource == "*" || resource == info.resource),
        };
        self.resources.is_empty()
            || self.resources.iter().any(|group| {
                let of_group = group.group == "*" || group.group == info.group;
                let named = group.resource_names.is_empty() || has(&group.resource_names, &info.name);
                of_group && (group.resources.is_empty() || named && group.resources.iter().any(|spec| concerns(spec)))
            })
    }
}

fn is_path(spec: &str, path: &str) -> bool {
    spec == "*" || spec == path || spec.ends_with('*') && path.starts_with(spec.trim_end_matches('*'))
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::http::request_info::Query;

    fn level(policy: &str, method: &Method, path: &str, user: Option<&User>) -> &'static str {
        let policy = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n{policy}");
        let policy = Policy::of(crate::audit::policy_file::read(&policy).unwrap().0);
        let info = RequestInfo::parse(method, path, &Query::default()).unwrap();
        policy.evaluate(&info, user).level.name()
    }

    /// `pkg/audit/policy/checker.go`
    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = "
- {level: None, users: [quiet]}
- {level: Metadata, userGroups: [b, a], verbs: [list]}
- {level: RequestResponse, resources: [{group: '', resources: [pods/log, '*/status', services/*]}]}
- {level: Request, resources: [{group: apps}, {group: '', resources: [secrets], resourceNames: [s]}], namespaces: [ns]}
- {level: Metadata, nonResourceURLs: ['/healthz*', /version]}
";
        let ann = User::new("ann", &["a"]);
        let of = |path: &str| level(rules, &Method::GET, path, Some(&User::new("joe", &[])));
        assert_eq!(
            level(rules, &Method::GET, "/version", Some(&User::new("quiet", &[]))),
            "None"
        );
        assert_eq!(level(rules, &Method::GET, "/api/v1/pods", Some(&ann)), "Metadata");
        assert_eq!(level(rules, &Method::GET, "/api/v1/pods", None), "None");
        for (path, want) in [
            ("/api/v1/pods", "None"),
            ("/api/v1/namespaces/ns/pods/p/log", "RequestResponse"),
            ("/api/v1/namespaces/ns/pods/p/exec", "None"),
            ("/api/v1/namespaces/ns/pods/p/status", "RequestResponse"),
            ("/api/v1/namespaces/ns/services/p", "RequestResponse"),
            ("/api/v1/namespaces/ns/services/p/proxy", "RequestResponse"),
            ("/apis/apps/v1/namespaces/ns/deployments/d/scale", "Request"),
            ("/apis/apps/v1/namespaces/m/deployments/d", "None"),
            ("/apis/apps/v1/deployments", "None"),
            ("/api/v1/namespaces/ns/secrets/s", "Request"),
            ("/api/v1/namespaces/ns/secrets/t", "None"),
            ("/healthz/etcd", "Metadata"),
            ("/version", "Metadata"),
            ("/versions", "None"),
        ] {
            assert_eq!(of(path), want, "{path}");
        }
    }

    #[test]
    fn stages_and_managed_fields_are_omitted_by_rule_and_by_policy() {
        let text = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nomitManagedFields: true\nrules:\n\
            - {level: Request, verbs: [get], omitStages: [Panic], omitManagedFields: false}\n- {level: Metadata, verbs: [list]}\n";
        let policy = Policy::of(crate::audit::policy_file::read(text).unwrap().0);
        let of = |method: &Method, path: &str| {
            let info = RequestInfo::parse(method, path, &Query::default()).unwrap();
            policy.evaluate(&info, None)
        };
        let get = of(&Method::GET, "/api/v1/nodes/n");
        assert_eq!(get.omit, Stages::of([Stage::RequestReceived, Stage::Panic]));
        assert!(!get.omit_managed_fields);
        let list = of(&Method::GET, "/api/v1/nodes");
        assert_eq!(list.omit, Stages::of([Stage::RequestReceived]));
        assert!(list.omit_managed_fields && !list.omit.has(Stage::Panic));
        let other = of(&Method::DELETE, "/api/v1/nodes/n");
        assert_eq!(
            (other.level, other.omit.has(Stage::RequestReceived)),
            (Level::None, true)
        );
    }
}
