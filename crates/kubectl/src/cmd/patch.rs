//! `patch`: an object with some fields changed, by one of the three kinds of patches.

use api::schema::Document;
use serde_json::Value;

use crate::change::{Changer, JSON_PATCH, MERGE, STRATEGIC};
use crate::error::{Error, Result, all, fail, message};
use crate::flags::{Change, DryRun, Files};
use crate::patch::{Shape, apply_merge_patch, operate};
use crate::print::go::quote;
use crate::select::{Info, Selection};
use crate::session::Session;

/// Update fields of a resource
#[derive(Debug, clap::Args)]
pub struct Args {
    args: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    change: Change,
    /// The patch to be applied to the resource JSON file
    #[arg(long, short, default_value = "", hide_default_value = true)]
    patch: String,
    /// A file containing a patch to be applied to the resource
    #[arg(long)]
    patch_file: Option<String>,
    /// The type of patch being provided; one of [json merge strategic]
    #[arg(long = "type", default_value = "strategic", hide_default_value = true)]
    of_type: String,
    /// If specified, patch will operate on the subresource of the requested object
    #[arg(long)]
    subresource: Option<String>,
    /// If true, patch will operate on the content of the file, not the server-side resource
    #[arg(long)]
    local: bool,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    let text = match (&args.patch_file, args.patch.as_str()) {
        (Some(_), text) if !text.is_empty() => return fail("cannot specify --patch and --patch-file together"),
        (None, "") => return fail("must specify --patch or --patch-file containing the contents of the patch"),
        (Some(path), _) => std::fs::read_to_string(path).map_err(|e| {
            message(format!(
                "unable to read patch file: open {path}: {}",
                crate::print::go::io_error(&e)
            ))
        })?,
        (None, text) => text.to_owned(),
    };
    if args.local && !args.args.is_empty() {
        return fail("cannot specify --local and server resources");
    }
    let content = match args.of_type.to_lowercase().as_str() {
        "strategic" => STRATEGIC,
        "merge" => MERGE,
        "json" => JSON_PATCH,
        _ => {
            return fail(format!(
                "--type must be one of [json merge strategic], not {}",
                quote(&args.of_type)
            ));
        }
    };
    let patch: Value = match serde_json::from_str(&text) {
        Ok(patch) => patch,
        Err(_) => Document::from_yaml(text.as_bytes())
            .map(|document| document.value)
            .map_err(|e| message(format!("unable to parse {}: yaml: {e}", quote(&args.patch))))?,
    };
    let changer = Changer::new(session, &args.change, "kubectl-patch")?;
    // what is tried is told as if it were done
    let teller = Changer::new(
        session,
        &Change {
            dry_run: DryRun::None,
            ..args.change.clone()
        },
        "kubectl-patch",
    )?;
    let mut selection = Selection::new(&args.args);
    selection.files = Some(&args.files);
    selection.local = args.local;
    selection.subresource = args.subresource.as_deref().unwrap_or_default();
    let (mut errors, mut visited) = (Vec::new(), 0);
    for target in selection.targets(session).await? {
        for mut info in selection.found(session, target, &mut errors).await {
            visited += 1;
            let before = info.object.clone();
            let done = match changer.is_local() || args.local {
                true => locally(&mut info, content, &patch),
                false => remotely(&changer, args, &mut info, content, &patch).await,
            };
            match done {
                Err(error) => errors.push(error),
                Ok(()) if before == info.object => teller.tell(&info.object, "patched (no change)")?,
                Ok(()) => teller.tell(&info.object, "patched")?,
            }
        }
    }
    if visited == 0 && errors.is_empty() {
        return fail("no objects passed to patch");
    }
    all(errors)
}

async fn remotely(
    changer: &Changer<'_>,
    args: &Args,
    info: &mut Info,
    content: &'static str,
    patch: &Value,
) -> Result<()> {
    let path = match args.subresource.as_deref().unwrap_or_default() {
        "" => info.path(),
        sub => format!("{}/{sub}", info.path()),
    };
    match changer.patch_path(&path, content, patch, Vec::new()).await {
        Ok(object) => {
            info.replace(object);
            Ok(())
        }
        Err(error) if error.http_code() == Some(415) => {
            let ty = &info.ty;
            let kind = format!("{}/{}, Kind={}", ty.group, ty.version, ty.kind);
            Err(Error::Message(format!("{content} is not supported by {kind}: {error}")))
        }
        Err(error) => Err(error),
    }
}

fn locally(info: &mut Info, content: &str, patch: &Value) -> Result<()> {
    match content {
        MERGE if patch.is_array() => {
            return fail("json: cannot unmarshal array into Go value of type unstructured.detector");
        }
        MERGE => apply_merge_patch(&mut info.object, patch),
        STRATEGIC if patch.is_null() => {}
        STRATEGIC if !patch.is_object() => return fail("invalid JSON document"),
        STRATEGIC => match Shape::of(&info.ty.api_version(), &info.ty.kind) {
            Some(shape) => info.object = shape.merge(&info.object, patch)?,
            None => {
                return fail(format!(
                    "strategic merge patch is not supported for {} locally, try --type merge",
                    info.ty.group_kind()
                ));
            }
        },
        _ => operate(&mut info.object, patch)?,
    }
    Ok(())
}
