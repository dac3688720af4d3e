//! A remote command's streams, whichever transport and version carries them.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};

use crate::channels::{Coding, message};
use crate::handshake::{Accepted, Transport};
use crate::spdy::{Connection, Writer};
use crate::{Status, websocket};

/// How long a client may take to open all its streams, as upstream's server.
const STREAM_CREATION: Duration = Duration::from_secs(30);
/// Messages of one direction that may wait.
const WAITING: usize = 32;

/// Which streams there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// The client sends input.
    pub stdin: bool,
    /// The client takes output.
    pub stdout: bool,
    /// Never with a tty.
    pub stderr: bool,
    /// The command has a terminal, whose size the client tells.
    pub tty: bool,
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct TerminalSize {
    /// Columns.
    #[serde(rename = "Width")]
    pub width: u16,
    /// Rows.
    #[serde(rename = "Height")]
    pub height: u16,
}

/// One outgoing stream.
#[derive(Debug, Clone)]
pub struct Output(Way);

#[derive(Debug, Clone)]
enum Way {
    Spdy(Writer),
    WebSocket { channel: u8, messages: mpsc::Sender<Bytes> },
}

impl Output {
    /// Sends bytes, once there is room.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn write(&self, bytes: Bytes) -> io::Result<()> {
        match &self.0 {
            Way::Spdy(writer) => writer.write(bytes).await,
            Way::WebSocket { channel, messages } => {
                let closed = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the connection is closed");
                messages.send(message(*channel, &bytes)).await.map_err(closed)
            }
        }
    }

    async fn finish(&self) -> io::Result<()> {
        match &self.0 {
            Way::Spdy(writer) => writer.finish().await,
            Way::WebSocket { .. } => Ok(()),
        }
    }
}

/// A client's streams. What it sends ends with its stream or its connection.
#[derive(Debug)]
pub struct Session {
    /// What the client sends; ends with its input.
    pub stdin: Option<mpsc::Receiver<Bytes>>,
    /// To the client's output.
    pub stdout: Option<Output>,
    /// To the client's errors.
    pub stderr: Option<Output>,
    /// The sizes of the client's terminal, as it changes.
    pub resize: Option<mpsc::Receiver<TerminalSize>>,
    /// Ends when the client is gone.
    pub gone: Gone,
    error: Output,
    /// The versions before 4 have no Status.
    plain_errors: bool,
    /// Of SPDY: closes when it is dropped.
    connection: Option<Connection>,
}

/// Tells the end of the client's connection.
#[derive(Debug, Clone)]
pub struct Gone(watch::Receiver<bool>);

impl Gone {
    /// Waits until the client is gone.
    pub async fn wait(&mut self) {
        // An error is the end of the sender: the connection's.
        let _ = self.0.wait_for(|gone| *gone).await;
    }
}

impl Session {
    /// Takes a connection that was upgraded, and waits until all its streams are there.
    ///
    /// # Errors
    /// When the client leaves, opens other streams than it asked for, or takes longer than 30 seconds.
    pub async fn open<T>(accepted: &Accepted, io: T, options: Options) -> io::Result<Self>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match accepted.transport {
            Transport::Spdy => spdy(&accepted.protocol, io, options).await,
            Transport::WebSocket => web_socket(&accepted.protocol, io, options).await,
        }
    }

    /// Says how the command ended and closes everything.
    pub async fn finish(self, status: &Status) -> io::Result<()> {
        for output in self.stdout.iter().chain(&self.stderr) {
            output.finish().await?;
        }
        if self.plain_errors {
            if !status.is_success() {
                self.error.write(Bytes::from(status.message.clone())).await?;
            }
        } else {
            self.error.write(Bytes::from(serde_json::to_vec(status)?)).await?;
        }
        self.error.finish().await?;
        drop(self.connection);
        Ok(())
    }
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

/// JSON documents, one after the other, however they are cut into messages.
fn sizes(mut bytes: mpsc::Receiver<Bytes>) -> mpsc::Receiver<TerminalSize> {
    let (send, receive) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let mut text = Vec::new();
        while let Some(part) = bytes.recv().await {
            text.extend_from_slice(&part);
            let mut documents = serde_json::Deserializer::from_slice(&text).into_iter::<TerminalSize>();
            let mut taken = 0;
            while let Some(Ok(size)) = documents.next() {
                taken = documents.byte_offset();
                if send.send(size).await.is_err() {
                    return;
                }
            }
            text.drain(..taken);
            if text.len() > 4096 {
                tracing::debug!("terminal sizes are unreadable");
                return;
            }
        }
    });
    receive
}

