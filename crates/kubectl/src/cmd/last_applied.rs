//! `apply view-last-applied` and `apply set-last-applied`.

use serde_json::{Value, json};

use super::apply::{annotations, last_applied, recorded};
use crate::change::{Changer, MERGE};
use crate::error::{Result, fail, message};
use crate::flags::{Change, Files};
use crate::print::{go, yaml};
use crate::resolve::from_files;
use crate::select::Selection;
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub struct View {
    args: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// Selector (label query) to filter on
    #[arg(long, short = 'l')]
    selector: Option<String>,
    /// Select all resources in the namespace of the specified resource types
    #[arg(long)]
    all: bool,
    /// yaml or json
    #[arg(long, short, default_value = "yaml")]
    output: String,
}

#[derive(Debug, clap::Args)]
pub struct Set {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    change: Change,
    /// Will create the annotation if the current object does not have one
    #[arg(long)]
    create_annotation: bool,
}

pub async fn view(session: &Session, args: &View) -> Result<()> {
    let mut selection = Selection::new(&args.args);
    selection.files = Some(&args.files);
    selection.labels = args.selector.as_deref();
    selection.allow_all = args.all;
    selection.latest = true;
    for info in selection.all(session).await? {
        let Some(text) = last_applied(&info.object) else {
            return fail(format!(
                "no last-applied-configuration annotation found on resource: {}",
                info.name
            ));
        };
        let object: Value = serde_json::from_str(text).map_err(|e| message(format!("{}: {e}", info.name)))?;
        match args.output.as_str() {
            "json" => session.print(&format!("{}\n", go::json(&object, Some("  "))))?,
            "yaml" => session.print(&yaml::to_string(&object))?,
            other => {
                return session.usage(format!(
                    "Unexpected -o output mode: {other}, the flag 'output' must be one of yaml|json"
                ));
            }
        }
    }
    Ok(())
}

pub async fn set(session: &Session, args: &Set) -> Result<()> {
    let changer = Changer::new(session, &args.change, "")?;
    let (infos, errors) = from_files(session, &args.files).await?;
    for mut info in infos {
        let text = recorded(&info.object)?;
        let current = session.api()?.get(&info.path()).await;
        let mut current = current.map_err(|e| e.with_source("retrieving current configuration", &info.source))?;
        if last_applied(&current).is_none() && !args.create_annotation {
            return fail(format!(
                "no last-applied-configuration annotation found on resource: {}, to create the annotation, run the command with --create-annotation",
                info.name
            ));
        }
        let patch = json!({"metadata": {"annotations": {super::apply::LAST_APPLIED: text}}});
        if changer.is_local() {
            annotations(&mut current)?.insert(super::apply::LAST_APPLIED.to_owned(), Value::from(text));
            info.object = current;
        } else {
            changer.patch(&mut info, MERGE, &patch).await?;
        }
        changer.tell(&info.object, "configured")?;
    }
    crate::error::all(errors)
}
