//! The file of flags of `skiff server` and `skiff agent`, and the folder of more files beside it, by k3s's rules: `config.yaml`, then
//! `config.yaml.d/*.yaml` by name, the later value of a key in place of the earlier one, `key+` behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Arg, Args, Command};
use serde_json::{Number, Value};

use super::args::ServerArgs;
use crate::agent::args::AgentArgs;

/// Read when `--config` names no other.
const DEFAULT_CONFIG: &str = "/etc/skiff/config.yaml";

/// Flags of k3s's that ask for what is so in any case.
const ALREADY_SO: [&str; 2] = ["disable-cloud-controller", "disable-helm-controller"];

/// Why a file of flags cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: {why}", path.display())]
    Parse { path: PathBuf, why: String },
}

/// The command line with the flags of the configuration put in, in front of its own. What is not understood is warned of
/// on the standard error stream: this is before there is a log.
///
/// # Errors
/// When the file that `--config` names is not there, or one is not a map of flags.
pub fn with_config(args: Vec<OsString>) -> Result<Vec<OsString>, ConfigError> {
    let (mut args, mut warnings) = (args, Vec::new());
    let command = match args.get(1).and_then(|a| a.to_str()) {
        Some("server") => ServerArgs::augment_args(Command::new("server")),
        Some("agent") => AgentArgs::augment_args(Command::new("agent")),
        _ => return Ok(args),
    };
    let given: Vec<String> = args.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    let named = config_flag(&given);
    let path = named.clone().unwrap_or_else(|| DEFAULT_CONFIG.into());
    let mut settings = Settings::default();
    let files = files_of(&path, named.is_some())?;
    for file in &files {
        let text = read(file)?;
        settings.take(&text).map_err(|why| ConfigError::Parse {
            path: file.clone(),
            why: why.to_string(),
        })?;
    }
    let flags = settings
        .flags(&command, &given, &mut warnings)
        .map_err(|why| ConfigError::Parse {
            path,
            why: why.to_string(),
        })?;
    for warning in warnings {
        eprintln!("skiff: warning: {warning}");
    }
    args.splice(2..2, flags.into_iter().map(OsString::from));
    Ok(args)
}

fn config_flag(given: &[String]) -> Option<PathBuf> {
    let mut named = None;
    for (i, text) in given.iter().enumerate() {
        if let Some(path) = text.strip_prefix("--config=") {
            named = Some(path.into());
        } else if text == "--config" || text == "-c" {
            named = given.get(i + 1).map(PathBuf::from);
        }
    }
    named
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })
}

/// The file and those of its folder. A file that is asked for must be there, unless its folder has some.
fn files_of(path: &Path, asked_for: bool) -> Result<Vec<PathBuf>, ConfigError> {
    let mut folder = path.as_os_str().to_owned();
    folder.push(".d");
    let folder = PathBuf::from(folder);
    let failed = |source| ConfigError::Read {
        path: folder.clone(),
        source,
    };
    let mut more = Vec::new();
    match std::fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
        Ok(entries) => {
            for entry in entries {
                let path = entry.map_err(failed)?.path();
                let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
                if !path.is_dir() && matches!(extension.as_deref(), Some("yaml" | "yml")) {
                    more.push(path);
                }
            }
        }
    }
    more.sort();
    if path.exists() || (asked_for && more.is_empty()) {
        more.insert(0, path.to_owned());
    }
    Ok(more)
}

/// What is wrong in a file of flags.
#[derive(Debug, thiserror::Error)]
enum Misfit {
    #[error(transparent)]
    Yaml(#[from] serde_saphyr::Error),
    #[error("is not a map of flags")]
    NoMap,
    #[error("{0}: is neither a value nor a list of values")]
    Value(String),
    #[error("{key}: {value:?} is neither true nor false")]
    Bool { key: String, value: String },
}

/// The values of each key, from all files.
#[derive(Debug, Default)]
struct Settings(BTreeMap<String, Vec<Value>>);

impl Settings {
    /// Puts in what one file says.
    fn take(&mut self, text: &str) -> Result<(), Misfit> {
        let tree: Value = serde_saphyr::from_str(text)?;
        let map = match tree {
            Value::Null => return Ok(()),
            Value::Object(map) => map,
            _ => return Err(Misfit::NoMap),
        };
        for (key, value) in map {
            let values = match value {
                Value::Array(list) => list,
                one => vec![one],
            };
            if values.iter().any(|v| v.is_object() || v.is_array()) {
                return Err(Misfit::Value(key));
            }
            match key.strip_suffix('+') {
                Some(key) => self.0.entry(key.to_owned()).or_default().extend(values),
                None => {
                    self.0.insert(key, values);
                }
            }
        }
        Ok(())
    }

