//! `set subject`: whom a binding names.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::set::{LOCAL, MANAGER, send};
use crate::change::Changer;
use crate::error::{Result, all, fail, message};
use crate::flags::{Change, DryRun, Files};
use crate::select::Selection;
use crate::session::Session;

const RBAC: &str = "rbac.authorization.k8s.io";

/// Update the user, group, or service account in a role binding or cluster role binding
#[derive(Debug, clap::Args)]
pub struct Args {
    args: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    change: Change,
    /// Selector (label query) to filter on
    #[arg(long, short = 'l')]
    selector: Option<String>,
    /// Select all resources, in the namespace of the specified resource types
    #[arg(long)]
    all: bool,
    /// If true, set subject will NOT contact api-server but run locally
    #[arg(long)]
    local: bool,
    /// Groups to bind to the role
    #[arg(long)]
    group: Vec<String>,
    /// Service accounts to bind to the role, as NAMESPACE:NAME
    #[arg(long)]
    serviceaccount: Vec<String>,
    /// Users to bind to the role
    #[arg(long, id = "user", action = clap::ArgAction::Append)]
    user: Vec<String>,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    if args.local && !args.args.is_empty() {
        return fail(LOCAL);
    }
    let changer = Changer::new(session, &args.change, MANAGER)?;
    let mut selection = Selection::new(&args.args);
    selection.files = Some(&args.files);
    selection.labels = args.selector.as_deref();
    selection.allow_all = args.all;
    (selection.latest, selection.local) = (!args.local, args.local);
    let (infos, errors) = selection.infos(session).await?;
    all(errors)?;
    if args.local && args.change.dry_run == DryRun::Server {
        return fail("cannot specify --local and --dry-run=server - did you mean --dry-run=client?");
    }
    if args.all && args.selector.is_some() {
        return fail("cannot set --all and --selector at the same time");
    }
    if args.user.is_empty() && args.group.is_empty() && args.serviceaccount.is_empty() {
        return fail("you must specify at least one value of user, group or serviceaccount");
    }
    let in_cluster = infos.iter().any(|info| info.ty.is(RBAC, "ClusterRoleBinding"));
    let wanted = wanted(args, in_cluster, &session.namespace()?)?;
    let mut errors = Vec::new();
    for mut info in infos {
        if !info.ty.is(RBAC, "RoleBinding") && !info.ty.is(RBAC, "ClusterRoleBinding") {
            let (resource, name) = (&info.ty.plural, &info.name);
            errors.push(message(format!(
                "{resource}/{name} setting subjects is only supported for RoleBinding/ClusterRoleBinding"
            )));
            continue;
        }
        let mut after = info.object.clone();
        let mut subjects = after["subjects"].as_array().cloned().unwrap_or_default();
        for subject in &wanted {
            if !subjects.contains(subject) {
                subjects.push(subject.clone());
            }
        }
        after["subjects"] = Value::Array(subjects);
        let failed = "failed to patch subjects to rolebinding";
        if let Err(error) = send(&changer, args.local, &mut info, after, "subjects updated", failed).await {
            errors.push(error);
        }
    }
    all(errors)
}

/// The subjects of the flags, each kind sorted.
fn wanted(args: &Args, in_cluster: bool, here: &str) -> Result<Vec<Value>> {
    let mut subjects = Vec::new();
    for (kind, names) in [("User", &args.user), ("Group", &args.group)] {
        let names: BTreeSet<&String> = names.iter().collect();
        subjects.extend(
            names
                .iter()
                .map(|name| json!({"kind": kind, "apiGroup": RBAC, "name": name})),
        );
    }
    let accounts: BTreeSet<&String> = args.serviceaccount.iter().collect();
    for account in &args.serviceaccount {
        match account.split(':').collect::<Vec<_>>()[..] {
            [_, ""] => return fail("serviceaccount must be <namespace>:<name>"),
            ["", _] if in_cluster => {
                return fail("serviceaccount must be <namespace>:<name>, namespace must be specified");
            }
            [_, _] => {}
            _ => return fail("serviceaccount must be <namespace>:<name>"),
        }
    }
    for account in accounts {
        let (namespace, name) = account.split_once(':').unwrap_or(("", account));
        let namespace = if namespace.is_empty() { here } else { namespace };
        subjects.push(json!({"kind": "ServiceAccount", "namespace": namespace, "name": name}));
    }
    Ok(subjects)
}
