//! A user's preferences: the file `kuberc`, whose defaults and aliases change a command line before it is read.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Command;
use serde_json::{Value, json};

use crate::cmd::describe::{items, str_of};
use crate::error::{Result, fail, message};
use crate::manifest::documents;
use crate::print::go::quote;

const GROUP: &str = "kubectl.config.k8s.io";
pub(crate) const API_VERSION: &str = "kubectl.config.k8s.io/v1beta1";

/// Where the preferences are: `named` by the command line, or by `KUBERC`, or at home. Whether somebody named the file goes with it;
/// `None` when they are off.
///
/// # Errors
/// When they are off and named.
pub fn path(named: Option<&str>) -> Result<Option<(PathBuf, bool)>> {
    let named = named.filter(|path| !path.is_empty());
    let variable = std::env::var("KUBERC").unwrap_or_default();
    match (named, variable.as_str()) {
        (Some(_), "off") => fail("disabling kuberc via KUBERC=off and passing kuberc flag are mutually exclusive"),
        (None, "off") => Ok(None),
        (Some(path), _) => Ok(Some((path.into(), true))),
        (None, "") => {
            let home = std::env::var_os("HOME").unwrap_or_default();
            Ok(Some((PathBuf::from(home).join(".kube/kuberc"), false)))
        }
        (None, path) => Ok(Some((path.into(), true))),
    }
}

/// The preferences in a file, in the newest version; `None` when it is not there.
///
/// # Errors
/// When it cannot be read, or has none.
pub fn load(path: &std::path::Path) -> Result<Option<Value>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let why = crate::print::go::io_error(&error);
            return fail(format!("open {}: {why}", path.display()));
        }
    };
    let all = documents(&path.to_string_lossy(), &text)?;
    let empty = all.is_empty();
    match all.into_iter().find_map(newest) {
        Some(found) => Ok(Some(found)),
        None if empty => Ok(None),
        None => fail(format!(
            "no valid preferences found in {}, use --v=5 to see details",
            path.display()
        )),
    }
}

/// Preferences of any version in the newest: the first called defaults overrides, and options flags.
fn newest(mut tree: Value) -> Option<Value> {
    let (group, version) = ::api::gvk::split_api_version(str_of(&tree["apiVersion"]));
    if group != GROUP || tree["kind"] != "Preference" || !matches!(version, "v1alpha1" | "v1beta1") {
        return None;
    }
    if version == "v1alpha1" {
        rename(&mut tree, "overrides", "defaults");
        for list in ["defaults", "aliases"] {
            let entries = tree.get_mut(list).and_then(Value::as_array_mut);
            entries
                .into_iter()
                .flatten()
                .for_each(|entry| rename(entry, "flags", "options"));
        }
        tree["apiVersion"] = json!(API_VERSION);
    }
    Some(tree)
}

fn rename(tree: &mut Value, from: &str, to: &str) {
    if let Some(map) = tree.as_object_mut()
        && let Some(value) = map.remove(from)
    {
        map.insert(to.to_owned(), value);
    }
}

/// A command line as the user's preferences change it.
///
/// # Errors
/// What is wrong with the preferences, where they matter.
pub fn apply(spec: &Command, words: Vec<OsString>) -> Result<Vec<OsString>> {
    if words.len() <= 1 {
        return Ok(words);
    }
    let texts: Vec<&str> = words.iter().map(|word| word.to_str().unwrap_or_default()).collect();
    let Some((path, named)) = path(explicit(&texts)?)? else {
        return Ok(words);
    };
    let preferences = match load(&path) {
        Ok(Some(found)) => found,
        Ok(None) if !named => return Ok(words),
        Ok(None) if !path.exists() => {
            return fail(format!(
                "kuberc error kuberc: open {}: no such file or directory",
                path.display()
            ));
        }
        Ok(None) => return Ok(words),
        Err(error) if named => return fail(format!("kuberc error kuberc: {error}")),
        Err(error) => {
            eprintln!("kuberc: no preferences loaded from {}: {error}", path.display());
            return Ok(words);
        }
    };
    check(&preferences)?;
    let changed = changed(spec, &preferences, &texts)?;
    Ok(changed.map_or(words, |words| words.into_iter().map(OsString::from).collect()))
}

