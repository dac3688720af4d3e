//! `replace`: objects as files have them, and nothing of what they were.

use std::time::Duration;

use tokio::time::Instant;

use super::apply::{last_applied, record};
use super::create::Common;
use super::delete::{propagation, until_gone};
use crate::change::Changer;
use crate::cmd::describe::str_of;
use crate::error::{Result, all, fail};
use crate::flags::{DryRun, Files};
use crate::resolve::from_files;
use crate::select::Info;
use crate::session::{Session, duration};

/// Replace a resource by file name or stdin
#[derive(Debug, clap::Args)]
pub struct Args {
    args: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    common: Common,
    /// If true, immediately remove resources from API and create them anew
    #[arg(long)]
    force: bool,
    /// Period of time in seconds given to the resource to terminate gracefully
    #[arg(long, default_value_t = -1, allow_negative_numbers = true, hide_default_value = true)]
    grace_period: i64,
    /// Must be "background", "orphan", or "foreground"
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "background", default_value = "background", hide_default_value = true)]
    cascade: String,
    /// The length of time to wait before giving up on a delete, zero means determine a timeout from the size of the object
    #[arg(long, default_value = "0s", hide_default_value = true)]
    timeout: String,
    /// Raw URI to PUT to the server
    #[arg(long)]
    raw: Option<String>,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    if args.files.is_empty() {
        return fail("must specify one of -f and -k");
    }
    if args.force && args.common.change.dry_run != DryRun::None {
        return fail("--dry-run can not be used when --force is set");
    }
    if args.grace_period >= 0 && !args.force {
        return fail("--grace-period must have --force specified");
    }
    let timeout = duration(&args.timeout)?;
    if timeout.is_some() && !args.force {
        return fail("--timeout must have --force specified");
    }
    let propagation = propagation(&args.cascade)?;
    if !args.args.is_empty() {
        return session.usage(format!("Unexpected args: [{}]", args.args.join(" ")));
    }
    if let Some(path) = &args.raw {
        return super::create::raw(session, &args.files, http::Method::PUT, path).await;
    }
    let changer = Changer::new(session, &args.common.change, "kubectl-replace")?
        .validation(args.common.validate.field_validation()?);
    let (infos, mut errors) = from_files(session, &args.files).await?;
    if infos.is_empty() && errors.is_empty() {
        return fail("no objects passed to replace");
    }
    for mut info in infos {
        if args.common.save_config || last_applied(&info.object).is_some() {
            record(&mut info.object)?;
        }
        let source = info.source.clone();
        let done = match (changer.is_local(), args.force) {
            (true, _) => Ok(()),
            (false, false) => changer.update(&mut info).await,
            (false, true) => anew(&changer, args, propagation, timeout, &mut info).await,
        };
        match done {
            Ok(()) => changer.tell(&info.object, "replaced")?,
            Err(error) => errors.push(error.with_source("replacing", &source)),
        }
    }
    all(errors)
}

async fn anew(
    changer: &Changer<'_>,
    args: &Args,
    propagation: &'static str,
    timeout: Option<Duration>,
    info: &mut Info,
) -> Result<()> {
    // 0 takes whatever there is away at once, which upstream lets nobody ask for here
    let grace = match args.grace_period {
        0 => Some(1),
        given => Some(given).filter(|seconds| *seconds > 0),
    };
    match changer.delete(info, grace, propagation).await {
        Ok(answer) => {
            let name = crate::print::go::quote(&info.name);
            let from = if info.ty.namespaced {
                format!(" from {} namespace", info.namespace)
            } else {
                String::new()
            };
            changer
                .session
                .println(&format!("{} {name} deleted{from}", info.ty.group_kind()))?;
            let uid = if answer["kind"] == "Status" {
                &answer["details"]["uid"]
            } else {
                &answer["metadata"]["uid"]
            };
            let deadline = timeout.map(|most| Instant::now() + most);
            until_gone(changer.session, info, str_of(uid), deadline).await?;
        }
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    changer.create(info).await
}
