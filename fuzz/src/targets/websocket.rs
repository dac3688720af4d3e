//! Messages of a WebSocket, and the channels in them.

use streaming::channels::Coding;
use streaming::websocket;
use tokio::io::AsyncWriteExt;

use super::streams::block_on;
use crate::{Form, Target};

pub const TARGET: Target = Target::new("websocket", Form::Bytes, check);

fn check(input: &[u8]) {
    block_on(async {
        let (ours, mut theirs) = tokio::io::duplex(input.len() + 65536);
        if theirs.write_all(input).await.is_err() || theirs.shutdown().await.is_err() {
            return;
        }
        let mut socket = websocket::server(ours).await;
        while let Ok(Some(message)) = websocket::receive(&mut socket).await {
            for coding in [Coding::Binary, Coding::Base64] {
                let Some((channel, data)) = coding.decode(&message) else {
                    continue;
                };
                // a text names its channel by one character, which from here on is two bytes
                if coding == Coding::Base64 && channel >= 0x80 - b'0' {
                    continue;
                }
                let sent = coding.encode(&streaming::channels::message(channel, &data));
                let again = coding.decode(&sent.into_data());
                assert_eq!(Some((channel, data)), again, "decoding what was encoded");
            }
        }
    });
}
