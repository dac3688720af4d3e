//! `diff`: what `apply` would change, by the system's diff program.

use std::process::Command;

use serde_json::Value;

use super::apply::{LAST_APPLIED, annotations, last_applied};
use crate::change::{Changer, MERGE, STRATEGIC};
use crate::error::{Error, Result, fail, message};
use crate::flags::{Change, DryRun, Files};
use crate::patch::{Shape, three_way};
use crate::print::yaml;
use crate::resolve::{filter_by_labels, from_files};
use crate::select::Info;
use crate::session::Session;

/// Diff the live version against a would-be applied version
#[derive(Debug, clap::Args)]
pub struct Args {
    args: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// Selector (label query) to filter on
    #[arg(long, short = 'l')]
    selector: Option<String>,
    /// If true, apply runs in the server instead of the client
    #[arg(long)]
    server_side: bool,
    /// If true, server-side apply will force the changes against conflicts
    #[arg(long)]
    force_conflicts: bool,
    /// Name of the manager used to track field ownership
    #[arg(long)]
    field_manager: Option<String>,
    /// If true, include managed fields in the diff
    #[arg(long)]
    show_managed_fields: bool,
}

/// Exit code 1 says that there are differences, and nothing else: a failure has a greater one.
pub async fn run(session: &Session, args: &Args) -> Result<()> {
    differences(session, args).await.map_err(|error| match error {
        Error::Exit(1) => Error::Exit(1),
        other => Error::Coded {
            code: other.code().saturating_add(1),
            message: other.report().unwrap_or_default(),
        },
    })
}

async fn differences(session: &Session, args: &Args) -> Result<()> {
    if !args.args.is_empty() {
        return session.usage(format!("Unexpected args: [{}]", args.args.join(" ")));
    }
    if args.files.is_empty() {
        return fail("must specify one of -f and -k");
    }
    let change = Change {
        dry_run: DryRun::Server,
        field_manager: args.field_manager.clone(),
        ..Change::default()
    };
    let manager = if args.server_side {
        "kubectl"
    } else {
        "kubectl-client-side-apply"
    };
    let changer = Changer::new(session, &change, manager)?;
    let (mut infos, errors) = from_files(session, &args.files).await?;
    crate::error::all(errors)?;
    if let Some(selector) = &args.selector {
        filter_by_labels(&mut infos, selector)?;
    }
    let suffix = super::create::suffix()?;
    let root = std::env::temp_dir();
    let live = Folder::make(root.join(format!("LIVE-{suffix}")))?;
    let merged = Folder::make(root.join(format!("MERGED-{suffix}")))?;
    for mut info in infos {
        let name = file_name(&info);
        let current = match session.api()?.get(&info.path()).await {
            Ok(object) => Some(object),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        wanted(&changer, args, &mut info, current.as_ref()).await?;
        let (mut before, mut after) = (current, info.object.clone());
        if info.ty.is("", "Secret") {
            mask(before.as_mut(), &mut after);
        }
        if let Some(before) = &before {
            live.write(&name, before, args.show_managed_fields)?;
        }
        merged.write(&name, &after, args.show_managed_fields)?;
    }
    compare(&live, &merged)
}

/// Makes `info` what the server would answer.
async fn wanted(changer: &Changer<'_>, args: &Args, info: &mut Info, current: Option<&Value>) -> Result<()> {
    if args.server_side {
        let object = info.object.clone();
        return changer.apply(info, &object, args.force_conflicts, "").await;
    }
    // The record of what was applied would only repeat the difference.
    let mut modified = info.object.clone();
    annotations(&mut modified)?.remove(LAST_APPLIED);
    let Some(current) = current else {
        return changer.create(info).await;
    };
    let original = match last_applied(current) {
        Some(text) => serde_json::from_str(text).map_err(|e| message(e.to_string()))?,
        None => Value::Null,
    };
    let shape = Shape::of(&info.ty.api_version(), &info.ty.kind);
    let mut patch = three_way(shape.as_ref(), &original, &modified, current)?;
    if patch.as_object().is_some_and(serde_json::Map::is_empty) {
        info.replace(current.clone());
        return Ok(());
    }
    // what is shown is a change of the object that was read
    patch["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"].clone();
    changer
        .patch(info, if shape.is_some() { STRATEGIC } else { MERGE }, &patch)
        .await
}

/// `apps.v1.Deployment.default.web`.
fn file_name(info: &Info) -> String {
    let group = if info.ty.group.is_empty() {
        String::new()
    } else {
        format!("{}.", info.ty.group)
    };
    format!(
        "{group}{}.{}.{}.{}",
        info.ty.version, info.ty.kind, info.namespace, info.name
    )
}

/// Secrets are told apart without being shown.
fn mask(before: Option<&mut Value>, after: &mut Value) {
    let mut nothing = Value::Null;
    let before = before.unwrap_or(&mut nothing);
    let keys: Vec<String> = [&*before, &*after]
        .into_iter()
        .flat_map(|o| o["data"].as_object().into_iter().flatten().map(|(k, _)| k.clone()))
        .collect();
    for key in keys {
        let same = before["data"][&key] == after["data"][&key];
        for (object, text) in [(&mut *before, "*** (before)"), (&mut *after, "*** (after)")] {
            if let Some(value) = object["data"].get_mut(&key) {
                *value = Value::from(if same { "***" } else { text });
            }
        }
    }
}

/// A folder that goes with us.
struct Folder(std::path::PathBuf);

impl Folder {
    fn make(path: std::path::PathBuf) -> Result<Folder> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Folder(path))
    }

    fn write(&self, name: &str, object: &Value, managed: bool) -> Result<()> {
        let mut object = object.clone();
        if let Some(meta) = object["metadata"].as_object_mut().filter(|_| !managed) {
            meta.remove("managedFields");
        }
        Ok(std::fs::write(self.0.join(name), yaml::to_string(&object))?)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Runs the program that shows the differences, whose exit code 1 says that there are some.
fn compare(live: &Folder, merged: &Folder) -> Result<()> {
    let external = std::env::var("KUBECTL_EXTERNAL_DIFF").ok().filter(|d| !d.is_empty());
    let words: Vec<String> = match &external {
        Some(text) => text.split_whitespace().map(str::to_owned).collect(),
        None => ["diff", "-u", "-N"].map(str::to_owned).to_vec(),
    };
    let (program, flags) = words.split_first().ok_or_else(|| message("no diff program"))?;
    let status = Command::new(program).args(flags).arg(&live.0).arg(&merged.0).status();
    match status.map(|s| s.code()) {
        Ok(Some(0)) => Ok(()),
        Ok(Some(1)) => Err(Error::Exit(1)),
        Ok(Some(code)) => fail(format!(
            "failed to run {}: exit status {code}",
            crate::print::go::quote(program)
        )),
        Ok(None) => fail(format!("{program} was killed")),
        Err(e) => fail(format!("failed to run {}: {e}", crate::print::go::quote(program))),
    }
}
