//! `kuberc`: the file of a user's preferences, shown and changed.

use std::path::Path;

use serde_json::{Value, json};

use crate::cmd::describe::items;
use crate::error::{Error, Result, all, fail, message};
use crate::flags::Output;
use crate::kuberc::{API_VERSION, load, path};
use crate::print::go::quote;
use crate::print::{Format, yaml};
use crate::session::Session;

const OFF: &str = "KUBERC is disabled via KUBERC=off environment variable";

/// Manage kuberc configuration files
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    sub: Sub,
}

#[derive(Debug, clap::Subcommand)]
enum Sub {
    /// Display the current kuberc configuration
    View(View),
    /// Set values in the kuberc configuration
    Set(Set),
}

#[derive(Debug, clap::Args)]
struct View {
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
struct Set {
    /// Section to modify: 'defaults', 'aliases', or 'credentialplugin'
    #[arg(long, required = true)]
    section: String,
    /// Command to configure (e.g., 'get', 'create', 'set env')
    #[arg(long, default_value = "", hide_default_value = true)]
    command: String,
    /// Alias name (required for --section=aliases)
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
    /// Plugin policy to use for exec credential plugins, must be one of 'AllowAll', 'DenyAll' or 'Allowlist'
    #[arg(long, default_value = "", hide_default_value = true)]
    policy: String,
    /// Flag option in the form flag=value (can be specified multiple times)
    #[arg(long)]
    option: Vec<String>,
    /// Argument to prepend to the command (can be specified multiple times, for aliases only)
    #[arg(long)]
    prependarg: Vec<String>,
    /// Argument to append to the command (can be specified multiple times, for aliases only)
    #[arg(long)]
    appendarg: Vec<String>,
    /// Allowlist entry the form field=value (can be specified multiple times)
    #[arg(long)]
    allowlist_entry: Vec<String>,
    /// Allow overwriting existing entries
    #[arg(long)]
    overwrite: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<()> {
    let named = session.globals.kuberc.as_ref().map(|path| path.to_string_lossy());
    let Some((path, explicit)) = path(named.as_deref())? else {
        return fail(OFF);
    };
    match &args.sub {
        Sub::View(args) => view(session, args, &path, explicit),
        Sub::Set(args) => set(session, args, &path),
    }
}

fn read(path: &Path) -> Result<Option<Value>> {
    load(path).map_err(|error| message(format!("error reading kuberc file: {error}")))
}

fn view(session: &Session, args: &View, path: &Path, explicit: bool) -> Result<()> {
    let shown = path.display();
    let found = match path.exists() {
        true => read(path)?.unwrap_or_else(empty),
        false if explicit => return fail(format!("kuberc file not found at {shown}")),
        false => {
            session.println(&format!("kuberc file not found at {shown}"))?;
            session.print("Would you like to generate a default kuberc file with recommended options? (y/N): ")?;
            let mut answer = String::new();
            std::io::stdin().read_line(&mut answer)?;
            return match answer.trim().eq_ignore_ascii_case("y") {
                true => save(session, path, &recommended()),
                false => Ok(()),
            };
        }
    };
    let mut found = found;
    for list in ["aliases", "defaults"] {
        if found[list].is_null() {
            found[list] = json!([]);
        }
    }
    let mut output = args.output.clone();
    output.output.get_or_insert_with(|| "yaml".to_owned());
    session.print(&Format::for_get(&output, false)?.object(&found)?)
}

fn empty() -> Value {
    json!({ "apiVersion": API_VERSION, "kind": "Preference" })
}

fn recommended() -> Value {
    let default =
        |command: &str, option: &str| json!({ "command": command, "options": [{ "name": option, "default": "true" }] });
    json!({ "apiVersion": API_VERSION, "kind": "Preference", "aliases": null,
        "defaults": [default("apply", "server-side"), default("delete", "interactive")] })
}

fn save(session: &Session, path: &Path, preferences: &Value) -> Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)
            .map_err(|e| message(format!("failed to create directory {}: {e}", folder.display())))?;
    }
    std::fs::write(path, yaml::to_string(preferences)).map_err(|e| {
        message(format!(
            "failed to write kuberc file: {}",
            crate::print::go::io_error(&e)
        ))
    })?;
    session.println(&format!("Updated {}", path.display()))
}

