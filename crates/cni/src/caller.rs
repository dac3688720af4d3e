//! What a container runtime asks of CNI: attach a pod's namespace to the network, detach it, check it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::cache::{Cache, Entry};
use crate::conf::{self, ConfError, NetworkConf};
use crate::exec::{Command, Invocation, run};
use crate::types::{AddResult, Error, PluginError, at_least};

/// Where a [`Cni`] finds configuration and plugins, and where it keeps what it must remember.
#[derive(Debug, Clone)]
pub struct CniConfig {
    /// `/etc/cni/net.d` and its like.
    pub conf_dir: PathBuf,
    /// `/opt/cni/bin` and its like. A program here wins over our own plugin of the same name.
    pub bin_dirs: Vec<PathBuf>,
    /// Where results of ADD are kept for CHECK, DEL and GC: `/var/lib/cni` and its like.
    pub cache_dir: PathBuf,
}

/// A pod sandbox as the network sees it.
#[derive(Debug, Clone, Default)]
pub struct PodNetwork {
    /// The CRI id of the sandbox, `CNI_CONTAINERID` of the specification.
    pub sandbox_id: String,
    /// A file that is the network namespace. Gone or empty is fine for DEL.
    pub netns: PathBuf,
    /// The pod's namespace; plugins read it as `K8S_POD_NAMESPACE` of `CNI_ARGS`.
    pub namespace: String,
    /// The pod's name, `K8S_POD_NAME`.
    pub name: String,
    /// The pod's UID, `K8S_POD_UID`.
    pub uid: String,
    /// Ports of the host that lead to the pod, for plugins with the capability `portMappings`.
    pub port_mappings: Vec<PortMapping>,
    /// Limits on traffic, for plugins with the capability `bandwidth`.
    pub bandwidth: Option<Bandwidth>,
    /// The pod's resolver settings, for plugins with the capability `dns`.
    pub dns: Option<DnsConfig>,
    /// Addresses asked for, with or without prefix length.
    pub ips: Vec<String>,
}

/// The transport protocol of a [`PortMapping`]; lower case in JSON, as the capability `portMappings` has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP, which a mapping without a protocol means.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A port of the host that leads to a port of the pod: an entry of the capability `portMappings`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// The port on the host.
    pub host_port: u16,
    /// The port in the pod's network namespace.
    pub container_port: u16,
    /// The protocol whose ports are meant.
    #[serde(default)]
    pub protocol: Protocol,
    /// The only address of the host on which the port is taken. Without it every address of the host is.
    #[serde(rename = "hostIP", default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
}

/// Bits a second, and bits of burst. Zero is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bandwidth {
    /// Bits a second towards the pod.
    pub ingress_rate: u64,
    /// Bits towards the pod that may exceed the rate at once.
    pub ingress_burst: u64,
    /// Bits a second from the pod.
    pub egress_rate: u64,
    /// Bits from the pod that may exceed the rate at once.
    pub egress_burst: u64,
}

/// Resolver settings in the shape of the capability `dns`, each list in the order of resolv.conf.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsConfig {
    /// Addresses of name servers.
    pub servers: Vec<String>,
    /// Domains in which short names are looked up.
    pub searches: Vec<String>,
    /// Options of resolv.conf, as `ndots:5`.
    pub options: Vec<String>,
}

