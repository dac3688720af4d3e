//! What nodes tell of themselves: flannel's annotations and the node's pod networks. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::backend::Backend;
use crate::link::Net;

const PREFIX: &str = "flannel.alpha.coreos.com/";
/// The VXLAN network's number, flannel's default.
pub(crate) const VNI: u32 = 1;

/// The part of a Node that the overlay reads.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct NodeFacts {
    pub metadata: Metadata,
    #[serde(default)]
    spec: Option<Spec>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Metadata {
    pub name: String,
    #[serde(default)]
    pub annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(rename = "podCIDR", default)]
    pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs", default)]
    pod_cidrs: Option<Vec<String>>,
}

/// flannel's `backend-data` of VXLAN.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct BackendData {
    #[serde(rename = "VNI")]
    vni: u32,
    #[serde(rename = "VtepMAC")]
    vtep_mac: String,
}

/// Where a node's pods of one family are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    pub pods: Net,
    /// Where the node receives packets for them.
    pub at: IpAddr,
    /// Of its VXLAN device.
    pub mac: Option<[u8; 6]>,
}

impl NodeFacts {
    fn annotation(&self, name: &str) -> Option<&str> {
        let annotations = self.metadata.annotations.as_ref()?;
        annotations.get(&format!("{PREFIX}{name}")).map(String::as_str)
    }

    /// The node's pod networks that can be read.
    pub(crate) fn pod_cidrs(&self) -> Vec<Net> {
        let Some(spec) = &self.spec else { return Vec::new() };
        let all = match &spec.pod_cidrs {
            Some(all) if !all.is_empty() => all.as_slice(),
            _ => spec.pod_cidr.as_slice(),
        };
        let parse = |cidr: &String| {
            cidr.parse()
                .map_err(|e| tracing::error!(node = self.metadata.name, "pod network: {e}"))
                .ok()
        };
        all.iter().filter_map(parse).collect()
    }

    /// Where the node's pods of a family are; none until the node has said all that the back end needs, or if it has another.
    pub(crate) fn peer(&self, backend: Backend, v6: bool) -> Option<Peer> {
        if self.annotation("backend-type")? != backend.name() {
            return None;
        }
        let (ip, data) = if v6 {
            ("public-ipv6", "backend-v6-data")
        } else {
            ("public-ip", "backend-data")
        };
        let pods = self.pod_cidrs().into_iter().find(|net| net.ip.is_ipv6() == v6)?;
        let at: IpAddr = self.annotation(ip)?.parse().ok()?;
        let mac = match backend {
            Backend::Vxlan => {
                let data: BackendData = serde_json::from_str(self.annotation(data)?).ok()?;
                if data.vni != VNI {
                    return None;
                }
                Some(parse_mac(&data.vtep_mac)?)
            }
            Backend::HostGw => None,
            Backend::None => return None,
        };
        (at.is_ipv6() == v6).then_some(Peer { pods, at, mac })
    }

