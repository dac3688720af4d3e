//! `apply`: makes objects as files want them, leaving alone what others have set.

use serde_json::{Map, Value, json};

use super::delete::propagation;
use super::prune::{Pruner, kinds_of};
use crate::change::{Changer, MERGE, STRATEGIC, prune_nulls};
use crate::error::{Error, Result, all, fail, message};
use crate::flags::{Change, DryRun, Files, Validate};
use crate::patch::{Shape, apply_merge_patch, three_way};
use crate::print::go;
use crate::resolve::{filter_by_labels, from_files};
use crate::select::Info;
use crate::session::{Session, duration};

pub(crate) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const MANAGER: &str = "kubectl-client-side-apply";
/// Tries after somebody else was faster.
pub(super) const RETRIES: usize = 5;

/// Apply a configuration to a resource by file name or stdin
#[derive(Debug, clap::Args)]
pub struct Args {
    args: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    validate: Validate,
    /// Selector (label query) to filter on
    #[arg(long, short = 'l')]
    selector: Option<String>,
    /// If true, apply runs in the server instead of the client
    #[arg(long)]
    server_side: bool,
    /// If true, server-side apply will force the changes against conflicts
    #[arg(long)]
    force_conflicts: bool,
    /// If true, immediately remove resources from API and bypass graceful deletion
    #[arg(long)]
    force: bool,
    /// Automatically resolve conflicts between the modified and live configuration by using values from the modified configuration
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    overwrite: Option<bool>,
    /// Automatically delete resource objects that do not appear in the configs
    #[arg(long)]
    prune: bool,
    /// Overwrite the default allowlist with <group/version/kind> for --prune
    #[arg(long, value_delimiter = ',')]
    prune_allowlist: Vec<String>,
    /// Select all resources in the namespace of the specified resource types
    #[arg(long)]
    all: bool,
    /// Apply to a subresource
    #[arg(long)]
    subresource: Option<String>,
    /// If true, wait for resources to be gone before returning
    #[arg(long)]
    wait: bool,
    /// Must be "background", "orphan", or "foreground"
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "background", default_value = "background", hide_default_value = true)]
    cascade: String,
    /// Period of time in seconds given to the resource to terminate gracefully
    #[arg(long, default_value_t = -1, allow_negative_numbers = true, hide_default_value = true)]
    grace_period: i64,
    /// The length of time to wait before giving up on a delete, zero means determine a timeout from the size of the object
    #[arg(long, default_value = "0s", hide_default_value = true)]
    timeout: String,
    #[command(subcommand)]
    sub: Option<Sub>,
}

#[derive(Debug, clap::Subcommand)]
enum Sub {
    /// View the latest last-applied-configuration annotations of a resource/object
    #[command(name = "view-last-applied")]
    View(super::last_applied::View),
    /// Edit latest last-applied-configuration annotations of a resource/object
    #[command(name = "edit-last-applied")]
    Edit(super::last_applied::Edit),
    /// Set the last-applied-configuration annotation on a live object to match the contents of a file
    #[command(name = "set-last-applied")]
    Set(super::last_applied::Set),
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    match &args.sub {
        Some(Sub::View(view)) => return super::last_applied::view(session, view).await,
        Some(Sub::Edit(edit)) => return super::last_applied::edit(session, edit).await,
        Some(Sub::Set(set)) => return super::last_applied::set(session, set).await,
        None => {}
    }
    if !args.args.is_empty() {
        return session.usage(format!("Unexpected args: [{}]", args.args.join(" ")));
    }
    check(args)?;
    propagation(&args.cascade)?;
    duration(&args.timeout)?;
    let manager = if args.server_side {
        super::server_side_apply::MANAGER
    } else {
        MANAGER
    };
    let changer = Changer::new(session, &args.change, manager)?.validation(args.validate.field_validation()?);
    let (mut infos, mut errors) = from_files(session, &args.files).await?;
    if let Some(selector) = &args.selector {
        filter_by_labels(&mut infos, selector)?;
    }
    if infos.is_empty() && errors.is_empty() {
        return fail("no objects passed to apply");
    }
    let selector = args.selector.as_deref().unwrap_or_default();
    let mut pruner = match args.prune {
        true => Some(Pruner::new(&changer, &args.prune_allowlist, selector).await?),
        false => None,
    };
    let mut applied = Vec::new();
    for mut info in infos {
        let subresource = args.subresource.as_deref().unwrap_or_default();
        let done = if args.server_side {
            super::server_side_apply::apply(&changer, &mut info, args.force_conflicts, subresource).await
        } else {
            client_side(&changer, args, &mut info).await
        };
        if let (Some(pruner), Ok(_)) = (&mut pruner, &done) {
            pruner.keep(&info);
        }
        match done {
            Ok(operation) if changer.format.is_human() || matches!(changer.format, crate::print::Format::Name) => {
                changer.tell(&info.object, operation)?;
            }
            Ok(_) => applied.push(info.object),
            Err(error) => errors.push(error),
        }
    }
    match applied.len() {
        0 => {}
        1 => changer.tell(&applied.remove(0), "")?,
        // upstream has a struct for several alone
        _ => changer.tell_typed(
            &json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": applied}),
            "",
        )?,
    }
    // what could not be applied would be taken for what is not wanted
    if let Some(pruner) = pruner.filter(|_| errors.is_empty()) {
        pruner.run().await?;
    }
    all(errors)
}

