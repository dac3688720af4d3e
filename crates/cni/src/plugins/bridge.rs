//! `bridge`: a veth pair from the pod to a bridge of the host, the bridge as gateway, masquerading outwards.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::masquerade::{masquerade, unmasquerade};
use super::pod_link::{configure, link_error, sysctl};
use crate::exec::{self, Command, Invocation};
use crate::link::{Link, Links, Net, mac_of};
use crate::netlink;
use crate::netns::inside;
use crate::types::{AddResult, Dns, Interface, PluginError, Route, code};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    cni_version: String,
    name: String,
    #[serde(rename = "bridge")]
    bridge: Option<String>,
    is_gateway: bool,
    is_default_gateway: bool,
    force_address: bool,
    ip_masq: bool,
    ip_masq_backend: Option<String>,
    mtu: u32,
    hairpin_mode: bool,
    promisc_mode: bool,
    port_isolation: bool,
    vlan: u32,
    vlan_trunk: Option<Value>,
    macspoofchk: bool,
    disable_container_interface: bool,
    mac: String,
    ipam: Ipam,
    dns: Dns,
    runtime_config: RuntimeConf,
    prev_result: Option<Value>,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid: Vec<Attachment>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ipam {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RuntimeConf {
    mac: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Attachment {
    #[serde(rename = "containerID")]
    container_id: String,
    ifname: String,
}

fn hash(parts: &[&str]) -> String {
    let digest = Sha256::digest(parts.join("\n"));
    digest.iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// The host's end of the pair. Made from the pod's identity, so that what an interrupted ADD left is found.
fn host_name(invocation: &Invocation) -> String {
    let hash = hash(&[&invocation.container_id, &invocation.if_name]);
    format!("veth{}", hash.get(..8).unwrap_or_default())
}

pub(crate) fn run(invocation: &Invocation, conf: &Value) -> Result<Value, PluginError> {
    let raw = conf;
    let conf: Conf = serde_json::from_value(raw.clone())
        .map_err(|e| PluginError::new(code::DECODING_FAILURE, format!("bridge: {e}")))?;
    conf.supported()?;
    match invocation.command {
        Command::Add => {
            let result = conf.add(invocation, raw)?;
            result
                .to_value(&conf.cni_version)
                .map_err(|e| PluginError::new(code::PLUGIN, e.to_string()))
        }
        Command::Del => conf.del(invocation, raw).map(|()| Value::Null),
        Command::Check => conf.check(invocation, raw).map(|()| Value::Null),
        Command::Gc => {
            conf.ipam(&invocation.with(Command::Gc), raw)?;
            let valid: Vec<String> = conf
                .valid
                .iter()
                .map(|a| comment(&conf.name, &a.container_id, &a.ifname))
                .collect();
            let prefix = format!("net {} ", conf.name);
            unmasquerade(|c| c.starts_with(&prefix) && !valid.iter().any(|v| v == c)).map(|()| Value::Null)
        }
        Command::Status => conf.ipam(&invocation.with(Command::Status), raw).map(|_| Value::Null),
        Command::Version => Ok(Value::Null),
    }
}

/// The comment of a pod's masquerading rule.
fn comment(network: &str, container: &str, interface: &str) -> String {
    format!("net {network} {}", hash(&[container, interface]))
}

impl Conf {
    /// What is not built is refused instead of ignored.
    fn supported(&self) -> Result<(), PluginError> {
        let unsupported = [
            ("vlan", self.vlan != 0),
            ("vlanTrunk", self.vlan_trunk.is_some()),
            ("macspoofchk", self.macspoofchk),
            ("disableContainerInterface", self.disable_container_interface),
            (
                "ipMasqBackend other than nftables",
                self.ip_masq_backend.as_deref() == Some("iptables"),
            ),
        ];
        match unsupported.iter().find(|(_, set)| *set) {
            Some((name, _)) => Err(PluginError::new(
                code::UNSUPPORTED_FIELD,
                format!("bridge: {name} is not supported"),
            )),
            None => Ok(()),
        }
    }

    fn bridge_name(&self) -> &str {
        self.bridge.as_deref().unwrap_or("cni0")
    }

    fn ipam(&self, invocation: &Invocation, raw: &Value) -> Result<Value, PluginError> {
        if self.ipam.kind.is_empty() {
            return Ok(Value::Null);
        }
        exec::run(&self.ipam.kind, invocation, raw)
    }

    fn add(&self, invocation: &Invocation, raw: &Value) -> Result<AddResult, PluginError> {
        let Some(netns) = &invocation.netns else {
            return Err(PluginError::new(
                code::INVALID_ENVIRONMENT,
                "bridge: CNI_NETNS is missing",
            ));
        };
        let given = self.ipam(&invocation.with(Command::Add), raw)?;
        let added = self.attach(invocation, netns, &given);
        if added.is_err() {
            // The first error is the answer; what the undoing says too is only logged.
            if let Err(e) = self.del(invocation, raw) {
                tracing::warn!("bridge: undoing a failed ADD: {e}");
            }
        }
        added
    }

    fn attach(&self, invocation: &Invocation, netns: &Path, given: &Value) -> Result<AddResult, PluginError> {
        let mut result = match given {
            Value::Null => AddResult::default(),
            given => AddResult::parse(given).map_err(|e| PluginError::new(code::DECODING_FAILURE, e.to_string()))?,
        };
        if !self.ipam.kind.is_empty() && result.ip_configs.is_empty() {
            return Err(PluginError::new(code::PLUGIN, "bridge: IPAM gave no address"));
        }
        let mut nets = Vec::new();
        for config in &mut result.ip_configs {
            let net: Net = config
                .address
                .parse()
                .map_err(|e: crate::link::NetError| PluginError::new(code::DECODING_FAILURE, e.to_string()))?;
            if config.gateway.is_none() && (self.is_gateway || self.is_default_gateway) {
                config.gateway = Some(first_host(net));
            }
            config.interface = Some(2);
            nets.push((net, config.gateway));
        }
        if self.is_default_gateway {
            for (net, gateway) in &nets {
                let dst = if net.ip.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
                let already = result.routes.iter().any(|r| r.dst == dst);
                if let Some(gateway) = gateway
                    && !already
                {
                    result.routes.push(Route {
                        dst: dst.into(),
                        gw: Some(*gateway),
                        ..Route::default()
                    });
                }
            }
        }
        let mut links = Links::open().map_err(link_error("bridge"))?;
        let bridge = self.bridge(&mut links)?;
        if self.is_gateway || self.is_default_gateway {
            self.gateway(&mut links, &bridge, &nets)?;
        }
        let (host, mac, mtu) = self.pair(&mut links, invocation, netns, &bridge, &nets)?;
        configure(netns, &invocation.if_name, &nets, &result.routes)?;
        if self.ip_masq {
            masquerade(
                &nets,
                &comment(&self.name, &invocation.container_id, &invocation.if_name),
            )?;
        }
        // With its first port a bridge without an address of its own may have changed its own.
        let bridge = links
            .by_index(bridge.index)
            .map_err(link_error("bridge"))?
            .unwrap_or(bridge);
        result.interfaces = vec![
            interface(&bridge.name, bridge.mac_text(), bridge.mtu, ""),
            interface(&host.name, host.mac_text(), host.mtu, ""),
            interface(&invocation.if_name, mac, mtu, &netns.display().to_string()),
        ];
        if !self.dns.is_empty() {
            result.dns = self.dns.clone();
        }
        Ok(result)
    }

    /// The bridge, made if it is not there, up.
    fn bridge(&self, links: &mut Links) -> Result<Link, PluginError> {
        let name = self.bridge_name();
        let failed = link_error(&format!("bridge {name}"));
        let missing = || PluginError::new(code::IO_FAILURE, format!("bridge {name} went away"));
        let made = links.by_name(name).map_err(&failed)?.is_none();
        if made {
            match links.add_bridge(name, self.mtu, false) {
                Err(e) if e.errno() == Some(nix::errno::Errno::EEXIST) => {}
                other => other.map_err(&failed)?,
            }
        }
        let link = links.by_name(name).map_err(&failed)?.ok_or_else(missing)?;
        if link.kind != "bridge" {
            let message = format!("{name} exists and is no bridge but {:?}", link.kind);
            return Err(PluginError::new(code::PLUGIN, message));
        }
        if made {
            // A bridge whose address was set keeps it; otherwise it changes with the ports that come and go.
            links.set_mac(link.index, link.mac).map_err(&failed)?;
        }
        if self.promisc_mode {
            links.set_promiscuous(link.index, true).map_err(&failed)?;
        }
        if !link.up {
            links.set_up(link.index).map_err(&failed)?;
        }
        Ok(link)
    }

    /// Gives the bridge the pods' gateway addresses and lets the host forward.
    fn gateway(&self, links: &mut Links, bridge: &Link, nets: &[(Net, Option<IpAddr>)]) -> Result<(), PluginError> {
        let failed = link_error(&format!("bridge {}", bridge.name));
        let present = links.addresses(bridge.index).map_err(&failed)?;
        for (net, gateway) in nets {
            let Some(gateway) = gateway else {
                continue;
            };
            let own = Net {
                ip: *gateway,
                prefix: net.prefix,
            };
            if !present.contains(&own) {
                let same_family = |n: &&Net| n.ip.is_ipv4() == own.ip.is_ipv4();
                for old in present
                    .iter()
                    .filter(same_family)
                    .filter(|n| own.ip.is_ipv4() || own.contains(n.ip))
                {
                    if !self.force_address {
                        let message = format!("{} already has {old}, not {own}", bridge.name);
                        return Err(PluginError::new(code::PLUGIN, message));
                    }
                    links.del_address(bridge.index, *old).map_err(&failed)?;
                }
                links.add_address(bridge.index, own).map_err(&failed)?;
            }
            let forward = if own.ip.is_ipv4() {
                "/proc/sys/net/ipv4/ip_forward"
            } else {
                "/proc/sys/net/ipv6/conf/all/forwarding"
            };
            sysctl(forward, "1")?;
        }
        Ok(())
    }

    /// The pair: host's end on the bridge; name, MAC and MTU of the pod's end.
    fn pair(
        &self,
        links: &mut Links,
        invocation: &Invocation,
        netns: &Path,
        bridge: &Link,
        nets: &[(Net, Option<IpAddr>)],
    ) -> Result<(Link, String, u32), PluginError> {
        let name = host_name(invocation);
        let failed = link_error(&name);
        let file = File::open(netns).map_err(|e| PluginError::io(netns.display(), e))?;
        if let Some(left) = links.by_name(&name).map_err(&failed)? {
            links.del(left.index).map_err(&failed)?;
        }
        let mac = [&self.runtime_config.mac, &self.mac]
            .into_iter()
            .find(|m| !m.is_empty());
        let mac = match mac {
            Some(mac) => Some(parse_mac(mac)?),
            None => nets.iter().find_map(|(net, _)| mac_of(net.ip)),
        };
        links
            .add_veth(&name, &invocation.if_name, file.as_fd(), self.mtu, mac)
            .map_err(link_error(&format!("{name} to {}", invocation.if_name)))?;
        let missing = || PluginError::new(code::IO_FAILURE, format!("{name} went away"));
        let host = links.by_name(&name).map_err(&failed)?.ok_or_else(missing)?;
        links.set_master(host.index, bridge.index).map_err(&failed)?;
        if self.hairpin_mode {
            links.set_hairpin(host.index, true).map_err(&failed)?;
        }
        if self.port_isolation {
            links.set_isolated(host.index, true).map_err(&failed)?;
        }
        links.set_up(host.index).map_err(&failed)?;
        let peer = inside(netns, || Links::open()?.by_name(&invocation.if_name))
            .map_err(|e| PluginError::new(code::IO_FAILURE, e.to_string()))?
            .map_err(link_error(&invocation.if_name))?
            .ok_or_else(missing)?;
        Ok((host, peer.mac_text(), peer.mtu))
    }

    fn del(&self, invocation: &Invocation, raw: &Value) -> Result<(), PluginError> {
        self.ipam(&invocation.with(Command::Del), raw)?;
        let mut links = Links::open().map_err(link_error("bridge"))?;
        let name = host_name(invocation);
        // The pod's end goes with the host's, so the namespace may be gone already.
        if let Some(link) = links.by_name(&name).map_err(link_error(&name))? {
            links.del(link.index).map_err(link_error(&name))?;
        }
        // also without ipMasq: the configuration may have been another when the pod was added
        let own = comment(&self.name, &invocation.container_id, &invocation.if_name);
        unmasquerade(|c| c == own)
    }

    fn check(&self, invocation: &Invocation, raw: &Value) -> Result<(), PluginError> {
        self.ipam(&invocation.with(Command::Check), raw)?;
        let wrong = |message: String| PluginError::new(code::PLUGIN, format!("bridge: {message}"));
        let previous = self
            .prev_result
            .as_ref()
            .ok_or_else(|| wrong("prevResult is missing".into()))?;
        let previous = AddResult::parse(previous).map_err(|e| wrong(e.to_string()))?;
        let mut links = Links::open().map_err(link_error("bridge"))?;
        let bridge = links.by_name(self.bridge_name()).map_err(link_error("bridge"))?;
        let bridge = bridge.ok_or_else(|| wrong(format!("{} is gone", self.bridge_name())))?;
        let name = host_name(invocation);
        let host = links.by_name(&name).map_err(link_error(&name))?;
        if host.and_then(|h| h.master) != Some(bridge.index) {
            return Err(wrong(format!("{name} is not on {}", bridge.name)));
        }
        let netns = invocation
            .netns
            .as_deref()
            .ok_or_else(|| wrong("CNI_NETNS is missing".into()))?;
        let if_name = &invocation.if_name;
        let present = inside(netns, || -> Result<Option<Vec<Net>>, netlink::Error> {
            let mut links = Links::open()?;
            let link = links.by_name(if_name)?;
            link.map(|l| links.addresses(l.index)).transpose()
        })
        .map_err(|e| wrong(e.to_string()))?
        .map_err(link_error(if_name))?
        .ok_or_else(|| wrong(format!("{if_name} is gone")))?;
        for ip in &previous.ips {
            if !present.iter().any(|n| n.ip == *ip) {
                return Err(wrong(format!("{ip} is not on {if_name}")));
            }
        }
        Ok(())
    }
}

fn interface(name: &str, mac: String, mtu: u32, sandbox: &str) -> Interface {
    Interface {
        name: name.to_owned(),
        mac,
        mtu,
        sandbox: sandbox.to_owned(),
        ..Interface::default()
    }
}

/// The first address of a network, the gateway if none is named.
fn first_host(net: Net) -> IpAddr {
    match net.network() {
        IpAddr::V4(ip) => IpAddr::V4((u32::from(ip) + 1).into()),
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) + 1).into()),
    }
}

fn parse_mac(text: &str) -> Result<[u8; 6], PluginError> {
    let bytes: Option<Vec<u8>> = text.split(':').map(|p| u8::from_str_radix(p, 16).ok()).collect();
    bytes
        .and_then(|b| b.try_into().ok())
        .ok_or_else(|| PluginError::new(code::INVALID_CONFIG, format!("bridge: {text:?} is not a MAC address")))
}
