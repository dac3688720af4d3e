//! `rollout history`: the revisions of a workload.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Objects, group_kind};
use crate::cmd::describe::{self, items, replica_sets, selector, str_of};
use crate::error::{Result, all, fail};
use crate::flags::Output;
use crate::patch::Shape;
use crate::print::Format;
use crate::print::format::reference;
use crate::print::tabwriter::TabWriter;
use crate::select::Info;
use crate::session::Session;

pub(crate) const CAUSE: &str = "kubernetes.io/change-cause";
pub(crate) const REVISION: &str = "deployment.kubernetes.io/revision";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    objects: Objects,
    #[command(flatten)]
    output: Output,
    /// See the details, including podTemplate of the revision specified
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, hide_default_value = true)]
    revision: i64,
}

/// One revision: what holds it, and its template of pods.
#[derive(Debug, Clone)]
pub struct Revision {
    pub holder: Value,
    pub template: Value,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    let format = Format::for_change(&args.output)?;
    if args.revision < 0 {
        return fail(format!("revision must be a positive integer: {}", args.revision));
    }
    let (infos, errors) = args.objects.infos(session).await?;
    for info in &infos {
        let revisions = revisions(session, info, "history viewer").await?;
        if !format.is_human() {
            for (number, revision) in &revisions {
                if args.revision == 0 || *number == args.revision {
                    session.print(&format.object(&revision.holder)?)?;
                }
            }
            if args.revision > 0 && !revisions.contains_key(&args.revision) {
                return fail("unable to find the specified revision");
            }
            continue;
        }
        let text = if revisions.is_empty() {
            "No rollout history found.".to_owned()
        } else if args.revision > 0 {
            match revisions.get(&args.revision) {
                Some(revision) => describe::template_text(&with_cause(revision)),
                None => return fail("unable to find the specified revision"),
            }
        } else {
            table(&revisions)
        };
        let with = if args.revision > 0 {
            format!("with revision #{}", args.revision)
        } else {
            String::new()
        };
        session.print(&format!("{} {with}\n{text}\n", reference(&info.object)))?;
    }
    all(errors)
}

fn table(revisions: &BTreeMap<i64, Revision>) -> String {
    let mut out = TabWriter::describe();
    out.line("REVISION\tCHANGE-CAUSE");
    for (number, revision) in revisions {
        let cause = str_of(&revision.holder["metadata"]["annotations"][CAUSE]);
        out.line(&format!(
            "{number}\t{}",
            if cause.is_empty() { "<none>" } else { cause }
        ));
    }
    out.flush()
}

fn with_cause(revision: &Revision) -> Value {
    let mut template = revision.template.clone();
    let cause = &revision.holder["metadata"]["annotations"][CAUSE];
    if cause.is_string() {
        template["metadata"]["annotations"][CAUSE] = cause.clone();
    }
    template
}

/// The revisions of a workload by their numbers.
pub async fn revisions(session: &Session, info: &Info, what: &str) -> Result<BTreeMap<i64, Revision>> {
    match info.ty.kind.as_str() {
        "Deployment" => {
            let sets = replica_sets(session, &info.object).await?;
            let numbered = sets.into_iter().filter_map(|set| {
                let number = str_of(&set["metadata"]["annotations"][REVISION]).parse().ok()?;
                let mut holder = set;
                crate::resolve::with_type_of(&mut holder, "apps/v1", "ReplicaSet");
                let template = holder["spec"]["template"].clone();
                Some((number, Revision { holder, template }))
            });
            Ok(numbered.collect())
        }
        "DaemonSet" | "StatefulSet" => controller_revisions(session, info).await,
        _ => fail(format!("no {what} has been implemented for \"{}\"", group_kind(info))),
    }
}

async fn controller_revisions(session: &Session, info: &Info) -> Result<BTreeMap<i64, Revision>> {
    let path = format!("/apis/apps/v1/namespaces/{}/controllerrevisions", info.namespace);
    let labels = selector(&info.object["spec"]["selector"]);
    let list = describe::list(session, &path, vec![("labelSelector", labels)]).await?;
    let uid = &info.object["metadata"]["uid"];
    let mut found = BTreeMap::new();
    for mut holder in list {
        let ours = |o: &Value| o["controller"] == true && o["uid"] == *uid;
        if !items(&holder["metadata"]["ownerReferences"]).any(ours) {
            continue;
        }
        crate::resolve::with_type_of(&mut holder, "apps/v1", "ControllerRevision");
        let applied = match Shape::of("apps/v1", &info.ty.kind) {
            Some(shape) => shape.merge(&info.object, &holder["data"])?,
            None => Value::Null,
        };
        let number = holder["revision"].as_i64().unwrap_or(0);
        let template = applied["spec"]["template"].clone();
        found.insert(number, Revision { holder, template });
    }
    Ok(found)
}
