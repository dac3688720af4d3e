//! `create`: new objects from files, or described by flags.

mod config;
mod plain;
mod rbac;
mod service;
mod token;
mod workload;

pub(crate) use workload::suffix;

use http::Method;
use serde_json::{Value, json};

use super::apply::{last_applied, record};
use super::edit::{Form, HEADER, edited};
use crate::api::Call;
use crate::change::Changer;
use crate::error::{Result, all, fail, message};
use crate::flags::{Change, Files, Validate};
use crate::print::format::items;
use crate::resolve::{filter_by_labels, from_files};
use crate::select::Info;
use crate::session::Session;

const MANAGER: &str = "kubectl-create";

/// Create a resource from a file or from stdin
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    common: Common,
    /// Selector (label query) to filter on
    #[arg(long, short = 'l')]
    selector: Option<String>,
    /// Raw URI to POST to the server
    #[arg(long)]
    raw: Option<String>,
    /// Edit the API resource before creating
    #[arg(long)]
    edit: bool,
    /// Only with --edit: whether lines end as on Windows
    #[arg(long)]
    windows_line_endings: bool,
    #[command(subcommand)]
    sub: Option<Sub>,
}

/// Flags of everything that creates.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Common {
    #[command(flatten)]
    pub change: Change,
    #[command(flatten)]
    pub validate: Validate,
    /// If true, the configuration of current object will be saved in its annotation
    #[arg(long)]
    pub save_config: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Sub {
    #[command(visible_aliases = ["deploy", "dep"])]
    Deployment(workload::Deployment),
    Job(workload::Job),
    #[command(visible_alias = "cj")]
    Cronjob(workload::CronJob),
    #[command(visible_alias = "ns")]
    Namespace(plain::Namespace),
    #[command(visible_alias = "cm")]
    Configmap(config::ConfigMap),
    Secret(config::Secret),
    #[command(visible_alias = "sa")]
    Serviceaccount(plain::ServiceAccount),
    #[command(visible_alias = "svc")]
    Service(service::Service),
    #[command(visible_alias = "ing")]
    Ingress(service::Ingress),
    Role(rbac::Role),
    Clusterrole(rbac::ClusterRole),
    Rolebinding(rbac::RoleBinding),
    Clusterrolebinding(rbac::ClusterRoleBinding),
    #[command(visible_alias = "resourcequota")]
    Quota(plain::Quota),
    #[command(visible_alias = "pdb")]
    Poddisruptionbudget(plain::PodDisruptionBudget),
    #[command(visible_alias = "pc")]
    Priorityclass(plain::PriorityClass),
    Token(token::Token),
}

/// An object as flags describe it.
struct Draft {
    object: Value,
    plural: &'static str,
    namespaced: bool,
    /// What a refusal is called: `failed to create <this>`; empty for the server's own words.
    called: String,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    let Some(sub) = &args.sub else {
        return files(session, args).await;
    };
    let (draft, common) = match sub {
        Sub::Deployment(a) => (a.draft(session)?, &a.common),
        Sub::Job(a) => (a.draft(session).await?, &a.common),
        Sub::Cronjob(a) => (a.draft(session)?, &a.common),
        Sub::Namespace(a) => (a.draft(session)?, &a.common),
        Sub::Configmap(a) => (a.draft(session)?, &a.common),
        Sub::Secret(a) => a.draft(session)?,
        Sub::Serviceaccount(a) => (a.draft(session)?, &a.common),
        Sub::Service(a) => a.draft(session)?,
        Sub::Ingress(a) => (a.draft(session)?, &a.common),
        Sub::Role(a) => (a.draft(session).await?, &a.common),
        Sub::Clusterrole(a) => (a.draft(session).await?, &a.common),
        Sub::Rolebinding(a) => (a.draft(session)?, &a.common),
        Sub::Clusterrolebinding(a) => (a.draft(session)?, &a.common),
        Sub::Quota(a) => (a.draft(session)?, &a.common),
        Sub::Poddisruptionbudget(a) => (a.draft(session)?, &a.common),
        Sub::Priorityclass(a) => (a.draft(session)?, &a.common),
        Sub::Token(a) => return a.run(session).await,
    };
    finish(session, common, draft).await
}

