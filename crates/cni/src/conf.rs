//! Network configuration files: finding the one in force, reading lists and single plugins, and making what
//! a plugin gets on its standard input.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::types::{VERSIONS, at_least};

/// Why a folder gives no network configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfError {
    /// The folder is not there or has no file with the suffix `conf`, `conflist` or `json`. The runtime reports the
    /// node as not ready for this until an add-on installs its file.
    #[error("no network configuration in {0}")]
    None(PathBuf),
    /// The file is not JSON, or not a configuration as the specification has it.
    #[error("{path}: {source}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ConfFault,
    },
    /// The file or folder cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}

/// What is wrong with a configuration file.
#[derive(Debug, thiserror::Error)]
pub enum ConfFault {
    /// The file is not JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// A plugin that was added to a list cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The JSON is not an object.
    #[error("not an object")]
    NotObject,
    /// The network's name has characters that the specification does not allow.
    #[error("network name {0:?} is not valid")]
    Name(String),
    /// `plugins` is something else than a list.
    #[error("plugins is not a list")]
    NotList,
    /// The list has no plugins, and nobody added one.
    #[error("no plugins in the list")]
    NoPlugins,
    /// An entry of `plugins` is something else than an object.
    #[error("a plugin is not an object")]
    PluginNotObject,
    /// A plugin's type leads out of the folders of programs.
    #[error("plugin type {0:?} is no program's name")]
    PluginType(String),
    /// A plugin does not say which program it is.
    #[error("a plugin has no type")]
    NoPluginType,
    /// No version of the specification that is offered is spoken here.
    #[error("CNI version {offered:?} is not supported ({})", VERSIONS.join(", "))]
    Version {
        /// What the file asks for.
        offered: String,
    },
    /// No version is offered.
    #[error("cniVersion is missing")]
    NoVersion,
}

/// A network: the plugins that make it, in order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NetworkConf {
    pub name: String,
    pub cni_version: String,
    pub disable_check: bool,
    pub disable_gc: bool,
    pub plugins: Vec<Map<String, Value>>,
    /// The file's bytes, for the cache.
    pub raw: Value,
}

/// The first usable configuration of `dir`, in the order of the files' names. A file that cannot be used is
/// given to `passed_over`; if nothing is left, the first one's fault is the answer.
pub(crate) fn load(dir: &Path, mut passed_over: impl FnMut(&ConfError)) -> Result<NetworkConf, ConfError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(ConfError::None(dir.to_owned())),
        Err(source) => {
            return Err(ConfError::Read {
                path: dir.to_owned(),
                source,
            });
        }
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|e| e.ok().map(|e| e.path()))
        .filter(|p| {
            p.extension()
                .is_some_and(|e| e == "conf" || e == "conflist" || e == "json")
        })
        .collect();
    files.sort();
    let mut first_fault = None;
    for path in files {
        match read(&path) {
            Ok(conf) => return Ok(conf),
            Err(fault) => {
                passed_over(&fault);
                first_fault.get_or_insert(fault);
            }
        }
    }
    Err(first_fault.unwrap_or_else(|| ConfError::None(dir.to_owned())))
}

fn read(path: &Path) -> Result<NetworkConf, ConfError> {
    let invalid = |source: ConfFault| ConfError::Invalid {
        path: path.to_owned(),
        source,
    };
    let text = std::fs::read(path).map_err(|source| ConfError::Read {
        path: path.to_owned(),
        source,
    })?;
    let value: Value = serde_json::from_slice(&text).map_err(|e| invalid(e.into()))?;
    let mut conf = NetworkConf::parse(value).map_err(invalid)?;
    let only_inlined = conf.raw.get("loadOnlyInlinedPlugins") == Some(&Value::Bool(true));
    if conf.raw.get("plugins").is_some() && !only_inlined {
        conf.plugins.extend(drop_ins(path, &conf.name)?);
    }
    if conf.plugins.is_empty() {
        return Err(invalid(ConfFault::NoPlugins));
    }
    Ok(conf)
}

/// Plugins that others add to a list in a folder beside it that bears the network's name.
fn drop_ins(list: &Path, network: &str) -> Result<Vec<Map<String, Value>>, ConfError> {
    let Some(dir) = list.parent().map(|p| p.join(network)) else {
        return Ok(Vec::new());
    };
    let Ok(entries) = std::fs::read_dir(&dir) else {
        return Ok(Vec::new());
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|e| e.ok().map(|e| e.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "conf"))
        .collect();
    files.sort();
    let read = |path: PathBuf| {
        let invalid = |source: ConfFault| ConfError::Invalid {
            path: path.clone(),
            source,
        };
        let text = std::fs::read(&path).map_err(|e| invalid(e.into()))?;
        let value: Value = serde_json::from_slice(&text).map_err(|e| invalid(e.into()))?;
        plugin(value).map_err(invalid)
    };
    files.into_iter().map(read).collect()
}

fn plugin(value: Value) -> Result<Map<String, Value>, ConfFault> {
    let Value::Object(map) = value else {
        return Err(ConfFault::PluginNotObject);
    };
    match map.get("type").and_then(Value::as_str) {
        Some(kind) if !kind.is_empty() && !kind.contains('/') => Ok(map),
        Some(kind) => Err(ConfFault::PluginType(kind.to_owned())),
        None => Err(ConfFault::NoPluginType),
    }
}

