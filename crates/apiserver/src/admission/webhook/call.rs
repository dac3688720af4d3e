//! One call of a webhook, and what it comes to.

use serde_json::Value;
use tokio::time::Instant;

use super::hook::Hook;
use super::review::{self, Response};
use super::round::Round;
use crate::admission::Attributes;
use crate::admission::matching::{Asker, Shown, Variables, Version, request};
use crate::audit::policy::Level;
use crate::http::status::{ApiError, Result};
use crate::webhook::Room;

/// Why a webhook did not allow a request.
#[derive(Debug)]
pub enum Failure {
    /// It could not be asked, or answered what is no answer. What becomes of the request is for its failure policy to say.
    Calling(String),
    /// The request is refused.
    Refused(ApiError),
}

/// The version of the objects that a webhook is to be asked about; `None` when it is not to be asked. `shown` is turned to it
/// where conditions had to be looked at.
///
/// # Errors
/// When the request cannot be held against what it is configured for.
pub async fn concerns(
    hook: &Hook,
    asked: &Attributes<'_>,
    shown: &mut Option<Shown>,
    object: &Value,
    old: Option<&Value>,
) -> Result<Option<Version>> {
    let matched = match &*shown {
        Some(shown) => hook.criteria.matches(asked, &shown.object, old)?,
        None => hook.criteria.matches(asked, object, old)?,
    };
    let Some(version) = matched else { return Ok(None) };
    if hook.conditions.is_empty() {
        return Ok(Some(version));
    }
    let shown = turned(asked, shown, &version, object, old).await?;
    let described = request::describe(asked, &version);
    let variables = Variables {
        object: &shown.object,
        old: Some(&shown.old),
        request: &described,
        namespace: None,
        params: None,
        authorizer: Asker::of(asked),
    };
    let holds = hook.conditions.hold(&variables);
    let holds = holds.map_err(|why| asked.resource.forbidden(asked.known_name, &why.to_string()))?;
    Ok(holds.then_some(version))
}

/// The objects in a version.
pub async fn turned<'s>(
    asked: &Attributes<'_>,
    shown: &'s mut Option<Shown>,
    version: &Version,
    object: &Value,
    old: Option<&Value>,
) -> Result<&'s mut Shown> {
    let made = match shown.take() {
        Some(mut shown) => {
            shown.turn(asked, version).await?;
            shown
        }
        None => {
            let mut shown = Shown::of(asked, object, old)?;
            shown.turn(asked, version).await?;
            shown
        }
    };
    Ok(shown.insert(made))
}

/// Asks a webhook. The room that its answer takes is to be held until the response is done with.
///
/// # Errors
/// When it does not allow the request.
pub async fn call(
    hook: &Hook,
    asked: &Attributes<'_>,
    shown: &Shown,
    mutating: bool,
) -> Result<(Response, Room), Failure> {
    let failed = |why: String| Failure::Calling(why);
    if asked.dry_run {
        match hook.dry_run {
            Some(true) => {}
            Some(false) => {
                let why = format!("admission webhook {:?} does not support dry run", hook.name);
                return Err(Failure::Refused(ApiError::bad_request(why)));
            }
            None => return Err(failed("Webhook SideEffects is nil".into())),
        }
    }
    let version = hook.review.ok_or_else(|| {
        failed(
            "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)"
                .into(),
        )
    })?;
    let webhook = hook.webhook.as_ref();
    let webhook = webhook.map_err(|why| failed(format!("could not get REST client: {why}")))?;
    let uid = asked.registry.uid();
    let described = request::describe(asked, &shown.version);
    let body = review::write(version, &uid, &described, [&shown.object, &shown.old]);
    let body = body.map_err(|why| failed(format!("could not create admission objects: {why}")))?;
    let deadline = match hook.timeout {
        Some(timeout) => asked.deadline.min(Instant::now() + timeout),
        None => asked.deadline,
    };
    let unanswered = |why: &dyn std::fmt::Display| failed(format!("failed to call webhook: {why}"));
    let answered = webhook.post(body, deadline).await;
    let (answer, room) = answered.map_err(|why| unanswered(&why))?;
    let decoded = room.work(|| review::decode(version, &answer));
    let decoded = decoded.map_err(|why| unanswered(&why))?;
    let response = review::verify(version, &uid, mutating, decoded);
    let response = response.map_err(|why| failed(format!("received invalid webhook response: {why}")))?;
    for (key, value) in &response.audit_annotations {
        asked.annotate(Level::Metadata, || (format!("{}/{key}", hook.name), value.clone()));
    }
    for warning in &response.warnings {
        asked.warnings.add(warning.clone());
    }
    if !response.allowed {
        let status = review::denial(&hook.name, response.status);
        return Err(Failure::Refused(ApiError::of_status(status)));
    }
    Ok((response, room))
}

/// What becomes of a request whose webhook could not be asked.
///
/// # Errors
/// Unless failures of the webhook are to be ignored and there is time left.
pub fn fail(hook: &Hook, asked: &Attributes<'_>, why: &str, kind: &str, round: Round) -> Result<()> {
    let error = format!("failed calling webhook {:?}: {why}", hook.name);
    let too_late = Instant::now() >= asked.deadline;
    if too_late {
        return Err(out_of_time());
    }
    if hook.ignores_failure {
        tracing::warn!(%error, "a webhook failed and is ignored");
        round.tell_ignored(hook, asked, kind);
        return Ok(());
    }
    Err(ApiError::internal(error))
}

/// The request took longer than its client waits.
pub fn out_of_time() -> ApiError {
    ApiError::timeout(
        "request did not complete within requested timeout - context deadline exceeded",
        0,
    )
}
