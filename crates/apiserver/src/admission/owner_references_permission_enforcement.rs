//! OwnerReferencesPermissionEnforcement: owners are named by whom may delete the object, and keep their deletion waiting only for whom
//! may change their finalizers.

use serde_json::Value;

use crate::admission::{Attributes, Operation, Plugin};
use crate::authorization;
use crate::http::status::{ApiError, Result};

/// Guards `metadata.ownerReferences`.
pub struct OwnerReferencesPermissionEnforcement;

fn owners(tree: Option<&Value>) -> &[Value] {
    let list = tree.and_then(|tree| tree.pointer("/metadata/ownerReferences")?.as_array());
    list.map_or(&[], Vec::as_slice)
}

fn blocks(owner: &Value) -> bool {
    owner["blockOwnerDeletion"] == true
}

/// The owners whose deletion waits for the object now and did not before.
fn newly_blocked<'t>(tree: &'t Value, old: Option<&Value>) -> Vec<&'t Value> {
    let before = |owner: &Value| {
        owners(old)
            .iter()
            .rfind(|known| known["uid"] == owner["uid"])
            .is_some_and(blocks)
    };
    let blocking = owners(Some(tree)).iter().filter(|owner| blocks(owner));
    blocking.filter(|owner| !before(owner)).collect()
}

/// The question whether the user may change the finalizers of owners, asked of each resource that this one may be.
fn may_finalize(asked: &Attributes<'_>, tree: &Value, owner: &Value) -> Result<()> {
    let text = |key: &str| owner[key].as_str().unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    let unknown = |why: String| {
        let message = format!(
            "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion {version} Kind {kind}: {why}"
        );
        asked.refuse(tree, &message)
    };
    if version.matches('/').count() > 1 {
        return Err(unknown(format!("unexpected GroupVersion string: {version}")));
    }
    let catalog = asked.registry.catalog();
    let is_it =
        |resource: &crate::registry::resource::Resource| resource.kind == kind && resource.api_version() == version;
    let mut mapped = catalog.all().filter(|served| is_it(&served.resource)).peekable();
    if mapped.peek().is_none() {
        return Err(unknown(format!("no matches for kind {kind:?} in version {version:?}")));
    }
    for served in mapped {
        let resource = &served.resource;
        allowed(
            asked,
            tree,
            &authorization::Attributes {
                verb: "update",
                is_resource: true,
                group: &resource.group,
                resource: &resource.plural,
                subresource: "finalizers",
                name: text("name"),
                namespace: if resource.namespaced { asked.namespace } else { "" },
                ..Default::default()
            },
            "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on",
        )?;
    }
    Ok(())
}

fn allowed(
    asked: &Attributes<'_>,
    tree: &Value,
    question: &authorization::Attributes<'_>,
    why: &str,
) -> Result<(), ApiError> {
    let decision = asked.authorizer.decide(asked.user, question);
    match decision.allowed {
        true => Ok(()),
        false => Err(asked.refuse(tree, &format!("{why}: {}, <nil>", decision.reason))),
    }
}

impl Plugin for OwnerReferencesPermissionEnforcement {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        // kubelets and schedulers write the status of pods, whoever owns them
        let status_of_pod = asked.resource.is("", "pods") && asked.subresource == "status";
        matches!(asked.operation, Operation::Create | Operation::Update) && !status_of_pod
    }

    fn validate(&self, asked: &Attributes<'_>, tree: &Value, old: Option<&Value>) -> Result<()> {
        if owners(Some(tree)) == owners(old) {
            return Ok(());
        }
        if asked.operation == Operation::Update {
            allowed(
                asked,
                tree,
                &authorization::Attributes {
                    verb: "delete",
                    is_resource: true,
                    group: &asked.resource.group,
                    resource: &asked.resource.plural,
                    subresource: asked.subresource,
                    name: asked.name,
                    namespace: asked.namespace,
                    ..Default::default()
                },
                "cannot set an ownerRef on a resource you can't delete",
            )?;
        }
        let blocked = newly_blocked(tree, old);
        if blocked.is_empty() {
            return Ok(());
        }
        // who may change the finalizers of everything is not asked about each
        let everything = authorization::Attributes {
            verb: "update",
            is_resource: true,
            group: "*",
            resource: "*",
            subresource: "finalizers",
            name: "*",
            ..Default::default()
        };
        if asked.authorizer.allows(asked.user, &everything) {
            return Ok(());
        }
        blocked
            .into_iter()
            .try_for_each(|owner| may_finalize(asked, tree, owner))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_owner_is_newly_blocked_once() {
        let tree =
            |block: Value| json!({ "metadata": { "ownerReferences": [{ "uid": "u", "blockOwnerDeletion": block }] } });
        assert_eq!(newly_blocked(&tree(json!(true)), None).len(), 1);
        assert_eq!(newly_blocked(&tree(json!(true)), Some(&tree(json!(false)))).len(), 1);
        assert!(newly_blocked(&tree(json!(true)), Some(&tree(json!(true)))).is_empty());
        assert!(newly_blocked(&tree(Value::Null), None).is_empty());
    }
}
