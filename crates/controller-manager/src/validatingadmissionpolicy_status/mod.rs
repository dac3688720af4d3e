//! `status.typeChecking` of a ValidatingAdmissionPolicy: what is wrong with its expressions for the kinds that it is for
//! (KEP-3488, "Type Checking").
//!
//! As upstream's, the controller looks at a policy once for each of its generations. What the API server publishes says which
//! kinds there are and which fields they have; both are read when a policy needs them and are not kept.

mod check;
mod kinds;
mod schemas;

use std::sync::Arc;
use std::time::Duration;

use api::gvk::GroupVersionKind;
use cel::Declared;
use client::{Cache, Client, Patch};
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicySpec};
use serde_json::{Value, json};

use self::check::{Fields, Typed, Warning};
use self::schemas::Published;
use crate::Error;
use crate::context::Context;
use crate::error::decode;

const MANAGER: &str = "validatingadmissionpolicy-status";
const WORKERS: usize = 5;

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let policies = ctx.informers.get::<ValidatingAdmissionPolicy>();
    if !ctx.synced(&[&policies]).await {
        return Ok(());
    }
    let queue = ctx.queue(MANAGER);
    ctx.each_change(&policies, {
        let queue = queue.clone();
        move |change| {
            if let Some(policy) = change.new {
                queue.add(policy.key());
            }
        }
    });
    let client = ctx.client.clone();
    ctx.work(queue, WORKERS, move |name| {
        let (client, policies) = (client.clone(), policies.clone());
        async move { sync(&client, &policies, &name).await }
    })
    .await;
    Ok(())
}

async fn sync(client: &Client, policies: &Cache, name: &str) -> Result<Option<Duration>, Error> {
    let Some(object) = policies.get(name) else {
        return Ok(None);
    };
    let policy: ValidatingAdmissionPolicy = decode(&object)?;
    let generation = policy.metadata.generation.unwrap_or_default();
    let observed = policy.status.and_then(|status| status.observed_generation);
    if generation <= observed.unwrap_or_default() {
        return Ok(None);
    }
    let warnings = warnings(client, policy.spec.unwrap_or_default()).await?;
    let patch = Patch::Apply {
        manager: MANAGER.to_owned(),
        force: true,
        object: json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": { "name": name },
            "status": { "observedGeneration": generation, "typeChecking": told(&warnings) },
        }),
    };
    let _: ValidatingAdmissionPolicy = client.patch_status("", name, &patch).await?;
    Ok(None)
}

/// An apply without the list takes an earlier one away.
fn told(warnings: &[Warning]) -> Value {
    let each = |(field, warning): &Warning| json!({ "fieldRef": field, "warning": warning });
    match warnings {
        [] => json!({}),
        some => json!({ "expressionWarnings": some.iter().map(each).collect::<Vec<_>>() }),
    }
}

async fn warnings(client: &Client, spec: ValidatingAdmissionPolicySpec) -> Result<Vec<Warning>, Error> {
    let rules = spec
        .match_constraints
        .as_ref()
        .and_then(|all| all.resource_rules.as_deref());
    let kinds = match rules.unwrap_or_default() {
        [] => Vec::new(),
        rules => kinds::matched(rules, &crate::discovery::kinds(client).await?),
    };
    if kinds.is_empty() {
        return Ok(Vec::new());
    }
    let mut published = Published::read(client).await?;
    let mut typed = Vec::new();
    for kind in kinds {
        if let Some(fields) = fields(&mut published, &kind, "1").await {
            typed.push(Typed { kind, fields });
        }
    }
    let params = match spec.param_kind.as_ref().map(param_kind) {
        Some(kind) => Some(fields(&mut published, &kind, "2").await.unwrap_or(Fields::Any)),
        None => None,
    };
    // a policy may have expressions for a second of work
    let checked = tokio::task::spawn_blocking(move || check::warnings(&spec, &typed, params.as_ref())).await;
    checked.map_err(|error| Error::State(format!("the check of a policy's types: {error}")))
}

fn param_kind(of: &k8s_openapi::api::admissionregistration::v1::ParamKind) -> GroupVersionKind {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    GroupVersionKind::from_api_version(&text(&of.api_version), &text(&of.kind))
}

/// What is known of a kind's objects, or `None` when the kind has no schema. Like upstream's, the name of their type has digits: a
/// kind may be called as a type of the language.
async fn fields(published: &mut Published<'_>, kind: &GroupVersionKind, digits: &str) -> Option<Fields> {
    match published.schema(kind).await {
        Ok(schema) => {
            let name = format!("{}{digits}", kind.kind);
            let declared = Declared::from_schema(&schema?, true, &name);
            Some(declared.map_or(Fields::Any, |declared| Fields::Known(Arc::new(declared))))
        }
        Err(error) => {
            // an extension server that is down hides no other kind
            tracing::warn!(%kind, %error, "no policy is checked for the kind: its schema cannot be read");
            None
        }
    }
}