    /// The annotations by which the others find this node, of those that it has not yet or otherwise. `sides` are its addresses
    /// and, of VXLAN devices, MACs.
    pub(crate) fn missing(&self, backend: Backend, sides: &[(IpAddr, [u8; 6])]) -> BTreeMap<String, String> {
        let mut wanted = vec![
            ("backend-type", backend.name().to_owned()),
            ("kube-subnet-manager", "true".to_owned()),
        ];
        for (ip, mac) in sides {
            let (public, overwrite, data) = match ip.is_ipv6() {
                false => ("public-ip", "public-ip-overwrite", "backend-data"),
                true => ("public-ipv6", "public-ipv6-overwrite", "backend-v6-data"),
            };
            let at = self.annotation(overwrite).map_or_else(|| ip.to_string(), str::to_owned);
            wanted.push((public, at));
            let said = match backend {
                Backend::Vxlan => format!(r#"{{"VNI":{VNI},"VtepMAC":"{}"}}"#, mac_text(*mac)),
                Backend::HostGw | Backend::None => "null".to_owned(),
            };
            wanted.push((data, said));
        }
        let missing = wanted
            .into_iter()
            .filter(|(name, value)| self.annotation(name) != Some(value));
        missing
            .map(|(name, value)| (format!("{PREFIX}{name}"), value))
            .collect()
    }
}

/// The MAC of a node's VXLAN device: the same after every restart, so that nobody has to learn a new one, and known before there
/// is a device.
pub(crate) fn mac_of(node: &str, v6: bool) -> [u8; 6] {
    let digest = Sha256::digest(format!("{node}\n{}", if v6 { "vxlan6" } else { "vxlan" }));
    let mut mac = [0; 6];
    for (to, from) in mac.iter_mut().zip(digest) {
        *to = from;
    }
    // locally administered, unicast
    mac[0] = (mac[0] & 0xfc) | 2;
    mac
}

fn mac_text(mac: [u8; 6]) -> String {
    let parts: Vec<String> = mac.iter().map(|b| format!("{b:02x}")).collect();
    parts.join(":")
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text.split(':').map(|p| u8::from_str_radix(p, 16).ok()).collect();
    bytes?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(annotations: &serde_json::Value) -> NodeFacts {
        serde_json::from_value(json!({
            "metadata": {"name": "a", "annotations": annotations},
            "spec": {"podCIDR": "10.42.1.0/24", "podCIDRs": ["10.42.1.0/24", "fd42:0:0:1::/64"]},
        }))
        .unwrap()
    }

    /// As flannel v0.27 writes them.
    fn of_flannel() -> serde_json::Value {
        json!({
            "flannel.alpha.coreos.com/backend-data": r#"{"VNI":1,"VtepMAC":"c2:ad:21:9f:d4:01"}"#,
            "flannel.alpha.coreos.com/backend-type": "vxlan",
            "flannel.alpha.coreos.com/kube-subnet-manager": "true",
            "flannel.alpha.coreos.com/public-ip": "192.0.2.7",
        })
    }

    #[test]
    fn a_node_of_flannel_is_understood() {
        let node = node(&of_flannel());
        let peer = node.peer(Backend::Vxlan, false).unwrap();
        assert_eq!(peer.pods.to_string(), "10.42.1.0/24");
        assert_eq!(peer.at.to_string(), "192.0.2.7");
        assert_eq!(peer.mac, Some([0xc2, 0xad, 0x21, 0x9f, 0xd4, 1]));
        assert_eq!(
            node.peer(Backend::Vxlan, true),
            None,
            "it has not said where its IPv6 is"
        );
        assert_eq!(node.peer(Backend::HostGw, false), None, "it has another back end");
    }

    #[test]
    fn what_a_node_says_of_itself_is_what_others_read_and_is_said_once() {
        let v4 = ("192.0.2.7".parse().unwrap(), mac_of("a", false));
        let v6 = ("2001:db8::7".parse().unwrap(), mac_of("a", true));
        for backend in [Backend::Vxlan, Backend::HostGw] {
            let said = node(&json!({})).missing(backend, &[v4, v6]);
            assert_eq!(said.len(), 6);
            let node = node(&json!(said));
            assert!(node.missing(backend, &[v4, v6]).is_empty());
            for (v6, at) in [(false, v4.0), (true, v6.0)] {
                assert_eq!(node.peer(backend, v6).unwrap().at, at);
            }
        }
        let moved = node(&of_flannel()).missing(Backend::Vxlan, &[("192.0.2.8".parse().unwrap(), v4.1)]);
        assert_eq!(moved["flannel.alpha.coreos.com/public-ip"], "192.0.2.8");
        assert_eq!(moved.len(), 2, "{moved:?}");
    }

    #[test]
    fn a_public_address_of_the_users_goes_before_the_nodes_own() {
        let overwritten = node(&json!({"flannel.alpha.coreos.com/public-ip-overwrite": "203.0.113.1"}));
        let said = overwritten.missing(Backend::Vxlan, &[("192.0.2.7".parse().unwrap(), [2; 6])]);
        assert_eq!(said["flannel.alpha.coreos.com/public-ip"], "203.0.113.1");
    }

    #[test]
    fn nonsense_is_nobody() {
        for (name, value) in [
            ("public-ip", "everywhere"),
            ("public-ip", "2001:db8::1"),
            ("backend-data", "null"),
            ("backend-data", r#"{"VNI":1,"VtepMAC":"c2:ad"}"#),
            ("backend-data", r#"{"VNI":9,"VtepMAC":"c2:ad:21:9f:d4:01"}"#),
        ] {
            let mut annotations = of_flannel();
            annotations[format!("{PREFIX}{name}")] = value.into();
            assert_eq!(node(&annotations).peer(Backend::Vxlan, false), None, "{name} {value}");
        }
    }
}
