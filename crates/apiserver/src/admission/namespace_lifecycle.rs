//! NamespaceLifecycle: nothing is made in a namespace that does not exist or ends, and three namespaces never end.

use api::object::Object;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admission::{Attributes, Operation, Plugin};
use crate::http::status::{ApiError, Result};

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Whether its status says that it ends; one that cannot be read takes nothing in.
fn is_terminating(namespace: &Object) -> bool {
    #[derive(Deserialize)]
    struct Namespace {
        #[serde(default)]
        status: Status,
    }
    #[derive(Deserialize, Default)]
    struct Status {
        phase: Option<String>,
    }
    let read = namespace.decode::<Namespace>();
    read.map_or(true, |n| n.status.phase.as_deref() == Some("Terminating"))
}

/// Guards namespaces.
pub struct NamespaceLifecycle;

impl Plugin for NamespaceLifecycle {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        matches!(asked.operation, Operation::Create | Operation::Delete)
    }

    fn admit(&self, asked: &Attributes<'_>, _: &mut Value, _: Option<&Value>) -> Result<()> {
        if asked.is("", "namespaces", Operation::Delete) && IMMORTAL.contains(&asked.name) {
            let why = "this namespace may not be deleted";
            return Err(asked.resource.forbidden(asked.name, why));
        }
        if asked.operation != Operation::Create || !asked.resource.namespaced || asked.namespace.is_empty() {
            return Ok(());
        }
        // access reviews ask about namespaces that need not exist
        if asked.resource.group == "authorization.k8s.io" {
            return Ok(());
        }
        let Some(namespace) = asked.registry.get("", "namespaces", "", asked.namespace) else {
            return Err(ApiError::not_found("", "namespaces", asked.namespace));
        };
        if !namespace.object.meta.deleting && !is_terminating(&namespace.object) {
            return Ok(());
        }
        let why = format!(
            "unable to create new content in namespace {} because it is being terminated",
            asked.namespace
        );
        let mut error = asked.resource.forbidden(asked.name, &why);
        if let Some(details) = error.details.as_mut().and_then(|d| d.as_object_mut()) {
            let message = format!("namespace {} is being terminated", asked.namespace);
            details.insert(
                "causes".into(),
                json!([{ "reason": "NamespaceTerminating", "message": message, "field": "metadata.namespace" }]),
            );
        }
        Err(error)
    }
}
