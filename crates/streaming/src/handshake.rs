//! The upgrade request: which transport and which version of the protocol the two sides speak.

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED_PROTOCOLS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

/// What the connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// exec and attach.
    RemoteCommand,
    /// Forwarding of ports.
    PortForward,
    /// One stream of bytes to the client, by WebSocket alone.
    Bytes,
    /// Messages to the client, by WebSocket alone and in whatever protocol it names.
    Messages,
}

/// What carries the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// SPDY/3.1.
    Spdy,
    /// WebSocket (RFC 6455).
    WebSocket,
}

/// Best first.
const REMOTE_COMMAND_SPDY: [&str; 4] = [
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
];
const REMOTE_COMMAND_WEBSOCKET: [&str; 5] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
];
const PORT_FORWARD_SPDY: [&str; 1] = ["portforward.k8s.io"];
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const PORT_FORWARD_WEBSOCKET: [&str; 3] = [TUNNEL, "v4.channel.k8s.io", "v4.base64.channel.k8s.io"];
/// The protocol of clients that take no bytes: each message is text in base64.
pub const BASE64: &str = "base64.binary.k8s.io";
const BYTES_WEBSOCKET: [&str; 2] = ["binary.k8s.io", BASE64];

/// An upgrade that both sides can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// What carries the streams.
    pub transport: Transport,
    /// Empty where the client named none.
    pub protocol: String,
    accept_key: String,
}

/// An upgrade that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    /// The answer's status: 400 or 403.
    pub status: StatusCode,
    /// The answer's body.
    pub text: String,
    supported: Vec<&'static str>,
}

fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|v| v.to_str().ok());
    values
        .flat_map(|v| v.split(','))
        .map(str::trim)
        .filter(|w| !w.is_empty())
}

