//! `config`: kubeconfig files, shown and changed.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::cmd::describe::{items, str_of};
use crate::error::{Error, Result, fail, message};
use crate::flags::Output;
use crate::print::go::quote;
use crate::print::{Format, tabwriter::TabWriter, yaml};
use crate::session::{Session, home_kubeconfig, kubeconfig_paths};

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

/// The context's cluster, user and namespace are the global flags of these names.
#[derive(Debug, clap::Args)]
struct SetContext {
    names: Vec<String>,
    /// Modify the current context
    #[arg(long)]
    current: bool,
}

#[derive(Debug, clap::Args)]
struct SetCluster {
    names: Vec<String>,
    /// Embed-certs for the cluster entry in kubeconfig
    #[arg(long)]
    embed_certs: bool,
}

#[derive(Debug, clap::Args)]
struct SetCredentials {
    names: Vec<String>,
    /// Embed client cert/key for the user entry in kubeconfig
    #[arg(long)]
    embed_certs: bool,
}

pub fn run(session: &Session, args: &Args) -> Result<()> {
    match &args.sub {
        Sub::View(args) => view(session, args),
        Sub::CurrentContext => match str_of(&merged(session)?["current-context"]) {
            "" => fail("current-context is not set"),
            name => session.println(name),
        },
        Sub::GetContexts(args) => contexts(session, args),
        Sub::GetClusters => names(session, "clusters"),
        Sub::GetUsers => names(session, "users"),
        Sub::UseContext(args) => use_context(session, &args.names),
        Sub::SetContext(args) => set_context(session, args),
        Sub::SetCluster(args) => set_cluster(session, args),
        Sub::SetCredentials(args) => set_credentials(session, args),
        Sub::RenameContext(args) => rename(session, &args.names),
        Sub::DeleteContext(args) => delete(session, &args.names, "context"),
        Sub::DeleteCluster(args) => delete(session, &args.names, "cluster"),
        Sub::DeleteUser(args) => delete(session, &args.names, "user"),
    }
}

fn load(path: &Path) -> Result<Value> {
    if !path.exists() {
        return Ok(json!({"apiVersion": "v1", "kind": "Config"}));
    }
    let text = std::fs::read_to_string(path)?;
    let value: Option<Value> = serde_saphyr::from_str(&text).map_err(|e| {
        message(format!(
            "error loading config file {}: {e}",
            quote(&path.to_string_lossy())
        ))
    })?;
    Ok(value.unwrap_or_else(|| json!({"apiVersion": "v1", "kind": "Config"})))
}

/// The files as one: of entries with the same name the first counts.
fn merged(session: &Session) -> Result<Value> {
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
                    push(&mut all, list, entry.clone());
                }
            }
        }
    }
    for list in ["clusters", "contexts", "users"] {
        if let Some(list) = all[list].as_array_mut() {
            list.sort_by_key(|e| str_of(&e["name"]).to_owned());
        }
    }
    if let Some(name) = &session.globals.context {
        all["current-context"] = json!(name);
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
    let mut config = merged(session)?;
    if args.minify {
        minify(&mut config)?;
    }
    if !args.raw {
        redact(&mut config);
    }
    let mut output = args.output.clone();
    output.output.get_or_insert_with(|| "yaml".to_owned());
    session.print(&Format::for_get(&output, false)?.object(&config)?)
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

/// The file that a change goes to: the one that has the entry, or the first that is there.
fn target(session: &Session, list: &str, name: &str) -> Result<PathBuf> {
    let paths = kubeconfig_paths(&session.globals);
    for path in paths.iter().filter(|p| p.exists()) {
        let file = load(path)?;
        let has = match list {
            "current-context" => file["current-context"].as_str().is_some_and(|c| !c.is_empty()),
            list => items(&file[list]).any(|e| e["name"] == name),
        };
        if has {
            return Ok(path.clone());
        }
    }
    let first = paths.iter().find(|p| p.exists()).or(paths.last()).cloned();
    first
        .or_else(home_kubeconfig)
        .ok_or_else(|| message("no kubeconfig file can be named: HOME is not set"))
}

fn save(path: &Path, config: &Value) -> Result<()> {
    let mut config = config.clone();
    for list in ["clusters", "contexts", "users"] {
        if config[list].as_array().is_some_and(Vec::is_empty) {
            config[list] = Value::Null;
        }
    }
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir)?;
    }
    // Never half a file, and never one that others can read.
    let next = path.with_extension(format!("tmp{}", std::process::id()));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&next)?;
    file.write_all(yaml::to_string(&config).as_bytes())?;
    file.sync_all()?;
    Ok(std::fs::rename(&next, path)?)
}

fn one<'a>(session: &Session, names: &'a [String]) -> Result<&'a str> {
    match names {
        [name] => Ok(name),
        other => session.usage(format!("Unexpected args: [{}]", other.join(" "))),
    }
}

fn use_context(session: &Session, names: &[String]) -> Result<()> {
    let name = one(session, names)?;
    if !items(&merged(session)?["contexts"]).any(|c| c["name"] == name) {
        return fail(format!("no context exists with the name: {}", quote(name)));
    }
    let path = target(session, "current-context", "")?;
    let mut config = load(&path)?;
    config["current-context"] = json!(name);
    save(&path, &config)?;
    session.println(&format!("Switched to context {}.", quote(name)))
}

