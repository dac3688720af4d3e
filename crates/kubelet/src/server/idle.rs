//! Copies two streams to each other until one ends or neither has said anything for some time.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// When bytes last came, in milliseconds since the start.
#[derive(Clone)]
struct Heard {
    start: Instant,
    at: Arc<AtomicU64>,
}

impl Heard {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn nothing_for(&self, idle: Duration) {
        loop {
            let silent = Duration::from_millis(self.now().saturating_sub(self.at.load(Ordering::Relaxed)));
            match idle.checked_sub(silent) {
                None | Some(Duration::ZERO) => return,
                Some(rest) => tokio::time::sleep(rest).await,
            }
        }
    }
}

/// A stream that tells when bytes come.
struct Listened<S> {
    stream: S,
    heard: Heard,
}

impl<S: AsyncRead + Unpin> AsyncRead for Listened<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.heard.at.store(self.heard.now(), Ordering::Relaxed);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Listened<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Copies until one side ends, or nothing came from either for `idle`; zero is for ever.
///
/// # Errors
/// Those of the streams, and `TimedOut` when both were silent.
pub async fn copy<A, B>(a: A, b: B, idle: Duration) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let heard = Heard {
        start: Instant::now(),
        at: Arc::default(),
    };
    let (mut a, mut b) = (
        Listened {
            stream: a,
            heard: heard.clone(),
        },
        Listened {
            stream: b,
            heard: heard.clone(),
        },
    );
    let copied = tokio::io::copy_bidirectional(&mut a, &mut b);
    if idle.is_zero() {
        return copied.await.map(drop);
    }
    tokio::select! {
        copied = copied => copied.map(drop),
        () = heard.nothing_for(idle) => Err(io::ErrorKind::TimedOut.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_when_it_was_silent_for_too_long_and_not_before() {
        let (mut client, a) = tokio::io::duplex(64);
        let (mut server, b) = tokio::io::duplex(64);
        let begun = Instant::now();
        let copying = tokio::spawn(copy(a, b, Duration::from_secs(60)));
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(50)).await;
            server.write_all(b"x").await.unwrap();
            client.read_exact(&mut [0; 1]).await.unwrap();
        }
        let ended = copying.await.unwrap().unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        let took = begun.elapsed().as_secs();
        assert!((210..=211).contains(&took), "{took}");
    }
}
