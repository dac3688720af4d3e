//! exec, attach and port-forward as Kubernetes' clients do them, over SPDY/3.1 and over WebSocket.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/spdy.rs"]
mod spdy;
mod support;

use bytes::Bytes;
use cri::v1;
use futures::{SinkExt, StreamExt};
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use support::{Node, PATIENCE, container};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

type Io = TokioIo<Upgraded>;

/// A connection inside the node: the streaming server listens on its loopback.
async fn dial(node: &Node, url: &str) -> TcpStream {
    let uri: http::Uri = url.parse().unwrap();
    let path = node.net_namespace();
    let address = format!("127.0.0.1:{}", uri.port_u16().unwrap());
    let made = std::thread::spawn(move || {
        let file = std::fs::File::open(path).unwrap();
        nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        std::net::TcpStream::connect(address).unwrap()
    });
    let tcp = made.join().unwrap();
    tcp.set_nonblocking(true).unwrap();
    TcpStream::from_std(tcp).unwrap()
}

async fn upgrade(node: &Node, url: &str, headers: &[(&str, &str)]) -> Result<Io, StatusCode> {
    let tcp = dial(node, url).await;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.with_upgrades().await;
    });
    let path = url.parse::<http::Uri>().unwrap().path().to_owned();
    let mut request = Request::builder()
        .method("POST")
        .uri(path)
        .header(header::HOST, "node")
        .header(header::CONNECTION, "Upgrade");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender
        .send_request(request.body(Empty::<Bytes>::new()).unwrap())
        .await
        .unwrap();
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(response.status());
    }
    Ok(TokioIo::new(hyper::upgrade::on(response).await.unwrap()))
}

async fn spdy_client(node: &Node, url: &str, protocol: &str) -> spdy::Client<Io> {
    let headers = [("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", protocol)];
    spdy::Client::new(upgrade(node, url, &headers).await.unwrap())
}

async fn web_socket(node: &Node, url: &str, protocol: &str) -> WebSocketStream<Io> {
    let headers = [
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", protocol),
    ];
    let io = upgrade(node, url, &headers).await.unwrap();
    WebSocketStream::from_raw_socket(io, Role::Client, None).await
}

fn words(script: &str) -> Vec<String> {
    ["sh", "-c", script].map(str::to_owned).to_vec()
}

async fn exec(node: &mut Node, id: &str, script: &str, tty: bool) -> String {
    let request = v1::ExecRequest {
        container_id: id.into(),
        cmd: words(script),
        tty,
        stdin: true,
        stdout: true,
        stderr: !tty,
    };
    node.runtime.exec(request).await.unwrap().into_inner().url
}

/// Everything that comes on each channel, to the end.
async fn channels(socket: &mut WebSocketStream<Io>) -> [String; 4] {
    let mut said: [Vec<u8>; 4] = Default::default();
    while let Some(Ok(message)) = tokio::time::timeout(PATIENCE, socket.next())
        .await
        .expect("nothing came")
    {
        if let Message::Binary(bytes) = message {
            said[usize::from(bytes[0])].extend_from_slice(&bytes[1..]);
        }
    }
    said.map(|s| String::from_utf8(s).unwrap())
}

