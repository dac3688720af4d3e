//! The right to read the parameters of admission policies: who makes a policy or a binding sees its parameters in what the policy says,
//! so they must be allowed to read them (`registry/admissionregistration/*/authz.go`).

use api::field::FieldError;
use serde_json::Value;

use crate::authorization::escalation::Author;
use crate::authorization::{Attributes, Decision};
use crate::http::user::{MASTERS, User};
use crate::registry::Registry;
use crate::tree::text;

const GROUP: &str = "admissionregistration.k8s.io";

/// Returns the error of an author who may not read the parameters of a policy or a binding that is otherwise right.
pub fn refusal(author: &Author<'_>, registry: &Registry, tree: &Value, old: Option<&Value>) -> Option<FieldError> {
    if author.resource.group != GROUP || author.user.in_group(MASTERS) {
        return None;
    }
    match author.resource.plural.as_str() {
        "validatingadmissionpolicies" => of_policy(author, registry, tree, old),
        "validatingadmissionpolicybindings" => of_binding(author, registry, tree, old),
        _ => None,
    }
}

/// A resource, as far as it is known; the rest is `*`.
struct Target {
    group: String,
    resource: String,
    /// Nobody serves the kind.
    unresolved: bool,
}

impl Target {
    fn unknown() -> Target {
        Target {
            group: "*".into(),
            resource: "*".into(),
            unresolved: false,
        }
    }

    fn of(kind: &Value, registry: &Registry) -> Target {
        let version = text(kind, &["apiVersion"]).unwrap_or_default();
        let (group, version) = api::gvk::split_api_version(version);
        let name = text(kind, &["kind"]).unwrap_or_default();
        let catalog = registry.catalog();
        let mut all = catalog.all().map(|served| &served.resource);
        let found = all.find(|r| r.group == group && r.version == version && r.kind == name);
        Target {
            group: group.into(),
            resource: found.map_or("*".into(), |r| r.plural.clone()),
            unresolved: found.is_none(),
        }
    }

    fn decide(&self, author: &Author<'_>, verb: &str, namespace: &str, name: &str) -> Decision {
        let attributes = Attributes {
            verb,
            is_resource: true,
            group: &self.group,
            namespace,
            resource: &self.resource,
            name,
            ..Attributes::default()
        };
        author.authorizer.decide(author.user, &attributes)
    }
}

fn part<'t>(tree: Option<&'t Value>, path: &str) -> Option<&'t Value> {
    tree?.pointer(path).filter(|part| part.is_object())
}

fn of_policy(author: &Author<'_>, registry: &Registry, tree: &Value, old: Option<&Value>) -> Option<FieldError> {
    const AT: &str = "/spec/paramKind";
    let kind = part(Some(tree), AT)?;
    if part(old, AT) == Some(kind) {
        return None;
    }
    if Target::of(kind, registry).decide(author, "get", "*", "*").allowed {
        return None;
    }
    let named = |key: &str| text(kind, &[key]).unwrap_or_default();
    let why = format!(
        "user {} must have \"get\" permission on all objects of the referenced paramKind (kind={}, apiVersion={})",
        shown(author.user),
        named("kind"),
        named("apiVersion"),
    );
    Some(FieldError::forbidden("spec.paramKind", why))
}

fn of_binding(author: &Author<'_>, registry: &Registry, tree: &Value, old: Option<&Value>) -> Option<FieldError> {
    const AT: &str = "/spec/paramRef";
    let reference = part(Some(tree), AT)?;
    let name = |tree: &Value| text(tree, &["spec", "policyName"]).unwrap_or_default().to_owned();
    if part(old, AT) == Some(reference) && old.map(name) == Some(name(tree)) {
        return None;
    }
    let policy = registry.get(GROUP, "validatingadmissionpolicies", "", &name(tree));
    let policy = policy.and_then(|policy| policy.tree().ok());
    let target = match part(policy.as_ref(), "/spec/paramKind") {
        Some(kind) => Target::of(kind, registry),
        None => Target::unknown(),
    };
    let named = |key: &str| text(reference, &[key]).unwrap_or_default();
    let verb = if named("name").is_empty() { "list" } else { "get" };
    if target.decide(author, verb, named("namespace"), named("name")).allowed {
        return None;
    }
    let user = shown(author.user);
    let everything = format!("user {user} does not have {verb:?} permission for all groups, versions and resources");
    let why = if policy.is_none() {
        format!(
            "unable to get policy {} to determine minimum required permissions and {everything}",
            name(tree)
        )
    } else if target.unresolved {
        format!("unable to resolve paramKind to determine minimum required permissions and {everything}")
    } else {
        format!("user {user} does not have {verb:?} permission on the object referenced by paramRef")
    };
    Some(FieldError::forbidden("spec.paramRef", why))
}

/// A user as upstream's messages show one.
fn shown(user: &User) -> String {
    let extra: Vec<String> = user
        .extra
        .iter()
        .map(|(key, values)| format!("{key}:[{}]", values.join(" ")))
        .collect();
    format!(
        "&{{{} {} [{}] map[{}]}}",
        user.name,
        user.uid,
        user.groups.join(" "),
        extra.join(" ")
    )
}
