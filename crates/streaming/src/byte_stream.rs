//! One stream of bytes to a client over WebSocket, in messages as they come. Upstream: `wsstream.Reader`.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::handshake::{Accepted, BASE64_BYTES};
use crate::websocket;

/// Sends what `source` gives until it ends or the client leaves. An empty message says that the stream is open.
pub async fn serve<T, S>(accepted: &Accepted, io: T, mut source: S) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Stream<Item = io::Result<Bytes>> + Unpin,
{
    let base64 = accepted.protocol == BASE64_BYTES;
    let (mut sink, mut messages) = websocket::server(io).await.split();
    let outward = async {
        let mut next = Some(Ok(Bytes::new()));
        while let Some(bytes) = next {
            let bytes = bytes?;
            if base64 {
                websocket::send_text(&mut sink, STANDARD.encode(&bytes)).await?;
            } else {
                websocket::send(&mut sink, bytes).await?;
            }
            next = source.next().await;
        }
        websocket::close(&mut sink).await
    };
    // What the client says is ignored, but for its leave.
    let gone = async {
        while websocket::receive(&mut messages).await?.is_some() {}
        Ok(())
    };
    tokio::select! {
        outcome = outward => outcome,
        outcome = gone => outcome,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};

    use super::*;
    use crate::{Kind, negotiate};

    #[tokio::test]
    async fn bytes_arrive_in_messages_after_an_empty_one() {
        for (protocol, want) in [
            ("binary.k8s.io", ["", "one", "two"]),
            ("base64.binary.k8s.io", ["", "b25l", "dHdv"]),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [
                (header::CONNECTION, "Upgrade"),
                (header::UPGRADE, "websocket"),
                (header::SEC_WEBSOCKET_VERSION, "13"),
                (header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
                (header::SEC_WEBSOCKET_PROTOCOL, protocol),
            ] {
                headers.insert(name, HeaderValue::from_str(value).unwrap());
            }
            let accepted = negotiate(Kind::Bytes, &headers).unwrap();
            assert_eq!(accepted.protocol, protocol);
            let (ours, theirs) = tokio::io::duplex(1024);
            let source = futures::stream::iter([Ok(Bytes::from("one")), Ok(Bytes::from("two"))]);
            let client = async {
                let mut socket = websocket::client(theirs).await;
                let mut got = Vec::new();
                while let Some(bytes) = websocket::receive(&mut socket).await.unwrap() {
                    got.push(String::from_utf8(bytes.to_vec()).unwrap());
                }
                got
            };
            let (served, got) = tokio::join!(serve(&accepted, ours, source), client);
            served.unwrap();
            assert_eq!(got, want);
        }
    }
}
