//! What a node is called and where it is: by its flags, else by its host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use cni::link::Net;

use super::NodeError;
use super::args::NodeArgs;
use crate::node_paths::NodePaths;

/// A node's name and addresses.
#[derive(Debug, Clone)]
pub struct NodeIdentity {
    pub name: String,
    /// The first one is the node's own; at most one of each family.
    pub ips: Vec<IpAddr>,
    /// Addresses that reach the node from outside of its network.
    pub external_ips: Vec<IpAddr>,
}

impl NodeIdentity {
    /// Reads the identity; `--with-node-id` makes its number at the first start.
    ///
    /// # Errors
    /// Without root, a name, or an address; for a name that no node can have; when the number cannot be kept.
    pub fn of(args: &NodeArgs, paths: &NodePaths) -> Result<NodeIdentity, NodeError> {
        if !nix::unistd::geteuid().is_root() {
            return Err(NodeError::NotRoot);
        }
        let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let mut name = args.node_name.clone().unwrap_or_else(host).trim().to_lowercase();
        if name.is_empty() {
            return Err(NodeError::NoName);
        }
        if args.with_node_id {
            name = format!("{name}-{}", kept(&paths.node_config().join("id"), 4, 0o644)?);
        }
        if let Some(why) = api::names::dns1123_subdomain_errors(&name).into_iter().next() {
            return Err(NodeError::Name { name, why });
        }
        let mut ips = args.node_ip.clone();
        if ips.is_empty() {
            ips.push(default_address().ok_or(NodeError::NoAddress)?);
        }
        Ok(NodeIdentity {
            name,
            ips,
            external_ips: args.node_external_ip.clone(),
        })
    }

    /// The node in a cluster of these networks of pods: where its flags give it no address, it has one of each of their families
    /// that its host has one of, the cluster's own first.
    ///
    /// # Errors
    /// When the host has no address of the cluster's own family.
    pub fn in_cluster(mut self, args: &NodeArgs, networks: &[Net]) -> Result<NodeIdentity, NodeError> {
        if args.node_ip.is_empty() {
            let families = networks.iter().map(|net| net.ip.is_ipv4());
            let found: Vec<Option<IpAddr>> = families.map(address_towards).collect();
            if !matches!(found.first(), Some(Some(_))) {
                return Err(NodeError::NoAddress);
            }
            self.ips = found.into_iter().flatten().collect();
        }
        Ok(self)
    }

    /// The names and addresses that the kubelet's serving certificate is for.
    pub fn serving_names(&self) -> Vec<String> {
        let addresses = self.ips.iter().chain(&self.external_ips).map(ToString::to_string);
        let own = [self.name.clone(), "localhost".into(), "127.0.0.1".into()];
        own.into_iter().chain(addresses).collect()
    }
}

/// By what a node proves that its name is its own: made at the first start, and never anybody else's.
///
/// # Errors
/// When it cannot be read or kept.
pub fn password(paths: &NodePaths) -> Result<String, NodeError> {
    kept(&paths.node_config().join("password"), 16, 0o600)
}

/// Random bytes as hex digits, made once and kept in a file.
fn kept(path: &Path, bytes: usize, mode: u32) -> Result<String, NodeError> {
    let failed = |source| NodeError::File {
        path: path.to_owned(),
        source,
    };
    match std::fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).map_err(|e| failed(std::io::Error::other(e.to_string())))?;
    let text: String = random.iter().map(|b| format!("{b:02x}")).collect();
    pki::write_file(path, format!("{text}\n").as_bytes(), mode)?;
    Ok(text)
}

/// The address this host would use towards the outside; of IPv6 where it has none of IPv4.
pub fn default_address() -> Option<IpAddr> {
    address_towards(true).or_else(|| address_towards(false))
}

/// The address of one family that this host would use towards the outside. A connected UDP socket sends nothing.
fn address_towards(v4: bool) -> Option<IpAddr> {
    let (any, outside): (IpAddr, IpAddr) = match v4 {
        true => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into()),
        false => (
            Ipv6Addr::UNSPECIFIED.into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        ),
    };
    let socket = std::net::UdpSocket::bind((any, 0)).ok()?;
    socket.connect((outside, 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_at_the_first_start_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node/id");
        let first = kept(&path, 4, 0o644).unwrap();
        assert_eq!(first.len(), 8);
        assert_eq!(kept(&path, 4, 0o644).unwrap(), first);
        std::fs::write(&path, "").unwrap();
        assert_ne!(kept(&path, 4, 0o644).unwrap(), first);
    }

    #[test]
    fn a_serving_certificate_is_for_all_names_of_a_node() {
        let node = NodeIdentity {
            name: "a".into(),
            ips: vec!["192.0.2.1".parse().unwrap()],
            external_ips: vec!["2001:db8::1".parse().unwrap()],
        };
        assert_eq!(
            node.serving_names(),
            ["a", "localhost", "127.0.0.1", "192.0.2.1", "2001:db8::1"]
        );
    }
}
