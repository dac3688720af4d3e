//! The commands of `config` that change a file.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{load, merged, push};
use crate::cmd::describe::{items, str_of};
use crate::error::{Result, fail, message};
use crate::print::go::quote;
use crate::print::yaml;
use crate::session::{Session, home_kubeconfig, kubeconfig_paths};

/// The context's cluster, user and namespace are the global flags of these names.
#[derive(Debug, clap::Args)]
pub struct SetContext {
    names: Vec<String>,
    /// Modify the current context
    #[arg(long)]
    current: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SetCluster {
    names: Vec<String>,
    /// Embed-certs for the cluster entry in kubeconfig
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set, hide_default_value = true, hide_possible_values = true)]
    embed_certs: bool,
}

/// The file that a change goes to: the one that has the entry, or the first that is there.
pub(super) fn target(session: &Session, list: &str, name: &str) -> Result<PathBuf> {
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

pub(super) fn save(path: &Path, config: &Value) -> Result<()> {
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
        other => session.usage_with_help(format!("Unexpected args: [{}]", other.join(" "))),
    }
}

pub(crate) fn use_context(session: &Session, names: &[String]) -> Result<()> {
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
pub(super) fn upsert(
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

/// Sets a field to a text that is given; an empty one takes it away.
pub(super) fn put(map: &mut Map<String, Value>, field: &str, value: Option<&str>) {
    match value {
        Some("") => drop(map.remove(field)),
        Some(value) => drop(map.insert(field.to_owned(), json!(value))),
        None => {}
    }
}

pub(crate) fn set_context(session: &Session, args: &SetContext) -> Result<()> {
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

/// Whether a file that is to be embedded is there.
pub(super) fn embeddable(flag: &str, path: Option<&PathBuf>) -> Result<()> {
    let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else {
        return Ok(());
    };
    match path.exists() {
        true => Ok(()),
        false => fail(format!(
            "could not stat {flag} file {}: stat {}: no such file or directory",
            path.display(),
            path.display()
        )),
    }
}

/// A file's name, absolute, or its content for the `-data` field.
pub(super) fn file_or_data(
    map: &mut Map<String, Value>,
    field: &str,
    path: Option<&PathBuf>,
    embed: bool,
) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let data = format!("{field}-data");
    if embed {
        let bytes = std::fs::read(path)?;
        let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
        map.remove(field);
        map.insert(data, json!(text));
    } else {
        map.remove(&data);
        map.insert(field.to_owned(), json!(std::path::absolute(path)?.to_string_lossy()));
    }
    Ok(())
}

pub(crate) fn set_cluster(session: &Session, args: &SetCluster) -> Result<()> {
    let name = one(session, &args.names)?;
    let flags = &session.globals;
    if name.is_empty() {
        return fail("you must specify a non-empty cluster name");
    }
    let authority = flags
        .certificate_authority
        .as_ref()
        .filter(|path| !path.as_os_str().is_empty());
    if flags.insecure_skip_tls_verify && authority.is_some() {
        return fail("you cannot specify a certificate authority and insecure mode at the same time");
    }
    if args.embed_certs {
        if authority.is_none() {
            return fail("you must specify a --certificate-authority to embed");
        }
        embeddable("certificate-authority", authority)?;
    }
    let mut done = Ok(());
    upsert(session, "clusters", "cluster", name, |cluster| {
        put(cluster, "server", flags.server.as_deref());
        // another server has another name
        if flags.server.is_some() {
            cluster.remove("tls-server-name");
        }
        put(cluster, "proxy-url", flags.proxy_url.as_deref());
        put(cluster, "tls-server-name", flags.tls_server_name.as_deref());
        if flags.insecure_skip_tls_verify {
            cluster.insert("insecure-skip-tls-verify".to_owned(), json!(true));
            cluster.remove("certificate-authority");
            cluster.remove("certificate-authority-data");
        } else if authority.is_some() {
            cluster.remove("insecure-skip-tls-verify");
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

pub(crate) fn rename(session: &Session, names: &[String]) -> Result<()> {
    let [old, new] = names else {
        return session.usage_with_help(format!("Unexpected args: [{}]", names.join(" ")));
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

pub(crate) fn delete(session: &Session, names: &[String], what: &str) -> Result<()> {
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
