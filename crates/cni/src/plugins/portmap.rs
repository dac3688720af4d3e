//! `portmap`: host ports of pods, by destination NAT in table `cni_hostport`.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;

use crate::caller::{PortMapping, Protocol};
use crate::conntrack;
use crate::exec::{Command, Invocation};
use crate::link::Net;
use crate::nft::{self, Batch, Chain, Family, Hook, Rule, list_rules};
use crate::types::{AddResult, PluginError, code};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    cni_version: String,
    name: String,
    backend: Option<String>,
    snat: Option<bool>,
    masq_all: bool,
    #[serde(rename = "conditionsV4")]
    conditions_v4: Option<Vec<String>>,
    #[serde(rename = "conditionsV6")]
    conditions_v6: Option<Vec<String>>,
    runtime_config: RuntimeConf,
    prev_result: Option<Value>,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid: Option<Vec<Attachment>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RuntimeConf {
    port_mappings: Vec<PortMapping>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Attachment {
    #[serde(rename = "containerID")]
    container_id: String,
}

pub(super) const TABLE: &str = "cni_hostport";
const HOSTPORTS: &str = "hostports";
const HOSTIP_HOSTPORTS: &str = "hostip_hostports";
const MASQUERADING: &str = "masquerading";

pub(crate) fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

fn nft_error(e: &nft::Error) -> PluginError {
    PluginError::new(code::IO_FAILURE, format!("portmap: {e}"))
}

fn family(v6: bool) -> Family {
    if v6 { Family::Ipv6 } else { Family::Ipv4 }
}

pub(crate) fn run(invocation: &Invocation, conf: &Value) -> Result<Value, PluginError> {
    let conf: Conf = serde_json::from_value(conf.clone())
        .map_err(|e| PluginError::new(code::DECODING_FAILURE, format!("portmap: {e}")))?;
    if conf.backend.as_deref() == Some("iptables") || conf.conditions_v4.is_some() || conf.conditions_v6.is_some() {
        return Err(PluginError::new(
            code::UNSUPPORTED_FIELD,
            "portmap: the iptables backend and its conditions are not supported",
        ));
    }
    let id = &invocation.container_id;
    match invocation.command {
        Command::Add => conf.add(id),
        Command::Del => conf.remove(|c| c == conf.comment(id)).map(|()| Value::Null),
        Command::Check => conf.check(id).map(|()| Value::Null),
        Command::Gc => {
            let valid = conf.valid.as_deref().unwrap_or_default();
            let valid: Vec<String> = valid.iter().map(|a| conf.comment(&a.container_id)).collect();
            let prefix = conf.comment("");
            conf.remove(|c| c.starts_with(&prefix) && !valid.iter().any(|v| v == c))
                .map(|()| Value::Null)
        }
        Command::Status | Command::Version => Ok(Value::Null),
    }
}

impl Conf {
    fn comment(&self, container: &str) -> String {
        let mut comment = format!("{} {container}", self.name);
        // nft keeps 127 bytes; identifiers of containers differ early.
        comment.truncate(127);
        comment
    }

    fn remove(&self, picked: impl Fn(&str) -> bool) -> Result<(), PluginError> {
        for family in [Family::Ipv4, Family::Ipv6] {
            super::remove_rules(family, TABLE, &picked).map_err(|e| nft_error(&e))?;
        }
        Ok(())
    }

    fn previous(&self) -> Result<(&Value, AddResult), PluginError> {
        let Some(previous) = &self.prev_result else {
            return Err(PluginError::new(
                code::INVALID_CONFIG,
                "portmap: must come after a plugin that gives an address",
            ));
        };
        let result = AddResult::parse(previous).map_err(|e| PluginError::new(code::DECODING_FAILURE, e.to_string()))?;
        Ok((previous, result))
    }

    fn add(&self, id: &str) -> Result<Value, PluginError> {
        let (previous, result) = self.previous()?;
        let mappings = &self.runtime_config.port_mappings;
        let mappings: Vec<&PortMapping> = mappings.iter().filter(|m| m.host_port != 0).collect();
        if mappings.is_empty() {
            return Ok(previous.clone());
        }
        let comment = self.comment(id);
        self.remove(|c| c == comment)?;
        for v6 in [false, true] {
            // One address of a family: the first.
            if let Some(pod) = result.ips.iter().find(|ip| ip.is_ipv6() == v6) {
                self.map(*pod, &mappings, &comment)?;
            }
        }
        if self.snat.unwrap_or(true) && result.ips.iter().any(IpAddr::is_ipv4) {
            for interface in result.interfaces.iter().filter(|i| i.sandbox.is_empty()) {
                // Without it the kernel drops packets from 127.0.0.1 that NAT sends out of a link.
                let path = format!("/proc/sys/net/ipv4/conf/{}/route_localnet", interface.name);
                super::pod_link::sysctl(&path, "1")?;
            }
        }
        forget(&mappings)?;
        Ok(previous.clone())
    }

    fn map(&self, pod: IpAddr, mappings: &[&PortMapping], comment: &str) -> Result<(), PluginError> {
        let v6 = pod.is_ipv6();
        let mut batch = Batch::new(family(v6), TABLE);
        batch.add_table();
        for chain in [HOSTPORTS, HOSTIP_HOSTPORTS] {
            batch.add_chain(chain, &Chain::regular());
        }
        for (chain, hook) in [("prerouting", Hook::Prerouting), ("output", Hook::Output)] {
            batch.add_chain(chain, &Chain::nat(hook, -100));
            batch.flush_chain(chain);
            batch.add_rule(chain, &Rule::new().jump(HOSTIP_HOSTPORTS));
            batch.add_rule(chain, &Rule::new().daddr_local().jump(HOSTPORTS));
        }
        batch.add_chain(MASQUERADING, &Chain::nat(Hook::Postrouting, 100));
        for mapping in mappings {
            let rule = match mapping.host_ip.filter(|ip| !ip.is_unspecified()) {
                Some(ip) if ip.is_ipv6() != v6 => continue,
                Some(ip) => Rule::new().daddr_is(ip),
                // An unspecified address of a family means all of that family.
                None if mapping.host_ip.is_some_and(|ip| ip.is_ipv6() != v6) => continue,
                None => Rule::new(),
            };
            let chain = match mapping.host_ip.filter(|ip| !ip.is_unspecified()) {
                Some(_) => HOSTIP_HOSTPORTS,
                None => HOSTPORTS,
            };
            let rule = rule
                .l4proto(protocol_number(mapping.protocol))
                .dport(mapping.host_port)
                .dnat(pod, Some(mapping.container_port));
            batch.add_rule(chain, &rule.comment(comment));
        }
        if self.snat.unwrap_or(true) {
            // Answers of the pod to itself, and to the host's loopback, must come back this way.
            let mut sources = vec![Net {
                ip: pod,
                prefix: Net::width(pod),
            }];
            if !v6 {
                sources.push(Net {
                    ip: [127, 0, 0, 0].into(),
                    prefix: 8,
                });
            }
            for source in sources {
                let rule = Rule::new().saddr(source).daddr_is(pod).masquerade();
                batch.add_rule(MASQUERADING, &rule.comment(comment));
            }
            if self.masq_all {
                let rule = Rule::new().ct_status_dnat().daddr_is(pod).masquerade();
                batch.add_rule(MASQUERADING, &rule.comment(comment));
            }
        }
        batch.commit().map_err(|e| nft_error(&e))
    }

    fn check(&self, id: &str) -> Result<(), PluginError> {
        let (_, result) = self.previous()?;
        let comment = self.comment(id);
        let mappings = &self.runtime_config.port_mappings;
        for pod in &result.ips {
            let v6 = pod.is_ipv6();
            let wanted = mappings.iter().filter(|m| m.host_port != 0);
            let wanted = wanted.filter(|m| m.host_ip.is_none_or(|ip| ip.is_ipv6() == v6)).count();
            let rules = list_rules(family(v6), TABLE).map_err(|e| nft_error(&e))?;
            let is_mapping = |r: &&nft::ListedRule| r.comment == comment && r.chain != MASQUERADING;
            let found = rules.iter().filter(is_mapping).count();
            if found != wanted {
                let message = format!("portmap: {found} of {wanted} host ports of {pod} are there");
                return Err(PluginError::new(code::PLUGIN, message));
            }
        }
        Ok(())
    }
}

/// A UDP client that was already sending to the port would not reach the pod until its entry expired.
fn forget(mappings: &[&PortMapping]) -> Result<(), PluginError> {
    let ports: Vec<u16> = mappings
        .iter()
        .filter(|m| m.protocol == Protocol::Udp)
        .map(|m| m.host_port)
        .collect();
    if ports.is_empty() {
        return Ok(());
    }
    for v6 in [false, true] {
        let gone = |f: &conntrack::Flow| f.original.protocol == 17 && ports.contains(&f.original.destination_port);
        conntrack::flush(v6, gone).map_err(|e| PluginError::io("portmap: connection tracking", e))?;
    }
    Ok(())
}
