//! MutatingAdmissionPolicy: what policies in CEL make of objects that are written (`policy/mutating/dispatcher.go`).

use arc_swap::Guard;
use cel::Limits;
use serde_json::{Value, json};

use super::compiled::{Binding, Policy};
use super::mutation::{Form, Mutation, MutationError};
use super::policies::{Bound, Policies};
use super::variables::{self, Composed, Reads};
use super::{Seen, name_of, params};
use crate::admission::matching::{Shown, Version};
use crate::admission::{Attributes, Later, Operation, Passes, Plugin, Reinvocation};
use crate::http::status::{ApiError, Result};
use crate::registry::Registry;

/// Changes what is written as MutatingAdmissionPolicies want it.
pub struct Mutating(Policies);

/// A policy that is to be asked by one of its bindings, with one of its parameters.
struct Invocation<'i> {
    policy: &'i Policy,
    binding: &'i Binding,
    params: Option<Value>,
    version: Version,
    key: String,
}

/// What policies could not do, of those that deny then.
#[derive(Default)]
struct Failures(Vec<(String, Option<&'static str>)>);

impl Failures {
    fn add(&mut self, policy: &Policy, binding: Option<&Binding>, why: &str, reason: Option<&'static str>) {
        if policy.fails {
            let who = match binding {
                Some(binding) => format!("policy '{}' with binding '{}'", policy.name, binding.name),
                None => format!("policy {}", api::go::quote(&policy.name)),
            };
            self.0.push((format!("{who} denied request: {why}"), reason));
        }
    }

    fn misconfigured(&mut self, policy: &Policy, binding: Option<&Binding>, why: &str) {
        let what = if binding.is_some() { "binding" } else { "policy" };
        self.add(policy, binding, &format!("failed to configure {what}: {why}"), None);
    }

    fn told(self, asked: &Attributes<'_>) -> Result<()> {
        let Some((message, reason)) = self.0.first().cloned() else {
            return Ok(());
        };
        let mut error = asked
            .resource
            .forbidden(name_of(asked), "admission request denied by policy");
        error.message = message;
        if let Some(reason) = reason {
            error.reason = reason;
        }
        if let Some(Value::Object(details)) = &mut error.details {
            let causes: Vec<Value> = self
                .0
                .iter()
                .map(|(message, _)| json!({ "message": message }))
                .collect();
            details.insert("causes".into(), Value::Array(causes));
        }
        Err(error)
    }
}

impl Mutating {
    const NAME: &'static str = "MutatingAdmissionPolicy";

    /// The policies of a server.
    pub fn new(registry: &Registry) -> Mutating {
        let kinds = ["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"];
        Mutating(Policies::new(registry, kinds))
    }

    async fn dispatch(
        &self,
        asked: &Attributes<'_>,
        passes: &mut Passes,
        tree: &mut Value,
        old: Option<&Value>,
    ) -> Result<()> {
        let current = Guard::into_inner(self.0.current());
        let (mut failures, mut invocations) = (Failures::default(), Vec::new());
        for bound in current.candidates(asked) {
            invocations.extend(concerned(bound, asked, tree, old, &mut failures).await);
        }
        if !invocations.is_empty() {
            let mut kept = passes.begin(Self::NAME, tree);
            let done = invoke_all(&invocations, asked, passes, &mut kept, tree, old, &mut failures).await;
            passes.end(Self::NAME, kept, tree);
            done?;
        }
        failures.told(asked)
    }
}

impl Plugin for Mutating {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        asked.operation != Operation::Delete && self.0.current().candidates(asked).next().is_some()
    }

    fn asks_others(&self) -> bool {
        true
    }

    fn change<'a>(
        &'a self,
        asked: &'a Attributes<'_>,
        passes: &'a mut Passes,
        tree: &'a mut Value,
        old: Option<&'a Value>,
    ) -> Option<Later<'a, ()>> {
        Some(Box::pin(self.dispatch(asked, passes, tree, old)))
    }
}

/// The ways in which a policy is to be asked about a request.
async fn concerned<'i>(
    bound: &'i Bound,
    asked: &Attributes<'_>,
    object: &Value,
    old: Option<&Value>,
    failures: &mut Failures,
) -> Vec<Invocation<'i>> {
    let policy = &*bound.policy;
    let mut found = Vec::new();
    let version = match policy.criteria.matches(asked, object, old) {
        Ok(Some(version)) => version,
        Ok(None) => return found,
        Err(error) => {
            failures.misconfigured(policy, None, &error.message);
            return found;
        }
    };
    let kind = match params::kind(policy, asked.registry) {
        Ok(kind) => kind,
        Err(why) => {
            failures.misconfigured(policy, None, &why.to_string());
            return found;
        }
    };
    for binding in &bound.bindings {
        match binding.concerns(asked, object, old) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) => {
                failures.misconfigured(policy, Some(binding), &error.message);
                continue;
            }
        }
        match params::collect(kind.as_ref(), binding, asked).await {
            Ok(all) => found.extend(all.into_iter().map(|params| Invocation {
                key: key_of(policy, binding, params.as_ref()),
                policy,
                binding,
                params,
                version: version.clone(),
            })),
            Err(why) => failures.misconfigured(policy, Some(binding), &why.to_string()),
        }
    }
    found
}

