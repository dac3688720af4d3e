//! Watches and logs by WebSocket: what would be the body of the answer comes as messages.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use streaming::handshake::{self, Kind};
use streaming::websocket;

use crate::http::status::{ApiError, Result};
use crate::server::body::{self, Body};

/// Bytes of the length that precedes an event in protobuf.
const PREFIX: usize = 4;

/// How a body becomes messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// As it comes.
    Bytes,
    Base64,
    /// A line each.
    Lines,
    /// Without the length before each.
    Prefixed,
}

/// An answer that streams bytes, by WebSocket if that is what the request asks for.
pub fn bytes(headers: &HeaderMap, upgrade: Option<OnUpgrade>, response: Response<Body>) -> Result<Response<Body>> {
    answer(headers, upgrade, response, Kind::Bytes, |protocol, _| {
        if protocol == handshake::BASE64 {
            Framing::Base64
        } else {
            Framing::Bytes
        }
    })
}

/// The answer to a watch, by WebSocket if that is what the request asks for.
pub fn watch(headers: &HeaderMap, upgrade: Option<OnUpgrade>, response: Response<Body>) -> Result<Response<Body>> {
    answer(headers, upgrade, response, Kind::Messages, |_, media_type| {
        if media_type.contains("protobuf") {
            Framing::Prefixed
        } else {
            Framing::Lines
        }
    })
}

fn answer(
    headers: &HeaderMap,
    upgrade: Option<OnUpgrade>,
    response: Response<Body>,
    kind: Kind,
    framing: impl FnOnce(&str, &str) -> Framing,
) -> Result<Response<Body>> {
    if !handshake::is_websocket(headers) || response.status() != StatusCode::OK {
        return Ok(response);
    }
    let accepted = match handshake::negotiate(kind, headers) {
        Ok(accepted) => accepted,
        Err(refused) => return Err(ApiError::bad_request(refused.text)),
    };
    let upgrade = upgrade.ok_or_else(|| ApiError::bad_request("this connection cannot be upgraded"))?;
    let media_type = response.headers().get(header::CONTENT_TYPE);
    let media_type = media_type.and_then(|t| t.to_str().ok()).unwrap_or_default();
    let framing = framing(&accepted.protocol, media_type);
    let body = response.into_body();
    tokio::spawn(async move {
        let done = async {
            let connection = upgrade.await.map_err(io::Error::other)?;
            copy(body, websocket::server(TokioIo::new(connection)).await, framing).await
        };
        if let Err(error) = done.await {
            tracing::debug!(%error, "a WebSocket ended");
        }
    });
    Ok(accepted.response(body::full("")))
}

/// Sends the body, until it ends or the client does.
async fn copy<T>(mut body: Body, socket: websocket::Socket<T>, framing: Framing) -> io::Result<()>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let (mut sink, mut stream) = socket.split();
    // an empty message says that the stream is there
    match framing {
        Framing::Bytes => websocket::send(&mut sink, Bytes::new()).await?,
        Framing::Base64 => websocket::send_text(&mut sink, String::new().into()).await?,
        Framing::Lines | Framing::Prefixed => {}
    }
    let outward = async {
        let mut rest = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            match framing {
                Framing::Bytes => websocket::send(&mut sink, data).await?,
                Framing::Base64 => websocket::send_text(&mut sink, STANDARD.encode(&data).into()).await?,
                Framing::Lines | Framing::Prefixed => {
                    rest.extend_from_slice(&data);
                    while let Some(message) = next(framing, &mut rest) {
                        if framing == Framing::Lines {
                            let text = String::from_utf8(message.into()).map_err(io::Error::other)?;
                            websocket::send_text(&mut sink, text.into()).await?;
                        } else {
                            websocket::send(&mut sink, message).await?;
                        }
                    }
                }
            }
        }
        websocket::close(&mut sink).await?;
        sink.flush().await.map_err(io::Error::other)
    };
    // clients have nothing to say but that they go
    let inward = async {
        while websocket::receive(&mut stream).await?.is_some() {}
        Ok(())
    };
    tokio::select! {
        done = outward => done,
        gone = inward => gone,
    }
}

/// Takes the next whole message off what has come.
fn next(framing: Framing, rest: &mut BytesMut) -> Option<Bytes> {
    if framing == Framing::Lines {
        let end = rest.iter().position(|b| *b == b'\n')?;
        return Some(rest.split_to(end + 1).freeze());
    }
    let length = u32::from_be_bytes(rest.get(..PREFIX)?.try_into().ok()?) as usize;
    if rest.len() < PREFIX + length {
        return None;
    }
    Some(rest.split_to(PREFIX + length).freeze().slice(PREFIX..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_whole_lines_or_what_follows_a_length() {
        let mut rest = BytesMut::from(&b"{}\n{\"a\""[..]);
        assert_eq!(next(Framing::Lines, &mut rest).as_deref(), Some(&b"{}\n"[..]));
        assert_eq!(next(Framing::Lines, &mut rest), None);
        let mut rest = BytesMut::from(&b"\0\0\0\x02ab\0\0\0\x01"[..]);
        assert_eq!(next(Framing::Prefixed, &mut rest).as_deref(), Some(&b"ab"[..]));
        assert_eq!(next(Framing::Prefixed, &mut rest), None);
    }
}