fn check(args: &Set) -> Result<()> {
    let section = args.section.as_str();
    let credentials = section == "credentialplugin";
    if !matches!(section, "defaults" | "aliases") && !credentials {
        return fail(format!(
            "--section must be \"defaults\", \"aliases\", or \"credentialplugin\", got: {section}"
        ));
    }
    if section == "aliases" && args.name.is_empty() {
        return fail("--name is required when --section=aliases");
    }
    if section == "defaults" && !args.name.is_empty() {
        return fail("--name should not be specified when --section=defaults");
    }
    if section == "defaults" && !(args.prependarg.is_empty() && args.appendarg.is_empty()) {
        return fail("--prependarg and --appendarg are only valid for --section=aliases");
    }
    if !credentials {
        return match args.command.is_empty() {
            true => fail("--command is required when --section=aliases or --section=defaults"),
            false => Ok(()),
        };
    }
    match (args.policy.as_str(), args.allowlist_entry.is_empty()) {
        ("", _) => fail("--policy is required when --section=credentialplugin"),
        ("AllowAll" | "DenyAll", true) | ("Allowlist", false) => Ok(()),
        ("AllowAll" | "DenyAll", false) => {
            fail("--allowlist-entry may only be used when --section=credentialplugin and --policy=Allowlist")
        }
        ("Allowlist", true) => {
            fail("--allowlist-entry is required when --section=credentialplugin and --policy=Allowlist")
        }
        (other, _) => fail(format!(
            " --policy must be  \"AllowAll\", \"DenyAll\", or \"Allowlist\", got: {other}"
        )),
    }
}

fn options(args: &Set) -> Result<Vec<Value>> {
    let option = |text: &String| match text.split_once('=') {
        Some((name, value)) => Ok(json!({ "name": name.trim_start_matches('-'), "default": value })),
        None => fail(format!("invalid option format {}, expected flag=value", quote(text))),
    };
    args.option.iter().map(option).collect()
}

fn set(session: &Session, args: &Set, path: &Path) -> Result<()> {
    check(args)?;
    let mut preferences = read(path)?.unwrap_or_else(empty);
    let options = options(args)?;
    match args.section.as_str() {
        "defaults" => set_default(&mut preferences, args, &options)?,
        "aliases" => set_alias(&mut preferences, args, &options)?,
        _ => {
            if args.policy == "Allowlist" {
                preferences["credentialPluginAllowlist"] = json!(allowed(&args.allowlist_entry)?);
            }
            preferences["credentialPluginPolicy"] = json!(args.policy);
        }
    }
    for list in ["aliases", "defaults"] {
        if preferences.get(list).is_none() {
            preferences[list] = Value::Null;
        }
    }
    save(session, path, &preferences)
}

/// The place of an entry in a list of the preferences.
fn place<'a>(preferences: &'a mut Value, list: &str, key: &str, name: &str) -> Option<&'a mut Value> {
    let entries = preferences.get_mut(list)?.as_array_mut()?;
    entries.iter_mut().find(|entry| entry[key] == name)
}

fn add(preferences: &mut Value, list: &str, entry: Value) {
    match preferences[list].as_array_mut() {
        Some(entries) => entries.push(entry),
        None => preferences[list] = json!([entry]),
    }
}

fn set_default(preferences: &mut Value, args: &Set, options: &[Value]) -> Result<()> {
    let name = &args.command;
    match place(preferences, "defaults", "command", name) {
        Some(_) if !args.overwrite => fail(format!(
            "defaults for command {} already exist, use --overwrite to replace",
            quote(name)
        )),
        // what is not said stays
        Some(_) if options.is_empty() => Ok(()),
        Some(entry) => {
            entry["options"] = json!(options);
            Ok(())
        }
        None => {
            let options = Some(options).filter(|all| !all.is_empty());
            add(preferences, "defaults", json!({ "command": name, "options": options }));
            Ok(())
        }
    }
}

