//! A SPDY/3.1 connection, whichever side opens the streams. There is no flow control: Kubernetes' clients have none.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};

use super::frame::{self, Frame, Head};
use super::header_block::{Compressor, Decompressor, Headers};

/// Frames of one stream that may wait for its reader; then the connection is not read.
const WAITING: usize = 32;
/// How long the peer may take to close after us.
const GOODBYE: Duration = Duration::from_secs(5);

/// Where the data of each stream goes.
#[derive(Debug, Clone, Default)]
struct Open(Arc<Mutex<HashMap<u32, mpsc::Sender<Bytes>>>>);

impl Open {
    fn with<R>(&self, act: impl FnOnce(&mut HashMap<u32, mpsc::Sender<Bytes>>) -> R) -> R {
        // Nothing in between can leave the map half changed.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A stream of either side.
#[derive(Debug)]
pub struct Stream {
    /// Odd for streams of the client, even for the server's.
    pub id: u32,
    headers: Headers,
    /// What the peer sends; ends with its half of the stream.
    pub reader: mpsc::Receiver<Bytes>,
    /// The own half.
    pub writer: Writer,
}

impl Stream {
    /// A header by its name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// The sending half of a stream.
#[derive(Debug, Clone)]
pub struct Writer {
    id: u32,
    frames: mpsc::Sender<Frame>,
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the connection is closed")
}

impl Writer {
    /// Sends bytes, once there is room.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn write(&self, bytes: Bytes) -> io::Result<()> {
        let frame = Frame::Data {
            id: self.id,
            fin: false,
            bytes,
        };
        self.frames.send(frame).await.map_err(|_| closed())
    }

    /// The end of what we send.
    pub async fn finish(&self) -> io::Result<()> {
        let frame = Frame::Data {
            id: self.id,
            fin: true,
            bytes: Bytes::new(),
        };
        self.frames.send(frame).await.map_err(|_| closed())
    }
}

/// A connection. Dropping it says goodbye once every stream's writer is dropped too.
#[derive(Debug)]
pub struct Connection {
    streams: mpsc::Receiver<Stream>,
    gone: watch::Receiver<bool>,
    /// Kept: the writing side ends with the last sender.
    frames: mpsc::Sender<Frame>,
    open: Open,
    /// The number of the next stream of ours, if we are the client: they are odd, and rise on the wire.
    next: tokio::sync::Mutex<u32>,
}

impl Connection {
    /// Speaks SPDY on a connection that was upgraded.
    ///
    /// # Errors
    /// When the compression of headers cannot begin.
    pub fn new<T: AsyncRead + AsyncWrite + Send + 'static>(io: T) -> io::Result<Self> {
        let (read, write) = tokio::io::split(io);
        let (frames, outgoing) = mpsc::channel(WAITING);
        let (opened, streams) = mpsc::channel(WAITING);
        let compressor = Compressor::new()?;
        let weak = frames.downgrade();
        let (left, gone) = watch::channel(false);
        let open = Open::default();
        let known = open.clone();
        let reading = tokio::spawn(async move {
            if let Err(error) = receive(read, opened, &weak, &known).await {
                tracing::debug!(%error, "spdy connection");
            }
            left.send_replace(true);
            known.with(HashMap::clear);
        });
        tokio::spawn(async move {
            if let Err(error) = send(write, outgoing, compressor).await {
                tracing::debug!(%error, "spdy connection");
            }
            // What the peer still says is read, so that the system does not reset the connection under our last words.
            if tokio::time::timeout(GOODBYE, reading).await.is_err() {
                tracing::debug!("spdy peer did not close");
            }
        });
        Ok(Self {
            streams,
            gone,
            frames,
            open,
            next: tokio::sync::Mutex::new(1),
        })
    }

    /// Opens a stream, as the client.
    pub async fn open(&self, headers: Headers) -> io::Result<Stream> {
        let mut next = self.next.lock().await;
        let id = *next;
        *next += 2;
        let (sender, reader) = mpsc::channel(WAITING);
        self.open.with(|open| open.insert(id, sender));
        if *self.gone.borrow() {
            return Err(closed());
        }
        let frame = Frame::SynStream {
            id,
            fin: false,
            headers: headers.clone(),
        };
        self.frames.send(frame).await.map_err(|_| closed())?;
        Ok(Stream {
            id,
            headers,
            reader,
            writer: Writer {
                id,
                frames: self.frames.clone(),
            },
        })
    }

    /// True once the peer has left.
    pub fn gone(&self) -> watch::Receiver<bool> {
        self.gone.clone()
    }

    /// The next stream that the peer opens; `None` when it leaves.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.streams.recv().await
    }
}

