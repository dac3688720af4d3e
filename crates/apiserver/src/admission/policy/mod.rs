//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy: what policies in CEL say of writes, and make of them
//! (`k8s.io/apiserver/pkg/admission/plugin/policy`).

mod compiled;
mod decision;
mod mutating;
mod mutation;
mod params;
mod policies;
mod told;
mod variables;

use std::time::Instant;

use arc_swap::Guard;
use serde_json::{Value, json};

use self::compiled::Binding;
pub use self::mutating::Mutating;
use self::policies::{Bound, Policies};
use self::told::{Denial, Told};
use crate::admission::matching::{Asker, Shown, Variables, Version, request};
use crate::admission::{Attributes, Charge, Later, Operation, Plugin};
use crate::http::status::{ApiError, Result};
use crate::registry::Registry;

/// The error of an evaluation that there is no budget for.
const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// Holds writes against ValidatingAdmissionPolicies.
pub struct Validating(Policies);

impl Validating {
    /// The policies of a server.
    pub fn new(registry: &Registry) -> Validating {
        let kinds = ["validatingadmissionpolicies", "validatingadmissionpolicybindings"];
        Validating(Policies::new(registry, kinds))
    }

    async fn dispatch(&self, asked: &Attributes<'_>, object: &Value, old: Option<&Value>) -> Result<Charge> {
        let mut told = Told::default();
        let current = Guard::into_inner(self.0.current());
        for bound in current.candidates(asked) {
            held_against(bound, asked, object, old, &mut told).await?;
            told.publish(&bound.policy.name, asked);
        }
        told.publish_failures(asked);
        match told.denials.into_iter().next() {
            Some(denial) => Err(refusal(asked, &denial)),
            None => Ok(Charge::default()),
        }
    }
}

impl Plugin for Validating {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        self.0.current().candidates(asked).next().is_some()
    }

    fn hold<'a>(
        &'a self,
        asked: &'a Attributes<'_>,
        tree: &'a Value,
        old: Option<&'a Value>,
    ) -> Option<Later<'a, Charge>> {
        Some(Box::pin(self.dispatch(asked, tree, old)))
    }
}

/// Holds a request against a policy by each of its bindings.
async fn held_against(
    bound: &Bound,
    asked: &Attributes<'_>,
    object: &Value,
    old: Option<&Value>,
    told: &mut Told,
) -> Result<()> {
    let policy = &*bound.policy;
    let misconfigured = |binding: Option<&Binding>, why: &str| {
        let what = if binding.is_some() { "binding" } else { "policy" };
        policy.fails.then(|| Denial {
            policy: policy.name.clone(),
            binding: binding.map(|binding| binding.name.clone()),
            message: format!("failed to configure {what}: {why}"),
            reason: "Invalid",
        })
    };
    let version = match policy.criteria.matches(asked, object, old) {
        Ok(Some(version)) => version,
        Ok(None) => return Ok(()),
        Err(error) => {
            told.denials.extend(misconfigured(None, &error.message));
            return Ok(());
        }
    };
    let params = match params::kind(policy, asked.registry) {
        Ok(params) => params,
        Err(why) => {
            told.denials.extend(misconfigured(None, &why.to_string()));
            return Ok(());
        }
    };
    let mut shown = None;
    for binding in &bound.bindings {
        match binding.concerns(asked, object, old) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) => {
                told.denials.extend(misconfigured(Some(binding), &error.message));
                continue;
            }
        }
        let found = match params::collect(params.as_ref(), binding, asked).await {
            Ok(found) => found,
            Err(why) => {
                told.denials.extend(misconfigured(Some(binding), &why.to_string()));
                continue;
            }
        };
        let shown = match &mut shown {
            Some(shown) => shown,
            none => none.insert(Seen::of(asked, &version, object, old).await?),
        };
        for params in &found {
            let begun = Instant::now();
            let verdict = policy.validate(&shown.variables(params.as_ref(), asked));
            told.enforce(policy, binding, verdict, asked, begun.elapsed());
        }
    }
    Ok(())
}

/// What the expressions of a policy see of a request.
struct Seen {
    shown: Shown,
    request: Value,
    namespace: Option<Value>,
}

impl Seen {
    async fn of(asked: &Attributes<'_>, version: &Version, object: &Value, old: Option<&Value>) -> Result<Seen> {
        let mut shown = Shown::of(asked, object, old)?;
        shown.turn(asked, version).await?;
        // a namespace is not in itself here
        let of_namespace = asked.namespace.is_empty() || asked.resource.is("", "namespaces");
        let namespace = match of_namespace {
            true => None,
            false => {
                let found = asked.registry.get("", "namespaces", "", asked.namespace);
                let found = found.ok_or_else(|| ApiError::not_found("", "namespaces", asked.namespace))?;
                Some(namespace_object(&found.tree()?))
            }
        };
        Ok(Seen {
            shown,
            request: request::describe(asked, version),
            namespace,
        })
    }

    /// The objects in another version.
    async fn turn(&mut self, asked: &Attributes<'_>, version: &Version) -> Result<()> {
        if !self.shown.version.is(version) {
            self.shown.turn(asked, version).await?;
            self.request = request::describe(asked, version);
        }
        Ok(())
    }

    fn variables<'s>(&'s self, params: Option<&'s Value>, asked: &Attributes<'_>) -> Variables<'s> {
        Variables {
            object: &self.shown.object,
            old: Some(&self.shown.old),
            request: &self.request,
            namespace: self.namespace.as_ref(),
            params,
            authorizer: Asker::of(asked),
        }
    }
}

/// The part of a namespace that expressions see.
fn namespace_object(namespace: &Value) -> Value {
    const METADATA: [&str; 12] = [
        "name",
        "generateName",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "labels",
        "annotations",
        "finalizers",
    ];
    let metadata = namespace
        .get("metadata")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    let metadata: serde_json::Map<String, Value> = metadata
        .filter(|(key, _)| METADATA.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let part = |key: &str| namespace.get(key).cloned().unwrap_or_else(|| json!({}));
    json!({ "metadata": metadata, "spec": part("spec"), "status": part("status") })
}

/// The name of an object as denials have it.
fn name_of<'n>(asked: &'n Attributes<'_>) -> &'n str {
    // a collection's objects are deleted without their names being told
    let name = match asked.operation {
        Operation::Delete => asked.known_name,
        _ => asked.name,
    };
    match (name, asked.operation) {
        ("", Operation::Connect) => "Unknown/errorGettingName",
        ("", _) => "Unknown",
        (name, _) => name,
    }
}

/// The answer to a request that was denied.
fn refusal(asked: &Attributes<'_>, denial: &Denial) -> ApiError {
    let who = match &denial.binding {
        Some(binding) => format!("ValidatingAdmissionPolicy '{}' with binding '{binding}'", denial.policy),
        None => format!("ValidatingAdmissionPolicy '{}'", denial.policy),
    };
    let message = format!("{who} denied request: {}", denial.message);
    let mut error = asked.resource.forbidden(name_of(asked), &message);
    error.reason = denial.reason;
    error.code = match denial.reason {
        "Forbidden" => 403,
        "Unauthorized" => 401,
        "RequestEntityTooLarge" => 413,
        _ => 422,
    };
    if let Some(Value::Object(details)) = &mut error.details {
        details.insert("causes".into(), json!([{ "message": message }]));
    }
    error
}

#[cfg(test)]
mod tests;
