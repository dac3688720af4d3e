//! `delete`: takes objects away, and waits until they are gone.

use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::change::Changer;
use crate::error::{Error, Result, all, fail, message};
use crate::flags::{Change, DryRun, Files, Output, Selecting, dry_run};
use crate::print::go::quote;
use crate::select::Info;
use crate::session::{Session, duration};
use crate::watch;

/// Delete resources by file names, stdin, resources and names, or by resources and label selector
#[derive(Debug, clap::Args)]
pub struct Args {
    args: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// Output mode. Use "-o name" for shorter output (resource/name)
    #[arg(long, short, default_value = "", hide_default_value = true)]
    output: String,
    /// Must be "none", "server", or "client"
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "unchanged", default_value = "none", hide_default_value = true, value_parser = dry_run)]
    dry_run: DryRun,
    #[command(flatten)]
    which: Selecting,
    /// Must be "background", "orphan", or "foreground"
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "background", default_value = "background", hide_default_value = true)]
    cascade: String,
    /// Immediately remove resources from API and bypass graceful deletion
    #[arg(long)]
    force: bool,
    /// Period of time in seconds given to the resource to terminate gracefully
    #[arg(long, default_value_t = -1, allow_negative_numbers = true, hide_default_value = true)]
    grace_period: i64,
    /// Treat "resource not found" as a successful delete
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    ignore_not_found: Option<bool>,
    /// If true, resources are signaled for immediate shutdown (same as --grace-period=1)
    #[arg(long)]
    now: bool,
    /// The length of time to wait before giving up on a delete, zero means determine a timeout from the size of the object
    #[arg(long, default_value = "0s", hide_default_value = true)]
    timeout: String,
    /// If true, wait for resources to be gone before returning
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set, hide_default_value = true, hide_possible_values = true)]
    wait: bool,
    /// If true, delete resource only when user confirms
    #[arg(long, short)]
    interactive: bool,
    /// Raw URI to DELETE to the server
    #[arg(long)]
    raw: Option<String>,
}

/// What `--cascade` asks to become of dependents.
pub fn propagation(cascade: &str) -> Result<&'static str> {
    match cascade {
        "background" | "true" => Ok("Background"),
        "foreground" => Ok("Foreground"),
        "orphan" | "false" => Ok("Orphan"),
        other => fail(format!(
            "invalid cascade value ({other}). Must be \"background\", \"foreground\", or \"orphan\""
        )),
    }
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    let output = args.output.as_str();
    if !matches!(output, "" | "name") {
        return fail(format!(
            "unexpected -o output mode: {output}. We only support '-o name'"
        ));
    }
    let change = Change {
        output: Output {
            output: Some(args.output.clone()).filter(|output| !output.is_empty()),
            ..Output::default()
        },
        dry_run: args.dry_run,
        field_manager: None,
    };
    if let Some(path) = &args.raw {
        let call = crate::api::Call::new(http::Method::DELETE, path.as_str());
        let body = session.api()?.bytes(&call).await?;
        return session.print(&String::from_utf8_lossy(&body));
    }
    let grace = grace(session, args)?;
    args.which.check()?;
    let propagation = propagation(&args.cascade)?;
    let changer = Changer::new(session, &change, "")?;
    let selects = args.which.all || args.which.selector.is_some() || args.which.field_selector.is_some();
    let forgives = args.ignore_not_found.unwrap_or(selects);
    let mut selection = args.which.selection(&args.args, &args.files);
    selection.fetch_named = false;
    let (infos, mut errors) = selection.infos(session).await?;
    if args.interactive && !infos.is_empty() && !confirmed(session, &infos)? {
        return session.print("deletion is cancelled\n");
    }
    let mut warns = session.explicit_namespace() && !args.which.all_namespaces;
    let mut gone: Vec<(Info, String)> = Vec::new();
    let found = infos.len();
    let mut missing = 0;
    for info in infos {
        if warns && !info.ty.namespaced {
            session.warn("Warning: deleting cluster-scoped resources, not scoped to the provided namespace");
            warns = false;
        }
        if args.dry_run == DryRun::Client {
            tell(session, args, &info, grace)?;
            continue;
        }
        match changer.delete(&info, grace, propagation).await {
            Ok(answer) => {
                tell(session, args, &info, grace)?;
                let uid = if answer["kind"] == "Status" {
                    &answer["details"]["uid"]
                } else {
                    &answer["metadata"]["uid"]
                };
                gone.push((info, uid.as_str().unwrap_or_default().to_owned()));
            }
            Err(error) if forgives && error.is_not_found() => missing += 1,
            Err(error) => errors.push(error.with_source("deleting", &info.source)),
        }
    }
    errors.retain(|e| !(forgives && e.is_not_found()));
    all(errors)?;
    if found == 0 || found == missing && selects {
        return session.print("No resources found\n");
    }
    if !args.wait || args.dry_run != DryRun::None {
        return Ok(());
    }
    let deadline = duration(&args.timeout)?.map(|limit| Instant::now() + limit);
    for (info, uid) in gone {
        match until_gone(session, &info, &uid, deadline).await {
            // Who may delete need not be allowed to watch.
            Err(e) if matches!(e.http_code(), Some(403 | 405)) => return Ok(()),
            other => other?,
        }
    }
    Ok(())
}

