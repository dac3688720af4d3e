//! Messages of a WebSocket that begin with the number of a channel: as bytes, or as text in base64 for clients that have no bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use tokio_tungstenite::tungstenite::Message;

/// How a protocol writes its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// A byte for the channel, then the data.
    Binary,
    /// A digit for the channel, then the data in base64.
    Base64,
}

impl Coding {
    /// By the name of the protocol: `v4.channel.k8s.io`, `base64.channel.k8s.io`.
    pub fn of(protocol: &str) -> Coding {
        match protocol {
            "base64.channel.k8s.io" | "v4.base64.channel.k8s.io" => Coding::Base64,
            _ => Coding::Binary,
        }
    }

    /// A message of a channel, whose first byte stands for it.
    pub fn encode(self, message: &[u8]) -> Message {
        match (self, message.split_first()) {
            (Coding::Base64, Some((channel, data))) => {
                let digit = char::from(b'0'.wrapping_add(*channel));
                Message::Text(format!("{digit}{}", STANDARD.encode(data)).into())
            }
            _ => Message::Binary(Bytes::copy_from_slice(message)),
        }
    }

    /// The channel and the data of a message as it came; `None` for what is no message of a channel.
    pub fn decode(self, message: &Bytes) -> Option<(u8, Bytes)> {
        let (first, rest) = message.split_first()?;
        match self {
            Coding::Binary => Some((*first, message.slice(1..))),
            Coding::Base64 => {
                let data = STANDARD.decode(rest).ok()?;
                Some((first.checked_sub(b'0')?, data.into()))
            }
        }
    }
}

/// A channel's number before its data.
pub fn message(channel: u8, data: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(data.len() + 1);
    message.put_u8(channel);
    message.put_slice(data);
    message.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_the_same_in_both_codings() {
        for (protocol, want) in [
            ("v4.channel.k8s.io", Message::Binary(Bytes::from_static(b"\x01ab"))),
            ("v4.base64.channel.k8s.io", Message::Text("1YWI=".into())),
        ] {
            let coding = Coding::of(protocol);
            let sent = coding.encode(&message(1, b"ab"));
            assert_eq!(sent, want);
            assert_eq!(coding.decode(&sent.into_data()), Some((1, Bytes::from_static(b"ab"))));
        }
        assert_eq!(Coding::Base64.decode(&Bytes::from_static(b"1*")), None);
        assert_eq!(Coding::Binary.decode(&Bytes::new()), None);
    }
}