#[tokio::test]
async fn exec_over_spdy_carries_three_streams_and_the_exit_code() {
    let mut node = Node::start().await;
    let sandbox = node.sandbox("spdy").await;
    let id = node.run(&sandbox, container("main", "exec sleep 1000")).await;
    let url = exec(&mut node, &id, "cat; echo oops >&2; exit 7", false).await;
    let mut client = spdy_client(&node, &url, "v4.channel.k8s.io").await;
    let error = client.open(&[("streamtype", "error")]).await;
    let stdin = client.open(&[("streamType", "stdin")]).await;
    let stdout = client.open(&[("streamType", "stdout")]).await;
    let stderr = client.open(&[("streamType", "stderr")]).await;
    // More than any buffer on the way holds.
    let long = "0123456789abcdef".repeat(64 * 1024);
    client.data(stdin, b"hello\n", false).await;
    for part in long.as_bytes().chunks(32 * 1024) {
        client.data(stdin, part, false).await;
        while client.text(stdout).len() < 6 {
            assert!(client.step().await);
        }
    }
    client.data(stdin, b"", true).await;
    client.drain().await;
    assert_eq!(client.text(stdout).len(), 6 + long.len());
    assert!(client.text(stdout) == format!("hello\n{long}"));
    assert_eq!(client.text(stderr), "oops\n");
    let status: serde_json::Value = serde_json::from_str(&client.text(error)).unwrap();
    assert_eq!(
        (
            status["reason"].as_str(),
            status["details"]["causes"][0]["message"].as_str()
        ),
        (Some("NonZeroExitCode"), Some("7"))
    );
    assert!(client.finished.contains(&error) && client.finished.contains(&stdout));
    // The address worked once.
    let again = upgrade(&node, &url, &[("upgrade", "SPDY/3.1")]).await;
    assert_eq!(again.err(), Some(StatusCode::NOT_FOUND));
    node.finish_all().await;
}