async fn send(
    mut write: impl AsyncWrite + Unpin,
    mut frames: mpsc::Receiver<Frame>,
    mut compressor: Compressor,
) -> io::Result<()> {
    let mut last = 0;
    while let Some(frame) = frames.recv().await {
        if let Frame::SynReply { id, .. } = &frame {
            last = last.max(*id);
        }
        write.write_all(&frame::encode(&frame, &mut compressor)?).await?;
    }
    write
        .write_all(&frame::encode(&Frame::GoAway { last }, &mut compressor)?)
        .await?;
    write.shutdown().await
}

async fn next(read: &mut (impl AsyncRead + Unpin), decompressor: &mut Decompressor) -> io::Result<Option<Frame>> {
    let mut head = [0u8; 8];
    match read.read_exact(&mut head).await {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let head = Head(head);
    if head.length() > frame::LARGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "spdy frame is too large"));
    }
    let mut payload = BytesMut::zeroed(head.length());
    read.read_exact(&mut payload).await?;
    frame::decode(head, payload.freeze(), decompressor).map(Some)
}

/// Reads to the end. Holds the way to the writer only weakly: reading alone keeps no connection open.
async fn receive(
    mut read: impl AsyncRead + Unpin,
    opened: mpsc::Sender<Stream>,
    outgoing: &mpsc::WeakSender<Frame>,
    streams: &Open,
) -> io::Result<()> {
    let mut decompressor = Decompressor::default();
    while let Some(frame) = next(&mut read, &mut decompressor).await? {
        match frame {
            Frame::SynStream { id, fin, headers } => {
                let Some(frames) = outgoing.upgrade() else { continue };
                let (sender, reader) = mpsc::channel(WAITING);
                let reply = Frame::SynReply {
                    id,
                    headers: Headers::new(),
                };
                if frames.send(reply).await.is_err() {
                    continue;
                }
                if !fin {
                    streams.with(|s| s.insert(id, sender));
                }
                let stream = Stream {
                    id,
                    headers,
                    reader,
                    writer: Writer { id, frames },
                };
                // Nobody accepts any more: the stream goes, and the peer is told by the goodbye.
                let _ = opened.send(stream).await;
            }
            Frame::Data { id, fin, bytes } => {
                let stream = streams.with(|s| s.get(&id).cloned());
                if let Some(stream) = stream
                    && !bytes.is_empty()
                    && stream.send(bytes).await.is_err()
                {
                    // Its reader has gone; what comes is read and dropped.
                    streams.with(|s| s.remove(&id));
                }
                if fin {
                    streams.with(|s| s.remove(&id));
                }
            }
            Frame::RstStream { id, .. } => drop(streams.with(|s| s.remove(&id))),
            Frame::Ping { id } => {
                // Even numbers are ours, and we send none.
                if let Some(frames) = outgoing.upgrade().filter(|_| id % 2 == 1) {
                    let _ = frames.send(Frame::Ping { id }).await;
                }
            }
            Frame::GoAway { .. } | Frame::SynReply { .. } | Frame::Other => {}
        }
    }
    Ok(())
}