impl PodNetwork {
    fn args(&self) -> Vec<(String, String)> {
        [
            ("IgnoreUnknown", "1"),
            ("K8S_POD_NAMESPACE", &self.namespace),
            ("K8S_POD_NAME", &self.name),
            ("K8S_POD_INFRA_CONTAINER_ID", &self.sandbox_id),
            ("K8S_POD_UID", &self.uid),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .to_vec()
    }

    fn args_text(&self) -> String {
        let pairs: Vec<String> = self
            .args()
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        pairs.join(";")
    }

    fn capabilities(&self) -> Result<Map<String, Value>, serde_json::Error> {
        let mut map = Map::new();
        if !self.port_mappings.is_empty() {
            map.insert("portMappings".into(), serde_json::to_value(&self.port_mappings)?);
        }
        if let Some(bandwidth) = &self.bandwidth {
            map.insert("bandwidth".into(), serde_json::to_value(bandwidth)?);
        }
        if let Some(dns) = &self.dns {
            map.insert("dns".into(), serde_json::to_value(dns)?);
        }
        if !self.ips.is_empty() {
            map.insert("ips".into(), json!(self.ips));
        }
        Ok(map)
    }
}

/// The interface of every pod.
const IF_NAME: &str = "eth0";

/// The caller. Cheap to clone; every call reads the configuration again if the folder changed.
#[derive(Clone)]
pub struct Cni {
    inner: Arc<Inner>,
}

struct Inner {
    config: CniConfig,
    cache: Cache,
    loaded: Mutex<Option<(Stamp, Arc<NetworkConf>)>>,
    /// The folder as it was when its faults were last reported.
    reported: Mutex<Stamp>,
}

/// Names, times and sizes of a folder's files: equal means unchanged.
type Stamp = Vec<(PathBuf, SystemTime, u64)>;

impl Cni {
    /// A caller with this configuration. It reads nothing until the first call, so the folders need not exist yet.
    pub fn new(config: CniConfig) -> Cni {
        let cache = Cache::new(&config.cache_dir);
        Cni {
            inner: Arc::new(Inner {
                config,
                cache,
                loaded: Mutex::default(),
                reported: Mutex::default(),
            }),
        }
    }

    /// Whether a pod could be attached now: a configuration is there, and its plugins say that they are ready.
    pub async fn status(&self) -> Result<(), Error> {
        self.blocking(|inner| inner.status()).await
    }

    /// Attaches the pod. If a plugin fails, what the others had done is undone before the error returns.
    pub async fn add(&self, pod: &PodNetwork) -> Result<AddResult, Error> {
        let pod = pod.clone();
        self.blocking(move |inner| inner.add(&pod)).await
    }

    /// Detaches the pod. Succeeds if it is not attached.
    pub async fn del(&self, pod: &PodNetwork) -> Result<(), Error> {
        let pod = pod.clone();
        self.blocking(move |inner| inner.del(&pod)).await
    }

    /// Whether the pod is attached as ADD left it.
    pub async fn check(&self, pod: &PodNetwork) -> Result<(), Error> {
        let pod = pod.clone();
        self.blocking(move |inner| inner.check(&pod)).await
    }

