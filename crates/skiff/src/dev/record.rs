//! What is kept of a cluster of `skiff dev`: `cluster.json` in a folder of its name, beside the folders of its nodes.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::DevError;

/// Where clusters are kept unless `SKIFF_DEV_DIR` names another folder.
const HOME: &str = "/var/lib/skiff-dev";
/// Networks of clusters: 198.19.N.0/24, of a block that no network in use has (RFC 2544).
const NETWORK: [u8; 2] = [198, 19];
/// Host number of the first node; the machine itself is number 1.
const FIRST: u8 = 10;
/// Nodes that a network has room for.
pub const MOST_NODES: u8 = 200;

/// A cluster.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Record {
    pub name: String,
    /// The third number of the cluster's network; no two clusters share it.
    pub network: u8,
    pub nodes: u8,
    /// Nodes besides, whose containers are only pretended; one process is all of them.
    #[serde(default)]
    pub hollow: u16,
    pub ports: Vec<Port>,
    pub token: String,
    /// More flags of the server.
    #[serde(default)]
    pub server_args: Vec<String>,
    /// More flags of each node.
    #[serde(default)]
    pub node_args: Vec<String>,
}

/// A port of this machine that leads to one of the first node.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
pub struct Port {
    pub machine: u16,
    pub node: u16,
    pub udp: bool,
}

/// Why a text names no ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    #[error("{0:?} is not a port")]
    Number(String),
    #[error("{0:?} is neither tcp nor udp")]
    Protocol(String),
}

impl std::str::FromStr for Port {
    type Err = PortError;

    /// Reads `8080:80`, `8080:80/udp` or `8080`.
    fn from_str(text: &str) -> Result<Port, PortError> {
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (machine, node) = ports.split_once(':').unwrap_or((ports, ports));
        let number = |text: &str| match text.parse::<u16>() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(PortError::Number(text.to_owned())),
        };
        let udp = match protocol {
            "tcp" => false,
            "udp" => true,
            other => return Err(PortError::Protocol(other.to_owned())),
        };
        Ok(Port {
            machine: number(machine)?,
            node: number(node)?,
            udp,
        })
    }
}

/// The folder that holds all clusters.
pub fn home() -> PathBuf {
    std::env::var_os("SKIFF_DEV_DIR").map_or_else(|| HOME.into(), PathBuf::from)
}

/// A name that can be a folder, a host's name and a part of a context's.
pub fn check_name(name: &str) -> Result<(), DevError> {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let fits = !name.is_empty() && name.len() <= 40 && name.chars().all(letters);
    match fits && !name.starts_with('-') && !name.ends_with('-') {
        true => Ok(()),
        false => Err(DevError::Name(name.to_owned())),
    }
}

impl Record {
    /// The cluster of this name, if there is one.
    pub fn load(home: &Path, name: &str) -> Result<Option<Record>, DevError> {
        check_name(name)?;
        let path = home.join(name).join("cluster.json");
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|e| DevError::File { path, source: e.into() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(DevError::File { path, source }),
        }
    }