/// What `--kuberc` names: it is asked for before the command line is read.
fn explicit<'a>(words: &[&'a str]) -> Result<Option<&'a str>> {
    let mut words = words.iter().take_while(|word| **word != "--");
    while let Some(word) = words.next() {
        let found = match word.strip_prefix("--kuberc") {
            Some("") => words.next().copied(),
            Some(rest) if rest.starts_with('=') => Some(&rest[1..]).filter(|path| !path.is_empty()),
            _ => continue,
        };
        return found.map(Some).ok_or_else(|| message("kuberc file is not found"));
    }
    Ok(None)
}

fn check(preferences: &Value) -> Result<()> {
    let options = |entry: &Value| match items(&entry["options"])
        .map(|option| str_of(&option["name"]))
        .find(|n| n.starts_with('-'))
    {
        Some(name) => fail(format!("flag name {name} should be in long form without dashes")),
        None => Ok(()),
    };
    let mut names = Vec::new();
    for alias in items(&preferences["aliases"]) {
        let name = str_of(&alias["name"]);
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphabetic()) {
            return fail("invalid alias name, can only include alphabetical characters");
        }
        options(alias)?;
        if names.contains(&name) {
            return fail(format!("duplicate alias name {name}"));
        }
        names.push(name);
    }
    items(&preferences["defaults"]).try_for_each(options)
    // a policy for credential plugins has nothing to forbid: such plugins are refused, whatever it says
}

/// The command that words name from the program on, and the place after the last of them.
fn command_at<'a>(spec: &'a Command, words: &[&str]) -> (Vec<&'a Command>, usize) {
    let (mut path, mut at, mut after) = (vec![spec], 1, 1);
    while let Some(word) = words.get(at).filter(|word| **word != "--") {
        let here = path.last().copied().unwrap_or(spec);
        if let Some(flag) = word.strip_prefix('-') {
            // the value of a flag is no command
            let takes = flag_of(&path, flag).is_some_and(|arg| arg.get_action().takes_values());
            at += if takes && !flag.contains('=') { 2 } else { 1 };
            continue;
        }
        let Some(found) = here.find_subcommand(word) else {
            break;
        };
        path.push(found);
        at += 1;
        after = at;
    }
    (path, after)
}

fn flag_of<'a>(path: &[&'a Command], flag: &str) -> Option<&'a clap::Arg> {
    let long = flag
        .strip_prefix('-')
        .map(|name| name.split('=').next().unwrap_or(name));
    let is = |arg: &&clap::Arg| match long {
        Some(name) => arg.get_long() == Some(name),
        None => arg
            .get_short()
            .is_some_and(|short| flag.len() == 1 && flag.starts_with(short)),
    };
    path.iter().rev().flat_map(|command| command.get_arguments()).find(is)
}

fn changed(spec: &Command, preferences: &Value, words: &[&str]) -> Result<Option<Vec<String>>> {
    let (path, after) = command_at(spec, words);
    let Some(command) = path.get(1..).and_then(|rest| rest.last()) else {
        return aliased(spec, preferences, words);
    };
    let mut flags = Vec::new();
    for default in items(&preferences["defaults"]) {
        let name = str_of(&default["command"]);
        let named: Vec<&str> = std::iter::once("kubectl").chain(name.split_whitespace()).collect();
        let (other, known) = command_at(spec, &named);
        if known != named.len() {
            eprintln!("Warning: command {} not found to set kuberc override", quote(name));
            continue;
        }
        // upstream compares the last word of them alone
        if other.last().map(|c| c.get_name()) != Some(command.get_name()) {
            continue;
        }
        for option in items(&default["options"]) {
            let flag = str_of(&option["name"]);
            let Some(arg) = flag_of(&path, &format!("-{flag}")) else {
                return fail(format!("invalid flag {flag} for command {name}"));
            };
            if !is_given(arg, words) {
                flags.push(format!("--{flag}={}", str_of(&option["default"])));
            }
        }
    }
    if flags.is_empty() {
        return Ok(None);
    }
    let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    Ok(Some([own(&words[..after]), flags, own(&words[after..])].concat()))
}

