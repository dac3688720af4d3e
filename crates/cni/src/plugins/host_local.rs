//! `host-local`: addresses from ranges, one file an address, in upstream's layout:
//! `<dataDir>/<network>/<address>` holds the container's id and interface.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::Deserialize;
use serde_json::Value;

use super::ranges::{Range, RangeConf, RangeError, candidates};
use crate::exec::{Command, Invocation};
use crate::types::{AddResult, Dns, IpConfig, PluginError, Route, code};

const DATA_DIR: &str = "/var/lib/cni/networks";

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Ipam {
    #[serde(flatten)]
    single: RangeConf,
    ranges: Vec<Vec<RangeConf>>,
    routes: Vec<Route>,
    data_dir: Option<PathBuf>,
    resolv_conf: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RuntimeConf {
    ips: Vec<String>,
    ip_ranges: Vec<Vec<RangeConf>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    cni_version: String,
    name: String,
    ipam: Ipam,
    runtime_config: RuntimeConf,
    args: Value,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid: Vec<Attachment>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Attachment {
    #[serde(rename = "containerID")]
    container_id: String,
    ifname: String,
}

/// The files of a network, locked while this lives.
struct Store {
    dir: PathBuf,
    _lock: Flock<File>,
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> PluginError + use<> {
    let path = path.display().to_string();
    move |e| PluginError::io(&path, e)
}

impl Store {
    fn open(conf: &Conf) -> Result<Store, PluginError> {
        let base = conf.ipam.data_dir.clone().unwrap_or_else(|| DATA_DIR.into());
        let dir = base.join(&conf.name);
        std::fs::create_dir_all(&dir).map_err(failed(&dir))?;
        let path = dir.join("lock");
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        let file = options.open(&path).map_err(failed(&path))?;
        let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| failed(&path)(e.into()))?;
        Ok(Store { dir, _lock: lock })
    }

    /// False if the address is taken.
    fn reserve(&self, ip: IpAddr, owner: &str, range_set: usize) -> Result<bool, PluginError> {
        let path = self.dir.join(ip.to_string());
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(mut file) => file.write_all(owner.as_bytes()).map_err(failed(&path))?,
            Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(false),
            Err(e) => return Err(failed(&path)(e)),
        }
        let path = self.dir.join(format!("last_reserved_ip.{range_set}"));
        std::fs::write(&path, ip.to_string()).map_err(failed(&path))?;
        Ok(true)
    }

    fn last(&self, range_set: usize) -> Option<IpAddr> {
        let text = std::fs::read_to_string(self.dir.join(format!("last_reserved_ip.{range_set}"))).ok()?;
        text.trim().parse().ok()
    }

    /// Address files and their owners.
    fn reservations(&self) -> Result<Vec<(IpAddr, String)>, PluginError> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(failed(&self.dir))? {
            let path = entry.map_err(failed(&self.dir))?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if let Ok(ip) = name.parse() {
                let owner = std::fs::read_to_string(&path).map_err(failed(&path))?;
                all.push((ip, owner.trim().to_owned()));
            }
        }
        Ok(all)
    }

    fn release(&self, released: impl Fn(&str) -> bool) -> Result<(), PluginError> {
        for (ip, owner) in self.reservations()? {
            if released(&owner) {
                let path = self.dir.join(ip.to_string());
                std::fs::remove_file(&path).map_err(failed(&path))?;
            }
        }
        Ok(())
    }
}

fn owner(container: &str, interface: &str) -> String {
    format!("{container}\r\n{interface}")
}

pub(crate) fn run(invocation: &Invocation, conf: &Value) -> Result<Value, PluginError> {
    let conf: Conf = serde_json::from_value(conf.clone())
        .map_err(|e| PluginError::new(code::DECODING_FAILURE, format!("host-local: {e}")))?;
    let own = owner(&invocation.container_id, &invocation.if_name);
    match invocation.command {
        Command::Add => {
            let result = add(invocation, &conf, &own)?;
            result
                .to_value(&conf.cni_version)
                .map_err(|e| PluginError::new(code::PLUGIN, e.to_string()))
        }
        Command::Del => Store::open(&conf)?
            .release(|o| o == own || o == invocation.container_id)
            .map(|()| Value::Null),
        Command::Check => {
            let found = Store::open(&conf)?.reservations()?.iter().any(|(_, o)| *o == own);
            let missing = || format!("host-local: container {} has no address", invocation.container_id);
            found
                .then_some(Value::Null)
                .ok_or_else(|| PluginError::new(code::PLUGIN, missing()))
        }
        Command::Gc => {
            let valid: Vec<String> = conf.valid.iter().map(|a| owner(&a.container_id, &a.ifname)).collect();
            let release = |o: &str| !valid.iter().any(|v| v == o);
            Store::open(&conf)?.release(release).map(|()| Value::Null)
        }
        Command::Status => range_sets(&conf)
            .map(|_| Value::Null)
            .map_err(|e| PluginError::new(code::INVALID_CONFIG, e.to_string())),
        Command::Version => Ok(Value::Null),
    }
}