/// Sends what flags have described, and tells.
async fn finish(session: &Session, common: &Common, draft: Draft) -> Result<()> {
    let changer = Changer::new(session, &common.change, MANAGER)?.validation(common.validate.field_validation()?);
    let Draft {
        mut object,
        plural,
        namespaced,
        called,
    } = draft;
    if namespaced && session.explicit_namespace() {
        object["metadata"]["namespace"] = json!(session.namespace()?);
    }
    if common.save_config {
        record(&mut object)?;
    }
    if !changer.is_local() {
        let (group, version) = api::gvk::split_api_version(object["apiVersion"].as_str().unwrap_or_default());
        let ty = crate::discovery::ResourceType {
            group: group.to_owned(),
            version: version.to_owned(),
            plural: plural.to_owned(),
            namespaced,
            ..crate::discovery::ResourceType::default()
        };
        let mut info = Info::of(&std::sync::Arc::new(ty), object);
        info.namespace = if namespaced {
            session.namespace()?
        } else {
            String::new()
        };
        if let Err(error) = changer.create(&mut info).await {
            let said = matches!(error, crate::error::Error::Api(_)) && !called.is_empty();
            let colon = if called == "secret" { "" } else { ":" };
            return if said {
                fail(format!("failed to create {called}{colon} {error}"))
            } else {
                Err(error)
            };
        }
        object = info.object;
    }
    changer.tell_typed(&object, "created")
}

/// The one NAME of the command line.
fn name_of<'a>(session: &Session, names: &'a [String]) -> Result<&'a str> {
    match names {
        [name] => Ok(name),
        _ => session.usage(format!("exactly one NAME is required, got {}", names.len())),
    }
}

async fn files(session: &Session, args: &Args) -> Result<()> {
    if args.files.is_empty() {
        return fail("must specify one of -f and -k");
    }
    if let Some(path) = &args.raw {
        if args.edit {
            return fail("--raw and --edit are mutually exclusive");
        }
        return raw(session, &args.files, Method::POST, path).await;
    }
    let changer =
        Changer::new(session, &args.common.change, MANAGER)?.validation(args.common.validate.field_validation()?);
    let (mut infos, mut errors) = from_files(session, &args.files).await?;
    if let Some(selector) = &args.selector {
        filter_by_labels(&mut infos, selector)?;
    }
    if infos.is_empty() && errors.is_empty() {
        return fail("no objects passed to create");
    }
    if args.edit {
        all(errors)?;
        return edit_first(&changer, args, infos).await;
    }
    for mut info in infos {
        if args.common.save_config || last_applied(&info.object).is_some() {
            record(&mut info.object)?;
        }
        let source = info.source.clone();
        let done = if changer.is_local() {
            Ok(())
        } else {
            changer.create(&mut info).await
        };
        match done {
            Ok(()) => changer.tell(&info.object, "created")?,
            Err(error) => errors.push(error.with_source("creating", &source)),
        }
    }
    all(errors)
}

/// `--edit`: each object is made as somebody leaves it in the editor.
async fn edit_first(changer: &Changer<'_>, args: &Args, infos: Vec<Info>) -> Result<()> {
    let form = Form {
        header: HEADER,
        json: args.common.change.output.output.as_deref() == Some("json"),
        again: false,
        windows: args.windows_line_endings,
    };
    for info in infos {
        let shown = info.object.clone();
        edited(changer.session, &form, &shown, async |after| {
            let mut info = info.clone();
            info.replace(after.clone());
            if args.common.save_config || last_applied(&info.object).is_some() {
                record(&mut info.object)?;
            }
            if !changer.is_local() {
                changer.create(&mut info).await?;
            }
            changer.tell(&info.object, "created")
        })
        .await?;
    }
    Ok(())
}

/// `--raw`: sends the one object of a file to a path, and prints what comes back.
pub async fn raw(session: &Session, files: &Files, method: Method, path: &str) -> Result<()> {
    if files.files.len() != 1 {
        return fail("--raw can only use a single local file or stdin");
    }
    let objects = crate::manifest::read(files).await?;
    let [one] = &objects[..] else {
        return fail("--raw can only use a single local file or stdin");
    };
    let body = session.api()?.bytes(&Call::new(method, path).json(&one.object)).await?;
    session.print(&String::from_utf8_lossy(&body))
}

/// The items of what `--from` names, one expected.
fn only(object: &Value, what: &str) -> Result<Value> {
    match &items(object)[..] {
        [one] => Ok((*one).clone()),
        _ => Err(message(format!("from must be an existing {what}"))),
    }
}
