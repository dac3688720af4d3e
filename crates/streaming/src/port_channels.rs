//! Port forwarding by the channels of a WebSocket: two for each port that the request names, one for its data and one for an
//! error. It is what clients speak that have no SPDY.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::channels::{Coding, message};
use crate::websocket;

/// A channel's number is one byte, and each port has two.
const MOST_PORTS: usize = 128;
/// Messages of one direction that may wait.
const WAITING: usize = 32;

/// Serves a client until all its connections have ended or it leaves.
///
/// # Errors
/// When there are more ports than channels, or the connection breaks.
pub async fn serve<T, C, F, S>(protocol: &str, io: T, ports: &[u16], connect: Arc<C>) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
    C: Fn(u16) -> F,
    F: Future<Output = io::Result<S>>,
    S: AsyncRead + AsyncWrite + Unpin,
{
    if ports.len() > MOST_PORTS {
        let why = format!(
            "{} ports are more than the {MOST_PORTS} that channels can carry",
            ports.len()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let coding = Coding::of(protocol);
    let (mut sink, mut stream) = websocket::server(io).await.split();
    let (messages, mut outgoing) = mpsc::channel::<Bytes>(WAITING);
    let mut inward: Vec<mpsc::Sender<Bytes>> = Vec::new();
    let connections = ports.iter().zip(0u8..).map(|(port, pair)| {
        let (to_pod, from_client) = mpsc::channel(WAITING);
        inward.push(to_pod);
        one(*port, pair, connect(*port), from_client, messages.clone())
    });
    let connections: Vec<_> = connections.collect();
    drop(messages);
    let forwarding = futures::future::join_all(connections);
    let sending = async {
        while let Some(message) = outgoing.recv().await {
            let sent = sink.send(coding.encode(&message)).await;
            sent.map_err(io::Error::other)?;
        }
        websocket::close(&mut sink).await
    };
    let receiving = async {
        while let Some(message) = websocket::receive(&mut stream).await? {
            let Some((channel, data)) = coding.decode(&message) else {
                continue;
            };
            // what is sent on the channel of errors, or to a connection that has ended, is for nobody
            if channel % 2 == 0
                && !data.is_empty()
                && let Some(to) = inward.get(usize::from(channel / 2))
                && let Err(error) = to.send(data).await
            {
                tracing::debug!(%error, channel, "port forward");
            }
        }
        Ok::<(), io::Error>(())
    };
    tokio::select! {
        (_, sent) = async { tokio::join!(forwarding, sending) } => sent,
        left = receiving => left,
    }
}

/// One port: its number on both channels first, then what comes from it.
async fn one<S: AsyncRead + AsyncWrite + Unpin>(
    port: u16,
    pair: u8,
    connecting: impl Future<Output = io::Result<S>>,
    mut from_client: mpsc::Receiver<Bytes>,
    messages: mpsc::Sender<Bytes>,
) {
    let (data, error) = (pair * 2, pair * 2 + 1);
    let send = async |channel: u8, bytes: &[u8]| {
        let sent = messages.send(message(channel, bytes)).await;
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the client is gone"))
    };
    let forwarded = async {
        send(data, &port.to_le_bytes()).await?;
        send(error, &port.to_le_bytes()).await?;
        let (mut read, mut write) = tokio::io::split(connecting.await?);
        let inward = async {
            while let Some(bytes) = from_client.recv().await {
                write.write_all(&bytes).await?;
            }
            // the pod may still have much to say
            std::future::pending::<io::Result<()>>().await
        };
        let outward = async {
            let mut buffer = vec![0u8; 32 * 1024];
            loop {
                let n = read.read(&mut buffer).await?;
                if n == 0 {
                    return Ok(());
                }
                send(data, &buffer[..n]).await?;
            }
        };
        tokio::select! {
            result = inward => result,
            result = outward => result,
        }
    };
    if let Err(problem) = forwarded.await {
        let text = format!("error forwarding port {port} to pod: {problem}");
        tracing::debug!("{text}");
        if let Err(gone) = send(error, text.as_bytes()).await {
            tracing::debug!(%gone, "port forward");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_tungstenite::tungstenite::Message;

    /// A pod that answers what it is told, at port 80; nobody is at other ports.
    async fn pod(port: u16) -> io::Result<tokio::io::DuplexStream> {
        if port != 80 {
            return Err(io::Error::other("connection refused"));
        }
        let (ours, theirs) = tokio::io::duplex(1024);
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(ours);
            tokio::io::copy(&mut read, &mut write).await
        });
        Ok(theirs)
    }

    async fn exchange(protocol: &'static str, first: Message) -> Vec<Message> {
        let (client, server) = tokio::io::duplex(4096);
        let served = tokio::spawn(async move { serve(protocol, server, &[80, 81], Arc::new(pod)).await });
        let mut socket = websocket::client(client).await;
        socket.send(first).await.unwrap();
        let mut got = Vec::new();
        for _ in 0..6 {
            got.push(socket.next().await.unwrap().unwrap());
        }
        socket.close(None).await.unwrap();
        // the server answers a close with a close
        let closed = socket.next().await.unwrap().unwrap();
        assert!(closed.is_close(), "{closed:?}");
        assert!(socket.next().await.is_none());
        served.await.unwrap().unwrap();
        got
    }

    #[tokio::test]
    async fn each_port_has_a_channel_for_data_and_one_for_an_error() {
        let got = exchange("v4.channel.k8s.io", Message::Binary(Bytes::from_static(b"\0hello"))).await;
        let of = |channel: u8| -> Vec<Vec<u8>> {
            let all = got.iter().map(|m| m.clone().into_data());
            all.filter(|m| m[0] == channel).map(|m| m[1..].to_vec()).collect()
        };
        assert_eq!(of(0), [80u16.to_le_bytes().to_vec(), b"hello".to_vec()]);
        assert_eq!(of(1), [80u16.to_le_bytes()]);
        assert_eq!(of(2), [81u16.to_le_bytes()]);
        let why = b"error forwarding port 81 to pod: connection refused".to_vec();
        assert_eq!(of(3), [81u16.to_le_bytes().to_vec(), why]);
    }

    #[tokio::test]
    async fn clients_without_bytes_send_text() {
        let got = exchange("v4.base64.channel.k8s.io", Message::Text("0aGVsbG8=".into())).await;
        assert!(got.contains(&Message::Text("0aGVsbG8=".into())), "{got:?}");
        assert!(got.contains(&Message::Text("0UAA=".into())), "{got:?}");
    }
}
