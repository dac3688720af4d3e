//! `rollout`: how far a change of a workload is, what came before, and back.

mod history;
mod status;
mod undo;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::change::{Changer, STRATEGIC};
use crate::error::{Error, Result, all, fail, message};
use crate::flags::{Change, Files, Output};
use crate::print::go::quote;
use crate::select::{Info, Selection};
use crate::session::Session;

const MANAGER: &str = "kubectl-rollout";

/// Manage the rollout of one or many resources
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    sub: Sub,
}

#[derive(Debug, clap::Subcommand)]
enum Sub {
    /// Show the status of the rollout
    Status(status::Args),
    /// View rollout history
    History(history::Args),
    /// Undo a previous rollout
    Undo(undo::Args),
    /// Restart a resource
    Restart(Flags),
    /// Mark the provided resource as paused
    Pause(Flags),
    /// Resume a paused resource
    Resume(Flags),
}

/// Which objects.
#[derive(Debug, Clone, clap::Args)]
struct Objects {
    args: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// Selector (label query) to filter on
    #[arg(long, short = 'l')]
    selector: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Flags {
    #[command(flatten)]
    objects: Objects,
    #[command(flatten)]
    output: Output,
    /// Name of the manager used to track field ownership
    #[arg(long)]
    field_manager: Option<String>,
}

impl Objects {
    async fn infos(&self, session: &Session) -> Result<(Vec<Info>, Vec<Error>)> {
        if self.args.is_empty() && self.files.is_empty() {
            return fail("required resource not specified");
        }
        let mut selection = Selection::new(&self.args);
        selection.files = Some(&self.files);
        selection.labels = self.selector.as_deref();
        selection.allow_all = true;
        selection.latest = true;
        selection.infos(session).await
    }
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    match &args.sub {
        Sub::Status(args) => status::run(session, args).await,
        Sub::History(args) => history::run(session, args).await,
        Sub::Undo(args) => undo::run(session, args).await,
        Sub::Restart(flags) => change(session, flags, "restarted", restart).await,
        Sub::Pause(flags) => change(session, flags, "paused", pause).await,
        Sub::Resume(flags) => change(session, flags, "resumed", resume).await,
    }
}

/// Why an object is left as it is, told behind its name.
#[derive(Debug, thiserror::Error)]
enum NotDone {
    #[error("restarting is not supported")]
    Restart,
    #[error("can't restart paused deployment (run rollout resume first)")]
    Paused,
    #[error("pausing is not supported")]
    Pause,
    #[error("is already paused")]
    AlreadyPaused,
    #[error("resuming is not supported")]
    Resume,
    #[error("is not paused")]
    NotPaused,
}

/// Patches each object by what `decide` says of it.
async fn change(
    session: &Session,
    flags: &Flags,
    done: &str,
    decide: fn(&Info) -> std::result::Result<Value, NotDone>,
) -> Result<()> {
    let change = Change {
        output: flags.output.clone(),
        field_manager: flags.field_manager.clone(),
        ..Change::default()
    };
    let changer = Changer::new(session, &change, MANAGER)?;
    let (infos, mut errors) = flags.objects.infos(session).await?;
    if infos.is_empty() && errors.is_empty() {
        session.warn(&format!("No resources found in {} namespace.", session.namespace()?));
        return Ok(());
    }
    for mut info in infos {
        let patch = match decide(&info) {
            Ok(patch) => patch,
            Err(reason) => {
                let (resource, name) = (info.ty.group_resource(), quote(&info.name));
                errors.push(message(format!("error: {resource} {name} {reason}")));
                continue;
            }
        };
        match changer.patch(&mut info, STRATEGIC, &patch).await {
            Ok(()) => changer.tell(&info.object, done)?,
            Err(error) => errors.push(message(format!("failed to patch: {error}"))),
        }
    }
    all(errors)
}

fn restart(info: &Info) -> std::result::Result<Value, NotDone> {
    if !matches!(info.ty.kind.as_str(), "Deployment" | "DaemonSet" | "StatefulSet") {
        return Err(NotDone::Restart);
    }
    if info.object["spec"]["paused"] == true {
        return Err(NotDone::Paused);
    }
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let annotations = json!({"kubectl.kubernetes.io/restartedAt": now});
    Ok(json!({"spec": {"template": {"metadata": {"annotations": annotations}}}}))
}

fn pause(info: &Info) -> std::result::Result<Value, NotDone> {
    match (info.ty.kind.as_str(), info.object["spec"]["paused"] == true) {
        ("Deployment", false) => Ok(json!({"spec": {"paused": true}})),
        ("Deployment", true) => Err(NotDone::AlreadyPaused),
        _ => Err(NotDone::Pause),
    }
}

fn resume(info: &Info) -> std::result::Result<Value, NotDone> {
    match (info.ty.kind.as_str(), info.object["spec"]["paused"] == true) {
        ("Deployment", true) => Ok(json!({"spec": {"paused": null}})),
        ("Deployment", false) => Err(NotDone::NotPaused),
        _ => Err(NotDone::Resume),
    }
}

/// `Deployment.apps`, as Go prints a group and kind.
pub fn group_kind(info: &Info) -> String {
    match info.ty.group.as_str() {
        "" => info.ty.kind.clone(),
        group => format!("{}.{group}", info.ty.kind),
    }
}
