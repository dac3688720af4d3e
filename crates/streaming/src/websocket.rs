//! WebSocket under the Kubernetes protocols: numbered channels in binary messages, or one stream of bytes.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role};

/// What a tunnel may hold in each direction. Bytes.
const TUNNEL: usize = 64 * 1024;

/// A WebSocket over any connection.
pub type Socket<T> = WebSocketStream<T>;

/// The server's side of a connection that was upgraded.
pub async fn server<T: AsyncRead + AsyncWrite + Unpin>(io: T) -> Socket<T> {
    WebSocketStream::from_raw_socket(io, Role::Server, None).await
}

/// The client's side of a connection that was upgraded.
pub async fn client<T: AsyncRead + AsyncWrite + Unpin>(io: T) -> Socket<T> {
    WebSocketStream::from_raw_socket(io, Role::Client, None).await
}

fn failed(error: &tokio_tungstenite::tungstenite::Error) -> io::Error {
    io::Error::other(format!("websocket: {error}"))
}

/// How long a client that has said goodbye may take to hear the answer.
const GOODBYE: Duration = Duration::from_secs(5);

/// The data of the next message; `None` at the end. Control messages are answered on the way, a close by a close.
pub async fn receive<S>(stream: &mut S) -> io::Result<Option<Bytes>>
where
    S: futures::Stream<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin,
{
    loop {
        match stream.next().await {
            None => return Ok(None),
            Some(Ok(Message::Close(_))) => {
                // the answer is sent by asking for what comes after; nothing does
                let answered = tokio::time::timeout(GOODBYE, stream.next()).await;
                if let Ok(Some(Err(error))) = answered {
                    tracing::debug!(%error, "a close could not be answered");
                }
                return Ok(None);
            }
            Some(Ok(Message::Binary(bytes))) => return Ok(Some(bytes)),
            Some(Ok(Message::Text(text))) => return Ok(Some(text.into())),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(failed(&error)),
        }
    }
}

/// Sends a message of bytes.
///
/// # Errors
/// When the connection is closed or breaks.
pub async fn send<S>(sink: &mut S, bytes: Bytes) -> io::Result<()>
where
    S: futures::Sink<Message, Error = tokio_tungstenite::tungstenite::Error> + Unpin,
{
    sink.send(Message::Binary(bytes)).await.map_err(|e| failed(&e))
}

/// Sends a message of text.
///
/// # Errors
/// When the connection is closed or breaks.
pub async fn send_text<S>(sink: &mut S, text: Utf8Bytes) -> io::Result<()>
where
    S: futures::Sink<Message, Error = tokio_tungstenite::tungstenite::Error> + Unpin,
{
    sink.send(Message::Text(text)).await.map_err(|e| failed(&e))
}

/// Ends the connection as one that did what it was for: clients take a close without a status for a failure.
pub async fn close<S>(sink: &mut S) -> io::Result<()>
where
    S: futures::Sink<Message, Error = tokio_tungstenite::tungstenite::Error> + Unpin,
{
    let normal = CloseFrame {
        code: CloseCode::Normal,
        reason: Utf8Bytes::default(),
    };
    sink.send(Message::Close(Some(normal))).await.map_err(|e| failed(&e))
}

/// The messages' bytes as one stream in each direction.
pub fn tunnel<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(socket: Socket<T>) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(TUNNEL);
    tokio::spawn(async move {
        let (mut sink, mut stream) = socket.split();
        let (mut read, mut write) = tokio::io::split(ours);
        let outward = async {
            let mut buffer = vec![0u8; 32 * 1024];
            loop {
                let n = read.read(&mut buffer).await?;
                if n == 0 {
                    return close(&mut sink).await;
                }
                send(&mut sink, Bytes::copy_from_slice(&buffer[..n])).await?;
            }
        };
        let inward = async {
            while let Some(bytes) = receive(&mut stream).await? {
                write.write_all(&bytes).await?;
            }
            write.shutdown().await
        };
        // a client may leave without a word: what reads of it and writes to it then both end
        let ended: io::Result<((), ())> = tokio::try_join!(outward, inward);
        if let Err(error) = ended {
            tracing::debug!(%error, "tunnel ended");
        }
    });
    theirs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tunnel_ends_with_a_client_that_leaves_without_a_word() {
        let (client, server) = tokio::io::duplex(64);
        let mut tunnel = tunnel(super::server(server).await);
        drop(client);
        let ended = tokio::time::timeout(GOODBYE, tunnel.read(&mut [0; 8])).await;
        assert_eq!(ended.unwrap().unwrap(), 0);
    }
}