/// Changes an entry, made if there is none; whether it was there.
fn upsert(
    session: &Session,
    list: &str,
    inner: &str,
    name: &str,
    change: impl FnOnce(&mut Map<String, Value>),
) -> Result<bool> {
    let path = target(session, list, name)?;
    let mut config = load(&path)?;
    let was_there = items(&config[list]).any(|e| e["name"] == name);
    if !was_there {
        push(&mut config, list, json!({"name": name, inner: {}}));
    }
    let entry = config[list]
        .as_array_mut()
        .into_iter()
        .flatten()
        .find(|e| e["name"] == name);
    if let Some(entry) = entry {
        if !entry[inner].is_object() {
            entry[inner] = json!({});
        }
        if let Some(map) = entry[inner].as_object_mut() {
            change(map);
        }
    }
    save(&path, &config)?;
    Ok(was_there)
}

fn put(map: &mut Map<String, Value>, field: &str, value: Option<&str>) {
    match value {
        Some("") => drop(map.remove(field)),
        Some(value) => drop(map.insert(field.to_owned(), json!(value))),
        None => {}
    }
}

fn set_context(session: &Session, args: &SetContext) -> Result<()> {
    let current = merged(session)?["current-context"].clone();
    let name = match (args.current, &args.names[..]) {
        (true, []) if str_of(&current).is_empty() => return fail("no current context is set"),
        (true, []) => str_of(&current).to_owned(),
        (true, _) => return fail("you cannot specify both a context name and --current"),
        (false, names) => one(session, names)?.to_owned(),
    };
    let flags = &session.globals;
    let was_there = upsert(session, "contexts", "context", &name, |context| {
        put(context, "cluster", flags.cluster.as_deref());
        put(context, "user", flags.user.as_deref());
        put(context, "namespace", flags.namespace.as_deref());
        for field in ["cluster", "user"] {
            context.entry(field).or_insert_with(|| json!(""));
        }
    })?;
    let done = if was_there { "modified" } else { "created" };
    session.println(&format!("Context {} {done}.", quote(&name)))
}

/// A file's name, absolute, or its content for the `-data` field.
fn file_or_data(map: &mut Map<String, Value>, field: &str, path: Option<&PathBuf>, embed: bool) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let data = format!("{field}-data");
    if embed {
        let bytes =
            std::fs::read(path).map_err(|e| message(format!("could not stat {field} file {}: {e}", path.display())))?;
        let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
        map.remove(field);
        map.insert(data, json!(text));
    } else {
        map.remove(&data);
        map.insert(field.to_owned(), json!(std::path::absolute(path)?.to_string_lossy()));
    }
    Ok(())
}

fn set_cluster(session: &Session, args: &SetCluster) -> Result<()> {
    let name = one(session, &args.names)?;
    let flags = &session.globals;
    let mut done = Ok(());
    upsert(session, "clusters", "cluster", name, |cluster| {
        put(cluster, "server", flags.server.as_deref());
        put(cluster, "tls-server-name", flags.tls_server_name.as_deref());
        if flags.insecure_skip_tls_verify {
            cluster.insert("insecure-skip-tls-verify".to_owned(), json!(true));
            cluster.remove("certificate-authority");
            cluster.remove("certificate-authority-data");
        }
        done = file_or_data(
            cluster,
            "certificate-authority",
            flags.certificate_authority.as_ref(),
            args.embed_certs,
        );
        cluster.entry("server").or_insert_with(|| json!(""));
    })?;
    done?;
    session.println(&format!("Cluster {} set.", quote(name)))
}

fn set_credentials(session: &Session, args: &SetCredentials) -> Result<()> {
    let name = one(session, &args.names)?;
    let flags = &session.globals;
    let mut done = Ok(());
    upsert(session, "users", "user", name, |user| {
        put(user, "token", flags.token.as_deref());
        done = file_or_data(
            user,
            "client-certificate",
            flags.client_certificate.as_ref(),
            args.embed_certs,
        )
        .and_then(|()| file_or_data(user, "client-key", flags.client_key.as_ref(), args.embed_certs));
    })?;
    done?;
    session.println(&format!("User {} set.", quote(name)))
}

fn rename(session: &Session, names: &[String]) -> Result<()> {
    let [old, new] = names else {
        return session.usage(format!("Unexpected args: [{}]", names.join(" ")));
    };
    let path = target(session, "contexts", old)?;
    let mut config = load(&path)?;
    let shown = path.display();
    if !items(&config["contexts"]).any(|c| c["name"] == old.as_str()) {
        return fail(format!("cannot rename the context {}, it's not in {shown}", quote(old)));
    }
    if items(&config["contexts"]).any(|c| c["name"] == new.as_str()) {
        let (old, new) = (quote(old), quote(new));
        return fail(format!(
            "cannot rename the context {old}, the context {new} already exists in {shown}"
        ));
    }
    for entry in config["contexts"]
        .as_array_mut()
        .into_iter()
        .flatten()
        .filter(|c| c["name"] == old.as_str())
    {
        entry["name"] = json!(new);
    }
    if config["current-context"] == old.as_str() {
        config["current-context"] = json!(new);
    }
    save(&path, &config)?;
    session.println(&format!("Context {} renamed to {}.", quote(old), quote(new)))
}

fn delete(session: &Session, names: &[String], what: &str) -> Result<()> {
    let name = one(session, names)?;
    let list = format!("{what}s");
    let path = target(session, &list, name)?;
    let mut config = load(&path)?;
    let shown = path.display();
    if !items(&config[&list]).any(|e| e["name"] == name) {
        return fail(format!("cannot delete {what} {name}, not in {shown}"));
    }
    if what == "context" && config["current-context"] == name {
        session.warn(
            "warning: this removed your active context, use \"kubectl config use-context\" to select a different one",
        );
    }
    if let Some(list) = config[&list].as_array_mut() {
        list.retain(|e| e["name"] != name);
    }
    save(&path, &config)?;
    session.println(&format!("deleted {what} {name} from {shown}"))
}
