//! Which servers an agent knows, and which it asks first. Kept on disk: the server that it was told to join may be gone one day.

use std::path::Path;

use pki::PkiError;
use serde::{Deserialize, Serialize};

/// The servers, as `host:port`, in the order in which they are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servers {
    /// The one of `--server`: tried when no other answers.
    first: String,
    /// Those that the cluster names; the first one answered last.
    known: Vec<String>,
}

/// The file, with k3s's fields.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Kept {
    #[serde(rename = "ServerURL")]
    server_url: String,
    server_addresses: Vec<String>,
}

impl Servers {
    /// One server is known.
    #[cfg(test)]
    pub fn new(first: &str) -> Servers {
        Servers {
            first: first.to_owned(),
            known: Vec::new(),
        }
    }

    /// Reads what was kept, if it was for the same `--server`: who names another one means another one.
    pub fn load(path: &Path, first: &str) -> Servers {
        let kept = std::fs::read(path)
            .ok()
            .and_then(|b| serde_json::from_slice::<Kept>(&b).ok());
        let known = kept
            .filter(|kept| kept.server_url == first)
            .map(|kept| kept.server_addresses);
        Servers {
            first: first.to_owned(),
            known: known.unwrap_or_default(),
        }
    }

    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), PkiError> {
        let kept = Kept {
            server_url: self.first.clone(),
            server_addresses: self.known.clone(),
        };
        let text = serde_json::to_vec(&kept).map_err(|e| PkiError::File {
            path: path.to_owned(),
            source: e.into(),
        })?;
        pki::write_file(path, &text, 0o600)
    }

    /// In which order to try them.
    pub fn order(&self) -> Vec<String> {
        let mut order = self.known.clone();
        if !order.contains(&self.first) {
            order.push(self.first.clone());
        }
        order
    }

    /// A server has answered: it is the one to ask.
    pub fn answered(&mut self, server: &str) {
        if let Some(at) = self.known.iter().position(|s| s == server) {
            self.known[..=at].rotate_right(1);
        }
    }

    /// A server has not answered: the others are asked before it.
    pub fn failed(&mut self, server: &str) {
        if let Some(at) = self.known.iter().position(|s| s == server) {
            self.known[at..].rotate_left(1);
        }
    }

    /// The cluster names its servers anew. Those that are no more, whose connections are to end, unless nothing changed.
    pub fn update(&mut self, named: &[String]) -> Option<Vec<String>> {
        // a cluster without a server cannot have said so
        if named.is_empty() {
            return None;
        }
        let stays = |s: &String| named.contains(s);
        let gone: Vec<String> = self.order().into_iter().filter(|s| !stays(s)).collect();
        let mut known: Vec<String> = self.known.iter().filter(|s| stays(s)).cloned().collect();
        known.extend(named.iter().filter(|s| !self.known.contains(s)).cloned());
        if known == self.known {
            return None;
        }
        self.known = known;
        // a name or a balancer before the servers is none of their addresses, and stays
        Some(gone.into_iter().filter(|s| *s != self.first).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn the_server_that_answered_is_asked_first_and_the_one_that_failed_last() {
        let mut servers = Servers::new("lb:6443");
        assert_eq!(servers.order(), list(&["lb:6443"]));
        assert_eq!(servers.update(&list(&["a", "b", "c"])), Some(Vec::new()));
        assert_eq!(servers.order(), list(&["a", "b", "c", "lb:6443"]));
        servers.answered("c");
        assert_eq!(servers.order(), list(&["c", "a", "b", "lb:6443"]));
        servers.failed("c");
        assert_eq!(servers.order(), list(&["a", "b", "c", "lb:6443"]));
        servers.answered("lb:6443");
        servers.failed("nobody");
        assert_eq!(servers.order(), list(&["a", "b", "c", "lb:6443"]));
    }

    #[test]
    fn the_cluster_says_which_servers_there_are() {
        let mut servers = Servers::new("a");
        servers.update(&list(&["a", "b"]));
        servers.answered("b");
        assert_eq!(servers.update(&list(&["a", "b"])), None);
        assert_eq!(servers.update(&[]), None);
        assert_eq!(servers.update(&list(&["a", "c"])), Some(list(&["b"])));
        assert_eq!(servers.order(), list(&["a", "c"]));
        // the one of --server is tried to the last
        assert_eq!(servers.update(&list(&["c"])), Some(Vec::new()));
        assert_eq!(servers.order(), list(&["c", "a"]));
    }

    #[test]
    fn they_are_kept_for_the_same_server_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etc/servers.json");
        assert_eq!(Servers::load(&path, "a"), Servers::new("a"));
        let mut servers = Servers::new("a");
        servers.update(&list(&["a", "b"]));
        servers.save(&path).unwrap();
        assert_eq!(Servers::load(&path, "a"), servers);
        assert_eq!(Servers::load(&path, "x"), Servers::new("x"));
        std::fs::write(&path, "{").unwrap();
        assert_eq!(Servers::load(&path, "a"), Servers::new("a"));
    }
}
