//! Ways to nodes that nobody can connect to, and to their pods. Such a node keeps a tunnel open to the server, and connections to it go
//! through that one; all others are made directly.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use streaming::tunnel::{self, Asker};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::either::Either;

/// A connection to a node or a pod, directly or through the node's tunnel.
pub type Stream = Either<TcpStream, tunnel::Stream>;

/// How long a connection waits for a tunnel that was there and has ended: its node opens another within seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a tunnel is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    /// Connections to the node itself.
    Node,
    /// Those to its pods, too.
    NodeAndPods,
}

/// The nodes that are reached through tunnels.
#[derive(Debug, Default)]
pub struct Egress {
    hidden: RwLock<HashMap<String, Hidden>>,
    opened: AtomicU64,
}

/// A node to which there is no direct way.
#[derive(Debug)]
struct Hidden {
    carries: Carries,
    /// The newest of its tunnels, and which it is; none while it is not connected.
    tunnel: watch::Sender<Option<(u64, Asker)>>,
}

/// The way to a node that is reached through its tunnel.
#[derive(Debug, Clone)]
pub struct Way(watch::Receiver<Option<(u64, Asker)>>);

impl Way {
    /// Connects to a port of the node or of one of its pods.
    ///
    /// # Errors
    /// The node's, when it cannot or will not connect; when it has no tunnel.
    pub async fn connect(&self, host: &str, port: u16) -> io::Result<Stream> {
        let none = || io::Error::new(io::ErrorKind::NotConnected, "the node's tunnel is down");
        let mut tunnel = self.0.clone();
        let open = async {
            let open = tunnel.wait_for(Option::is_some).await.ok()?;
            open.as_ref().map(|(_, asker)| asker.clone())
        };
        let asker = tokio::time::timeout(PATIENCE, open).await.ok().flatten();
        let asker = asker.ok_or_else(none)?;
        Ok(Either::Right(asker.connect(host, port).await?))
    }
}

impl Egress {
    /// Uses a connection that a node has made as its tunnel, until it ends.
    ///
    /// # Errors
    /// When it breaks, or the node does not speak the protocol.
    pub async fn keep<I>(&self, node: &str, carries: Carries, io: I) -> hyper::Result<()>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (asker, connection) = tunnel::asker(io).await?;
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        {
            let mut hidden = self.hidden.write().unwrap_or_else(PoisonError::into_inner);
            let node = hidden.entry(node.to_owned()).or_insert_with(|| Hidden {
                carries,
                tunnel: watch::Sender::new(None),
            });
            node.carries = carries;
            node.tunnel.send_replace(Some((number, asker)));
        }
        let ended = connection.await;
        let hidden = self.hidden.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = hidden.get(node) {
            node.tunnel.send_if_modified(|tunnel| {
                let own = tunnel.as_ref().is_some_and(|(newest, _)| *newest == number);
                own && tunnel.take().is_some()
            });
        }
        ended
    }

    /// A node is reached directly, or is no more.
    pub fn forget(&self, node: &str) {
        let mut hidden = self.hidden.write().unwrap_or_else(PoisonError::into_inner);
        hidden.remove(node);
    }

    /// The way to a node, if it is not the direct one.
    pub fn to_node(&self, node: &str) -> Option<Way> {
        let hidden = self.hidden.read().unwrap_or_else(PoisonError::into_inner);
        hidden.get(node).map(|node| Way(node.tunnel.subscribe()))
    }

    /// The way to a node's pods, if it is not the direct one.
    pub fn to_pods(&self, node: &str) -> Option<Way> {
        let hidden = self.hidden.read().unwrap_or_else(PoisonError::into_inner);
        let node = hidden.get(node).filter(|node| node.carries == Carries::NodeAndPods)?;
        Some(Way(node.tunnel.subscribe()))
    }

    /// Whether there are pods to which there is no direct way: a Service's own address may then lead nowhere.
    pub fn has_pods(&self) -> bool {
        let hidden = self.hidden.read().unwrap_or_else(PoisonError::into_inner);
        hidden.values().any(|node| node.carries == Carries::NodeAndPods)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Opens a tunnel of a node, whose connections are refused with this number; it ends with what is returned.
    async fn open(egress: &Arc<Egress>, carries: Carries, refusal: i32) -> tokio::task::JoinHandle<hyper::Result<()>> {
        let (ours, theirs) = tokio::io::duplex(1024);
        let before = egress.opened.load(Ordering::Relaxed);
        let kept = egress.clone();
        tokio::spawn(async move { kept.keep("a", carries, ours).await });
        let dial = move |_: String, _: u16| async move { Err(io::Error::from_raw_os_error(refusal)) };
        let answering = tokio::spawn(tunnel::answer(theirs, dial, std::future::pending()));
        while egress.opened.load(Ordering::Relaxed) == before || egress.to_node("a").is_none() {
            tokio::task::yield_now().await;
        }
        answering
    }

    async fn answer(way: &Way) -> io::Error {
        way.connect("192.0.2.1", 1).await.expect_err("nobody is there")
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_is_reached_through_its_tunnel_and_waited_for_while_there_is_none() {
        let egress = Arc::new(Egress::default());
        assert!(egress.to_node("a").is_none() && !egress.has_pods());
        let tunnel = open(&egress, Carries::Node, 1).await;
        assert!(egress.to_pods("a").is_none() && !egress.has_pods());
        assert!(egress.to_node("b").is_none());
        let way = egress.to_node("a").unwrap();
        assert_eq!(answer(&way).await.raw_os_error(), Some(1));
        tunnel.abort();
        while way.0.borrow().is_some() {
            tokio::task::yield_now().await;
        }
        assert_eq!(answer(&way).await.kind(), io::ErrorKind::NotConnected);
        let (said, _tunnel) = tokio::join!(answer(&way), open(&egress, Carries::NodeAndPods, 2));
        assert_eq!(said.raw_os_error(), Some(2));
        assert!(egress.to_pods("a").is_some() && egress.has_pods());
        egress.forget("a");
        assert!(egress.to_node("a").is_none() && !egress.has_pods());
    }

    #[tokio::test]
    async fn the_end_of_an_old_tunnel_does_not_close_the_new_one() {
        let egress = Arc::new(Egress::default());
        let old = open(&egress, Carries::NodeAndPods, 1).await;
        let _new = open(&egress, Carries::NodeAndPods, 2).await;
        old.abort();
        let way = egress.to_node("a").unwrap();
        for _ in 0..100 {
            tokio::task::yield_now().await;
            assert_eq!(answer(&way).await.raw_os_error(), Some(2));
        }
    }
}
