//! `auth can-i` and `auth whoami`: what we may do, and who the server thinks we are. `reconcile` has a file of its own.

use http::Method;
use serde_json::{Value, json};

use crate::api::Call;
use crate::cmd::describe::{entries, items, joined, str_of};
use crate::error::{Error, Result, fail, message};
use crate::flags::Output;
use crate::print::{Format, tabwriter::TabWriter};
use crate::session::Session;

/// Verbs of resources; others draw a warning.
const VERBS: [&str; 13] = [
    "*",
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "use",
    "bind",
    "impersonate",
    "escalate",
];
const URL_VERBS: [&str; 8] = ["*", "get", "put", "post", "head", "options", "delete", "patch"];
/// Of subjects and not of the API.
const NO_RESOURCES: [&str; 3] = ["users", "groups", "serviceaccounts"];

/// Inspect authorization
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    sub: Sub,
}

#[derive(Debug, clap::Subcommand)]
enum Sub {
    /// Check whether an action is allowed
    #[command(name = "can-i")]
    CanI(CanI),
    /// Check self subject attributes
    Whoami(Whoami),
    Reconcile(super::reconcile::Args),
}

#[derive(Debug, clap::Args)]
struct CanI {
    args: Vec<String>,
    /// If true, check the specified action in all namespaces
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    /// If true, suppress output and just return the exit code
    #[arg(long, short)]
    quiet: bool,
    /// SubResource such as pod/log or deployment/scale
    #[arg(long, default_value = "", hide_default_value = true)]
    subresource: String,
    /// If true, prints all allowed actions
    #[arg(long)]
    list: bool,
    /// If true, prints allowed actions without headers
    #[arg(long)]
    no_headers: bool,
}

#[derive(Debug, clap::Args)]
struct Whoami {
    #[command(flatten)]
    output: Output,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    match &args.sub {
        Sub::CanI(args) if args.list => list(session, args).await,
        Sub::CanI(args) => can_i(session, args).await,
        Sub::Whoami(args) => whoami(session, args).await,
        Sub::Reconcile(args) => super::reconcile::run(session, args).await,
    }
}

async fn can_i(session: &Session, args: &CanI) -> Result<()> {
    let [verb, what] = &args.args[..] else {
        return fail(
            "you must specify two arguments: verb resource or verb resource/resourceName.\nSee 'kubectl auth can-i -h' for help and examples.",
        );
    };
    let spec = if what.starts_with('/') {
        if !args.subresource.is_empty() {
            return fail("--subresource can not be used with NonResourceURL");
        }
        warn_of_verb(session, verb, &URL_VERBS);
        json!({"nonResourceAttributes": {"verb": verb, "path": what}})
    } else {
        resource(session, args, verb, what).await?
    };
    if args.no_headers {
        return fail("--no-headers cannot be set without --list specified");
    }
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "metadata": {}, "spec": spec});
    let call = Call::new(Method::POST, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews").json(&review);
    let answer = session.api()?.json(&call).await?;
    let status = &answer["status"];
    let allowed = status["allowed"] == true;
    if !args.quiet {
        let mut text = if allowed { "yes" } else { "no" }.to_owned();
        for field in ["reason", "evaluationError"] {
            if let Some(said) = status[field].as_str().filter(|s| !s.is_empty() && !allowed) {
                text.push_str(&format!(" - {said}"));
            }
        }
        session.println(&text)?;
    }
    if allowed { Ok(()) } else { Err(Error::Exit(1)) }
}

fn warn_of_verb(session: &Session, verb: &str, known: &[&str]) {
    if !known.contains(&verb) {
        session.warn(&format!("Warning: verb '{verb}' is not a known verb\n"));
    }
}

async fn resource(session: &Session, args: &CanI, verb: &str, what: &str) -> Result<Value> {
    let (name, object) = what.split_once('/').unwrap_or((what, ""));
    let (mut group, mut plural) = (String::new(), name.to_owned());
    // Who may not see the resources may still ask.
    let discovery = session.resources().await.ok();
    let found = if name == "*" {
        None
    } else {
        discovery.and_then(|d| d.find(&name.to_lowercase()))
    };
    match &found {
        Some(ty) => (group, plural) = (ty.group.clone(), ty.plural.clone()),
        None if name == "*" || NO_RESOURCES.contains(&name) => {}
        None if discovery.is_none() => {}
        None => {
            let (resource, of) = name.split_once('.').map_or((name, None), |(r, g)| (r, Some(g)));
            let of = of.map_or(String::new(), |g| format!(" in group '{g}'"));
            session.warn(&format!(
                "Warning: the server doesn't have a resource type '{resource}'{of}\n"
            ));
        }
    }
    if let Some(ty) = found.as_ref().filter(|t| !t.namespaced && !args.all_namespaces) {
        let of = if ty.group.is_empty() {
            String::new()
        } else {
            format!(" in group '{}'", ty.group)
        };
        session.warn(&format!(
            "Warning: resource '{}' is not namespace scoped{of}\n",
            ty.plural
        ));
    }
    if !args.all_namespaces {
        warn_of_verb(session, verb, &VERBS);
    }
    let mut attributes = json!({"verb": verb, "resource": plural});
    for (field, value) in [
        (
            "namespace",
            if args.all_namespaces {
                String::new()
            } else {
                session.namespace()?
            },
        ),
        ("group", group),
        ("subresource", args.subresource.clone()),
        ("name", object.to_owned()),
    ] {
        if !value.is_empty() {
            attributes[field] = json!(value);
        }
    }
    Ok(json!({"resourceAttributes": attributes}))
}

