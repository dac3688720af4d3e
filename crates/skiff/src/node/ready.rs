//! Says when the server is ready: in the log, and to systemd if it asked (`sd_notify(3)`).

use client::{Client, WatchEvent};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use tokio_util::sync::CancellationToken;

/// Waits for the node to be Ready, then says so, and gives back what the start needed.
pub async fn announce_node(client: Client, name: String, stop: CancellationToken) {
    let mut nodes = client.list_watch(Client::collection::<Node>("").fields(format!("metadata.name={name}")));
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = nodes.next() => event,
        };
        let node = match event {
            Some(WatchEvent::Applied(node)) => Some(node),
            Some(WatchEvent::Restarted(list)) => list.into_iter().next(),
            Some(_) => None,
            None => return,
        };
        let status = node.and_then(|n| n.decode::<Node>().ok()?.status);
        let conditions = status.and_then(|s| s.conditions).unwrap_or_default();
        if conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True") {
            tracing::info!(node = name, "the node is Ready");
            notify();
            drop(nodes);
            return crate::memory::give_back_start(&stop).await;
        }
    }
}

/// `READY=1` to the service manager, if there is one.
pub fn notify() {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let sent = std::os::unix::net::UnixDatagram::unbound().and_then(|datagram| {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::SocketAddr;
        let bytes = socket.as_encoded_bytes();
        // a leading @ stands for the abstract namespace
        let address = match bytes.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&socket)?,
        };
        datagram.send_to_addr(b"READY=1", &address)
    });
    if let Err(error) = sent {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
