//! The ways to become another user, and what each asks the authorizer.

use api::field::FieldError;
use api::names;
use serde_json::json;

use crate::authorization::{Attributes, Authorizer};
use crate::http::status::{ApiError, Result};
use crate::http::user::{ANONYMOUS, AUTHENTICATED, MASTERS, UNAUTHENTICATED, User};

const AUTHENTICATION: &str = "authentication.k8s.io";
const NODE: &str = "system:node:";
const NODES: &str = "system:nodes";
/// In a service account's extra: the node that its pod runs on.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// So many values are first asked for all at once.
const MANY: usize = 4;

/// A mode of impersonation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A service account becomes the node that its pod runs on.
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    /// Becoming whoever is neither a node nor a service account.
    UserInfo,
    /// The verb `impersonate`, for everybody and every request.
    Legacy,
}

/// In the order they are asked.
pub const MODES: [Mode; 5] = [
    Mode::AssociatedNode,
    Mode::ArbitraryNode,
    Mode::ServiceAccount,
    Mode::UserInfo,
    Mode::Legacy,
];

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Mode::AssociatedNode => "associated-node",
            Mode::ArbitraryNode => "arbitrary-node",
            Mode::ServiceAccount => "serviceaccount",
            Mode::UserInfo => "user-info",
            Mode::Legacy => "",
        }
    }

    /// What events call it; the old mode has no name there.
    pub fn constraint(self) -> &'static str {
        match self {
            Mode::AssociatedNode => "impersonate:associated-node",
            Mode::ArbitraryNode => "impersonate:arbitrary-node",
            Mode::ServiceAccount => "impersonate:serviceaccount",
            Mode::UserInfo => "impersonate:user-info",
            Mode::Legacy => "",
        }
    }

    fn verb(self) -> String {
        match self {
            Mode::Legacy => "impersonate".to_owned(),
            mode => format!("impersonate:{}", mode.name()),
        }
    }
}

/// Who wants to become whom for which request.
pub struct Question<'a> {
    pub authorizer: &'a Authorizer,
    pub requestor: &'a User,
    pub wanted: &'a User,
    pub request: &'a Attributes<'a>,
}

fn node_name(user: &str) -> Option<&str> {
    let name = user.strip_prefix(NODE)?;
    names::dns1123_subdomain_errors(name).is_empty().then_some(name)
}

