//! The messages of the CNI specification, versions 0.3.1 to 1.1.0: results, errors, version numbers.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The versions spoken, oldest first.
pub(crate) const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// Error codes that the specification names.
pub(crate) mod code {
    pub(crate) const INCOMPATIBLE_VERSION: u32 = 1;
    pub(crate) const UNSUPPORTED_FIELD: u32 = 2;
    pub(crate) const INVALID_ENVIRONMENT: u32 = 4;
    pub(crate) const IO_FAILURE: u32 = 5;
    pub(crate) const DECODING_FAILURE: u32 = 6;
    pub(crate) const INVALID_CONFIG: u32 = 7;
    pub(crate) const TRY_AGAIN: u32 = 11;
    /// The first code that is a plugin's own.
    pub(crate) const PLUGIN: u32 = 100;
}

/// What a plugin says when it fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{msg}{}", if details.is_empty() { String::new() } else { format!(": {details}") })]
pub struct PluginError {
    /// The specification's number of the fault, below 100, or the plugin's own.
    #[serde(default)]
    pub code: u32,
    /// A short sentence.
    #[serde(default)]
    pub msg: String,
    /// More of it, or empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
}

impl PluginError {
    /// An error without details.
    pub fn new(code: u32, msg: impl Into<String>) -> PluginError {
        PluginError {
            code,
            msg: msg.into(),
            details: String::new(),
        }
    }

    /// An error of the system, with the specification's code 5.
    pub fn io(what: impl std::fmt::Display, error: impl std::fmt::Display) -> PluginError {
        PluginError::new(code::IO_FAILURE, format!("{what}: {error}"))
    }
}

/// Why a network could not be set up, taken down or judged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No usable configuration.
    #[error(transparent)]
    Conf(#[from] crate::conf::ConfError),
    /// A plugin failed, or could not be run.
    #[error("plugin {plugin} of network {network}: {command} failed: {source}")]
    Plugin {
        /// The plugin's type.
        plugin: String,
        /// The network's name.
        network: String,
        /// `ADD`, `DEL`, `CHECK`, `GC` or `STATUS`.
        command: &'static str,
        /// What the plugin said, or why it could not be run.
        source: PluginError,
    },
    /// What the plugins answered is no result of theirs, or the sandbox is not as CHECK wants it.
    #[error("network {network}: {message}")]
    Result {
        /// The network's name.
        network: String,
        /// What is wrong.
        message: String,
    },
    /// The pod's network namespace cannot be prepared.
    #[error("network namespace {path}: {message}")]
    Netns {
        /// The file of the namespace.
        path: String,
        /// Why not.
        message: String,
    },
    /// A kept result cannot be read, written or removed.
    #[error("{path}: {source}")]
    Cache {
        /// The file.
        path: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The kernel refused to take down a link or a table.
    #[error("what the node had made cannot be taken down: {0}")]
    Cleanup(String),
    /// The thread that ran the plugins ended without an answer.
    #[error("the network task ended early: {0}")]
    Task(String),
}

/// Why what a plugin printed is no result of ADD.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// The result is of a version that is not spoken here.
    #[error("result of CNI version {0}, which is not supported")]
    Version(String),
    /// The result has another shape.
    #[error("result: {0}")]
    Json(#[from] serde_json::Error),
    /// An entry of `ips` does not begin with an address.
    #[error("result: {0:?} is not an address")]
    Address(String),
}

/// A result of ADD, as version 1.1.0 writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AddResult {
    /// The version of the specification that the result is written in.
    pub cni_version: String,
    /// The links that were made, of the host and of the pod.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// `ips` of the message: addresses with prefix length.
    #[serde(rename = "ips", skip_serializing_if = "Vec::is_empty")]
    pub ip_configs: Vec<IpConfig>,
    /// Routes in the pod's namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Resolver settings that the network recommends.
    #[serde(skip_serializing_if = "Dns::is_empty")]
    pub dns: Dns,
    /// The addresses of the pod's interface alone, in the order of the result.
    #[serde(skip)]
    pub ips: Vec<IpAddr>,
}

/// A link that ADD made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Interface {
    /// The link's name in its namespace.
    pub name: String,
    /// The hardware address, or empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Bytes; zero if the plugin did not say. Since 1.1.0.
    #[serde(skip_serializing_if = "is_zero")]
    pub mtu: u32,
    /// The file of the network namespace it is in; empty for the host's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// The vhost-user socket, for links that are no link of the kernel. Since 1.1.0.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub socket_path: String,
    /// The PCI address of the device behind it, or empty. Since 1.1.0.
    #[serde(rename = "pciID", skip_serializing_if = "String::is_empty")]
    pub pci_id: String,
}

/// An address that ADD gave.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IpConfig {
    /// Only before 1.0.0: "4" or "6".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The link that has it: an index into [`AddResult::interfaces`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
    /// The address with its prefix length, as `10.42.0.5/24`.
    pub address: String,
    /// The subnet's gateway, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

impl IpConfig {
    /// The address without its prefix length.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.split('/').next()?.parse().ok()
    }
}

/// A route in the pod's namespace. Fields beside `dst` and `gw` are of 1.1.0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Route {
    /// The destination as `0.0.0.0/0`.
    pub dst: String,
    /// The next hop. None: the gateway of the address of the same family.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// The largest packet on this route, in bytes. Zero is the link's.
    #[serde(skip_serializing_if = "is_zero")]
    pub mtu: u32,
    /// The segment size that TCP announces, in bytes. Zero is the kernel's choice.
    #[serde(skip_serializing_if = "is_zero")]
    pub advmss: u32,
    /// Among routes to the same destination the lowest wins.
    #[serde(skip_serializing_if = "is_zero")]
    pub priority: u32,
    /// The routing table's number. None is the main table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// The kernel's scope of the destination (`RT_SCOPE_*`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

/// Resolver settings of a result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Addresses of name servers, the preferred one first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The domain of short names, or empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Domains in which short names are looked up, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options of resolv.conf.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Dns {
    /// Returns whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Dns::default()
    }
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl AddResult {
    /// Reads a result of any version spoken.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(value: &Value) -> Result<AddResult, ResultError> {
        let version = value.get("cniVersion").and_then(Value::as_str).unwrap_or("");
        if !version.is_empty() && !VERSIONS.contains(&version) {
            return Err(ResultError::Version(version.to_owned()));
        }
        let mut result: AddResult = serde_json::from_value(value.clone())?;
        for config in &mut result.ip_configs {
            config.version = None;
            if config.ip().is_none() {
                return Err(ResultError::Address(config.address.clone()));
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
pub(crate) fn at_least(a: &str, b: &str) -> bool {
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
