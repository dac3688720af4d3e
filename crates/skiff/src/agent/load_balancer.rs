//! A port on this machine behind which all servers of the cluster are: whoever talks to it talks to one that answers. Bytes are passed
//! on as they are; who is at the other end is for TLS to say.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use client::{Client, WatchEvent};
use futures::StreamExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::servers::Servers;
use crate::join;

/// How long a server may take to accept a connection before the next one is tried.
const DIAL: Duration = Duration::from_secs(5);

/// Where the servers are reached.
#[derive(Clone)]
pub struct LoadBalancer {
    state: Arc<Mutex<State>>,
    file: Arc<PathBuf>,
    pub local: SocketAddr,
}

struct State {
    servers: Servers,
    /// Ends the connections to a server.
    ends: HashMap<String, CancellationToken>,
    /// Whether the last connection found no server: it is told once.
    lost: bool,
}

impl LoadBalancer {
    /// Listens; connections are passed on until `stop`.
    ///
    /// # Errors
    /// When the port is in use.
    pub async fn start(
        servers: Servers,
        file: PathBuf,
        port: u16,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> io::Result<LoadBalancer> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let balancer = LoadBalancer {
            state: Arc::new(Mutex::new(State {
                servers,
                ends: HashMap::new(),
                lost: false,
            })),
            file: Arc::new(file),
            local: listener.local_addr()?,
        };
        tasks.spawn(balancer.clone().serve(listener, stop));
        Ok(balancer)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (balancer, stop) = (self.clone(), stop.clone());
                    tokio::spawn(async move {
                        tokio::select! {
                            () = stop.cancelled() => {}
                            () = balancer.pass(stream) => {}
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    // out of file descriptors: another connection must end first
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Passes a connection on to the first server that accepts it.
    async fn pass(&self, mut client: TcpStream) {
        let order = self.state().servers.order();
        let mut why = Vec::new();
        for address in order {
            match dial(&address).await {
                Ok(mut server) => {
                    let end = self.answered(&address);
                    let both = async {
                        client.set_nodelay(true)?;
                        server.set_nodelay(true)?;
                        tokio::io::copy_bidirectional(&mut client, &mut server).await
                    };
                    tokio::select! {
                        () = end.cancelled() => {}
                        ended = both => if let Err(error) = ended {
                            tracing::debug!(%error, address, "a connection to a server ended");
                        }
                    }
                    return;
                }
                Err(error) => {
                    self.state().servers.failed(&address);
                    why.push(format!("{address}: {error}"));
                }
            }
        }
        let told = std::mem::replace(&mut self.state().lost, true);
        if !told {
            tracing::warn!(
                why = why.join("; "),
                "no server of the cluster answers; connections are tried again"
            );
        }
    }

    fn answered(&self, address: &str) -> CancellationToken {
        let mut state = self.state();
        state.servers.answered(address);
        if std::mem::take(&mut state.lost) {
            tracing::info!(server = address, "a server of the cluster answers again");
        }
        state.ends.entry(address.to_owned()).or_default().clone()
    }

    /// Takes the servers that the cluster names; connections to others end.
    pub fn update(&self, named: &[String]) {
        let changed = {
            let mut state = self.state();
            let gone = state.servers.update(named);
            for end in gone.iter().flatten().filter_map(|server| state.ends.remove(server)) {
                end.cancel();
            }
            gone.map(|_| state.servers.clone())
        };
        let Some(servers) = changed else { return };
        tracing::info!(servers = named.join(","), "the servers of the cluster");
        if let Err(error) = servers.save(&self.file) {
            tracing::warn!(%error, "the servers of the cluster are not kept for the next start");
        }
    }

    /// Follows the endpoints of the Service `kubernetes` until `stop`.
    pub async fn follow(self, client: Client, stop: CancellationToken) {
        let slices = Client::collection::<EndpointSlice>("default").labels("kubernetes.io/service-name=kubernetes");
        let mut events = client.list_watch(slices);
        let mut known: HashMap<String, EndpointSlice> = HashMap::new();
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return,
                event = events.next() => event,
            };
            let objects = match event {
                Some(WatchEvent::Restarted(objects)) => {
                    known.clear();
                    objects
                }
                Some(WatchEvent::Applied(object)) => vec![object],
                Some(WatchEvent::Deleted(object)) => {
                    known.remove(&object.key());
                    Vec::new()
                }
                Some(WatchEvent::Bookmark(_)) => continue,
                None => return,
            };
            for object in objects {
                match object.decode::<EndpointSlice>() {
                    Ok(slice) => {
                        known.insert(object.key(), slice);
                    }
                    Err(error) => tracing::warn!(%error, "endpoints of the API cannot be read"),
                }
            }
            let slices: Vec<EndpointSlice> = known.values().cloned().collect();
            self.update(&join::endpoints(&slices));
        }
    }
}

async fn dial(address: &str) -> io::Result<TcpStream> {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "6443"));
    let port: u16 = port.parse().map_err(io::Error::other)?;
    let connect = async {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for ip in client::resolve(host).await.map_err(io::Error::other)? {
            match TcpStream::connect((ip, port)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    match tokio::time::timeout(DIAL, connect).await {
        Ok(connected) => connected,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A server that says its name to everybody and waits.
    async fn server(name: &'static str) -> (String, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let task = tokio::spawn(async move {
            let mut open = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(name.as_bytes()).await.unwrap();
                open.push(stream);
            }
        });
        (address, task)
    }

    async fn ask(balancer: &LoadBalancer) -> (String, TcpStream) {
        let mut stream = TcpStream::connect(balancer.local).await.unwrap();
        let mut name = vec![0; 1];
        let read = stream.read(&mut name).await.unwrap_or_default();
        name.truncate(read);
        (String::from_utf8(name).unwrap(), stream)
    }

    #[tokio::test]
    async fn connections_go_to_a_server_that_answers_and_end_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("servers.json");
        let (first, first_task) = server("1").await;
        let (second, _task) = server("2").await;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let servers = Servers::new(&first);
        let balancer = LoadBalancer::start(servers, file.clone(), 0, &tasks, stop.clone())
            .await
            .unwrap();
        assert_eq!(ask(&balancer).await.0, "1");
        balancer.update(&[first.clone(), second.clone()]);
        let (name, _open) = ask(&balancer).await;
        assert_eq!(name, "1");

        first_task.abort();
        assert!(first_task.await.unwrap_err().is_cancelled());
        let (name, mut open) = ask(&balancer).await;
        assert_eq!(name, "2");
        assert_eq!(Servers::load(&file, &first).order(), [first.clone(), second.clone()]);

        // a server that the cluster does not name any more is let go of
        let (third, _task) = server("3").await;
        balancer.update(std::slice::from_ref(&third));
        assert_eq!(open.read(&mut [0; 1]).await.unwrap_or_default(), 0);
        assert_eq!(ask(&balancer).await.0, "3");
        stop.cancel();
    }

    #[tokio::test]
    async fn without_a_server_a_connection_ends() {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let nobody = listener.local_addr().unwrap().to_string();
        drop(listener);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let file = dir.path().join("servers.json");
        let balancer = LoadBalancer::start(Servers::new(&nobody), file, 0, &tasks, stop)
            .await
            .unwrap();
        assert_eq!(ask(&balancer).await.0, "");
    }
}
