//! The network a node has if nobody configured another: a bridge, addresses from the node's pod networks, host ports.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::link::Net;

/// What the default network is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultNetwork {
    /// The bridge's name, of 15 bytes at most.
    pub bridge: String,
    /// The node's pod networks, one of each family at most.
    pub pod_cidrs: Vec<Net>,
    /// Where the addresses given are kept. Must be as lasting as the pods, no longer than a boot.
    pub data_dir: PathBuf,
    /// Zero is the kernel's default.
    pub mtu: u32,
    /// Pods' packets to other networks than their own get the node's address. Not where the overlay sees to that.
    pub masquerade: bool,
}

/// Below the names that network add-ons use, so that theirs wins.
const FILE: &str = "99-skiff.conflist";

impl DefaultNetwork {
    /// The configuration list: a bridge, which is every pod's gateway and gets its addresses from host-local, and
    /// portmap for host ports. The network's name is `cbr0`, as flannel's manifests have it.
    pub fn conf_list(&self) -> Value {
        let ranges: Vec<Value> = self
            .pod_cidrs
            .iter()
            .map(|net| json!([{"subnet": format!("{}/{}", net.network(), net.prefix)}]))
            .collect();
        let mut bridge = json!({
            "type": "bridge",
            "bridge": self.bridge,
            "isDefaultGateway": true,
            "forceAddress": true,
            "hairpinMode": true,
            "ipMasq": self.masquerade,
            "ipMasqBackend": "nftables",
            "ipam": {"type": "host-local", "dataDir": self.data_dir, "ranges": ranges},
        });
        if self.mtu > 0
            && let Some(bridge) = bridge.as_object_mut()
        {
            bridge.insert("mtu".into(), self.mtu.into());
        }
        let portmap = json!({"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": true}});
        json!({"cniVersion": "1.1.0", "name": "cbr0", "plugins": [bridge, portmap]})
    }

    /// Writes it into the configuration folder; says whether that changed anything.
    pub fn install(&self, conf_dir: &Path) -> std::io::Result<bool> {
        let path = conf_dir.join(FILE);
        let text = serde_json::to_string_pretty(&self.conf_list())? + "\n";
        match std::fs::read_to_string(&path) {
            Ok(there) if there == text => return Ok(false),
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => std::fs::create_dir_all(conf_dir)?,
            Err(e) => return Err(e),
        }
        // A reader sees the old file or the new one, and never the suffix.
        files::replace_own(&path, text.as_bytes())?;
        Ok(true)
    }

    /// Takes it back.
    pub fn remove(conf_dir: &Path) -> std::io::Result<()> {
        match std::fs::remove_file(conf_dir.join(FILE)) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf;

    #[test]
    fn the_default_network_is_one_that_the_caller_takes() {
        let dir = tempfile::tempdir().unwrap();
        let conf_dir = dir.path().join("net.d");
        let network = DefaultNetwork {
            bridge: "cni0".into(),
            pod_cidrs: vec!["10.42.3.7/24".parse().unwrap(), "fd42::/64".parse().unwrap()],
            data_dir: "/run/x".into(),
            mtu: 1450,
            masquerade: true,
        };
        assert!(network.install(&conf_dir).unwrap());
        assert!(!network.install(&conf_dir).unwrap());
        let conf = conf::load(&conf_dir, |_| {}).unwrap();
        assert_eq!((conf.plugin_type(0), conf.plugin_type(1)), ("bridge", "portmap"));
        assert_eq!(conf.plugins[0]["ipam"]["ranges"][0][0]["subnet"], "10.42.3.0/24");
        DefaultNetwork::remove(&conf_dir).unwrap();
        assert!(conf::load(&conf_dir, |_| {}).is_err());
    }
}