fn check(args: &Args) -> Result<()> {
    if args.files.is_empty() {
        return fail("must specify one of -f and -k");
    }
    if args.force_conflicts && !args.server_side {
        return fail("--force-conflicts only works with --server-side");
    }
    if args.change.dry_run == DryRun::Client && args.server_side {
        return fail("--dry-run=client doesn't work with --server-side (did you mean --dry-run=server instead?)");
    }
    if args.server_side && args.force {
        return fail("--force cannot be used with --server-side");
    }
    if args.change.dry_run == DryRun::Server && args.force {
        return fail("--dry-run=server cannot be used with --force");
    }
    if args.subresource.is_some() && !args.server_side {
        return fail("--subresource can only be specified for --server-side");
    }
    if args.all && args.selector.as_ref().is_some_and(|s| !s.is_empty()) {
        return fail("cannot set --all and --selector at the same time");
    }
    if args.prune {
        if args.force {
            return fail("--force cannot be used with --prune");
        }
        kinds_of(&args.prune_allowlist)?;
        if !args.all && args.selector.as_ref().is_none_or(String::is_empty) {
            return fail(
                "all resources selected for prune without explicitly passing --all. To prune all resources, pass the --all flag. \
                 If you did not mean to prune all resources, specify a label selector",
            );
        }
        if args.server_side {
            return fail("--prune is in alpha and doesn't currently work on objects created by server-side apply");
        }
    }
    Ok(())
}

/// The last-applied annotation of an object.
pub fn last_applied(object: &Value) -> Option<&str> {
    object["metadata"]["annotations"][LAST_APPLIED].as_str()
}

/// The object as the annotation records it: without the annotation, and ending in a newline as Go's encoder ends it.
pub fn recorded(object: &Value) -> Result<String> {
    let mut plain = object.clone();
    annotations(&mut plain)?.remove(LAST_APPLIED);
    Ok(format!("{}\n", go::json(&plain, None)))
}

/// Records the object in its own annotation.
pub fn record(object: &mut Value) -> Result<()> {
    let text = recorded(object)?;
    annotations(object)?.insert(LAST_APPLIED.to_owned(), Value::from(text));
    Ok(())
}

/// The annotations, made if there are none.
pub fn annotations(object: &mut Value) -> Result<&mut Map<String, Value>> {
    let annotations = object
        .as_object_mut()
        .and_then(|o| o.entry("metadata").or_insert_with(|| json!({})).as_object_mut())
        .map(|m| m.entry("annotations").or_insert(Value::Null));
    let Some(annotations) = annotations else {
        return fail("metadata is no object");
    };
    if annotations.is_null() {
        *annotations = json!({});
    }
    annotations
        .as_object_mut()
        .ok_or_else(|| message("metadata.annotations is no object"))
}

pub(super) fn warn_if_deleting(session: &Session, object: &Value) {
    let meta = &object["metadata"];
    if meta["deletionTimestamp"].is_string() {
        session.warn(&format!(
            "Warning: Detected changes to resource {} which is currently being deleted.",
            meta["name"].as_str().unwrap_or_default()
        ));
    }
}