#[tokio::test]
async fn exec_over_websocket_has_channels_sizes_and_an_end_of_input() {
    let mut node = Node::start().await;
    let sandbox = node.sandbox("socket").await;
    let id = node.run(&sandbox, container("main", "exec sleep 1000")).await;
    let url = exec(&mut node, &id, "cat; echo oops >&2; exit 3", false).await;
    let mut socket = web_socket(&node, &url, "v5.channel.k8s.io").await;
    for message in [&b"\0hello\n"[..], &[255, 0]] {
        socket
            .send(Message::Binary(Bytes::copy_from_slice(message)))
            .await
            .unwrap();
    }
    let [_, stdout, stderr, error] = channels(&mut socket).await;
    assert_eq!((stdout.as_str(), stderr.as_str()), ("hello\n", "oops\n"));
    assert!(error.contains("\"ExitCode\",\"message\":\"3\""), "{error}");
    let script = "read line; stty size; echo got $line; tty; test -t 2 && exit 0";
    let url = exec(&mut node, &id, script, true).await;
    let mut socket = web_socket(&node, &url, "v4.channel.k8s.io").await;
    for message in ["\x04{\"Width\":123,\"Height\":45}", "\0word\n"] {
        socket
            .send(Message::Binary(Bytes::from_static(message.as_bytes())))
            .await
            .unwrap();
    }
    let [_, stdout, _, error] = channels(&mut socket).await;
    assert!(stdout.contains("got word") && stdout.contains("/dev/pts/"), "{stdout}");
    assert!(stdout.contains("45 123"), "{stdout}");
    assert_eq!(error, r#"{"metadata":{},"status":"Success"}"#);
    let url = exec(&mut node, &id, "true", false).await;
    let mut broken = web_socket(&node, &url, "v5.channel.k8s.io").await;
    assert!(channels(&mut broken).await[3].contains("Success"));
    node.finish_all().await;
}

#[tokio::test]
async fn a_command_that_is_not_there_is_an_error_of_the_session() {
    let mut node = Node::start().await;
    let sandbox = node.sandbox("none").await;
    let id = node.run(&sandbox, container("main", "exec sleep 1000")).await;
    let request = v1::ExecRequest {
        container_id: id.clone(),
        cmd: vec!["no-such-program".into()],
        stdout: true,
        ..Default::default()
    };
    let url = node.runtime.exec(request).await.unwrap().into_inner().url;
    let mut socket = web_socket(&node, &url, "v5.channel.k8s.io").await;
    let [_, _, _, error] = channels(&mut socket).await;
    assert!(
        error.contains("executable file not found") && error.contains("InternalError"),
        "{error}"
    );
    node.finish_all().await;
}

#[tokio::test]
async fn attach_joins_the_first_process_and_ends_with_it() {
    let mut node = Node::start().await;
    let sandbox = node.sandbox("attach").await;
    let mut config = container("main", "while read line; do echo got $line; done; echo end");
    (config.stdin, config.stdin_once) = (true, true);
    let id = node.run(&sandbox, config).await;
    let request = v1::AttachRequest {
        container_id: id.clone(),
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    };
    let url = node.runtime.attach(request).await.unwrap().into_inner().url;
    let mut client = spdy_client(&node, &url, "v4.channel.k8s.io").await;
    let error = client.open(&[("streamType", "error")]).await;
    let stdin = client.open(&[("streamType", "stdin")]).await;
    let stdout = client.open(&[("streamType", "stdout")]).await;
    client.open(&[("streamType", "stderr")]).await;
    client.data(stdin, b"one\n", false).await;
    while client.text(stdout) != "got one\n" {
        assert!(client.step().await);
    }
    client.data(stdin, b"two\n", true).await;
    client.drain().await;
    assert_eq!(client.text(stdout), "got one\ngot two\nend\n");
    assert!(client.text(error).contains("Success"));
    let status = node.status(&id).await;
    assert_eq!(status.state(), v1::ContainerState::ContainerExited);
    assert_eq!(support::log(&status.log_path), "got one\ngot two\nend\n");
    node.finish_all().await;
}

#[tokio::test]
async fn ports_of_a_pod_are_reached_in_its_own_network() {
    let mut node = Node::start().await;
    let sandbox = node.sandbox("ports").await;
    let serve = "while true; do nc -l -p 8080 -e sh -c 'read x; echo pod says $x; hostname'; done";
    let id = node.run(&sandbox, container("main", serve)).await;
    let ready = "while ! grep -q :1F90 /proc/net/tcp /proc/net/tcp6; do :; done";
    assert_eq!(node.exec(&id, ready).await.exit_code, 0);
    let request = v1::PortForwardRequest {
        pod_sandbox_id: sandbox.clone(),
        port: vec![],
    };
    let url = node
        .runtime
        .port_forward(request.clone())
        .await
        .unwrap()
        .into_inner()
        .url;
    let mut client = spdy_client(&node, &url, "portforward.k8s.io").await;
    forward(&mut client).await;
    assert_eq!(node.exec(&id, ready).await.exit_code, 0);
    let url = node.runtime.port_forward(request).await.unwrap().into_inner().url;
    let socket = web_socket(&node, &url, "SPDY/3.1+portforward.k8s.io").await;
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    tokio::spawn(carry(socket, theirs));
    forward(&mut spdy::Client::new(ours)).await;
    node.finish_all().await;
}

async fn carry(socket: WebSocketStream<Io>, io: tokio::io::DuplexStream) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut sink, mut stream) = socket.split();
    let (mut read, mut write) = tokio::io::split(io);
    let out = async {
        let mut buffer = vec![0; 1000];
        while let Ok(n @ 1..) = read.read(&mut buffer).await {
            sink.send(Message::Binary(Bytes::copy_from_slice(&buffer[..n])))
                .await
                .unwrap();
        }
    };
    let back = async {
        while let Some(Ok(message)) = stream.next().await {
            if let Message::Binary(bytes) = message {
                write.write_all(&bytes).await.unwrap();
            }
        }
    };
    tokio::join!(out, back);
}

/// One connection that answers, and one to a port where nobody listens.
async fn forward<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(client: &mut spdy::Client<T>) {
    let of = |kind: &'static str, port: &'static str, request: &'static str| {
        [("streamType", kind), ("port", port), ("requestID", request)]
    };
    let error = client.open(&of("error", "8080", "0")).await;
    let data = client.open(&of("data", "8080", "0")).await;
    client.data(error, b"", true).await;
    client.data(data, b"hi\n", false).await;
    while !client.finished.contains(&data) || !client.finished.contains(&error) {
        assert!(client.step().await);
    }
    assert_eq!(
        (client.text(data).as_str(), client.text(error).as_str()),
        ("pod says hi\nports\n", "")
    );
    let error = client.open(&of("error", "9", "1")).await;
    let data = client.open(&of("data", "9", "1")).await;
    while !client.finished.contains(&data) || !client.finished.contains(&error) {
        assert!(client.step().await);
    }
    assert!(
        client.text(error).contains("error forwarding port 9"),
        "{}",
        client.text(error)
    );
}