fn grace(session: &Session, args: &Args) -> Result<Option<i64>> {
    let mut grace = args.grace_period;
    if args.now {
        if grace != -1 {
            return fail("--now and --grace-period cannot be specified together");
        }
        grace = 1;
    }
    // Without --force nothing is taken away before its processes have ended.
    if grace == 0 && !args.force {
        grace = 1;
    }
    if args.force && grace < 0 {
        grace = 0;
    }
    if args.force && grace == 0 {
        session.warn("Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated. The resource may continue to run on the cluster indefinitely.");
    } else if args.force && grace > 0 {
        return fail("--force and --grace-period greater than 0 cannot be specified together");
    }
    Ok((grace >= 0).then_some(grace))
}

fn confirmed(session: &Session, infos: &[Info]) -> Result<bool> {
    let names: Vec<String> = infos.iter().map(|i| format!("{}\n", i.shown())).collect();
    session.print(&format!(
        "You are about to delete the following {} resource(s):\n{}Do you want to continue? (y/N): ",
        infos.len(),
        names.concat()
    ))?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

fn tell(session: &Session, args: &Args, info: &Info, grace: Option<i64>) -> Result<()> {
    if !args.output.is_empty() {
        return session.print(&format!("{}\n", info.shown()));
    }
    let forced = if grace == Some(0) { "force " } else { "" };
    let from = if info.ty.namespaced {
        format!(" from {} namespace", info.namespace)
    } else {
        String::new()
    };
    session.print(&format!(
        "{} {} {forced}deleted{from}{}\n",
        info.ty.group_kind(),
        quote(&info.name),
        args.dry_run.suffix()
    ))
}

/// Waits until the object with this uid is no longer there.
pub async fn until_gone(session: &Session, info: &Info, uid: &str, deadline: Option<Instant>) -> Result<()> {
    let waiting = wait(session, info, uid);
    match deadline {
        None => waiting.await,
        Some(deadline) => match timeout_at(deadline, waiting).await {
            Ok(done) => done,
            Err(_) => Err(timed_out(info)),
        },
    }
}

pub(crate) fn timed_out(info: &Info) -> Error {
    message(format!(
        "timed out waiting for the condition on {}/{}",
        info.ty.plural, info.name
    ))
}

async fn wait(session: &Session, info: &Info, uid: &str) -> Result<()> {
    let other = |object: &Value| !uid.is_empty() && object["metadata"]["uid"].as_str() != Some(uid);
    watch::follow(session, info, |object| Ok(object.is_none_or(other).then_some(()))).await
}