async fn client_side(changer: &Changer<'_>, args: &Args, info: &mut Info) -> Result<&'static str> {
    if info.name.is_empty() {
        let generated = info.object["metadata"]["generateName"].as_str().unwrap_or_default();
        if !generated.is_empty() {
            return fail(format!("from {generated}: cannot use generate name with apply"));
        }
    }
    let source = info.source.clone();
    let mut modified = info.object.clone();
    record(&mut modified)?;
    let asked = match info.name.as_str() {
        "" => fail("resource name may not be empty"),
        _ => changer.session.api()?.get(&info.path()).await,
    };
    let current = match asked {
        Ok(current) => current,
        Err(error) if error.is_not_found() => {
            info.object = modified;
            prune_nulls(&mut info.object);
            if !changer.is_local() {
                changer
                    .create(info)
                    .await
                    .map_err(|e| e.with_source("creating", &source))?;
            }
            return Ok("created");
        }
        Err(error) => {
            let what = format!(
                "retrieving current configuration of:\n{}\nfrom server for:",
                describe(info)
            );
            return Err(error.with_source(&what, &source));
        }
    };
    info.object = current;
    if last_applied(&info.object).is_none() {
        changer.session.warn(&format!(
            "Warning: resource {}/{} is missing the {LAST_APPLIED} annotation which is required by {} apply. {} apply should only be used on resources created declaratively by either {} create --save-config or {} apply. The missing annotation will be patched automatically.",
            info.ty.plural, info.name, "kubectl", "kubectl", "kubectl", "kubectl"
        ));
    }
    let patched = patch_until_accepted(changer, args, info, &modified, &source).await;
    let empty = patched.map_err(|(error, patch)| {
        error.with_source(
            &format!("applying patch:\n{patch}\nto:\n{}\nfor:", describe(info)),
            &source,
        )
    })?;
    warn_if_deleting(changer.session, &info.object);
    Ok(if empty { "unchanged" } else { "configured" })
}

/// Whether there was nothing to change; with an error goes the patch that failed.
async fn patch_until_accepted(
    changer: &Changer<'_>,
    args: &Args,
    info: &mut Info,
    modified: &Value,
    source: &str,
) -> std::result::Result<bool, (Error, String)> {
    let shape = Shape::of(&info.ty.api_version(), &info.ty.kind);
    let mut tries = 0;
    loop {
        let original = match last_applied(&info.object) {
            Some(text) => {
                serde_json::from_str(text).map_err(|e| (message(format!("{LAST_APPLIED}: {e}")), String::new()))?
            }
            None => Value::Null,
        };
        let patch = three_way(shape.as_ref(), &original, modified, &info.object).map_err(|e| {
            let text = |v: &Value| go::json(v, None);
            let what = format!(
                "creating patch with:\noriginal:\n{}\nmodified:\n{}\ncurrent:\n{}\nfor: {e}",
                text(&original),
                text(modified),
                text(&info.object)
            );
            (message(what).with_source("patching", source), String::new())
        })?;
        if patch.as_object().is_some_and(Map::is_empty) {
            return Ok(true);
        }
        let text = go::json(&patch, None);
        if changer.is_local() {
            match &shape {
                Some(shape) => info.object = shape.merge(&info.object, &patch).map_err(|e| (e, text))?,
                None => apply_merge_patch(&mut info.object, &patch),
            }
            return Ok(false);
        }
        let content = if shape.is_some() { STRATEGIC } else { MERGE };
        let failed = match changer.patch(info, content, &patch).await {
            Ok(()) => return Ok(false),
            Err(error) => error,
        };
        if failed.is_conflict() && tries < RETRIES {
            tries += 1;
            info.refresh(changer.session).await.map_err(|e| (e, text))?;
            continue;
        }
        if args.force && (failed.is_conflict() || failed.http_code() == Some(422)) {
            replace(changer, args, info, modified).await.map_err(|e| (e, text))?;
            return Ok(false);
        }
        return Err((failed.with_source("patching", source), text));
    }
}

/// `--force`: what cannot be changed is made anew.
async fn replace(changer: &Changer<'_>, args: &Args, info: &mut Info, modified: &Value) -> Result<()> {
    let old = info.object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let grace = Some(args.grace_period).filter(|seconds| *seconds >= 0);
    changer.delete(info, grace, propagation(&args.cascade)?).await?;
    let deadline = duration(&args.timeout)?.map(|most| tokio::time::Instant::now() + most);
    super::delete::until_gone(changer.session, info, &old, deadline).await?;
    info.object = modified.clone();
    prune_nulls(&mut info.object);
    changer.create(info).await
}

/// What messages about a patch call the object.
fn describe(info: &Info) -> String {
    let ty = &info.ty;
    format!(
        "Resource: \"{}/{}, Resource={}\", GroupVersionKind: \"{}/{}, Kind={}\"\nName: {}, Namespace: {}",
        ty.group,
        ty.version,
        ty.plural,
        ty.group,
        ty.version,
        ty.kind,
        go::quote(&info.name),
        go::quote(&info.namespace)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_recorded_without_its_record() {
        let mut object = json!({"kind": "X", "metadata": {"name": "a", "annotations": {"k": "v"}}});
        record(&mut object).unwrap();
        let first = last_applied(&object).unwrap().to_owned();
        assert_eq!(
            first,
            "{\"kind\":\"X\",\"metadata\":{\"annotations\":{\"k\":\"v\"},\"name\":\"a\"}}\n"
        );
        record(&mut object).unwrap();
        assert_eq!(last_applied(&object).unwrap(), first);
    }
}