fn key_of(policy: &Policy, binding: &Binding, params: Option<&Value>) -> String {
    let text = |key: &str| params.and_then(|p| p["metadata"][key].as_str()).unwrap_or_default();
    [&policy.name, &binding.name, text("namespace"), text("name")].join("/")
}

/// Asks policies one after the other; each sees what those before have made of the object.
async fn invoke_all(
    invocations: &[Invocation<'_>],
    asked: &Attributes<'_>,
    passes: &mut Passes,
    kept: &mut Reinvocation,
    tree: &mut Value,
    old: Option<&Value>,
    failures: &mut Failures,
) -> Result<()> {
    let (mut seen, mut dirty): (Option<Seen>, bool) = (None, false);
    for invocation in invocations {
        let (policy, binding) = (invocation.policy, invocation.binding);
        let mut now = match seen.take() {
            Some(mut seen) => {
                seen.turn(asked, &invocation.version).await?;
                seen
            }
            None => Seen::of(asked, &invocation.version, tree, old).await?,
        };
        match policy
            .conditions
            .hold(&now.variables(invocation.params.as_ref(), asked))
        {
            Ok(true) => {
                if !passes.is_second || kept.again.contains(&invocation.key) {
                    let before = now.shown.object.clone();
                    for mutation in &policy.mutations {
                        match invoke(policy, mutation, invocation.params.as_ref(), &mut now, asked) {
                            Ok(()) => {}
                            Err(Stop::Unfit(why)) => {
                                failures.add(policy, Some(binding), &why.to_string(), Some("Invalid"));
                            }
                            Err(Stop::Refused(error)) => return Err(error),
                        }
                    }
                    if now.shown.object != before {
                        dirty = true;
                        kept.changed();
                        passes.again = true;
                    }
                    if policy.again {
                        kept.asked.insert(invocation.key.clone());
                    }
                }
            }
            Ok(false) => {}
            Err(why) => failures.add(policy, Some(binding), &why.to_string(), Some("Invalid")),
        }
        seen = Some(now);
    }
    if let Some(mut seen) = seen.filter(|_| dirty) {
        // those who have changed something are asked again too
        kept.changed();
        seen.turn(asked, &Version::Asked).await?;
        *tree = seen.shown.object;
    }
    Ok(())
}

/// What a JSON Patch makes has no fields that its kind does not have.
fn strictly(seen: &Seen, asked: &Attributes<'_>, patched: &Value) -> Result<()> {
    let (schema, root) = seen.shown.version.shape(asked)?;
    if schema.is_structural() {
        return Ok(());
    }
    let decoded = schema.decode_value(root, patched.clone()).map_err(ApiError::internal)?;
    if decoded.unknown.is_empty() {
        return Ok(());
    }
    let unknown = decoded
        .unknown
        .iter()
        .map(|path| format!("unknown field {}", api::go::quote(path)));
    let unknown: Vec<String> = unknown.collect();
    Err(ApiError::internal(format!(
        "strict decoding error: {}",
        unknown.join(", ")
    )))
}

/// Why a mutation was not applied.
enum Stop {
    /// It does not fit, which is for the failure policy to judge.
    Unfit(MutationError),
    /// What it makes is no object of the kind: nobody is asked any more.
    Refused(ApiError),
}

impl From<MutationError> for Stop {
    fn from(why: MutationError) -> Stop {
        Stop::Unfit(why)
    }
}

/// Applies one mutation to the object.
fn invoke(
    policy: &Policy,
    mutation: &Mutation,
    params: Option<&Value>,
    seen: &mut Seen,
    asked: &Attributes<'_>,
) -> Result<(), Stop> {
    if seen.shown.object.is_null() {
        return Ok(());
    }
    let program = mutation.program.as_ref();
    let program = program.map_err(|why| MutationError::from(why.clone()))?;
    let shown: &Shown = &seen.shown;
    let request = seen.variables(params, asked);
    let patched = variables::with(&policy.variables, &request, None, &mut |known| {
        let composed = Composed::new(known);
        let reads = Reads {
            request: &request,
            composed: &composed,
            authorizer: true,
        };
        let done = program.evaluate(&reads, &Limits::default());
        if done.cost.saturating_add(composed.take_cost()) > cel::limits::RUNTIME_BUDGET {
            return Err(MutationError::Budget);
        }
        match done.outcome {
            Ok(made) => mutation.patched(&made, shown, asked),
            Err(fault) => Err(MutationError::Evaluation {
                text: mutation.text.to_string(),
                fault,
            }),
        }
    })?;
    if let Some(patched) = patched {
        if mutation.form == Form::JsonPatch {
            strictly(seen, asked, &patched).map_err(Stop::Refused)?;
        }
        seen.shown
            .replace(asked, patched)
            .map_err(|error| match mutation.form {
                Form::JsonPatch => Stop::Refused(error),
                Form::ApplyConfiguration => Stop::Unfit(error.into()),
            })?;
    }
    Ok(())
}
