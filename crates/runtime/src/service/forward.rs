//! Connections to ports inside a pod: sockets made in its network namespace.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use nix::sched::{CloneFlags, setns};
use tokio::net::{TcpSocket, TcpStream};

use super::error::Result;
use super::{Runtime, sandbox};

/// Where a pod's ports are.
#[derive(Debug, Clone)]
pub struct Target {
    /// The namespace's file; none is the node's own network.
    namespace: Option<PathBuf>,
}

impl Target {
    pub(crate) fn new(runtime: &Runtime, sandbox_id: &str) -> Result<Self> {
        let found = runtime.sandbox(sandbox_id)?;
        found.shim()?;
        let own = sandbox::has_own_network(&found.config());
        Ok(Self {
            namespace: own.then(|| found.shim_dir.join("net")),
        })
    }

    /// As upstream: on the loopback addresses, of IPv4 first.
    pub async fn connect(self, port: u16) -> io::Result<TcpStream> {
        let addresses: [SocketAddr; 2] = [(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()];
        let mut first = None;
        for address in addresses {
            match self.socket(address).await {
                Ok(socket) => match socket.connect(address).await {
                    Ok(stream) => return Ok(stream),
                    Err(error) => drop(first.get_or_insert(error)),
                },
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
        let reason = first.map_or_else(String::new, |e| e.to_string());
        Err(io::Error::other(format!(
            "failed to connect to localhost:{port} inside the pod: {reason}"
        )))
    }

    async fn socket(&self, address: SocketAddr) -> io::Result<TcpSocket> {
        let make = move || match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        };
        let Some(path) = self.namespace.clone() else {
            return make();
        };
        let (send, receive) = tokio::sync::oneshot::channel();
        // A thread of its own: whoever runs on a thread of the pool must find it in the node's namespace.
        std::thread::Builder::new()
            .name("port-forward".to_owned())
            .spawn(move || {
                let made = std::fs::File::open(&path)
                    .and_then(|file| setns(file, CloneFlags::CLONE_NEWNET).map_err(io::Error::from))
                    .and_then(|()| make());
                // Whoever asked may have left.
                let _ = send.send(made);
            })?;
        receive.await.map_err(io::Error::other)?
    }
}
