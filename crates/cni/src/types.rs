//! The messages of the CNI specification, versions 0.3.1 to 1.1.0: results, errors, version numbers.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The versions spoken, oldest first.
pub const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// Error codes that the specification names.
pub mod code {
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    pub const UNSUPPORTED_FIELD: u32 = 2;
    pub const INVALID_ENVIRONMENT: u32 = 4;
    pub const IO_FAILURE: u32 = 5;
    pub const DECODING_FAILURE: u32 = 6;
    pub const INVALID_CONFIG: u32 = 7;
    pub const TRY_AGAIN: u32 = 11;
    /// The first code that is a plugin's own.
    pub const PLUGIN: u32 = 100;
}

/// What a plugin says when it fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{msg}{}", if details.is_empty() { String::new() } else { format!(": {details}") })]
pub struct PluginError {
    #[serde(default)]
    pub code: u32,
    #[serde(default)]
    pub msg: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
}

impl PluginError {
    pub fn new(code: u32, msg: impl Into<String>) -> PluginError {
        PluginError {
            code,
            msg: msg.into(),
            details: String::new(),
        }
    }

    pub fn io(what: impl std::fmt::Display, error: impl std::fmt::Display) -> PluginError {
        PluginError::new(code::IO_FAILURE, format!("{what}: {error}"))
    }
}

/// Why a network could not be set up, taken down or judged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Conf(#[from] crate::conf::ConfError),
    #[error("plugin {plugin} of network {network}: {command} failed: {source}")]
    Plugin {
        plugin: String,
        network: String,
        command: &'static str,
        source: PluginError,
    },
    #[error("network {network}: {message}")]
    Result { network: String, message: String },
    #[error("network namespace {path}: {message}")]
    Netns { path: String, message: String },
    #[error("{path}: {source}")]
    Cache { path: String, source: std::io::Error },
    #[error("the network task ended early: {0}")]
    Task(String),
}

/// A result of ADD, as version 1.1.0 writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AddResult {
    pub cni_version: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// `ips` of the message: addresses with prefix length.
    #[serde(rename = "ips", skip_serializing_if = "Vec::is_empty")]
    pub ip_configs: Vec<IpConfig>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    #[serde(skip_serializing_if = "Dns::is_empty")]
    pub dns: Dns,
    /// The addresses of the pod's interface alone, in the order of the result.
    #[serde(skip)]
    pub ips: Vec<IpAddr>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Interface {
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub mtu: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub socket_path: String,
    #[serde(rename = "pciID", skip_serializing_if = "String::is_empty")]
    pub pci_id: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IpConfig {
    /// Only before 1.0.0: "4" or "6".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
    pub address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

impl IpConfig {
    /// The address without its prefix length.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.split('/').next()?.parse().ok()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Route {
    pub dst: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    #[serde(skip_serializing_if = "is_zero")]
    pub mtu: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pub advmss: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pub priority: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Dns {
    pub fn is_empty(&self) -> bool {
        *self == Dns::default()
    }
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl AddResult {
    /// Reads a result of any version spoken.
    pub fn parse(value: &Value) -> Result<AddResult, String> {
        let version = value.get("cniVersion").and_then(Value::as_str).unwrap_or("");
        if !version.is_empty() && !VERSIONS.contains(&version) {
            return Err(format!("result of CNI version {version}, which is not supported"));
        }
        let mut result: AddResult = serde_json::from_value(value.clone()).map_err(|e| format!("result: {e}"))?;
        for config in &mut result.ip_configs {
            config.version = None;
            if config.ip().is_none() {
                return Err(format!("result: {:?} is not an address", config.address));
            }
        }
        let inside = |c: &&IpConfig| match c.interface.and_then(|i| result.interfaces.get(i)) {
            Some(interface) => !interface.sandbox.is_empty(),
            None => true,
        };
        result.ips = result
            .ip_configs
            .iter()
            .filter(inside)
            .filter_map(IpConfig::ip)
            .collect();
        Ok(result)
    }

    /// Writes it as `version` has it.
    pub fn to_value(&self, version: &str) -> Result<Value, serde_json::Error> {
        let mut result = self.clone();
        version.clone_into(&mut result.cni_version);
        if !at_least(version, "1.0.0") {
            for config in &mut result.ip_configs {
                let family = if config.address.contains(':') { "6" } else { "4" };
                config.version = Some(family.to_owned());
            }
        }
        if !at_least(version, "1.1.0") {
            for route in &mut result.routes {
                let (dst, gw) = (std::mem::take(&mut route.dst), route.gw);
                *route = Route {
                    dst,
                    gw,
                    ..Route::default()
                };
            }
            for interface in &mut result.interfaces {
                interface.mtu = 0;
            }
        }
        serde_json::to_value(result)
    }
}

/// Whether version `a` is `b` or newer. What is not a version is the oldest.
pub fn at_least(a: &str, b: &str) -> bool {
    let parts = |v: &str| -> Vec<u32> { v.split('.').map(|p| p.parse().unwrap_or(0)).collect() };
    parts(a) >= parts(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_old_result_names_the_family_and_a_new_one_does_not() {
        let new = json!({"cniVersion": "1.1.0", "interfaces": [{"name": "br0"}, {"name": "eth0", "sandbox": "/n", "mtu": 1400}],
            "ips": [{"address": "10.0.0.2/24", "interface": 1, "gateway": "10.0.0.1"}, {"address": "10.0.0.1/24", "interface": 0}],
            "routes": [{"dst": "0.0.0.0/0", "mtu": 1400}]});
        let result = AddResult::parse(&new).unwrap();
        assert_eq!(result.ips, ["10.0.0.2".parse::<IpAddr>().unwrap()]);
        assert_eq!(result.to_value("1.1.0").unwrap(), new);
        let old = result.to_value("0.4.0").unwrap();
        assert_eq!(old["ips"][0]["version"], "4");
        assert_eq!(old["routes"][0], json!({"dst": "0.0.0.0/0"}));
        assert_eq!(AddResult::parse(&old).unwrap().ips, result.ips);
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(at_least("1.10.0", "1.9.0"));
        assert!(at_least("0.4.0", "0.4.0"));
        assert!(!at_least("0.3.1", "0.4.0"));
        assert!(!at_least("", "0.1.0"));
    }
}
