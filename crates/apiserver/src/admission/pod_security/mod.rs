//! PodSecurity: pods are held to the level that their namespace's labels name; who writes workloads is warned, and so is
//! who asks more of a namespace than the pods in it have.

mod baseline;
#[cfg(test)]
mod fixtures;
mod level;
mod namespace;
mod pod;
mod policy;
mod restricted;

use api::field::FieldError;
use serde_json::Value;

use crate::admission::{Attributes, Operation, Plugin};
use crate::audit::policy::Level;
use crate::http::status::{ApiError, Result};

use level::Policy;
use pod::{Pod, name};

/// Holds pods to the levels of their namespaces.
pub struct PodSecurity;

impl Plugin for PodSecurity {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        matches!(asked.operation, Operation::Create | Operation::Update)
    }

    fn validate(&self, asked: &Attributes<'_>, tree: &Value, old: Option<&Value>) -> Result<()> {
        if asked.resource.is("", "namespaces") {
            return namespace::validate(asked, tree, old);
        }
        if asked.resource.is("", "pods") {
            return pods(asked, tree, old);
        }
        if !asked.subresource.is_empty() {
            return Ok(());
        }
        let Some(template) = template(asked, tree) else {
            return Ok(());
        };
        // a namespace that is gone warns of nothing
        let Some((policy, errors)) = policy(asked) else {
            let name = asked.namespace;
            tell(asked, "error", || {
                format!("failed to lookup namespace {name:?}: namespaces {name:?} not found")
            });
            return Ok(());
        };
        if errors.is_empty() && policy.asks_nothing_of_workloads() {
            return Ok(());
        }
        record(asked, &policy, &errors, template, None);
        warn(asked, &policy, template);
        Ok(())
    }
}

/// What is asked of the namespace that is written to, and what of that could not be read.
fn policy(attributes: &Attributes<'_>) -> Option<(Policy, Vec<FieldError>)> {
    let namespace = attributes.registry.get("", "namespaces", "", attributes.namespace)?;
    Some(Policy::of(|key| namespace.object.meta.label(key)))
}

fn tell(attributes: &Attributes<'_>, key: &str, value: impl FnOnce() -> String) {
    attributes.annotate(Level::Metadata, || {
        (format!("pod-security.kubernetes.io/{key}"), value())
    });
}

/// Shows in the request's record what was asked of a pod, and what of the level for audit it violates. `enforced` are the
/// violations of the level that holds, where one does.
fn record(
    attributes: &Attributes<'_>,
    policy: &Policy,
    errors: &[FieldError],
    pod: Pod<'_>,
    enforced: Option<&[policy::Violation]>,
) {
    if attributes.trail.level() == Level::None {
        return;
    }
    if !errors.is_empty() {
        tell(attributes, "error", || {
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            let all = match texts.as_slice() {
                [one] => one.clone(),
                many => format!("[{}]", many.join(", ")),
            };
            format!("Failed to parse policy: {all}")
        });
    }
    if enforced.is_some() {
        tell(attributes, "enforce-policy", || policy.enforce.to_string());
    }
    let own;
    let violations = match enforced.filter(|_| policy.audit == policy.enforce) {
        Some(violations) => violations,
        None => {
            own = policy::violations(policy.audit, pod);
            &own
        }
    };
    if !violations.is_empty() {
        tell(attributes, "audit-violations", || {
            format!(
                "would violate PodSecurity \"{}\": {}",
                policy.audit,
                policy::details(violations)
            )
        });
    }
}

/// Subresources that do not change what a pod may do.
const HARMLESS: [&str; 8] = [
    "exec",
    "attach",
    "binding",
    "eviction",
    "log",
    "portforward",
    "proxy",
    "status",
];

fn pods(attributes: &Attributes<'_>, tree: &Value, old: Option<&Value>) -> Result<()> {
    if HARMLESS.contains(&attributes.subresource) {
        return Ok(());
    }
    let Some((policy, errors)) = policy(attributes) else {
        let why = format!("failed to lookup namespace {:?}", attributes.namespace);
        tell(attributes, "error", || {
            format!("namespaces {:?} not found", attributes.namespace)
        });
        return Err(ApiError::internal(why));
    };
    if errors.is_empty() && policy.is_privileged() {
        tell(attributes, "enforce-policy", || policy.enforce.to_string());
        return Ok(());
    }
    let pod = part(tree);
    if old.is_some_and(|old| !is_significant(pod.spec, part(old).spec)) {
        return Ok(());
    }
    let violations = policy::violations(policy.enforce, pod);
    record(attributes, &policy, &errors, pod, Some(&violations));
    if !violations.is_empty() {
        let why = format!(
            "violates PodSecurity \"{}\": {}",
            policy.enforce,
            policy::details(&violations)
        );
        return Err(attributes.resource.forbidden(attributes.name, &why));
    }
    warn(attributes, &policy, pod);
    Ok(())
}

fn warn(attributes: &Attributes<'_>, policy: &Policy, pod: Pod<'_>) {
    let violations = policy::violations(policy.warn, pod);
    if !violations.is_empty() {
        let details = policy::details(&violations);
        let text = format!("would violate PodSecurity \"{}\": {details}", policy.warn);
        attributes.warnings.add(text);
    }
}

/// The metadata and spec of an object or template.
fn part(tree: &Value) -> Pod<'_> {
    Pod {
        metadata: &tree["metadata"],
        spec: &tree["spec"],
    }
}

/// The template of the pods that an object makes.
fn template<'a>(attributes: &Attributes<'_>, tree: &'a Value) -> Option<Pod<'a>> {
    let resource = attributes.resource;
    let path = match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "podtemplates") => "/template",
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => "/spec/template",
        ("batch", "cronjobs") => "/spec/jobTemplate/spec/template",
        _ => return None,
    };
    tree.pointer(path).filter(|t| !t.is_null()).map(part)
}

/// Whether an update changes what the checks look at: an image, or which containers there are.
fn is_significant(new: &Value, old: &Value) -> bool {
    let list = |spec: &Value, field| pod::items(spec, &[field]).cloned().collect::<Vec<_>>();
    let image = |container: &Value| pod::text(container, &["image"]).map(str::to_owned);
    let changed = ["containers", "initContainers"].into_iter().any(|field| {
        let (new, old) = (list(new, field), list(old, field));
        new.len() != old.len() || new.iter().zip(&old).any(|(new, old)| image(new) != image(old))
    });
    let before = list(old, "ephemeralContainers");
    changed
        || pod::items(new, &["ephemeralContainers"]).any(|container| {
            let same = before.iter().find(|old| name(old) == name(container));
            same.is_none_or(|old| image(old) != image(container))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_images_and_the_number_of_containers_make_an_update_significant() {
        let old = json!({
            "containers": [{ "name": "a", "image": "x" }],
            "ephemeralContainers": [{ "name": "e", "image": "x" }],
        });
        let with = |path: &str, value: Value| {
            let mut new = old.clone();
            match new.pointer_mut(path) {
                Some(at) => *at = value,
                None => new[path.trim_start_matches('/')] = value,
            }
            is_significant(&new, &old)
        };
        assert!(!with("/tolerations", json!([{ "operator": "Exists" }])));
        assert!(!with("/containers/0/resources", json!({})));
        assert!(with("/containers/0/image", json!("y")));
        assert!(with("/initContainers", json!([{ "name": "i", "image": "x" }])));
        assert!(with("/ephemeralContainers/0/image", json!("y")));
        assert!(with("/ephemeralContainers/0/name", json!("f")));
        assert!(!with("/ephemeralContainers", json!([])));
    }
}
