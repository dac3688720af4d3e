//! Plug-ins: programs on the path whose names begin with `kubectl-`, run as if they were commands.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result, fail, message};
use crate::print::go::quote;
use crate::session::Session;

const PREFIX: &str = "kubectl-";
/// Where a plug-in finds the program that it extends.
const KUBECTL_PATH: &str = "KUBECTL_PATH";

/// Provides utilities for interacting with plugins
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    sub: Sub,
}

#[derive(Debug, clap::Subcommand)]
enum Sub {
    /// List all visible plugin executables on a user's PATH
    List(List),
}

#[derive(Debug, clap::Args)]
struct List {
    /// If true, display only the binary name of each plugin, rather than its full path
    #[arg(long)]
    name_only: bool,
}

/// Lists the plug-ins. `command_of` returns the command that a plug-in's words name already.
pub fn run(session: &Session, args: &Args, command_of: impl Fn(&[&str]) -> Option<String>) -> Result<()> {
    let Sub::List(args) = &args.sub;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut seen = HashSet::new();
    let folders = std::env::split_paths(&path).filter(|folder| seen.insert(folder.clone()));
    let mut plugins = Vec::new();
    for folder in folders.filter(|folder| !folder.to_string_lossy().trim().is_empty()) {
        match programs(&folder) {
            Ok(found) => plugins.extend(found),
            Err(error) => session.warn(&format!(
                "Unable to read directory {} from your PATH: open {}: {}. Skipping...",
                quote(&folder.to_string_lossy()),
                folder.display(),
                crate::print::go::io_error(&error)
            )),
        }
    }
    if plugins.is_empty() {
        return Err(Error::Plain(
            "error: unable to find any kubectl plugins in your PATH".to_owned(),
        ));
    }
    session.println("The following compatible plugins are available:\n")?;
    let mut before = HashMap::new();
    let mut warnings = 0;
    for plugin in plugins {
        let name = plugin.file_name().unwrap_or_default().to_string_lossy().into_owned();
        session.println(&if args.name_only {
            name.clone()
        } else {
            plugin.display().to_string()
        })?;
        for warning in warnings_of(&plugin, &name, &mut before, &command_of) {
            session.warn(&format!("  - {warning}"));
            warnings += 1;
        }
    }
    match warnings {
        0 => Ok(()),
        1 => Err(Error::Plain("error: one plugin warning was found\n".to_owned())),
        n => Err(Error::Plain(format!("error: {n} plugin warnings were found\n"))),
    }
}

/// The files of a folder whose names are a plug-in's.
fn programs(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let is_folder = entry.file_type()?.is_dir();
        if !is_folder && entry.file_name().to_string_lossy().starts_with(PREFIX) {
            // without a "./" before it, as Go joins paths
            let path = folder.components().filter(|part| *part != Component::CurDir);
            found.push(path.collect::<PathBuf>().join(entry.file_name()));
        }
    }
    found.sort();
    Ok(found)
}

fn warnings_of(
    plugin: &Path,
    name: &str,
    before: &mut HashMap<String, PathBuf>,
    command_of: impl Fn(&[&str]) -> Option<String>,
) -> Vec<String> {
    let shown = plugin.display();
    let mut warnings = Vec::new();
    match is_executable(plugin) {
        Ok(true) => {}
        Ok(false) => warnings.push(format!(
            "warning: {shown} identified as a kubectl plugin, but it is not executable"
        )),
        Err(error) => warnings.push(format!(
            "error: unable to identify {shown} as an executable file: {error}"
        )),
    }
    match before.get(name) {
        Some(first) => warnings.push(format!(
            "warning: {shown} is overshadowed by a similarly named plugin: {}",
            first.display()
        )),
        None => {
            before.insert(name.to_owned(), plugin.to_owned());
        }
    }
    let words: Vec<&str> = name.split('-').skip(1).collect();
    if let Some(command) = command_of(&words) {
        warnings.push(format!(
            "warning: {name} overwrites existing command: {}",
            quote(&command)
        ));
    }
    warnings
}

fn is_executable(path: &Path) -> std::io::Result<bool> {
    let metadata = std::fs::metadata(path)?;
    Ok(!metadata.is_dir() && metadata.permissions().mode() & 0o111 != 0)
}

/// Becomes the plug-in that the words of a command line name, the longest name first; returns where there is none. At least `least` words
/// are its name.
///
/// # Errors
/// When the program cannot be run.
pub fn become_plugin(words: &[OsString], least: usize) -> Result<()> {
    let is_flag = |word: &&OsString| word.to_string_lossy().starts_with('-');
    let mut name: Vec<String> = words
        .iter()
        .take_while(|word| !is_flag(word))
        .map(|word| word.to_string_lossy().replace('-', "_"))
        .collect();
    let first_is_flag = words.first().is_some_and(|word| is_flag(&word));
    if first_is_flag {
        let first = words.first().map(|word| word.to_string_lossy()).unwrap_or_default();
        return fail(format!("flags cannot be placed before plugin name: {first}"));
    }
    while name.len() >= least.max(1) {
        if let Some(program) = on_path(&format!("{PREFIX}{}", name.join("-"))) {
            let mut command = std::process::Command::new(&program);
            command.args(words.iter().skip(name.len()));
            if let Ok(own) = std::env::current_exe() {
                command.env(KUBECTL_PATH, own);
            }
            let error = command.exec();
            return Err(message(format!("{}: {error}", program.display())));
        }
        name.pop();
    }
    Ok(())
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut candidates = std::env::split_paths(&path).map(|folder| folder.join(name));
    candidates.find(|candidate| matches!(is_executable(candidate), Ok(true)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(folder: &Path, name: &str, mode: u32) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn what_stands_in_a_plugin_s_way_is_told() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        plugin(one.path(), "kubectl-hello", 0o755);
        plugin(one.path(), "kubectl-get", 0o644);
        plugin(one.path(), "other", 0o755);
        let second = plugin(two.path(), "kubectl-hello", 0o755);
        let found: Vec<PathBuf> = programs(one.path()).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|p| p.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["kubectl-get", "kubectl-hello"]);
        let mut before = HashMap::new();
        let command = |words: &[&str]| (words == ["get"]).then(|| "kubectl get".to_owned());
        let mut told = |path: &Path, name: &str| warnings_of(path, name, &mut before, command);
        assert_eq!(told(&found[1], "kubectl-hello"), Vec::<String>::new());
        assert_eq!(
            told(&found[0], "kubectl-get"),
            [
                format!(
                    "warning: {} identified as a kubectl plugin, but it is not executable",
                    found[0].display()
                ),
                "warning: kubectl-get overwrites existing command: \"kubectl get\"".to_owned(),
            ]
        );
        let overshadowed = format!(
            "warning: {} is overshadowed by a similarly named plugin: {}",
            second.display(),
            found[1].display()
        );
        assert_eq!(told(&second, "kubectl-hello"), [overshadowed]);
    }
}
