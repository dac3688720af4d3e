//! Whole connections of exec and port-forward, by both transports: the first byte picks what is asked for, the rest is what the client
//! sends before it leaves.

use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use streaming::remote_command::{Options, Session};
use streaming::{Kind, port_forward};
use tokio::io::AsyncWriteExt;
use tokio::runtime::Runtime;

use crate::{Form, Target};

pub const TARGET: Target = Target::new("streams", Form::Bytes, check);

/// A peer that says goodbye is waited for five seconds.
const PATIENCE: Duration = Duration::from_secs(12);

/// Runs a future on the thread that asks for it.
pub fn block_on(work: impl Future<Output = ()>) {
    static RUNTIME: OnceLock<Option<Runtime>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| tokio::runtime::Builder::new_current_thread().enable_time().build().ok());
    if let Some(runtime) = runtime {
        let ended = runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await });
        assert!(ended.is_ok(), "a connection whose client has left does not end");
    }
}

/// What a client sends to be upgraded.
fn headers(websocket: bool, protocol: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut set = |name, value| drop(headers.insert(name, HeaderValue::from_static(value)));
    set("connection", "Upgrade");
    if websocket {
        set("upgrade", "websocket");
        set("sec-websocket-version", "13");
        set("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        set("sec-websocket-protocol", protocol);
    } else {
        set("upgrade", "SPDY/3.1");
        set("x-stream-protocol-version", protocol);
    }
    headers
}

fn check(input: &[u8]) {
    let Some((first, sent)) = input.split_first() else {
        return;
    };
    let kind = if first & 2 == 0 {
        Kind::RemoteCommand
    } else {
        Kind::PortForward
    };
    let names: &[&str] = match (kind, first & 1) {
        (Kind::RemoteCommand, 0) => &["v4.channel.k8s.io", "v3.channel.k8s.io"],
        (Kind::RemoteCommand, _) => &[
            "v5.channel.k8s.io",
            "v4.channel.k8s.io",
            "v4.base64.channel.k8s.io",
            "channel.k8s.io",
        ],
        (_, 0) => &["portforward.k8s.io"],
        _ => &[
            "SPDY/3.1+portforward.k8s.io",
            "v4.channel.k8s.io",
            "v4.base64.channel.k8s.io",
        ],
    };
    let name = names[usize::from(first >> 2) % names.len()];
    let Ok(accepted) = streaming::negotiate(kind, &headers(first & 1 == 1, name)) else {
        return;
    };
    let options = Options {
        stdin: first & 16 != 0,
        stdout: true,
        stderr: first & 32 != 0,
        tty: first & 64 != 0,
    };
    block_on(async {
        let (ours, mut theirs) = tokio::io::duplex(sent.len() + 65536);
        if theirs.write_all(sent).await.is_err() || theirs.shutdown().await.is_err() {
            return;
        }
        // the client takes what it is sent
        let taking = tokio::spawn(async move { tokio::io::copy(&mut theirs, &mut tokio::io::sink()).await });
        if first & 2 == 0 {
            if let Ok(mut session) = Session::open(&accepted, ours, options).await {
                if let Some(stdin) = &mut session.stdin {
                    while stdin.recv().await.is_some() {}
                }
                let _ = session.finish(&streaming::Status::exit_code(1)).await;
            }
        } else {
            let nowhere =
                |_: u16| async { Err::<tokio::io::DuplexStream, _>(io::Error::from(io::ErrorKind::ConnectionRefused)) };
            let _ = port_forward::serve(&accepted, ours, &[80, 443], nowhere).await;
        }
        let _ = taking.await;
    });
}