/// One verb list for a resource of a group, or for a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    resource: String,
    urls: Vec<String>,
    names: Vec<String>,
    verbs: Vec<String>,
}

async fn list(session: &Session, args: &CanI) -> Result<()> {
    if !args.args.is_empty() {
        return fail("list option must be specified with no arguments");
    }
    if args.quiet || args.all_namespaces || !args.subresource.is_empty() {
        return fail("list option can't be specified with neither quiet, all-namespaces nor subresource options");
    }
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "metadata": {},
        "spec": {"namespace": session.namespace()?}});
    let call = Call::new(Method::POST, "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews").json(&review);
    let answer = session.api()?.json(&call).await?;
    let status = &answer["status"];
    if status["incomplete"] == true {
        session.warn(&format!(
            "Warning: the list may be incomplete: {}",
            str_of(&status["evaluationError"])
        ));
    }
    let texts = |v: &Value| items(v).map(|t| str_of(t).to_owned()).collect::<Vec<_>>();
    let mut rows: Vec<Row> = Vec::new();
    for rule in items(&status["resourceRules"]) {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                let resource = if group.is_empty() {
                    resource
                } else {
                    of_group(&resource, &group)
                };
                let (names, verbs) = (texts(&rule["resourceNames"]), texts(&rule["verbs"]));
                match rows.iter_mut().find(|r| r.resource == resource && r.names == names) {
                    Some(row) => {
                        let new: Vec<String> = verbs.into_iter().filter(|v| !row.verbs.contains(v)).collect();
                        row.verbs.extend(new);
                    }
                    None => rows.push(Row {
                        resource,
                        urls: Vec::new(),
                        names,
                        verbs,
                    }),
                }
            }
        }
    }
    for rule in items(&status["nonResourceRules"]) {
        let verbs = texts(&rule["verbs"]);
        rows.extend(texts(&rule["nonResourceURLs"]).into_iter().map(|url| Row {
            resource: String::new(),
            urls: vec![url],
            names: Vec::new(),
            verbs: verbs.clone(),
        }));
    }
    // By verbs first, as upstream's.
    rows.sort_by_key(|row| {
        let list = |texts: &[String]| format!("[{}]", texts.join(" "));
        let group = row.resource.split_once('.').map_or("", |(_, group)| group);
        (
            list(&row.verbs),
            format!("[{group}]"),
            row.resource.clone(),
            list(&row.urls),
        )
    });
    let mut out = TabWriter::table();
    if !args.no_headers {
        out.line("Resources\tNon-Resource URLs\tResource Names\tVerbs");
    }
    let shown = |list: &[String]| format!("[{}]", list.join(" "));
    for row in rows {
        let Row {
            resource,
            urls,
            names,
            verbs,
        } = row;
        out.line(&format!(
            "{resource}\t{}\t{}\t{}",
            shown(&urls),
            shown(&names),
            shown(&verbs)
        ));
    }
    session.print(&out.flush())
}

/// `deployments.apps/scale` of `deployments/scale`.
fn of_group(resource: &str, group: &str) -> String {
    match resource.split_once('/') {
        Some((resource, sub)) => format!("{resource}.{group}/{sub}"),
        None => format!("{resource}.{group}"),
    }
}

async fn whoami(session: &Session, args: &Whoami) -> Result<()> {
    let format = Format::for_change(&args.output)?;
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {}});
    let call = Call::new(Method::POST, "/apis/authentication.k8s.io/v1/selfsubjectreviews").json(&review);
    let answer = session.api()?.json(&call).await.map_err(|e| match e.http_code() {
        Some(404) => message("the selfsubjectreviews API is not enabled in the cluster"),
        Some(403) => {
            message("the selfsubjectreviews API is not enabled in the cluster or you do not have permission to call it")
        }
        _ => e,
    })?;
    if !format.is_human() {
        return session.print(&format.typed(&answer)?);
    }
    let info = &answer["status"]["userInfo"];
    let mut out = TabWriter::table();
    out.line("ATTRIBUTE\tVALUE");
    if info["username"].is_string() {
        out.line(&format!("Username\t{}", str_of(&info["username"])));
    }
    if info["uid"].as_str().is_some_and(|u| !u.is_empty()) {
        out.line(&format!("UID\t{}", str_of(&info["uid"])));
    }
    if items(&info["groups"]).next().is_some() {
        out.line(&format!("Groups\t[{}]", joined(&info["groups"], " ")));
    }
    for (key, _) in entries(&info["extra"]) {
        out.line(&format!("Extra: {key}\t[{}]", joined(&info["extra"][key], " ")));
    }
    session.print(&out.flush())
}
