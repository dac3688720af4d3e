//! Which plugins are on, and the file that configures them: `--enable-admission-plugins`, `--disable-admission-plugins` and
//! `--admission-control-config-file` (`k8s.io/apiserver/pkg/server/options/admission.go`, `pkg/admission/config.go`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use api::schema::Document;
use serde_json::Value;

use super::error::PluginError;
use super::plugins;

/// Plugins whose configuration has no kind of its own: it may be the whole file.
const UNVERSIONED: [(&str, &str); 2] = [
    ("ImagePolicyWebhook", "imagePolicy"),
    ("PodNodeSelector", "podNodeSelectorPluginConfig"),
];
const VERSIONS: [&str; 2] = ["apiserver.config.k8s.io/v1", "apiserver.k8s.io/v1alpha1"];

/// Why plugins cannot be as flags and files want them.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    #[error("{flag} plugin {name:?} is unknown")]
    Unknown { flag: &'static str, name: String },
    #[error("[{}] in enable-admission-plugins and disable-admission-plugins overlapped", .0.join(" "))]
    Overlap(Vec<String>),
    #[error(
        "failed to read plugin config: unable to read admission control configuration from {path:?} [open {path}: {why}]"
    )]
    Read { path: String, why: String },
    #[error("failed to read plugin config: {0}")]
    Unfit(#[from] FormError),
    #[error("couldn't open admission plugin configuration {path}: {why}")]
    OfPlugin { path: String, why: String },
    #[error("couldn't init admission plugin {name:?}: {source}")]
    Plugin { name: &'static str, source: PluginError },
}

/// Why a text is no AdmissionConfiguration.
#[derive(Debug, thiserror::Error)]
pub enum FormError {
    /// It is no YAML.
    #[error(transparent)]
    Yaml(#[from] serde_saphyr::Error),
    /// It does not name its kind.
    #[error("Object 'Kind' is missing in the admission control configuration")]
    NoKind,
    /// It does not name its version.
    #[error("Object 'apiVersion' is missing in the admission control configuration")]
    NoVersion,
    /// It is of another kind.
    #[error("no kind {kind:?} is registered for version {version:?}")]
    Kind {
        /// The kind that it names.
        kind: String,
        /// The group and version that it names.
        version: String,
    },
    /// `plugins` is no list.
    #[error("plugins: must be a list")]
    NoList,
    /// What stands at this path is no object.
    #[error("{0}: must be an object")]
    NoObject(String),
    /// There is no field at this path.
    #[error("strict decoding error: unknown field \"{0}\"")]
    UnknownField(String),
}

/// What was asked for.
#[derive(Debug, Default, Clone)]
pub struct Configuration {
    enabled: BTreeSet<String>,
    disabled: BTreeSet<String>,
    /// The configuration of plugins by their names, as JSON.
    files: BTreeMap<String, Value>,
}

impl Configuration {
    /// Reads the flags and the file.
    ///
    /// # Errors
    /// For plugins that nobody knows or that are both on and off, and for files that cannot be read.
    pub fn read(
        enable: &[String],
        disable: &[String],
        file: Option<&Path>,
    ) -> Result<Configuration, ConfigurationError> {
        let known = |flag: &'static str, names: &[String]| {
            let names = names.iter().filter(|name| !name.is_empty()).cloned();
            let names: BTreeSet<String> = names.collect();
            match names.iter().find(|name| !plugins::is_known(name)) {
                Some(name) => Err(ConfigurationError::Unknown {
                    flag,
                    name: name.clone(),
                }),
                None => Ok(names),
            }
        };
        let enabled = known("enable-admission-plugins", enable)?;
        let disabled = known("disable-admission-plugins", disable)?;
        let both: Vec<String> = enabled.intersection(&disabled).cloned().collect();
        if !both.is_empty() {
            return Err(ConfigurationError::Overlap(both));
        }
        let files = match file {
            Some(path) => read(path)?,
            None => BTreeMap::new(),
        };
        Ok(Configuration {
            enabled,
            disabled,
            files,
        })
    }

    /// Whether a plugin is on.
    pub fn is_on(&self, name: &str, by_default: bool) -> bool {
        self.enabled.contains(name) || by_default && !self.disabled.contains(name)
    }

    /// The configuration of a plugin.
    pub fn of(&self, name: &str) -> Option<&Value> {
        self.files.get(name)
    }
}

fn read(path: &Path) -> Result<BTreeMap<String, Value>, ConfigurationError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigurationError::Read {
        path: path.display().to_string(),
        why: api::go::io_error(&error),
    })?;
    let base = path.parent().unwrap_or(Path::new("."));
    let of_plugin = |path: &Path| {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigurationError::OfPlugin {
            path: path.display().to_string(),
            why: api::go::io_error(&error),
        })?;
        parse(&text).map_err(|why| ConfigurationError::OfPlugin {
            path: path.display().to_string(),
            why: why.to_string(),
        })
    };
    let mut files = BTreeMap::new();
    for (name, configured) in plugins_of(&text)? {
        let value = match configured {
            Configured::Inline(value) => value,
            // `join` lets an absolute path stand
            Configured::File(path) => of_plugin(&base.join(path))?,
        };
        // the first entry of a plugin holds
        files.entry(name).or_insert(value);
    }
    Ok(files)
}

