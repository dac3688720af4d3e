//! `rollout undo`: back to an earlier revision.

use serde_json::{Map, Value, json};

use super::history::{REVISION, Revision, revisions};
use super::{MANAGER, Objects};
use crate::change::{Changer, JSON_PATCH, STRATEGIC};
use crate::cmd::apply::{LAST_APPLIED, last_applied};
use crate::cmd::describe;
use crate::error::{Result, all, fail, message};
use crate::flags::{Change, DryRun};
use crate::print::go::quote;
use crate::select::Info;
use crate::session::Session;

/// What stays the Deployment's own.
const KEPT: [&str; 6] = [
    LAST_APPLIED,
    REVISION,
    "deployment.kubernetes.io/revision-history",
    "deployment.kubernetes.io/desired-replicas",
    "deployment.kubernetes.io/max-replicas",
    "deprecated.deployment.rollback.to",
];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    objects: Objects,
    #[command(flatten)]
    change: Change,
    /// The revision to rollback to. Default to 0 (last revision).
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, hide_default_value = true)]
    to_revision: i64,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    let mut changer = Changer::new(session, &args.change, MANAGER)?;
    // The server is not told of a manager here, nor is it by upstream.
    changer.manager.clear();
    let (infos, mut errors) = args.objects.infos(session).await?;
    for mut info in infos {
        match undo(&changer, args, &mut info).await {
            Ok(operation) => changer.tell(&info.object, &operation)?,
            Err(error) => errors.push(error),
        }
    }
    all(errors)
}

async fn undo(changer: &Changer<'_>, args: &Args, info: &mut Info) -> Result<String> {
    let wanted = args.to_revision;
    if last_applied(&info.object).is_some() {
        changer.session.warn(&format!(
            "Warning: resource {}/{} was previously managed with 'kubectl apply'. Rolling back will not update the {LAST_APPLIED} annotation, which may cause unexpected behavior on future 'kubectl apply' operations. Consider using 'kubectl apply' with your previous configuration file instead.",
            info.ty.plural, info.name
        ));
    }
    let missing = || message(format!("unable to find specified revision {wanted} in history"));
    if wanted < 0 {
        return Err(missing());
    }
    let all = revisions(changer.session, info, "rollbacker").await?;
    let found = match wanted {
        0 => all.iter().rev().nth(1).map(|(_, r)| r),
        n => all.get(&n),
    };
    let is_deployment = info.ty.kind == "Deployment";
    let Some(revision) = found else {
        return match (wanted, is_deployment) {
            (0, true) => fail(format!("no rollout history found for deployment {}", quote(&info.name))),
            (0, false) => fail("no last revision to roll back to"),
            _ => Err(missing()),
        };
    };
    if args.change.dry_run == DryRun::Client {
        return Ok(describe::template_text(&revision.template));
    }
    if info.object["spec"]["paused"] == true {
        return fail(
            "you cannot rollback a paused deployment; resume it first with 'kubectl rollout resume' and try again",
        );
    }
    let mut template = revision.template.clone();
    if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
        labels.remove("pod-template-hash");
    }
    if template == info.object["spec"]["template"] {
        return Ok(format!(
            "skipped rollback (current template already matches revision {wanted})"
        ));
    }
    let patched = if is_deployment {
        let annotations = annotations(&info.object, revision);
        let patch = json!([
            {"op": "replace", "path": "/spec/template", "value": template},
            {"op": "replace", "path": "/metadata/annotations", "value": annotations},
        ]);
        changer.patch(info, JSON_PATCH, &patch).await
    } else {
        changer.patch(info, STRATEGIC, &revision.holder["data"].clone()).await
    };
    match patched {
        Ok(()) => Ok("rolled back".to_owned()),
        Err(error) => fail(format!("failed restoring revision {wanted}: {error}")),
    }
}

fn annotations(deployment: &Value, revision: &Revision) -> Map<String, Value> {
    let of = |object: &Value| {
        object["metadata"]["annotations"]
            .as_object()
            .cloned()
            .unwrap_or_default()
    };
    let mut all = of(&revision.holder);
    all.retain(|key, _| !KEPT.contains(&key.as_str()));
    all.extend(
        of(deployment)
            .into_iter()
            .filter(|(key, _)| KEPT.contains(&key.as_str())),
    );
    all
}