    /// Frees what belongs to sandboxes other than these.
    pub async fn gc(&self, sandboxes: &[String]) -> Result<(), Error> {
        let sandboxes = sandboxes.to_vec();
        self.blocking(move |inner| inner.gc(&sandboxes)).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .map_err(|e| Error::Task(e.to_string()))?
    }
}

impl Inner {
    fn conf(&self) -> Result<Arc<NetworkConf>, ConfError> {
        let stamp = stamp(&self.config.conf_dir);
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, conf)) = &*loaded
            && *known == stamp
        {
            return Ok(conf.clone());
        }
        let known = std::mem::replace(
            &mut *self.reported.lock().unwrap_or_else(PoisonError::into_inner),
            stamp.clone(),
        );
        let report = |fault: &ConfError| {
            if known != stamp {
                tracing::warn!("network configuration passed over: {fault}");
            }
        };
        let conf = Arc::new(conf::load(&self.config.conf_dir, report)?);
        *loaded = Some((stamp, conf.clone()));
        Ok(conf)
    }

    fn status(&self) -> Result<(), Error> {
        let conf = self.conf()?;
        if !at_least(&conf.cni_version, "1.1.0") {
            return Ok(());
        }
        let invocation = self.invocation(Command::Status, None);
        for index in 0..conf.plugins.len() {
            self.call(&conf, index, &invocation, &Map::new(), None)?;
        }
        Ok(())
    }

    fn add(&self, pod: &PodNetwork) -> Result<AddResult, Error> {
        let conf = self.conf()?;
        let capabilities = pod.capabilities().map_err(|e| result_error(&conf, &e))?;
        crate::plugins::loopback::up(&pod.netns).map_err(|e| Error::Netns {
            path: pod.netns.display().to_string(),
            message: e.to_string(),
        })?;
        let added = self.add_chain(&conf, pod, &capabilities);
        if added.is_err()
            && let Err(e) = self.del_chain(&conf, pod, &capabilities, None)
        {
            tracing::warn!("sandbox {}: undoing a failed ADD: {e}", pod.sandbox_id);
        }
        added
    }

    fn add_chain(
        &self,
        conf: &NetworkConf,
        pod: &PodNetwork,
        capabilities: &Map<String, Value>,
    ) -> Result<AddResult, Error> {
        let invocation = self.invocation(Command::Add, Some(pod));
        let mut previous: Option<Value> = None;
        for index in 0..conf.plugins.len() {
            let mut value = self.call(conf, index, &invocation, capabilities, previous.as_ref())?;
            if let Value::Object(map) = &mut value {
                map.insert("cniVersion".into(), conf.cni_version.clone().into());
            }
            previous = Some(value);
        }
        let value = previous.unwrap_or(Value::Null);
        let mut result = AddResult::parse(&value).map_err(|e| result_error(conf, &e))?;
        if result.ips.is_empty() {
            return Err(result_error(conf, &"the plugins gave the pod no address"));
        }
        result.cni_version.clone_from(&conf.cni_version);
        self.cache.save(&Entry {
            kind: "cniCacheV1".into(),
            container_id: pod.sandbox_id.clone(),
            network_name: conf.name.clone(),
            if_name: IF_NAME.into(),
            config: conf.raw.clone(),
            netns: pod.netns.clone(),
            cni_args: pod.args(),
            capability_args: capabilities.clone(),
            result: value,
        })?;
        Ok(result)
    }

    /// DEL uses the configuration that ADD used, from the cache, and today's only where there is none.
    fn del(&self, pod: &PodNetwork) -> Result<(), Error> {
        let entries = self.cache.of_container(&pod.sandbox_id)?;
        if entries.is_empty() {
            let conf = match self.conf() {
                Ok(conf) => conf,
                Err(ConfError::None(_)) => return Ok(()),
                Err(e) => return Err(e.into()),
            };
            let capabilities = pod.capabilities().map_err(|e| result_error(&conf, &e))?;
            return self.del_chain(&conf, pod, &capabilities, None);
        }
        for entry in entries {
            self.del_entry(pod, &entry)?;
        }
        Ok(())
    }

    fn del_entry(&self, pod: &PodNetwork, entry: &Entry) -> Result<(), Error> {
        let conf = self.conf_of(entry)?;
        self.del_chain(&conf, pod, &entry.capability_args, Some(&entry.result))?;
        self.cache.remove(entry)
    }

    fn conf_of(&self, entry: &Entry) -> Result<NetworkConf, Error> {
        let conf = NetworkConf::parse(entry.config.clone());
        Ok(conf.map_err(|source| ConfError::Invalid {
            path: self.cache.path(entry),
            source,
        })?)
    }

    fn del_chain(
        &self,
        conf: &NetworkConf,
        pod: &PodNetwork,
        capabilities: &Map<String, Value>,
        result: Option<&Value>,
    ) -> Result<(), Error> {
        let invocation = self.invocation(Command::Del, Some(pod));
        let result = result.filter(|_| at_least(&conf.cni_version, "0.4.0"));
        let mut fault = None;
        for index in (0..conf.plugins.len()).rev() {
            if let Err(e) = self.call(conf, index, &invocation, capabilities, result) {
                fault.get_or_insert(e);
            }
        }
        fault.map_or(Ok(()), Err)
    }

    fn check(&self, pod: &PodNetwork) -> Result<(), Error> {
        let invocation = self.invocation(Command::Check, Some(pod));
        let entries = self.cache.of_container(&pod.sandbox_id)?;
        if entries.is_empty() {
            return Err(result_error(
                &*self.conf()?,
                &format!("sandbox {} is not attached", pod.sandbox_id),
            ));
        }
        for entry in entries {
            let conf = self.conf_of(&entry)?;
            if conf.disable_check {
                continue;
            }
            if !at_least(&conf.cni_version, "0.4.0") {
                let message = format!("configuration of version {} does not support CHECK", conf.cni_version);
                return Err(result_error(&conf, &message));
            }
            for index in 0..conf.plugins.len() {
                self.call(&conf, index, &invocation, &entry.capability_args, Some(&entry.result))?;
            }
        }
        Ok(())
    }

    fn gc(&self, sandboxes: &[String]) -> Result<(), Error> {
        let mut fault = None;
        let mut valid = Vec::new();
        for entry in self.cache.all()? {
            if sandboxes.contains(&entry.container_id) {
                valid.push(json!({"containerID": entry.container_id, "ifname": entry.if_name}));
                continue;
            }
            let pod = PodNetwork {
                sandbox_id: entry.container_id.clone(),
                netns: entry.netns.clone(),
                ..PodNetwork::default()
            };
            if let Err(e) = self.del_entry(&pod, &entry) {
                fault.get_or_insert(e);
            }
        }
        let conf = self.conf()?;
        if at_least(&conf.cni_version, "1.1.0") && !conf.disable_gc {
            let invocation = self.invocation(Command::Gc, None);
            for index in 0..conf.plugins.len() {
                let mut input = conf.input(index, &Map::new(), None);
                if let Value::Object(map) = &mut input {
                    map.insert("cni.dev/valid-attachments".into(), Value::Array(valid.clone()));
                }
                if let Err(e) = run(conf.plugin_type(index), &invocation, &input) {
                    fault.get_or_insert(plugin_error(&conf, index, &invocation, e));
                }
            }
        }
        fault.map_or(Ok(()), Err)
    }

    fn call(
        &self,
        conf: &NetworkConf,
        index: usize,
        invocation: &Invocation,
        capabilities: &Map<String, Value>,
        previous: Option<&Value>,
    ) -> Result<Value, Error> {
        let input = conf.input(index, capabilities, previous);
        run(conf.plugin_type(index), invocation, &input).map_err(|e| plugin_error(conf, index, invocation, e))
    }

    fn invocation(&self, command: Command, pod: Option<&PodNetwork>) -> Invocation {
        Invocation {
            command,
            container_id: pod.map(|p| p.sandbox_id.clone()).unwrap_or_default(),
            netns: pod.map(|p| p.netns.clone()).filter(|p| !p.as_os_str().is_empty()),
            if_name: pod.map(|_| IF_NAME.to_owned()).unwrap_or_default(),
            args: pod.map(PodNetwork::args_text).unwrap_or_default(),
            path: self.config.bin_dirs.clone(),
        }
    }
}

fn plugin_error(conf: &NetworkConf, index: usize, invocation: &Invocation, source: PluginError) -> Error {
    Error::Plugin {
        plugin: conf.plugin_type(index).to_owned(),
        network: conf.name.clone(),
        command: invocation.command.name(),
        source,
    }
}

fn result_error(conf: &NetworkConf, message: &impl ToString) -> Error {
    Error::Result {
        network: conf.name.clone(),
        message: message.to_string(),
    }
}

fn stamp(dir: &Path) -> Stamp {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut stamp: Stamp = entries
        .filter_map(|e| {
            let meta = e.metadata().ok()?;
            Some((e.path(), meta.modified().ok()?, meta.len()))
        })
        .collect();
    stamp.sort();
    stamp
}