fn set_alias(preferences: &mut Value, args: &Set, options: &[Value]) -> Result<()> {
    let name = &args.name;
    let mut entry = json!({ "name": name, "command": args.command });
    let old = place(preferences, "aliases", "name", name);
    if old.is_some() && !args.overwrite {
        return fail(format!(
            "alias {} already exists, use --overwrite to replace",
            quote(name)
        ));
    }
    for (key, given) in [
        ("prependArgs", json!(args.prependarg)),
        ("appendArgs", json!(args.appendarg)),
        ("options", json!(options)),
    ] {
        let kept = old.as_ref().map(|old| old[key].clone()).unwrap_or_default();
        let value = if items(&given).next().is_some() { given } else { kept };
        if items(&value).next().is_some() {
            entry[key] = value;
        }
    }
    match old {
        Some(old) => *old = entry,
        None => add(preferences, "aliases", entry),
    }
    Ok(())
}

/// The programs that may give credentials.
fn allowed(texts: &[String]) -> Result<Vec<Value>> {
    let (mut entries, mut errors): (Vec<Value>, Vec<Error>) = (Vec::new(), Vec::new());
    for text in texts.iter().flat_map(|text| text.split(',')) {
        let Some((field, value)) = text.split_once('=') else {
            errors.push(message(format!(
                "improperly formatted allowlist entry: {}",
                quote(text)
            )));
            continue;
        };
        match field {
            "name" => errors.push(message(
                "allowlist entry field \"name\" is deprecated, use \"command\" instead",
            )),
            "command" if value.trim().is_empty() => {
                errors.push(message("empty value in allowlist entry for field \"command\""));
            }
            "command" => entries.push(json!({ "command": value })),
            other => errors.push(message(format!("unrecognized allowlist entry field: {}", quote(other)))),
        }
    }
    all(errors)?;
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Set {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            set: Set,
        }
        let cli: Cli = clap::Parser::try_parse_from(std::iter::once("set").chain(line.split(' '))).unwrap();
        cli.set
    }

    #[test]
    fn entries_are_added_and_replaced_when_asked() {
        let mut all = empty();
        let mut set = |line: &str| {
            let args = args(line);
            let given = options(&args)?;
            match args.section.as_str() {
                "defaults" => set_default(&mut all, &args, &given),
                _ => set_alias(&mut all, &args, &given),
            }
        };
        set("--section=defaults --command=get --option=--output=wide").unwrap();
        set("--section=aliases --name=gn --command=get --prependarg=nodes").unwrap();
        let refused = set("--section=defaults --command=get --option=output=json").unwrap_err();
        assert!(refused.to_string().contains("use --overwrite to replace"));
        set("--section=aliases --name=gn --command=describe --overwrite").unwrap();
        assert_eq!(
            all["defaults"],
            json!([{ "command": "get", "options": [{ "name": "output", "default": "wide" }] }])
        );
        assert_eq!(
            all["aliases"],
            json!([{ "name": "gn", "command": "describe", "prependArgs": ["nodes"] }])
        );
    }

    #[test]
    fn wrong_uses_are_refused() {
        for (line, why) in [
            ("--section=x", "--section must be"),
            ("--section=aliases --command=get", "--name is required"),
            ("--section=defaults", "--command is required"),
            (
                "--section=credentialplugin --policy=Allowlist",
                "--allowlist-entry is required",
            ),
            ("--section=credentialplugin --policy=x", " --policy must be"),
        ] {
            assert!(check(&args(line)).unwrap_err().to_string().starts_with(why), "{line}");
        }
        assert_eq!(allowed(&["command=a,command=/b".to_owned()]).unwrap().len(), 2);
        assert!(allowed(&["name=a".to_owned()]).is_err());
    }
}