/// The sets of ranges: one address of each is given.
fn range_sets(conf: &Conf) -> Result<Vec<Vec<Range>>, RangeError> {
    let mut all: Vec<Vec<RangeConf>> = Vec::new();
    if !conf.ipam.single.subnet.is_empty() {
        all.push(vec![conf.ipam.single.clone()]);
    }
    all.extend(conf.runtime_config.ip_ranges.clone());
    all.extend(conf.ipam.ranges.clone());
    if all.is_empty() {
        return Err(RangeError::None);
    }
    let mut sets = Vec::new();
    for set in all {
        let set: Vec<Range> = set.iter().map(Range::of).collect::<Result<_, _>>()?;
        let v6 = set.first().is_some_and(|r| r.subnet.ip.is_ipv6());
        if set.is_empty() || set.iter().any(|r| r.subnet.ip.is_ipv6() != v6) {
            return Err(RangeError::Mixed);
        }
        sets.push(set);
    }
    Ok(sets)
}

/// Addresses asked for by capability, by `args.cni.ips` or by `IP=` in CNI_ARGS.
fn requested(invocation: &Invocation, conf: &Conf) -> Result<Vec<IpAddr>, PluginError> {
    let mut texts = conf.runtime_config.ips.clone();
    if let Some(Value::Array(list)) = conf.args.pointer("/cni/ips") {
        texts.extend(list.iter().filter_map(Value::as_str).map(str::to_owned));
    }
    let args = invocation.args.split(';').filter_map(|pair| pair.strip_prefix("IP="));
    texts.extend(args.map(str::to_owned));
    let parse = |text: &String| {
        let ip = text.split('/').next().unwrap_or_default();
        ip.parse()
            .map_err(|_| PluginError::new(code::INVALID_CONFIG, format!("host-local: {text:?} is not an address")))
    };
    texts.iter().map(parse).collect()
}

fn add(invocation: &Invocation, conf: &Conf, own: &str) -> Result<AddResult, PluginError> {
    let sets = range_sets(conf).map_err(|e| PluginError::new(code::INVALID_CONFIG, e.to_string()))?;
    let mut wanted = requested(invocation, conf)?;
    let in_a_range = |ip: &&IpAddr| sets.iter().flatten().any(|r| r.contains(**ip));
    if let Some(ip) = wanted.iter().find(|ip| !in_a_range(ip)) {
        let message = format!("host-local: {ip}, which was asked for, is in no range");
        return Err(PluginError::new(code::INVALID_CONFIG, message));
    }
    let store = Store::open(conf)?;
    let mut result = AddResult {
        routes: conf.ipam.routes.clone(),
        ..AddResult::default()
    };
    if let Some(path) = &conf.ipam.resolv_conf {
        result.dns = resolv_conf(path)?;
    }
    let taken = store.reservations()?;
    if let Some((ip, _)) = taken.iter().find(|(_, o)| o == own) {
        let message = format!(
            "host-local: {ip} is already given to container {}",
            invocation.container_id
        );
        return Err(PluginError::new(code::PLUGIN, message));
    }
    for (index, set) in sets.iter().enumerate() {
        let asked = wanted.iter().position(|ip| set.iter().any(|r| r.contains(*ip)));
        let asked = asked.map(|at| wanted.swap_remove(at));
        match reserve(&store, index, set, asked, own) {
            Ok(config) => result.ip_configs.push(config),
            Err(e) => {
                store.release(|o| o == own)?;
                return Err(e);
            }
        }
    }
    Ok(result)
}

fn reserve(
    store: &Store,
    index: usize,
    set: &[Range],
    asked: Option<IpAddr>,
    own: &str,
) -> Result<IpConfig, PluginError> {
    let config = |ip: IpAddr, range: &Range| IpConfig {
        address: format!("{ip}/{}", range.subnet.prefix),
        gateway: Some(range.gateway),
        ..IpConfig::default()
    };
    if let Some(ip) = asked {
        let range = set.iter().find(|r| r.contains(ip) && r.gateway != ip);
        let range =
            range.ok_or_else(|| PluginError::new(code::INVALID_CONFIG, format!("host-local: {ip} is the gateway")))?;
        if !store.reserve(ip, own, index)? {
            return Err(PluginError::new(code::PLUGIN, format!("host-local: {ip} is taken")));
        }
        return Ok(config(ip, range));
    }
    for (at, ip) in candidates(set, store.last(index)) {
        if let Some(range) = set.get(at)
            && store.reserve(ip, own, index)?
        {
            return Ok(config(ip, range));
        }
    }
    let names: Vec<String> = set.iter().map(|r| r.subnet.to_string()).collect();
    let message = format!("host-local: no free address in {}", names.join(", "));
    Err(PluginError::new(code::PLUGIN, message))
}

