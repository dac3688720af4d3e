//! `apply view-last-applied`, `apply set-last-applied` and `apply edit-last-applied`.

use serde_json::{Value, json};

use super::apply::{LAST_APPLIED, annotations, last_applied};
use super::edit::{Form, edited};
use crate::change::{Changer, MERGE};
use crate::error::{Result, fail, message};
use crate::flags::{Change, Files, Validate};
use crate::manifest::Manifest;
use crate::print::format::items;
use crate::print::{go, yaml};
use crate::resolve::{from_files, resolve};
use crate::select::{Selection, nothing_meant};
use crate::session::Session;

const EDITED: &str = "# Please edit the 'last-applied-configuration' annotations below.
# Lines beginning with a '#' will be ignored, and an empty file will abort the edit.
#
";

#[derive(Debug, clap::Args)]
pub(crate) struct View {
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
pub(crate) struct Set {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    change: Change,
    /// Will create the annotation if the current object does not have one
    #[arg(long)]
    create_annotation: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Edit {
    args: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    validate: Validate,
    /// Whether lines end as on Windows
    #[arg(long)]
    windows_line_endings: bool,
}

pub(crate) async fn view(session: &Session, args: &View) -> Result<()> {
    let mut selection = Selection::new(&args.args);
    selection.files = Some(&args.files);
    selection.labels = args.selector.as_deref();
    selection.allow_all = args.all;
    selection.latest = true;
    for info in selection.all(session).await? {
        let Some(text) = last_applied(&info.object) else {
            // of what no file names nothing is said, as upstream's error is lost
            if args.files.is_empty() {
                continue;
            }
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

pub(crate) async fn set(session: &Session, args: &Set) -> Result<()> {
    let changer = Changer::new(session, &args.change, "")?;
    if args.files.is_empty() {
        return Err(nothing_meant());
    }
    let (infos, errors) = from_files(session, &args.files).await?;
    for mut info in infos {
        let text = plain(&info.object);
        let current = session.api()?.get(&info.path()).await;
        let mut current = current?;
        if last_applied(&current).is_none() && !args.create_annotation {
            return fail(format!(
                "no last-applied-configuration annotation found on resource: {}, to create the annotation, run the command with --create-annotation",
                info.name
            ));
        }
        let patch = json!({"metadata": {"annotations": {LAST_APPLIED: text}}});
        if changer.is_local() {
            annotations(&mut current)?.insert(LAST_APPLIED.to_owned(), Value::from(text));
            info.object = current;
        } else {
            changer.patch(&mut info, MERGE, &patch).await?;
        }
        changer.tell(&info.object, "configured")?;
    }
    crate::error::all(errors)
}

/// An object as its record has it, without the record that it bears.
fn plain(object: &Value) -> String {
    let mut object = object.clone();
    if let Some(annotations) = object
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.remove(LAST_APPLIED);
    }
    format!("{}\n", go::json(&object, None))
}

/// Has somebody edit what objects record of their last apply, as if that had been applied.
pub async fn edit(session: &Session, args: &Edit) -> Result<()> {
    let mut change = args.change.clone();
    let form = Form {
        header: EDITED,
        json: change.output.output.take().as_deref() == Some("json"),
        again: false,
        windows: args.windows_line_endings,
    };
    let changer =
        Changer::new(session, &change, "kubectl-client-side-apply")?.validation(args.validate.field_validation()?);
    let mut selection = Selection::new(&args.args);
    selection.files = Some(&args.files);
    selection.latest = true;
    let mut records = Vec::new();
    for info in selection.all(session).await? {
        if let Some(text) = last_applied(&info.object) {
            let record: Value = serde_json::from_str(text).map_err(|e| message(format!("{}: {e}", info.name)))?;
            records.push(record);
        }
    }
    let shown = match &records[..] {
        [] => {
            return fail(
                "no last-applied-configuration annotation found on resources, to create the annotation, use command `kubectl apply set-last-applied --create-annotation`",
            );
        }
        [one] => one.clone(),
        many => json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": many}),
    };
    edited(session, &form, &shown, async |after| {
        for object in items(after) {
            if records.contains(object) {
                changer.tell(object, "skipped")?;
                continue;
            }
            let source = String::new();
            let object = object.clone();
            let mut info = resolve(session, Manifest { source, object }).await?;
            let patch = json!({"metadata": {"annotations": {LAST_APPLIED: plain(&info.object)}}});
            if !changer.is_local() {
                changer.patch(&mut info, MERGE, &patch).await?;
            }
            changer.tell(&info.object, "edited")?;
        }
        Ok(())
    })
    .await
}