impl Question<'_> {
    /// The user to be, if the mode is for such a user.
    ///
    /// # Errors
    /// `403` when the mode is for such a user and the requestor may not.
    pub fn ask(&self, mode: Mode) -> Result<Option<User>> {
        if !self.applies(mode) {
            return Ok(None);
        }
        if mode != Mode::Legacy {
            let verb = format!("impersonate-on:{}:{}", mode.name(), self.request.verb);
            self.check(&Attributes {
                verb: &verb,
                ..self.request.clone()
            })?;
        }
        let mut user = self.wanted.clone();
        self.name(mode, &mut user)?;
        if !user.uid.is_empty() {
            self.check(&self.about(mode, &mode.verb(), "uids", &user.uid))?;
        }
        self.groups(mode)?;
        self.extra(mode)?;
        if user.name == ANONYMOUS {
            if !user.in_group(UNAUTHENTICATED) {
                user.groups.push(UNAUTHENTICATED.into());
            }
        } else if !user.in_group(UNAUTHENTICATED) && !user.in_group(AUTHENTICATED) {
            user.groups.push(AUTHENTICATED.into());
        }
        Ok(Some(user))
    }

    fn applies(&self, mode: Mode) -> bool {
        let wanted = self.wanted;
        let only_name = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
        let node = node_name(&wanted.name);
        match mode {
            Mode::AssociatedNode => {
                let own = match self.requestor.extra.get(NODE_NAME).map(Vec::as_slice) {
                    Some([one]) => Some(one.as_str()),
                    _ => None,
                };
                only_name && node.is_some() && node == own && self.requestor.service_account().is_some()
            }
            Mode::ArbitraryNode => only_name && node.is_some(),
            Mode::ServiceAccount => only_name && wanted.service_account().is_some(),
            Mode::UserInfo => node.is_none() && wanted.service_account().is_none(),
            Mode::Legacy => true,
        }
    }

    fn check(&self, attributes: &Attributes<'_>) -> Result<()> {
        self.authorizer.authorize(self.requestor, attributes)
    }

    /// A question about a part of the wanted user. Names and groups of the old mode are of the core group.
    fn about<'b>(&self, mode: Mode, verb: &'b str, resource: &'b str, name: &'b str) -> Attributes<'b> {
        let core = mode == Mode::Legacy && matches!(resource, "users" | "groups" | "serviceaccounts");
        Attributes {
            verb,
            is_resource: true,
            group: if core { "" } else { AUTHENTICATION },
            resource,
            name,
            ..Attributes::default()
        }
    }

    /// Whether the name may be had; fills in the groups that go with it.
    fn name(&self, mode: Mode, user: &mut User) -> Result<()> {
        let verb = mode.verb();
        let wanted = self.wanted;
        let refused = |asked: &Attributes<'_>, kind: &str| {
            let groups = crate::authorization::coverage::quoted(&wanted.groups);
            let why = format!("when impersonating a {kind}, cannot impersonate groups {groups}");
            Err(asked.forbidden(self.requestor, &why))
        };
        if let Some(node) = node_name(&wanted.name).filter(|_| mode != Mode::Legacy) {
            // whoever may become the node of its pod may become each
            let name = if mode == Mode::AssociatedNode { "*" } else { node };
            let asked = self.about(mode, &verb, "nodes", name);
            if !wanted.groups.is_empty() {
                return refused(&asked, "node");
            }
            user.groups = vec![NODES.into()];
            return self.check(&asked);
        }
        if let Some((namespace, account)) = wanted.service_account() {
            let asked = Attributes {
                namespace,
                ..self.about(mode, &verb, "serviceaccounts", account)
            };
            if wanted.groups.is_empty() {
                let all = "system:serviceaccounts";
                user.groups = vec![all.into(), format!("{all}:{namespace}")];
            } else if mode != Mode::Legacy {
                return refused(&asked, "service account");
            }
            return self.check(&asked);
        }
        self.check(&self.about(mode, &verb, "users", &wanted.name))
    }

    fn groups(&self, mode: Mode) -> Result<()> {
        let groups = &self.wanted.groups;
        let verb = mode.verb();
        let about = |name| self.about(mode, &verb, "groups", name);
        if mode != Mode::Legacy {
            let refuse = |name, why| Err(about(name).forbidden(self.requestor, why));
            if groups.iter().any(String::is_empty) {
                return refuse("", "impersonating the empty string group is not allowed");
            }
            if groups.iter().any(|group| group == MASTERS) {
                return refuse(MASTERS, "impersonating the system:masters group is not allowed");
            }
            if groups.len() >= MANY && self.check(&about("*")).is_ok() {
                return Ok(());
            }
        }
        groups.iter().try_for_each(|group| self.check(&about(group)))
    }

    fn extra(&self, mode: Mode) -> Result<()> {
        let extra = &self.wanted.extra;
        let verb = mode.verb();
        let about = |key, value| Attributes {
            subresource: key,
            ..self.about(mode, &verb, "userextras", value)
        };
        if mode != Mode::Legacy {
            if let Some(why) = extra.iter().find_map(|(key, values)| extra_problem(key, values)) {
                return Err(about("", "").forbidden(self.requestor, &why));
            }
            let many = extra.len() >= MANY || extra.values().map(Vec::len).sum::<usize>() >= MANY;
            if many && self.check(&about("*", "*")).is_ok() {
                return Ok(());
            }
        }
        for (key, values) in extra {
            values.iter().try_for_each(|value| self.check(&about(key, value)))?;
        }
        Ok::<(), ApiError>(())
    }
}

/// What is wrong with a key and its values, beyond what the old mode asks of them.
fn extra_problem(key: &str, values: &[String]) -> Option<String> {
    if key.is_empty() {
        return Some("impersonating the empty string key in extra is not allowed".into());
    }
    let errors = domain_prefixed_path_errors("extra.key", key);
    if !errors.is_empty() {
        let texts = errors.iter().map(ToString::to_string);
        let all = crate::authorization::rbac::all_of(texts).unwrap_or_default();
        return Some(format!("impersonating an invalid key in extra is not allowed: {all}"));
    }
    if key != key.to_lowercase() {
        return Some(format!(
            "impersonating a non-lowercase key in extra is not allowed: {key:?}"
        ));
    }
    if values.iter().any(String::is_empty) {
        return Some("impersonating the empty string value in extra is not allowed".into());
    }
    None
}

/// `example.org/path`
fn domain_prefixed_path_errors(at: &str, text: &str) -> Vec<FieldError> {
    let parts = text
        .split_once('/')
        .filter(|(domain, path)| !domain.is_empty() && !path.is_empty());
    let Some((domain, path)) = parts else {
        let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        return vec![FieldError::invalid(at, json!(text), why)];
    };
    let mut errors: Vec<FieldError> = names::dns1123_subdomain_errors(domain)
        .into_iter()
        .map(|why| FieldError::invalid(at, json!(domain), why))
        .collect();
    const MARKS: &str = "/-._~%!$&'()*+,;=:";
    if !path.chars().all(|c| c.is_ascii_alphanumeric() || MARKS.contains(c)) {
        let why = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
        errors.push(FieldError::invalid(at, json!(path), why));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extra_of_a_constrained_mode_has_a_key_with_a_domain_and_values() {
        let value = || vec!["v".to_owned()];
        assert_eq!(extra_problem("example.org/scopes", &value()), None);
        for (key, values) in [
            ("", value()),
            ("scopes", value()),
            ("example.org/", value()),
            ("example.org/Scopes", value()),
            ("example.org/scopes", vec![String::new()]),
        ] {
            assert!(extra_problem(key, &values).is_some(), "{key:?}");
        }
    }
}
