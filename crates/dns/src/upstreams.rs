//! The servers that answer for the rest of the world: the host's, never ourselves.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::{DnsConfig, Upstreams};

pub(crate) struct Servers {
    file: Option<PathBuf>,
    own: Vec<IpAddr>,
    own_sockets: Vec<SocketAddr>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    modified: Option<SystemTime>,
    servers: Vec<SocketAddr>,
    /// The one that answered last: asked first.
    first: usize,
}

impl Servers {
    pub(crate) fn new(config: &DnsConfig) -> Servers {
        let mut servers = Servers {
            file: None,
            own: config.own_addresses.clone(),
            own_sockets: config.listen.clone(),
            known: Mutex::default(),
        };
        match &config.upstreams {
            Upstreams::ResolvConf(path) => servers.file = Some(path.clone()),
            Upstreams::Servers(list) => {
                let list = list.iter().copied().filter(|s| !servers.is_own(s)).collect();
                servers.known.get_mut().unwrap_or_else(PoisonError::into_inner).servers = list;
            }
        }
        servers
    }

    fn is_own(&self, server: &SocketAddr) -> bool {
        let listens = |own: &SocketAddr| {
            let any = own.ip().is_unspecified() && server.ip().is_loopback();
            own.port() == server.port() && (own.ip() == server.ip() || any)
        };
        self.own.contains(&server.ip()) || self.own_sockets.iter().any(listens)
    }

    /// In the order in which they are to be asked.
    pub(crate) fn ordered(&self) -> Vec<SocketAddr> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = &self.file {
            let modified = std::fs::metadata(path).and_then(|m| m.modified()).ok();
            if modified != known.modified || known.modified.is_none() {
                let text = std::fs::read_to_string(path).unwrap_or_else(|e| {
                    tracing::warn!("{}: {e}", path.display());
                    String::new()
                });
                let servers = name_servers(&text).into_iter().filter(|s| !self.is_own(s)).collect();
                *known = Known {
                    modified,
                    servers,
                    first: 0,
                };
            }
        }
        let mut servers = known.servers.clone();
        if !servers.is_empty() {
            let first = known.first % servers.len();
            servers.rotate_left(first);
        }
        servers
    }

    /// Remembers who answered.
    pub(crate) fn answered(&self, server: SocketAddr) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = known.servers.iter().position(|s| *s == server) {
            known.first = at;
        }
    }
}

fn name_servers(text: &str) -> Vec<SocketAddr> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = (words.next() == Some("nameserver")).then(|| words.next())??;
        // A zone (fe80::1%eth0) is of no use without its link's index.
        let ip: IpAddr = address.split('%').next()?.parse().ok()?;
        Some(SocketAddr::new(ip, 53))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_addresses_are_never_upstreams() {
        let mut config = DnsConfig::new("cluster.local", vec!["0.0.0.0:53".parse().unwrap()]);
        config.own_addresses = vec!["10.43.0.10".parse().unwrap()];
        let list = [
            "127.0.0.1:53",
            "10.43.0.10:53",
            "9.9.9.9:53",
            "127.0.0.1:5353",
            "1.1.1.1:53",
        ];
        config.upstreams = Upstreams::Servers(list.iter().map(|s| s.parse().unwrap()).collect());
        let servers = Servers::new(&config);
        let of = |s: &Servers| s.ordered().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(of(&servers), ["9.9.9.9:53", "127.0.0.1:5353", "1.1.1.1:53"]);
        servers.answered("1.1.1.1:53".parse().unwrap());
        assert_eq!(of(&servers), ["1.1.1.1:53", "9.9.9.9:53", "127.0.0.1:5353"]);
    }

    #[test]
    fn name_servers_are_read_from_resolv_conf() {
        let text =
            "# x\nsearch a b\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver nonsense\noptions ndots:5\n";
        let found: Vec<String> = name_servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1:53", "[fe80::1]:53"]);
    }
}
