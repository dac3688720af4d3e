//! `config`: kubeconfig files, shown and changed.

mod change;
mod credentials;
mod property;

use std::path::Path;

use api::schema::Document;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::cmd::describe::{items, str_of};
use crate::error::{Error, Result, fail, message};
use crate::flags::Output;
use crate::print::go::quote;
use crate::print::{Format, tabwriter::TabWriter};
use crate::session::{Session, kubeconfig_paths};
use change::{SetCluster, SetContext};
use credentials::SetCredentials;

/// Modify kubeconfig files
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    sub: Sub,
}

#[derive(Debug, clap::Subcommand)]
enum Sub {
    /// Display merged kubeconfig settings or a specified kubeconfig file
    View(View),
    /// Display the current-context
    CurrentContext,
    /// Describe one or many contexts
    GetContexts(GetContexts),
    /// Display clusters defined in the kubeconfig
    GetClusters,
    /// Display users defined in the kubeconfig
    GetUsers,
    /// Set the current-context in a kubeconfig file
    #[command(alias = "use")]
    UseContext(Name),
    /// Set an individual value in a kubeconfig file
    Set(property::Set),
    /// Unset an individual value in a kubeconfig file
    Unset(property::Unset),
    /// Set a context entry in kubeconfig
    SetContext(SetContext),
    /// Set a cluster entry in kubeconfig
    SetCluster(SetCluster),
    /// Set a user entry in kubeconfig
    SetCredentials(SetCredentials),
    /// Rename a context from the kubeconfig file
    RenameContext(Names),
    /// Delete the specified context from the kubeconfig
    DeleteContext(Name),
    /// Delete the specified cluster from the kubeconfig
    DeleteCluster(Name),
    /// Delete the specified user from the kubeconfig
    DeleteUser(Name),
}

#[derive(Debug, clap::Args)]
struct View {
    #[command(flatten)]
    output: Output,
    /// Display raw byte data and sensitive data
    #[arg(long)]
    raw: bool,
    /// Remove all information not used by current-context from the output
    #[arg(long)]
    minify: bool,
    /// Flatten the resulting kubeconfig file into self-contained output
    #[arg(long)]
    flatten: bool,
    /// Merge the full hierarchy of kubeconfig files
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set, hide_default_value = true, hide_possible_values = true)]
    merge: bool,
}

#[derive(Debug, clap::Args)]
struct GetContexts {
    names: Vec<String>,
    /// When using the default output format, don't print headers
    #[arg(long)]
    no_headers: bool,
    /// Output format: name
    #[arg(long, short, default_value = "", hide_default_value = true)]
    output: String,
}

#[derive(Debug, clap::Args)]
struct Name {
    names: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct Names {
    names: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<()> {
    match &args.sub {
        Sub::View(args) => view(session, args),
        Sub::CurrentContext => match str_of(&merged(session)?["current-context"]) {
            "" => fail("current-context is not set"),
            name => session.println(name),
        },
        Sub::GetContexts(args) => contexts(session, args),
        Sub::GetClusters => names(session, "clusters"),
        Sub::GetUsers => names(session, "users"),
        Sub::UseContext(args) => change::use_context(session, &args.names),
        Sub::Set(args) => property::set(session, args),
        Sub::Unset(args) => property::unset(session, args),
        Sub::SetContext(args) => change::set_context(session, args),
        Sub::SetCluster(args) => change::set_cluster(session, args),
        Sub::SetCredentials(args) => credentials::set(session, args),
        Sub::RenameContext(args) => change::rename(session, &args.names),
        Sub::DeleteContext(args) => change::delete(session, &args.names, "context"),
        Sub::DeleteCluster(args) => change::delete(session, &args.names, "cluster"),
        Sub::DeleteUser(args) => change::delete(session, &args.names, "user"),
    }
}

fn load(path: &Path) -> Result<Value> {
    if !path.exists() {
        return Ok(json!({"apiVersion": "v1", "kind": "Config"}));
    }
    let text = std::fs::read_to_string(path)?;
    let read = Document::from_yaml(text.as_bytes()).map_err(|e| {
        message(format!(
            "error loading config file {}: {e}",
            quote(&path.to_string_lossy())
        ))
    })?;
    let value = Some(read.value).filter(|value| !value.is_null());
    let mut config = value.unwrap_or_else(|| json!({"apiVersion": "v1", "kind": "Config"}));
    let users = config.get_mut("users").and_then(Value::as_array_mut);
    for entry in users.into_iter().flatten() {
        if let Some(exec) = entry.pointer_mut("/user/exec") {
            default_mode(exec);
        }
    }
    Ok(config)
}

/// What old versions of credential plugins leave open about terminals has a default.
fn default_mode(exec: &mut Value) {
    const OLD: [&str; 2] = [
        "client.authentication.k8s.io/v1beta1",
        "client.authentication.k8s.io/v1alpha1",
    ];
    if OLD.contains(&str_of(&exec["apiVersion"])) && str_of(&exec["interactiveMode"]).is_empty() {
        exec["interactiveMode"] = json!("IfAvailable");
    }
}

/// The files as one: of entries with the same name the first counts.
fn merged(session: &Session) -> Result<Value> {
    merged_with(session, |_, _, _| Ok(()))
}

/// The same, once `each` has changed the entries of a list in a file.
fn merged_with(session: &Session, each: impl Fn(&mut Value, &str, &Path) -> Result<()>) -> Result<Value> {
    let mut all = json!({"apiVersion": "v1", "kind": "Config", "current-context": "",
        "clusters": null, "contexts": null, "users": null});
    for path in kubeconfig_paths(&session.globals).iter().filter(|p| p.exists()) {
        let file = load(path)?;
        if str_of(&all["current-context"]).is_empty() && file["current-context"].is_string() {
            all["current-context"] = file["current-context"].clone();
        }
        for list in ["clusters", "contexts", "users"] {
            for entry in items(&file[list]) {
                if !items(&all[list]).any(|e| e["name"] == entry["name"]) {
                    let mut entry = entry.clone();
                    each(&mut entry, list, path)?;
                    push(&mut all, list, entry);
                }
            }
        }
    }
    for list in ["clusters", "contexts", "users"] {
        if let Some(list) = all[list].as_array_mut() {
            list.sort_by_key(|e| str_of(&e["name"]).to_owned());
        }
    }
    Ok(all)
}

fn push(config: &mut Value, list: &str, entry: Value) {
    match config[list].as_array_mut() {
        Some(list) => list.push(entry),
        None => config[list] = json!([entry]),
    }
}

fn view(session: &Session, args: &View) -> Result<()> {
    if !args.merge && session.globals.kubeconfig.is_none() {
        return fail("if merge==false a precise file must be specified");
    }
    let mut config = match args.flatten {
        true => merged_with(session, flatten)?,
        false => merged(session)?,
    };
    if args.minify {
        if let Some(name) = &session.globals.context {
            config["current-context"] = json!(name);
        }
        minify(&mut config)?;
    }
    if !args.raw && !args.flatten {
        redact(&mut config);
    }
    let mut output = args.output.clone();
    output.output.get_or_insert_with(|| "yaml".to_owned());
    session.print(&Format::for_get(&output, false)?.object(&config)?)
}

/// Puts the content of files into an entry that names them.
fn flatten(entry: &mut Value, list: &str, kubeconfig: &Path) -> Result<()> {
    let (inner, fields): (&str, &[&str]) = match list {
        "clusters" => ("cluster", &["certificate-authority"]),
        "users" => ("user", &["client-certificate", "client-key"]),
        _ => return Ok(()),
    };
    let folder = std::path::absolute(kubeconfig)?;
    let folder = folder.parent().unwrap_or(Path::new("/"));
    let Some(of) = entry[inner].as_object_mut() else {
        return Ok(());
    };
    for field in fields {
        let Some(named) = of.get(*field).map(str_of).filter(|named| !named.is_empty()) else {
            continue;
        };
        let (path, data) = (folder.join(named), format!("{field}-data"));
        if of.get(&data).is_some_and(|data| !str_of(data).is_empty()) {
            return fail("cannot have values for both path and contents");
        }
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                let why = api::go::io_error(&error);
                return fail(format!("open {}: {why}", path.display()));
            }
        };
        of.remove(*field);
        of.insert(data, json!(STANDARD.encode(bytes)));
    }
    Ok(())
}