fn choose(transport: Transport, offered: &[&str], supported: &[&'static str]) -> Result<String, Refused> {
    if offered.is_empty() {
        return Ok(String::new());
    }
    let common = offered.iter().find(|o| supported.contains(o));
    common.map(|c| (*c).to_owned()).ok_or_else(|| Refused {
        status: match transport {
            Transport::Spdy => StatusCode::FORBIDDEN,
            Transport::WebSocket => StatusCode::BAD_REQUEST,
        },
        text: format!(
            "unable to upgrade: unable to negotiate protocol: client supports {offered:?}, server accepts {supported:?}"
        ),
        supported: supported.to_vec(),
    })
}

fn wants(headers: &HeaderMap, transport: &str) -> bool {
    words(headers, &header::CONNECTION).any(|w| w.eq_ignore_ascii_case("upgrade"))
        && words(headers, &header::UPGRADE).any(|w| w.eq_ignore_ascii_case(transport))
}

/// Returns whether a client asks for a WebSocket.
pub fn is_websocket(headers: &HeaderMap) -> bool {
    wants(headers, "websocket")
}

/// Agrees on a transport and a protocol: of those that the client offers the first that is known.
///
/// # Errors
/// When the client asks for no upgrade, for one that is not right, or offers no protocol that is known.
pub fn negotiate(kind: Kind, headers: &HeaderMap) -> Result<Accepted, Refused> {
    if is_websocket(headers) {
        let bad = |text: &str| Refused {
            status: StatusCode::BAD_REQUEST,
            text: text.to_owned(),
            supported: Vec::new(),
        };
        let key = headers
            .get(header::SEC_WEBSOCKET_KEY)
            .ok_or_else(|| bad("missing Sec-WebSocket-Key"))?;
        if !words(headers, &header::SEC_WEBSOCKET_VERSION).any(|w| w == "13") {
            return Err(bad("unsupported Sec-WebSocket-Version"));
        }
        let offered: Vec<&str> = words(headers, &header::SEC_WEBSOCKET_PROTOCOL).collect();
        let supported: &[_] = match kind {
            Kind::RemoteCommand => &REMOTE_COMMAND_WEBSOCKET,
            Kind::PortForward => &PORT_FORWARD_WEBSOCKET,
            Kind::Bytes => &BYTES_WEBSOCKET,
            Kind::Messages => &[],
        };
        let protocol = match (kind, offered.as_slice()) {
            (Kind::Messages, []) => String::new(),
            (Kind::Messages, [one]) => (*one).to_owned(),
            (Kind::Messages, _) => return Err(bad("more than one protocol was offered")),
            _ => choose(Transport::WebSocket, &offered, supported)?,
        };
        return Ok(Accepted {
            transport: Transport::WebSocket,
            protocol,
            accept_key: derive_accept_key(key.as_bytes()),
        });
    }
    let by_spdy: &[_] = match kind {
        Kind::RemoteCommand => &REMOTE_COMMAND_SPDY,
        Kind::PortForward => &PORT_FORWARD_SPDY,
        Kind::Bytes | Kind::Messages => &[],
    };
    if !by_spdy.is_empty() && wants(headers, "SPDY/3.1") {
        let offered: Vec<&str> = words(headers, &STREAM_PROTOCOL).collect();
        return Ok(Accepted {
            transport: Transport::Spdy,
            protocol: choose(Transport::Spdy, &offered, by_spdy)?,
            accept_key: String::new(),
        });
    }
    Err(Refused {
        status: StatusCode::BAD_REQUEST,
        text: "unable to upgrade: missing upgrade headers in request".to_owned(),
        supported: Vec::new(),
    })
}

impl Accepted {
    /// Whether ports are forwarded by numbered channels, so that the request must name them.
    pub fn has_channels(&self) -> bool {
        self.transport == Transport::WebSocket && self.protocol != TUNNEL
    }

    /// 101, with what was agreed on.
    pub fn response<B>(&self, body: B) -> Response<B> {
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        let (upgrade, name) = match self.transport {
            Transport::Spdy => ("SPDY/3.1", STREAM_PROTOCOL),
            Transport::WebSocket => ("websocket", header::SEC_WEBSOCKET_PROTOCOL),
        };
        headers.insert(header::UPGRADE, HeaderValue::from_static(upgrade));
        // Both are made of visible ASCII: one of ours, and base64.
        if let Ok(protocol) = HeaderValue::from_str(&self.protocol)
            && !self.protocol.is_empty()
        {
            headers.insert(name, protocol);
        }
        if let Ok(key) = HeaderValue::from_str(&self.accept_key)
            && !self.accept_key.is_empty()
        {
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
        }
        response
    }
}

impl Refused {
    /// The answer that says so, with the protocols that are known.
    pub fn response<B: From<String>>(&self) -> Response<B> {
        let mut response = Response::new(B::from(self.text.clone()));
        *response.status_mut() = self.status;
        for name in &self.supported {
            let value = HeaderValue::from_static(name);
            response.headers_mut().append(ACCEPTED_PROTOCOLS, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn the_client_s_first_known_protocol_is_taken() {
        let spdy = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
        let websocket = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let with = |base: &[(&'static str, &'static str)], more: &[(&'static str, &'static str)]| {
            headers(&[base, more].concat())
        };
        for (map, kind, want) in [
            (
                with(
                    &spdy,
                    &[
                        ("x-stream-protocol-version", "v9"),
                        ("x-stream-protocol-version", "v4.channel.k8s.io"),
                    ],
                ),
                Kind::RemoteCommand,
                Ok("v4.channel.k8s.io"),
            ),
            (with(&spdy, &[]), Kind::RemoteCommand, Ok("")),
            (
                with(&spdy, &[("x-stream-protocol-version", "v9")]),
                Kind::RemoteCommand,
                Err(403),
            ),
            (
                with(&websocket, &[("sec-websocket-protocol", "x, v5.channel.k8s.io")]),
                Kind::RemoteCommand,
                Ok("v5.channel.k8s.io"),
            ),
            (
                with(&websocket, &[("sec-websocket-protocol", "SPDY/3.1+portforward.k8s.io")]),
                Kind::PortForward,
                Ok("SPDY/3.1+portforward.k8s.io"),
            ),
            (with(&websocket, &[]), Kind::PortForward, Ok("")),
            (
                with(&websocket, &[("sec-websocket-protocol", "v4.base64.channel.k8s.io")]),
                Kind::PortForward,
                Ok("v4.base64.channel.k8s.io"),
            ),
            (
                with(&websocket, &[("sec-websocket-protocol", "channel.k8s.io")]),
                Kind::PortForward,
                Err(400),
            ),
            (headers(&[]), Kind::PortForward, Err(400)),
        ] {
            let got = negotiate(kind, &map);
            let got = got.as_ref().map(|a| a.protocol.as_str()).map_err(|r| r.status.as_u16());
            assert_eq!(got, want);
        }
        let accepted = negotiate(Kind::RemoteCommand, &with(&websocket, &[])).unwrap();
        let key = accepted.response(()).headers()[header::SEC_WEBSOCKET_ACCEPT].clone();
        assert_eq!(key, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