fn parse(text: &str) -> Result<Value, serde_saphyr::Error> {
    Ok(Document::from_yaml(text.as_bytes())?.value)
}

/// Where a plugin's configuration is.
#[derive(Debug, PartialEq)]
pub(crate) enum Configured {
    Inline(Value),
    File(PathBuf),
}

/// The plugins that an AdmissionConfiguration configures.
pub(crate) fn plugins_of(text: &str) -> Result<Vec<(String, Configured)>, FormError> {
    let tree = parse(text)?;
    let own = |key: &str| tree.get(key).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (own("apiVersion"), own("kind"));
    if kind != "AdmissionConfiguration" || !VERSIONS.contains(&version) {
        let whole: Vec<(String, Configured)> = UNVERSIONED
            .iter()
            .filter(|_| UNVERSIONED.iter().any(|(_, key)| tree.get(key).is_some()))
            .map(|(name, _)| ((*name).to_owned(), Configured::Inline(tree.clone())))
            .collect();
        return match (whole.is_empty(), kind, version) {
            (false, ..) => Ok(whole),
            (true, "", _) => Err(FormError::NoKind),
            (true, _, "") => Err(FormError::NoVersion),
            (true, kind, version) => Err(FormError::Kind {
                kind: kind.to_owned(),
                version: version.to_owned(),
            }),
        };
    }
    only(&tree, "", &["apiVersion", "kind", "plugins"])?;
    let list = match tree.get("plugins") {
        None | Some(Value::Null) => &[][..],
        Some(Value::Array(list)) => list,
        Some(_) => return Err(FormError::NoList),
    };
    let mut found = Vec::new();
    for (i, plugin) in list.iter().enumerate() {
        only(plugin, &format!("plugins[{i}]."), &["name", "path", "configuration"])?;
        let text = |key: &str| plugin.get(key).and_then(Value::as_str).unwrap_or_default();
        let configured = match plugin.get("configuration").filter(|value| !value.is_null()) {
            Some(value) => Configured::Inline(value.clone()),
            None if text("path").is_empty() => continue,
            None => Configured::File(text("path").into()),
        };
        found.push((text("name").to_owned(), configured));
    }
    Ok(found)
}

fn only(tree: &Value, at: &str, fields: &[&str]) -> Result<(), FormError> {
    let Some(map) = tree.as_object() else {
        return Err(FormError::NoObject(at.to_owned()));
    };
    match map.keys().find(|key| !fields.contains(&key.as_str())) {
        Some(key) => Err(FormError::UnknownField(format!("{at}{key}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn plugins_are_known_and_either_on_or_off() {
        let read = |on: &[&str], off: &[&str]| Configuration::read(&names(on), &names(off), None);
        let of = read(&["AlwaysPullImages", ""], &["ServiceAccount"]).unwrap();
        assert!(of.is_on("AlwaysPullImages", false) && !of.is_on("ServiceAccount", true) && of.is_on("Priority", true));
        for (on, off, why) in [
            (
                &["Nobody"][..],
                &[][..],
                "enable-admission-plugins plugin \"Nobody\" is unknown",
            ),
            (
                &[],
                &["Nobody"],
                "disable-admission-plugins plugin \"Nobody\" is unknown",
            ),
            (
                &["Priority", "LimitRanger"],
                &["LimitRanger", "Priority"],
                "[LimitRanger Priority] in enable-admission-plugins and disable-admission-plugins overlapped",
            ),
        ] {
            assert_eq!(read(on, off).unwrap_err().to_string(), why);
        }
    }

    #[test]
    fn a_file_configures_plugins_inline_and_by_other_files() {
        let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n";
        let found = plugins_of(&format!(
            "{head}plugins:\n- name: A\n  configuration: {{x: 1}}\n- name: B\n  path: b.yaml\n- name: C\n"
        ));
        let wanted = [
            ("A".to_owned(), Configured::Inline(json!({ "x": 1 }))),
            ("B".to_owned(), Configured::File("b.yaml".into())),
        ];
        assert_eq!(found.unwrap(), wanted);
        let unknown = plugins_of(&format!("{head}plugins:\n- nam: A\n")).unwrap_err();
        assert_eq!(
            unknown.to_string(),
            "strict decoding error: unknown field \"plugins[0].nam\""
        );
        assert!(plugins_of("kind: Pod\napiVersion: v1\n").is_err());
        let legacy = plugins_of("imagePolicy: {kubeConfigFile: x}\n").unwrap();
        assert_eq!(legacy.len(), 2);
    }
}