fn minify(config: &mut Value) -> Result<()> {
    let current = str_of(&config["current-context"]).to_owned();
    if current.is_empty() {
        return fail("current-context must exist in order to minify");
    }
    let Some(context) = items(&config["contexts"])
        .find(|c| c["name"] == current.as_str())
        .cloned()
    else {
        return fail(format!("cannot locate context {current}"));
    };
    for (list, wanted) in [
        ("contexts", &context["name"]),
        ("clusters", &context["context"]["cluster"]),
        ("users", &context["context"]["user"]),
    ] {
        if let Some(list) = config[list].as_array_mut() {
            list.retain(|e| e["name"] == *wanted);
        }
    }
    Ok(())
}

fn redact(config: &mut Value) {
    for (list, inner, field, text) in [
        ("clusters", "cluster", "certificate-authority-data", "DATA+OMITTED"),
        ("users", "user", "client-certificate-data", "DATA+OMITTED"),
        ("users", "user", "client-key-data", "DATA+OMITTED"),
        ("users", "user", "token", "REDACTED"),
        ("users", "user", "password", "REDACTED"),
    ] {
        for entry in config[list].as_array_mut().into_iter().flatten() {
            if let Some(value) = entry[inner].get_mut(field) {
                *value = json!(text);
            }
        }
    }
}

fn contexts(session: &Session, args: &GetContexts) -> Result<()> {
    if !matches!(args.output.as_str(), "" | "name") {
        return fail(format!(
            "--output {} is not available in kubectl config get-contexts; resetting to default output format",
            args.output
        ));
    }
    let config = merged(session)?;
    let mut out = TabWriter::table();
    if !args.no_headers && args.output.is_empty() {
        out.line("CURRENT\tNAME\tCLUSTER\tAUTHINFO\tNAMESPACE");
    }
    let wanted = |c: &&Value| args.names.is_empty() || args.names.iter().any(|n| c["name"] == n.as_str());
    for entry in items(&config["contexts"]).filter(wanted) {
        let (name, context) = (str_of(&entry["name"]), &entry["context"]);
        if args.output == "name" {
            out.line(name);
            continue;
        }
        let mark = if config["current-context"] == name { "*" } else { "" };
        let text = |field: &str| str_of(&context[field]);
        out.line(&format!(
            "{mark}\t{name}\t{}\t{}\t{}",
            text("cluster"),
            text("user"),
            text("namespace")
        ));
    }
    session.print(&out.flush())?;
    let missing = args
        .names
        .iter()
        .filter(|n| !items(&config["contexts"]).any(|c| c["name"] == n.as_str()));
    let errors: Vec<Error> = missing.map(|n| message(format!("context {n} not found"))).collect();
    crate::error::all(errors)
}

fn names(session: &Session, list: &str) -> Result<()> {
    let config = merged(session)?;
    let lines: Vec<String> = items(&config[list])
        .map(|e| format!("{}\n", str_of(&e["name"])))
        .collect();
    session.print(&format!("NAME\n{}", lines.concat()))
}