fn resolv_conf(path: &Path) -> Result<Dns, PluginError> {
    let text = std::fs::read_to_string(path).map_err(failed(path))?;
    let mut dns = Dns::default();
    for line in text.lines() {
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => dns.nameservers.extend(words.next()),
            Some("domain") => dns.domain = words.next().unwrap_or_default(),
            Some("search") => dns.search = words.collect(),
            Some("options") => dns.options.extend(words),
            _ => {}
        }
    }
    Ok(dns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn invoke(command: Command, id: &str, args: &str, conf: &Value) -> Result<Value, PluginError> {
        let invocation = Invocation {
            command,
            container_id: id.into(),
            netns: None,
            if_name: "eth0".into(),
            args: args.into(),
            path: Vec::new(),
        };
        run(&invocation, conf)
    }

    fn address(result: &Value) -> &str {
        result["ips"][0]["address"].as_str().unwrap()
    }

    #[test]
    fn addresses_go_round_and_the_gateway_is_never_given() {
        let dir = tempfile::tempdir().unwrap();
        let conf = json!({"cniVersion": "1.1.0", "name": "n", "ipam": {"type": "host-local", "dataDir": dir.path(),
            "ranges": [[{"subnet": "10.0.0.0/29"}]], "routes": [{"dst": "0.0.0.0/0"}]}});
        let add = |id: &str| invoke(Command::Add, id, "", &conf);
        for n in 2..=6 {
            assert_eq!(address(&add(&format!("c{n}")).unwrap()), format!("10.0.0.{n}/29"));
        }
        assert!(add("c7").unwrap_err().msg.contains("no free address"));
        assert!(add("c2").unwrap_err().msg.contains("already given"));
        invoke(Command::Del, "c3", "", &conf).unwrap();
        invoke(Command::Del, "c3", "", &conf).unwrap();
        assert!(invoke(Command::Check, "c3", "", &conf).is_err());
        invoke(Command::Check, "c4", "", &conf).unwrap();
        let again = add("c8").unwrap();
        assert_eq!(address(&again), "10.0.0.3/29");
        assert_eq!(again["ips"][0]["gateway"], "10.0.0.1");
        assert_eq!(again["routes"][0]["dst"], "0.0.0.0/0");
        let file = std::fs::read_to_string(dir.path().join("n/10.0.0.3")).unwrap();
        assert_eq!(file, "c8\r\neth0");
        let mut gc = conf.clone();
        gc["cni.dev/valid-attachments"] = json!([{"containerID": "c8", "ifname": "eth0"}]);
        invoke(Command::Gc, "", "", &gc).unwrap();
        invoke(Command::Check, "c8", "", &conf).unwrap();
        assert!(invoke(Command::Check, "c4", "", &conf).is_err());
    }

    #[test]
    fn an_address_asked_for_is_given_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let conf = json!({"cniVersion": "1.0.0", "name": "n", "ipam": {"dataDir": dir.path(), "subnet": "10.0.0.0/24", "rangeStart": "10.0.0.10", "rangeEnd": "10.0.0.20"}});
        assert_eq!(
            address(&invoke(Command::Add, "a", "IP=10.0.0.15", &conf).unwrap()),
            "10.0.0.15/24"
        );
        assert!(
            invoke(Command::Add, "b", "IP=10.0.0.15", &conf)
                .unwrap_err()
                .msg
                .contains("taken")
        );
        assert!(
            invoke(Command::Add, "b", "IP=10.0.0.9", &conf)
                .unwrap_err()
                .msg
                .contains("no range")
        );
        assert_eq!(address(&invoke(Command::Add, "b", "", &conf).unwrap()), "10.0.0.16/24");
        let mut asked = conf.clone();
        asked["runtimeConfig"] = json!({"ips": ["10.0.0.11/24"]});
        assert_eq!(address(&invoke(Command::Add, "c", "", &asked).unwrap()), "10.0.0.11/24");
    }

    #[test]
    fn a_pod_of_two_families_gets_an_address_of_each() {
        let dir = tempfile::tempdir().unwrap();
        let conf = json!({"cniVersion": "0.4.0", "name": "n", "ipam": {"dataDir": dir.path(),
            "ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "fd00::/64"}]]}});
        let result = invoke(Command::Add, "a", "", &conf).unwrap();
        assert_eq!(result["ips"][1]["address"], "fd00::2/64");
        assert_eq!(result["ips"][1]["version"], "6");
    }

    #[test]
    fn ranges_that_cannot_be_are_refused() {
        for subnet in ["10.0.0.1/24", "10.0.0.0/31", "x", ""] {
            let conf = json!({"cniVersion": "1.0.0", "name": "n", "ipam": {"ranges": [[{"subnet": subnet}]]}});
            assert!(invoke(Command::Status, "", "", &conf).is_err(), "{subnet}");
        }
    }
}