async fn spdy<T>(protocol: &str, io: T, options: Options) -> io::Result<Session>
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let mut connection = Connection::new(io)?;
    let resizes = options.tty && matches!(protocol, "v3.channel.k8s.io" | "v4.channel.k8s.io");
    let count = |on: bool| usize::from(on);
    let expected =
        1 + count(options.stdin) + count(options.stdout) + count(options.stderr && !options.tty) + count(resizes);
    let (mut stdin, mut stdout, mut stderr, mut error, mut resize) = (None, None, None, None, None);
    let collect = async {
        for _ in 0..expected {
            let stream = connection.accept().await.ok_or_else(|| invalid("the client left"))?;
            let kind = stream.header("streamtype").unwrap_or_default().to_owned();
            let output = Output(Way::Spdy(stream.writer));
            match kind.as_str() {
                "stdin" => stdin = Some((stream.reader, output)),
                "stdout" => stdout = Some(output),
                "stderr" => stderr = Some(output),
                "error" => error = Some(output),
                "resize" => resize = Some((stream.reader, output)),
                other => return Err(invalid(format!("invalid stream type {other:?}"))),
            }
        }
        Ok(())
    };
    tokio::time::timeout(STREAM_CREATION, collect).await.map_err(|_| {
        io::Error::new(
            io::ErrorKind::TimedOut,
            "timed out waiting for client to create streams",
        )
    })??;
    Ok(Session {
        stdin: stdin.map(|(reader, _)| reader),
        stdout,
        stderr,
        resize: resize.map(|(reader, _)| sizes(reader)),
        gone: Gone(connection.gone()),
        error: error.ok_or_else(|| invalid("the client opened no error stream"))?,
        plain_errors: protocol != "v4.channel.k8s.io",
        connection: Some(connection),
    })
}

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Of version 5: the next byte names the channel that ends.
const CLOSE: u8 = 255;

async fn web_socket<T>(protocol: &str, io: T, options: Options) -> io::Result<Session>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let coding = Coding::of(protocol);
    let (mut sink, mut stream) = websocket::server(io).await.split();
    let (messages, mut outgoing) = mpsc::channel::<Bytes>(WAITING);
    tokio::spawn(async move {
        while let Some(message) = outgoing.recv().await {
            if let Err(error) = sink.send(coding.encode(&message)).await {
                tracing::debug!(%error, "remote command");
                return;
            }
        }
        // The peer may have closed already.
        let _ = websocket::close(&mut sink).await;
    });
    let (stdin, stdin_reader) = mpsc::channel(WAITING);
    let (resize, resize_reader) = mpsc::channel(WAITING);
    let (left, gone) = watch::channel(false);
    let closes = protocol == "v5.channel.k8s.io";
    tokio::spawn(async move {
        let (mut stdin, mut resize) = (Some(stdin), Some(resize));
        loop {
            let message = match websocket::receive(&mut stream).await {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(%error, "remote command");
                    break;
                }
            };
            let Some((channel, data)) = coding.decode(&message) else {
                continue;
            };
            let to = match channel {
                STDIN => &mut stdin,
                RESIZE => &mut resize,
                CLOSE if closes => {
                    match data.first() {
                        Some(&STDIN) => stdin = None,
                        Some(&RESIZE) => resize = None,
                        _ => {}
                    }
                    continue;
                }
                _ => continue,
            };
            if let Some(sender) = to
                && !data.is_empty()
                && sender.send(data).await.is_err()
            {
                // Nobody reads it any more; the others go on.
                *to = None;
            }
        }
        left.send_replace(true);
    });
    let output = |channel| {
        Output(Way::WebSocket {
            channel,
            messages: messages.clone(),
        })
    };
    let session = Session {
        stdin: options.stdin.then_some(stdin_reader),
        stdout: options.stdout.then(|| output(STDOUT)),
        stderr: (options.stderr && !options.tty).then(|| output(STDERR)),
        resize: options.tty.then(|| sizes(resize_reader)),
        gone: Gone(gone),
        error: output(ERROR),
        plain_errors: !protocol.starts_with("v5.") && !protocol.starts_with("v4."),
        connection: None,
    };
    // An empty message on the lowest channel tells the client that it is connected.
    let first = session.stdout.as_ref().or(session.stderr.as_ref());
    first.unwrap_or(&session.error).write(Bytes::new()).await?;
    Ok(session)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn terminal_sizes_may_be_cut_anywhere() {
        let (send, receive) = mpsc::channel(4);
        let mut sizes = sizes(receive);
        for part in ["{\"Width\":80,\"Hei", "ght\":24}\n{\"Width\":1,\"Height\":2}"] {
            send.send(Bytes::from_static(part.as_bytes())).await.unwrap();
        }
        drop(send);
        assert_eq!(sizes.recv().await, Some(TerminalSize { width: 80, height: 24 }));
        assert_eq!(sizes.recv().await, Some(TerminalSize { width: 1, height: 2 }));
        assert_eq!(sizes.recv().await, None);
    }
}