impl NetworkConf {
    /// Reads a list, or a single plugin as a list of one.
    pub(crate) fn parse(raw: Value) -> Result<NetworkConf, ConfFault> {
        let Value::Object(map) = &raw else {
            return Err(ConfFault::NotObject);
        };
        let name = map.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let legal = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(legal) {
            return Err(ConfFault::Name(name));
        }
        let plugins = match map.get("plugins") {
            Some(Value::Array(list)) => list.iter().cloned().map(plugin).collect::<Result<_, _>>()?,
            Some(_) => return Err(ConfFault::NotList),
            None => vec![plugin(raw.clone())?],
        };
        let flag = |key: &str| match map.get(key) {
            Some(Value::Bool(b)) => *b,
            Some(Value::String(s)) => s == "true",
            _ => false,
        };
        Ok(NetworkConf {
            cni_version: version(map)?,
            disable_check: flag("disableCheck"),
            disable_gc: flag("disableGC"),
            plugins,
            name,
            raw,
        })
    }

    /// What plugin number `index` reads: its own part with name, version, the capabilities it asked for and
    /// the result so far.
    pub(crate) fn input(&self, index: usize, capabilities: &Map<String, Value>, previous: Option<&Value>) -> Value {
        let mut conf = self.plugins.get(index).cloned().unwrap_or_default();
        conf.insert("name".into(), self.name.clone().into());
        conf.insert("cniVersion".into(), self.cni_version.clone().into());
        let mut runtime = Map::new();
        if let Some(Value::Object(wanted)) = conf.get("capabilities") {
            for (name, _) in wanted.iter().filter(|(_, on)| **on == Value::Bool(true)) {
                if let Some(value) = capabilities.get(name) {
                    runtime.insert(name.clone(), value.clone());
                }
            }
        }
        if !runtime.is_empty() {
            conf.insert("runtimeConfig".into(), Value::Object(runtime));
        }
        if let Some(previous) = previous {
            conf.insert("prevResult".into(), previous.clone());
        }
        Value::Object(conf)
    }

    pub(crate) fn plugin_type(&self, index: usize) -> &str {
        let kind = self.plugins.get(index).and_then(|p| p.get("type"));
        kind.and_then(Value::as_str).unwrap_or_default()
    }
}

/// The version to speak: the highest of `cniVersions` that is known here, else `cniVersion`.
fn version(map: &Map<String, Value>) -> Result<String, ConfFault> {
    if let Some(Value::Array(list)) = map.get("cniVersions") {
        let offered: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
        if let Some(best) = VERSIONS.iter().rev().find(|v| offered.contains(v)) {
            return Ok((*best).to_owned());
        }
    }
    match map.get("cniVersion").and_then(Value::as_str) {
        Some(v) if VERSIONS.contains(&v) => Ok(v.to_owned()),
        Some(v) if at_least(v, "0.3.0") && !at_least(v, "0.3.2") => Ok("0.3.1".to_owned()),
        Some(v) => Err(ConfFault::Version { offered: v.to_owned() }),
        None => Err(ConfFault::NoVersion),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_usable_file_by_name_wins() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(load(dir.path(), |_| {}), Err(ConfError::None(_))));
        std::fs::write(dir.path().join("05-broken.conflist"), "{").unwrap();
        assert!(matches!(load(dir.path(), |_| {}), Err(ConfError::Invalid { .. })));
        let single = json!({"cniVersion": "0.4.0", "name": "single", "type": "bridge"});
        std::fs::write(dir.path().join("20.conf"), single.to_string()).unwrap();
        assert_eq!(load(dir.path(), |_| {}).unwrap().name, "single");
        let list = json!({"cniVersion": "1.0.0", "cniVersions": ["1.1.0", "2.0.0"], "name": "list", "plugins": [{"type": "a"}]});
        std::fs::write(dir.path().join("10.conflist"), list.to_string()).unwrap();
        let conf = load(dir.path(), |_| {}).unwrap();
        assert_eq!((conf.name.as_str(), conf.cni_version.as_str()), ("list", "1.1.0"));
        std::fs::create_dir(dir.path().join("list")).unwrap();
        std::fs::write(dir.path().join("list/b.conf"), r#"{"type":"b"}"#).unwrap();
        assert_eq!(load(dir.path(), |_| {}).unwrap().plugin_type(1), "b");
    }

    #[test]
    fn a_plugin_gets_only_the_capabilities_it_declares() {
        let list = json!({"cniVersion": "1.1.0", "name": "n", "plugins": [
            {"type": "a"}, {"type": "b", "capabilities": {"portMappings": true, "ips": false}}]});
        let conf = NetworkConf::parse(list).unwrap();
        let capabilities = json!({"portMappings": [1], "ips": [2], "dns": {}});
        let capabilities = capabilities.as_object().unwrap();
        assert_eq!(conf.input(0, capabilities, None).get("runtimeConfig"), None);
        let input = conf.input(1, capabilities, Some(&json!({"x": 1})));
        assert_eq!(input["runtimeConfig"], json!({"portMappings": [1]}));
        assert_eq!(input["prevResult"], json!({"x": 1}));
        assert_eq!(input["name"], "n");
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for bad in [
            json!([]),
            json!({"name": "n", "type": "t"}),
            json!({"cniVersion": "9.9.9", "name": "n", "type": "t"}),
            json!({"cniVersion": "1.0.0", "name": "a/b", "type": "t"}),
            json!({"cniVersion": "1.0.0", "name": "n", "type": "../t"}),
            json!({"cniVersion": "1.0.0", "name": "n", "plugins": [{}]}),
        ] {
            assert!(NetworkConf::parse(bad.clone()).is_err(), "{bad}");
        }
    }
}