    /// The flags that the command line does not give itself.
    fn flags(self, command: &Command, given: &[String], warnings: &mut Vec<String>) -> Result<Vec<String>, Misfit> {
        let by_name = |name: &str| {
            command.get_arguments().find(|arg| {
                let short = arg.get_short().map(String::from);
                arg.get_long() == Some(name) || short.as_deref() == Some(name)
            })
        };
        let mut flags = Vec::new();
        let mut unknown = BTreeSet::new();
        for (key, values) in self.0 {
            let Some(arg) = by_name(&key) else {
                let asks = values.iter().any(|v| text_of(v) != "true");
                if asks || !ALREADY_SO.contains(&key.as_str()) {
                    unknown.insert(key);
                }
                continue;
            };
            if !is_given(arg, given) {
                for value in values.iter().filter(|v| !v.is_null()) {
                    flags.extend(flag(arg, &key, value)?);
                }
            }
        }
        for key in unknown {
            warnings.push(match key.as_str() {
                "server" | "s" => format!(
                    "Unknown flag --{key} found in config.yaml, skipping: this server joins no other, it runs a cluster of its own"
                ),
                _ => format!("Unknown flag --{key} found in config.yaml, skipping"),
            });
        }
        Ok(flags)
    }
}

fn is_given(arg: &Arg, given: &[String]) -> bool {
    let long = arg.get_long().map(|l| format!("--{l}")).unwrap_or_default();
    let short = arg.get_short().map(|s| format!("-{s}"));
    given.iter().any(|g| {
        g.strip_prefix(&long)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
            || short.as_ref().is_some_and(|s| g.starts_with(s))
    })
}

fn flag(arg: &Arg, key: &str, value: &Value) -> Result<Option<String>, Misfit> {
    let long = arg.get_long().unwrap_or(key);
    let text = text_of(value);
    if arg.get_action().takes_values() {
        return Ok(Some(format!("--{long}={text}")));
    }
    match text.as_str() {
        "true" => Ok(Some(format!("--{long}"))),
        "false" => Ok(None),
        _ => Err(Misfit::Bool {
            key: key.to_owned(),
            value: text,
        }),
    }
}

/// A number as it was written, as far as that matters: `0644` is the mode 644.
fn text_of(value: &Value) -> String {
    let whole = |n: &Number| n.as_f64().filter(|f| n.is_f64() && f.fract() == 0.0);
    match value {
        Value::String(text) => text.clone(),
        Value::Number(n) => whole(n).map_or_else(|| n.to_string(), |f| format!("{f:.0}")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(args: &[&str]) -> Vec<String> {
        args.iter().map(|a| (*a).to_owned()).collect()
    }

    fn flags_of(texts: &[&str], given: &[&str]) -> (Vec<String>, Vec<String>) {
        let mut settings = Settings::default();
        for text in texts {
            settings.take(text).unwrap();
        }
        let mut warnings = Vec::new();
        let command = ServerArgs::augment_args(Command::new("server"));
        let flags = settings.flags(&command, &words(given), &mut warnings).unwrap();
        (flags, warnings)
    }

    #[test]
    fn the_file_gives_what_the_command_line_does_not() {
        let text = "data-dir: /x\nt: secret\nhttps-listen-port: 7000\ntls-san: [a, b]\ndisable-agent: true\n\
                    disable-scheduler: \"false\"\nnode-name:\nnode-label: [a=b]\n";
        let (flags, warnings) = flags_of(&[text], &["skiff", "server", "-d/y", "--node-label=c=d"]);
        let want = [
            "--disable-agent",
            "--https-listen-port=7000",
            "--token=secret",
            "--tls-san=a",
            "--tls-san=b",
        ];
        assert_eq!((flags, warnings), (words(&want), Vec::new()));
        let mut settings = Settings::default();
        assert!(settings.take("- a").is_err() && settings.take("a: {b: c}").is_err());
        settings.take("disable-agent: perhaps").unwrap();
        let command = ServerArgs::augment_args(Command::new("server"));
        assert!(settings.flags(&command, &[], &mut Vec::new()).is_err());
    }

    #[test]
    fn modes_are_octal_with_and_without_quotes() {
        for mode in ["0644", "644", "\"0644\"", "\"644\"", "'0644'"] {
            let (flags, _) = flags_of(&[&format!("write-kubeconfig-mode: {mode}")], &[]);
            let text = flags[0].trim_start_matches("--write-kubeconfig-mode=");
            assert_eq!(u32::from_str_radix(text, 8), Ok(0o644), "{mode}");
        }
    }

    #[test]
    fn later_values_take_the_place_of_earlier_ones_unless_they_are_appended() {
        let first = "tls-san: [a]\nnode-label: [x=1]\ncluster-domain: one\n";
        let second = "tls-san: [b]\nnode-label+: [y=2]\nnode-taint+: k=v:NoSchedule\n";
        let third = "node-label+: z=3\ncluster-domain: three\n";
        let want = [
            "--cluster-domain=three",
            "--node-label=x=1",
            "--node-label=y=2",
            "--node-label=z=3",
            "--node-taint=k=v:NoSchedule",
            "--tls-san=b",
        ];
        assert_eq!(flags_of(&[first, second, third], &[]).0, want);
    }

    #[test]
    fn an_unknown_key_is_warned_of_and_skipped() {
        let text = "flannel-iface: eth1\nserver: https://x:6443\nnode-name: one\n";
        let (flags, warnings) = flags_of(&[text], &[]);
        assert_eq!(flags, ["--node-name=one"]);
        assert_eq!(
            warnings,
            [
                "Unknown flag --flannel-iface found in config.yaml, skipping",
                "Unknown flag --server found in config.yaml, skipping: this server joins no other, it runs a cluster of its own",
            ]
        );
    }

    #[test]
    fn files_of_the_folder_are_read_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("config.yaml");
        let folder = dir.path().join("config.yaml.d");
        assert!(files_of(&main, false).unwrap().is_empty());
        assert_eq!(files_of(&main, true).unwrap(), std::slice::from_ref(&main));
        std::fs::create_dir(&folder).unwrap();
        for name in ["20-b.yml", "10-a.yaml", "30-no.txt"] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        let more = [folder.join("10-a.yaml"), folder.join("20-b.yml")];
        assert_eq!(files_of(&main, true).unwrap(), more);
        std::fs::write(&main, "").unwrap();
        assert_eq!(files_of(&main, false).unwrap()[0], main);
    }
}
