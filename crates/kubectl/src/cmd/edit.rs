//! `edit`: objects in an editor, and what has changed back to the server.

use std::process::Command;

use serde_json::Value;

use crate::change::{Changer, MERGE, STRATEGIC};
use crate::cmd::apply::record;
use crate::error::{Result, fail, message};
use crate::flags::{Change, Files};
use crate::manifest::documents;
use crate::patch::{Shape, merge_patch, two_way};
use crate::print::{go, yaml};
use crate::select::{Info, Selection};
use crate::session::Session;

pub(crate) const HEADER: &str = "# Please edit the object below. Lines beginning with a '#' will be ignored,
# and an empty file will abort the edit. If an error occurs while saving this file will be
# reopened with the relevant failures.
#
";

/// Edit a resource on the server
#[derive(Debug, clap::Args)]
pub struct Args {
    args: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    change: Change,
    /// If specified, edit will operate on the subresource of the requested object
    #[arg(long)]
    subresource: Option<String>,
    /// If true, the configuration of current object will be saved in its annotation
    #[arg(long)]
    save_config: bool,
    /// Whether lines end as on Windows
    #[arg(long)]
    windows_line_endings: bool,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    let json = match args.change.output.output.as_deref() {
        None | Some("yaml") => false,
        Some("json") => true,
        Some(other) => return fail(format!("unsupported output format {other:?}: edit knows yaml and json")),
    };
    let mut change = args.change.clone();
    change.output.output = None;
    let changer = Changer::new(session, &change, "kubectl-edit")?.validation("Strict");
    let mut selection = Selection::new(&args.args);
    selection.files = Some(&args.files);
    selection.latest = true;
    selection.subresource = args.subresource.as_deref().unwrap_or_default();
    let mut infos = selection.all(session).await?;
    if infos.is_empty() {
        return fail("no objects passed to edit");
    }
    for info in &mut infos {
        edit(&changer, args, info, json).await?;
    }
    Ok(())
}

async fn edit(changer: &Changer<'_>, args: &Args, info: &mut Info, json: bool) -> Result<()> {
    let mut shown = info.object.clone();
    if let Some(meta) = shown["metadata"].as_object_mut() {
        meta.remove("managedFields");
    }
    let form = Form {
        header: HEADER,
        json,
        again: true,
        windows: args.windows_line_endings,
    };
    let before = shown.clone();
    edited(changer.session, &form, &shown, async |after| {
        save(changer, args, info, &before, after).await?;
        changer.tell(&info.object, "edited")
    })
    .await
}

/// How something is edited.
pub struct Form {
    /// What stands above it where that may have comments.
    pub header: &'static str,
    pub json: bool,
    /// Whether the editor comes up again when it cannot be saved.
    pub again: bool,
    /// Whether its lines end as on Windows.
    pub windows: bool,
}

/// Has somebody edit an object, until it can be saved or nothing has changed.
///
/// # Errors
/// When the editor fails, when nothing valid was saved, and when saving fails for good.
pub async fn edited(
    session: &Session,
    form: &Form,
    shown: &Value,
    mut save: impl AsyncFnMut(&Value) -> Result<()>,
) -> Result<()> {
    let (mut text, header) = match form.json {
        true => (format!("{}\n", go::json(shown, Some("    "))), ""),
        false => (yaml::to_string(shown), form.header),
    };
    let mut complaint = String::new();
    loop {
        let mut before = format!("{header}{complaint}{text}");
        if form.windows {
            before = before.replace('\n', "\r\n");
        }
        let after = in_editor(&before, form.json)?;
        let content = without_comments(&after);
        if content.trim().is_empty() {
            session.warn("Edit cancelled, saved file was empty.");
            return Ok(());
        }
        if after == before {
            session.warn(if complaint.is_empty() {
                "Edit cancelled, no changes made."
            } else {
                "Edit cancelled, no valid changes were saved."
            });
            return if complaint.is_empty() {
                Ok(())
            } else {
                fail("Edit cancelled, no valid changes were saved.")
            };
        }
        let problem = match documents("edited-file", &content) {
            Err(error) => error,
            Ok(list) => match &list[..] {
                [edited] if edited == shown => {
                    session.warn("Edit cancelled, no changes made.");
                    return Ok(());
                }
                [edited] => match save(edited).await {
                    Ok(()) => return Ok(()),
                    Err(error) if !form.again => return Err(error),
                    Err(error) => error,
                },
                _ => message("one object is expected"),
            },
        };
        let said = problem.report().unwrap_or_default();
        session.warn(&said);
        complaint = said.lines().map(|line| format!("# {line}\n")).collect::<String>() + "#\n";
        text = content;
    }
}

fn without_comments(text: &str) -> String {
    text.lines()
        .filter(|l| !l.starts_with('#'))
        .map(|l| format!("{l}\n"))
        .collect()
}

async fn save(changer: &Changer<'_>, args: &Args, info: &mut Info, before: &Value, after: &Value) -> Result<()> {
    for (at, what) in [
        ("/metadata/name", "name"),
        ("/kind", "kind"),
        ("/apiVersion", "apiVersion"),
    ] {
        if before.pointer(at) != after.pointer(at) {
            return fail(format!("At least one of apiVersion, kind and name was changed: {what}"));
        }
    }
    let mut after = after.clone();
    if args.save_config {
        record(&mut after)?;
    }
    let after = &after;
    let (content, patch) = match Shape::of(&info.ty.api_version(), &info.ty.kind) {
        Some(shape) => (STRATEGIC, two_way(&shape, before, after)?),
        None => (MERGE, merge_patch(before, after)),
    };
    if changer.is_local() {
        info.object = after.clone();
        return Ok(());
    }
    let path = match args.subresource.as_deref() {
        Some(sub) => format!("{}/{sub}", info.path()),
        None => info.path(),
    };
    let object = changer.patch_path(&path, content, &patch, Vec::new()).await?;
    info.replace(object);
    Ok(())
}

/// The text after somebody has edited it.
fn in_editor(text: &str, json: bool) -> Result<String> {
    let editor = ["KUBE_EDITOR", "EDITOR"]
        .iter()
        .find_map(|v| std::env::var(v).ok().filter(|e| !e.is_empty()));
    let editor = editor.unwrap_or_else(|| "vi".to_owned());
    let suffix = super::create::suffix()?;
    let extension = if json { "json" } else { "yaml" };
    let path = std::env::temp_dir().join(format!("kubectl-edit-{suffix}.{extension}"));
    write_private(&path, text)?;
    // The editor may be a command with flags.
    let status = Command::new("sh")
        .args(["-c", &format!("{editor} \"$0\"")])
        .arg(&path)
        .status();
    let after = std::fs::read_to_string(&path);
    std::fs::remove_file(&path)?;
    match status {
        Ok(status) if status.success() => Ok(after?),
        Ok(_) => fail(format!("there was a problem with the editor {}", go::quote(&editor))),
        Err(e) => fail(format!("unable to launch the editor {}: {e}", go::quote(&editor))),
    }
}

fn write_private(path: &std::path::Path, text: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}