    /// All clusters, by name.
    pub fn all(home: &Path) -> Result<Vec<Record>, DevError> {
        let entries = match std::fs::read_dir(home) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => {
                let path = home.to_owned();
                return Err(DevError::File { path, source });
            }
        };
        let names = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| check_name(name).is_ok()).collect();
        names.sort();
        let loaded = names.iter().map(|name| Record::load(home, name).transpose());
        loaded.flatten().collect()
    }

    /// Writes the record into the cluster's folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, home: &Path) -> Result<(), DevError> {
        let path = self.folder(home).join("cluster.json");
        let failed = |source: io::Error| DevError::File {
            path: path.clone(),
            source,
        };
        std::fs::create_dir_all(self.folder(home)).map_err(failed)?;
        let text = serde_json::to_vec_pretty(self).map_err(|e| failed(e.into()))?;
        // it holds the cluster's secret
        pki::write_file(&path, &text, 0o600)?;
        Ok(())
    }

    /// A network that none of the clusters has.
    pub fn free_network(all: &[Record]) -> Option<u8> {
        (0..=u8::MAX).find(|network| all.iter().all(|record| record.network != *network))
    }

    /// The cluster's folder.
    pub fn folder(&self, home: &Path) -> PathBuf {
        home.join(&self.name)
    }

    /// The numbers of the processes that the cluster has: a node each, and one for all hollow nodes.
    pub fn processes(&self) -> std::ops::Range<u8> {
        0..self.nodes.saturating_add(u8::from(self.hollow > 0))
    }

    /// Whether this process is the hollow nodes.
    pub fn is_hollow(&self, number: u8) -> bool {
        self.hollow > 0 && number >= self.nodes
    }

    /// The process's name, which is its node's: the first is the server.
    pub fn node(&self, number: u8) -> String {
        match number {
            0 => format!("{}-server", self.name),
            number if self.is_hollow(number) => format!("{}-hollow", self.name),
            number => format!("{}-agent-{number}", self.name),
        }
    }

    /// The names of all nodes, each with the process that it is in.
    pub fn all_nodes(&self) -> impl Iterator<Item = (u8, String)> {
        let hollow = (1..=self.hollow).map(|number| (self.nodes, format!("{}-{number}", self.node(self.nodes))));
        (0..self.nodes).map(|number| (number, self.node(number))).chain(hollow)
    }

    /// The folder of a node.
    pub fn node_folder(&self, home: &Path, number: u8) -> PathBuf {
        self.folder(home).join(self.node(number))
    }

    /// Where a node keeps its state.
    pub fn data_dir(&self, home: &Path, number: u8) -> PathBuf {
        self.node_folder(home, number).join("data")
    }

    fn host(&self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(NETWORK[0], NETWORK[1], self.network, number)
    }

    /// This machine's address in the cluster's network.
    pub fn gateway(&self) -> Ipv4Addr {
        self.host(1)
    }

    /// The address of a node.
    pub fn address(&self, number: u8) -> Ipv4Addr {
        self.host(FIRST.saturating_add(number))
    }

    /// Where the API server is.
    pub fn url(&self) -> String {
        format!("https://{}:6443", self.address(0))
    }

    /// The name of context, cluster and user in a kubeconfig.
    pub fn context(&self) -> String {
        format!("skiff-{}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, network: u8) -> Record {
        Record {
            name: name.into(),
            network,
            nodes: 2,
            hollow: 0,
            ports: Vec::new(),
            token: "secret".into(),
            server_args: Vec::new(),
            node_args: Vec::new(),
        }
    }

    #[test]
    fn ports_are_read_as_docker_writes_them() {
        let port = |machine, node, udp| Ok(Port { machine, node, udp });
        assert_eq!("8080:80".parse(), port(8080, 80, false));
        assert_eq!("53:30053/udp".parse(), port(53, 30053, true));
        assert_eq!("443".parse(), port(443, 443, false));
        for bad in ["", "0:80", "80:", "a:b", "80:80/sctp", "70000:80"] {
            assert!(bad.parse::<Port>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_is_a_label_that_may_be_a_folder() {
        for good in ["a", "shop-2"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "../a", "a.b", &"a".repeat(41)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn clusters_are_kept_and_have_networks_of_their_own() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(Record::all(home.path()).unwrap(), []);
        let (b, a) = (record("b", 0), record("a", 1));
        b.save(home.path()).unwrap();
        a.save(home.path()).unwrap();
        let all = Record::all(home.path()).unwrap();
        assert_eq!(all, [a.clone(), b]);
        assert_eq!(Record::free_network(&all), Some(2));
        assert_eq!(Record::load(home.path(), "a").unwrap(), Some(a));
        assert_eq!(Record::load(home.path(), "c").unwrap(), None);
        std::fs::write(home.path().join("a/cluster.json"), "{").unwrap();
        assert!(Record::load(home.path(), "a").is_err());
    }

    #[test]
    fn the_first_node_is_the_server() {
        let record = record("shop", 7);
        assert_eq!(
            (record.node(0), record.node(2)),
            ("shop-server".into(), "shop-agent-2".into())
        );
        assert_eq!(record.address(2).to_string(), "198.19.7.12");
        assert_eq!(record.url(), "https://198.19.7.10:6443");
        assert_eq!(record.processes(), 0..2);
    }

    #[test]
    fn hollow_nodes_share_a_process() {
        let mut record = record("shop", 7);
        record.hollow = 2;
        assert_eq!(record.processes(), 0..3);
        let nodes: Vec<(u8, String)> = record.all_nodes().collect();
        let named = |process, name: &str| (process, name.to_owned());
        assert_eq!(
            nodes,
            [
                named(0, "shop-server"),
                named(1, "shop-agent-1"),
                named(2, "shop-hollow-1"),
                named(2, "shop-hollow-2")
            ]
        );
    }
}
