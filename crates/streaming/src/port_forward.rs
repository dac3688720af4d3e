//! Port forwarding: pairs of streams, one for data and one for an error, each pair a connection to a port.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::handshake::{Accepted, Transport};
use crate::spdy::{Connection, Stream};
use crate::{port_channels, websocket};

/// Halves of pairs that may wait for the other; a client that opens more is broken.
const MOST_UNPAIRED: usize = 1024;

#[derive(Default)]
struct Pair {
    data: Option<Stream>,
    error: Option<Stream>,
}

/// Serves a client until it leaves. `connect` opens the connection to a port of the pod. `ports` are those that the request
/// names; clients of SPDY name them by stream instead.
///
/// # Errors
/// When the connection breaks or the client does not keep to the protocol.
pub async fn serve<T, C, F, S>(accepted: &Accepted, io: T, ports: &[u16], connect: C) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    C: Fn(u16) -> F + Send + Sync + 'static,
    F: Future<Output = io::Result<S>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    if accepted.has_channels() {
        return port_channels::serve(&accepted.protocol, io, ports, Arc::new(connect)).await;
    }
    let mut connection = match accepted.transport {
        Transport::Spdy => Connection::new(io)?,
        Transport::WebSocket => Connection::new(websocket::tunnel(websocket::server(io).await))?,
    };
    let connect = Arc::new(connect);
    let mut waiting: HashMap<String, Pair> = HashMap::new();
    while let Some(stream) = connection.accept().await {
        let Some(port) = port_of(&stream) else {
            let text = format!("invalid port {:?}", stream.header("port").unwrap_or_default());
            stream.writer.write(Bytes::from(text)).await?;
            stream.writer.finish().await?;
            continue;
        };
        let request = request_of(&stream);
        let pair = waiting.entry(request.clone()).or_default();
        match stream.header("streamtype") {
            Some("error") => pair.error = Some(stream),
            Some("data") => pair.data = Some(stream),
            other => tracing::debug!(?other, "port forward: unknown stream type"),
        }
        if let Pair {
            data: Some(_),
            error: Some(_),
        } = pair
            && let Some(Pair {
                data: Some(data),
                error: Some(error),
            }) = waiting.remove(&request)
        {
            let (connect, mut gone) = (connect.clone(), connection.gone());
            tokio::spawn(async move {
                tokio::select! {
                    () = one(connect(port), port, data, error) => {}
                    // The end of the client ends its connections, whatever the pod does.
                    _ = gone.wait_for(|gone| *gone) => {}
                }
            });
        }
        if waiting.len() > MOST_UNPAIRED {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "too many streams without their other half",
            ));
        }
    }
    Ok(())
}

fn port_of(stream: &Stream) -> Option<u16> {
    stream.header("port")?.parse().ok().filter(|port| *port > 0)
}

/// Clients without request ids open the error stream right before the data stream.
fn request_of(stream: &Stream) -> String {
    match stream.header("requestid").filter(|id| !id.is_empty()) {
        Some(id) => id.to_owned(),
        None if stream.header("streamtype") == Some("error") => format!("stream {}", stream.id),
        None => format!("stream {}", stream.id.saturating_sub(2)),
    }
}

async fn one<S>(connecting: impl Future<Output = io::Result<S>>, port: u16, data: Stream, error: Stream)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let result = match connecting.await {
        Ok(socket) => copy(socket, data).await,
        Err(error) => {
            let finished = data.writer.finish().await;
            finished.and(Err(error))
        }
    };
    if let Err(problem) = result {
        let text = format!("error forwarding port {port} to pod: {problem}");
        tracing::debug!("{text}");
        // Also refused when the client has left.
        let _ = error.writer.write(Bytes::from(text)).await;
    }
    let _ = error.writer.finish().await;
}

/// Until the pod's side ends; the client's end is passed on.
async fn copy<S>(socket: S, data: Stream) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut read, mut write) = tokio::io::split(socket);
    let (mut reader, writer) = (data.reader, data.writer);
    let inward = async {
        while let Some(bytes) = reader.recv().await {
            write.write_all(&bytes).await?;
        }
        write.shutdown().await?;
        // The pod may still have much to say.
        std::future::pending::<io::Result<()>>().await
    };
    let outward = async {
        let mut buffer = vec![0u8; 32 * 1024];
        loop {
            let n = read.read(&mut buffer).await?;
            if n == 0 {
                return Ok(());
            }
            writer.write(Bytes::copy_from_slice(&buffer[..n])).await?;
        }
    };
    let result = tokio::select! {
        result = inward => result,
        result = outward => result,
    };
    writer.finish().await.and(result)
}
