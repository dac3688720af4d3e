//! The client's side, over a WebSocket that is there already: a remote command's channels, and a tunnel for ports.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use crate::remote_command::TerminalSize;
use crate::spdy::Connection;
use crate::websocket;

/// The newest protocol of remote commands: its end of a stream is a message.
pub const REMOTE_COMMAND: &str = "v5.channel.k8s.io";
/// The protocol of forwarded ports: SPDY in the messages of a WebSocket.
pub const PORT_FORWARD: &str = "SPDY/3.1+portforward.k8s.io";

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// What goes into a remote command and where its output goes.
#[derive(Debug)]
pub struct Streams<I, O, E> {
    /// What the command reads; `None` for nothing.
    pub stdin: Option<I>,
    /// Where its output goes.
    pub stdout: O,
    /// Where its errors go.
    pub stderr: E,
    /// The sizes of the terminal, as it changes.
    pub resize: Option<mpsc::Receiver<TerminalSize>>,
}

/// Runs until the server says how the command ended: a Kubernetes Status as JSON.
///
/// # Errors
/// The connection broke, or ended without a Status.
pub async fn remote_command<T, I, O, E>(io: T, streams: Streams<I, O, E>) -> io::Result<Bytes>
where
    T: AsyncRead + AsyncWrite + Unpin,
    I: AsyncRead + Unpin,
    O: AsyncWrite + Unpin,
    E: AsyncWrite + Unpin,
{
    let (mut sink, mut messages) = websocket::client(io).await.split();
    let Streams {
        stdin,
        mut stdout,
        mut stderr,
        resize,
    } = streams;
    let outward = async {
        match send_all(&mut sink, stdin, resize).await {
            // The end comes from the other side, with its reason.
            Ok(()) => std::future::pending().await,
            Err(error) => error,
        }
    };
    let inward = async {
        let mut status = BytesMut::new();
        while let Some(message) = websocket::receive(&mut messages).await? {
            let Some((channel, data)) = message.split_first() else {
                continue;
            };
            match *channel {
                STDOUT => {
                    stdout.write_all(data).await?;
                    stdout.flush().await?;
                }
                STDERR => {
                    stderr.write_all(data).await?;
                    stderr.flush().await?;
                }
                ERROR => status.put_slice(data),
                _ => {}
            }
        }
        Ok::<_, io::Error>(status.freeze())
    };
    tokio::pin!(inward);
    let status = tokio::select! {
        status = &mut inward => status?,
        // What cannot be sent any more may still be explained.
        error = outward => inward.await.or(Err(error))?,
    };
    if status.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the connection ended before the command did",
        ));
    }
    Ok(status)
}

async fn send_all<S>(
    sink: &mut S,
    stdin: Option<impl AsyncRead + Unpin>,
    resize: Option<mpsc::Receiver<TerminalSize>>,
) -> io::Result<()>
where
    S: futures::Sink<Message, Error = tokio_tungstenite::tungstenite::Error> + Unpin,
{
    let (mut stdin, mut resize) = (stdin, resize);
    let mut buffer = vec![0u8; 32 * 1024];
    loop {
        tokio::select! {
            n = read(stdin.as_mut(), &mut buffer), if stdin.is_some() => {
                let n = n?;
                if n == 0 {
                    stdin = None;
                    websocket::send(sink, Bytes::from_static(&[CLOSE, STDIN])).await?;
                } else {
                    websocket::send(sink, message(STDIN, &buffer[..n])).await?;
                }
            }
            size = next(resize.as_mut()), if resize.is_some() => match size {
                Some(size) => {
                    let text = json!({"Width": size.width, "Height": size.height}).to_string();
                    websocket::send(sink, message(RESIZE, text.as_bytes())).await?;
                }
                None => resize = None,
            },
            else => {
                return sink.flush().await.map_err(|e| io::Error::other(format!("websocket: {e}")));
            }
        }
    }
}

async fn read(from: Option<&mut (impl AsyncRead + Unpin)>, buffer: &mut [u8]) -> io::Result<usize> {
    match from {
        Some(from) => from.read(buffer).await,
        None => Ok(0),
    }
}

async fn next(from: Option<&mut mpsc::Receiver<TerminalSize>>) -> Option<TerminalSize> {
    from?.recv().await
}

fn message(channel: u8, data: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(data.len() + 1);
    message.put_u8(channel);
    message.put_slice(data);
    message.freeze()
}

/// The connection to a pod's ports, through which each connection opens a pair of streams.
pub async fn port_forward<T>(io: T) -> io::Result<Connection>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    Connection::new(websocket::tunnel(websocket::client(io).await))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote_command::{Options, Session};
    use crate::{Kind, Status, negotiate};
    use http::{HeaderMap, HeaderValue};

    fn accepted(kind: Kind, protocol: &'static str) -> crate::Accepted {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", protocol),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        negotiate(kind, &headers).unwrap()
    }

    #[tokio::test]
    async fn a_command_gets_its_input_and_gives_its_output_and_its_end() {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let server = tokio::spawn(async move {
            let options = Options {
                stdin: true,
                stdout: true,
                stderr: true,
                tty: false,
            };
            let accepted = accepted(Kind::RemoteCommand, REMOTE_COMMAND);
            let mut session = Session::open(&accepted, theirs, options).await.unwrap();
            let mut stdin = session.stdin.take().unwrap();
            let mut all = Vec::new();
            // Ends only because the client says that its input has ended.
            while let Some(part) = stdin.recv().await {
                all.extend_from_slice(&part);
            }
            session.stdout.as_ref().unwrap().write(Bytes::from(all)).await.unwrap();
            session
                .stderr
                .as_ref()
                .unwrap()
                .write(Bytes::from_static(b"e"))
                .await
                .unwrap();
            session.finish(&Status::exit_code(7)).await.unwrap();
        });
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let streams = Streams {
            stdin: Some(&b"hello"[..]),
            stdout: &mut out,
            stderr: &mut err,
            resize: None,
        };
        let status = remote_command(ours, streams).await.unwrap();
        let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
        assert_eq!(status["details"]["causes"][0]["message"], "7");
        assert_eq!((&out[..], &err[..]), (&b"hello"[..], &b"e"[..]));
        server.await.unwrap();
    }

    #[tokio::test]
    async fn a_port_is_reached_through_a_pair_of_streams() {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        tokio::spawn(async move {
            let accepted = accepted(Kind::PortForward, PORT_FORWARD);
            let connect = |port: u16| async move {
                let (pod, outside) = tokio::io::duplex(1024);
                tokio::spawn(async move {
                    let (mut read, mut write) = tokio::io::split(pod);
                    let mut buffer = [0u8; 4];
                    read.read_exact(&mut buffer).await.unwrap();
                    write.write_all(format!("{port}").as_bytes()).await.unwrap();
                });
                Ok::<_, io::Error>(outside)
            };
            crate::port_forward::serve(&accepted, theirs, &[], connect)
                .await
                .unwrap();
        });
        let connection = port_forward(ours).await.unwrap();
        let headers = |kind: &str| {
            vec![
                ("streamtype".to_owned(), kind.to_owned()),
                ("port".to_owned(), "80".to_owned()),
                ("requestid".to_owned(), "0".to_owned()),
            ]
        };
        let error = connection.open(headers("error")).await.unwrap();
        error.writer.finish().await.unwrap();
        let mut data = connection.open(headers("data")).await.unwrap();
        data.writer.write(Bytes::from_static(b"ping")).await.unwrap();
        assert_eq!(data.reader.recv().await.as_deref(), Some(&b"80"[..]));
        assert_eq!(data.reader.recv().await, None);
    }
}