/// A command line that begins with an alias.
fn aliased(spec: &Command, preferences: &Value, words: &[&str]) -> Result<Option<Vec<String>>> {
    let Some(at) = words
        .iter()
        .skip(1)
        .position(|word| !word.starts_with('-'))
        .map(|at| at + 1)
    else {
        return Ok(None);
    };
    let Some(alias) = items(&preferences["aliases"]).find(|alias| alias["name"] == words[at]) else {
        return Ok(None);
    };
    let name = str_of(&alias["command"]);
    let named: Vec<&str> = std::iter::once("kubectl").chain(name.split_whitespace()).collect();
    let (path, known) = command_at(spec, &named);
    if known != named.len() || known == 1 {
        return fail(format!(
            "command {} not found to set alias {}: [{name}]",
            quote(name),
            quote(words[at])
        ));
    }
    let mut made: Vec<String> = words[..at].iter().map(|word| (*word).to_owned()).collect();
    made.extend(named[1..].iter().map(|word| (*word).to_owned()));
    for option in items(&alias["options"]) {
        let flag = str_of(&option["name"]);
        let Some(arg) = flag_of(&path, &format!("-{flag}")).or_else(|| flag_of(&[spec], &format!("-{flag}"))) else {
            return fail(format!("invalid alias flag {flag} in alias {}", words[0]));
        };
        if !is_given(arg, words) {
            made.push(format!("--{flag}={}", str_of(&option["default"])));
        }
    }
    let texts = |list: &Value| items(list).map(|text| str_of(text).to_owned()).collect::<Vec<_>>();
    made.extend(texts(&alias["prependArgs"]));
    made.extend(words[at + 1..].iter().map(|word| (*word).to_owned()));
    made.extend(texts(&alias["appendArgs"]));
    Ok(Some(made))
}

/// Whether a command line has a flag already.
fn is_given(arg: &clap::Arg, words: &[&str]) -> bool {
    let long = arg.get_long().unwrap_or_default();
    words.iter().any(|word| {
        let by_name = word.strip_prefix("--").and_then(|rest| rest.strip_prefix(long));
        let by_letter = arg
            .get_short()
            .is_some_and(|short| word.starts_with(&format!("-{short}")));
        by_letter || by_name.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Result<String> {
        let preferences = json!({
            "defaults": [
                { "command": "get", "options": [{ "name": "output", "default": "wide" }] },
                { "command": "config view", "options": [{ "name": "raw", "default": "true" }] },
                { "command": "delete", "options": [{ "name": "nope", "default": "x" }] },
            ],
            "aliases": [
                { "name": "getn", "command": "get", "prependArgs": ["nodes"], "options": [{ "name": "output", "default": "json" }] },
                { "name": "runx", "command": "run", "options": [{ "name": "image", "default": "nginx" }], "appendArgs": ["--", "x"] },
                { "name": "bad", "command": "nope" },
            ],
        });
        let words: Vec<&str> = text.split(' ').collect();
        let found = changed(&crate::command::spec(), &preferences, &words)?;
        Ok(found.map_or_else(|| text.to_owned(), |words| words.join(" ")))
    }

    #[test]
    fn defaults_and_aliases_change_a_command_line() {
        for (text, want) in [
            ("kubectl get pods", "kubectl get --output=wide pods"),
            ("kubectl -n get get pods", "kubectl -n get get --output=wide pods"),
            ("kubectl get pods -oyaml", "kubectl get pods -oyaml"),
            ("kubectl get pods --output yaml", "kubectl get pods --output yaml"),
            ("kubectl config view", "kubectl config view --raw=true"),
            ("kubectl getn a -l b", "kubectl get --output=json nodes a -l b"),
            ("kubectl getn -o name", "kubectl get nodes -o name"),
            ("kubectl -v=1 runx p", "kubectl -v=1 run --image=nginx p -- x"),
            ("kubectl nope", "kubectl nope"),
        ] {
            assert_eq!(line(text).unwrap(), want, "{text}");
        }
        assert_eq!(
            line("kubectl delete pods").unwrap_err().to_string(),
            "invalid flag nope for command delete"
        );
        assert!(
            line("kubectl bad")
                .unwrap_err()
                .to_string()
                .starts_with("command \"nope\" not found to set alias")
        );
    }

    #[test]
    fn an_older_version_is_read_as_the_newest() {
        let old = json!({ "apiVersion": "kubectl.config.k8s.io/v1alpha1", "kind": "Preference",
            "overrides": [{ "command": "get", "flags": [] }] });
        let new = json!({ "apiVersion": API_VERSION, "kind": "Preference", "defaults": [{ "command": "get", "options": [] }] });
        assert_eq!(newest(old), Some(new));
        assert_eq!(newest(json!({ "apiVersion": "v1", "kind": "Preference" })), None);
    }
}
