//! Rows of the datastores: ours driven by tasks in this process, etcd over gRPC on loopback. Not the same path: the
//! API server reaches either of them in just that way.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use etcd::disk::Directory;
use etcd::{Embedded, EmbeddedConfig, KeyRange, Op, Put, Store, Txn, Value};
use http::uri::PathAndQuery;
use tokio::task::JoinSet;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::cluster::{Places, Side};
use crate::error::{Error, Result};
use crate::inside::Report;

const CLIENTS: [(usize, &str); 3] = [(1, "store.put1"), (100, "store.put100"), (1000, "store.put1000")];
const SIZE: usize = 1024;
/// Connections that etcd's clients share, as its own benchmark does.
const CONNECTIONS: usize = 100;
const ENDPOINT: &str = "http://127.0.0.1:2379";

/// etcd's `etcdserverpb.PutRequest`, as far as it is used.
#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
}

/// An answer whose content is of no interest.
#[derive(Clone, PartialEq, prost::Message)]
struct Answer {}

/// A key for each client's `i`th put; keys come again, as objects are updated.
fn key(client: usize, i: usize) -> Bytes {
    Bytes::from(format!("/registry/configmaps/bench/object-{client}-{}", i % 100))
}

pub async fn all(side: Side, places: &Places, seconds: u64, report: &Report) -> Result<()> {
    let time = Duration::from_secs(seconds);
    let dir = places.dir.join("store");
    match side {
        Side::Skiff => ours(&dir, time, report).await,
        Side::Upstream => theirs(places, &dir, time, report).await,
    }
}

/// Requests a second of `clients` tasks that each wait for their answers.
async fn rate<C, F>(
    clients: Vec<C>,
    time: Duration,
    request: impl Fn(C, usize, usize) -> F + Clone + Send + 'static,
) -> Result<f64>
where
    C: Clone + Send + 'static,
    F: Future<Output = Result<()>> + Send,
{
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    for (index, client) in clients.into_iter().enumerate() {
        let request = request.clone();
        tasks.spawn(async move {
            let mut done = 0;
            while began.elapsed() < time {
                request(client.clone(), index, done).await?;
                done += 1;
            }
            Ok::<usize, Error>(done)
        });
    }
    let mut sum = 0;
    while let Some(done) = tasks.join_next().await {
        sum += done??;
    }
    Ok(sum as f64 / began.elapsed().as_secs_f64())
}

async fn ours(dir: &Path, time: Duration, report: &Report) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(Error::at(dir))?;
    let disk = Directory::open(dir).map_err(Error::at(dir))?;
    let store = Embedded::open(Arc::new(disk), EmbeddedConfig::default()).map_err(|e| Error::said(e.to_string()))?;
    let store = Arc::new(store);
    let value = Bytes::from(vec![b'x'; SIZE]);
    for (count, figure) in CLIENTS {
        let value = value.clone();
        let put = move |store: Arc<Embedded>, client, i| {
            let put = Put {
                key: key(client, i),
                value: Value::Plain(value.clone()),
                lease: 0,
                hint: None,
            };
            async move {
                let txn = Txn {
                    success: vec![Op::Put(put)],
                    ..Txn::default()
                };
                store.txn(txn).await?;
                Ok(())
            }
        };
        report.figure(figure, rate(vec![store.clone(); count], time, put).await?);
    }
    let get = |store: Arc<Embedded>, client, i| async move {
        store.range(KeyRange::One(key(client, i)), 0, None).await?;
        Ok(())
    };
    report.figure("store.range", rate(vec![store; 100], time, get).await?);
    Ok(())
}

/// Ends with us.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // it may have ended by itself
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

async fn call<M: prost::Message + Send + Sync + 'static>(
    channel: Channel,
    message: M,
    method: &'static str,
) -> Result<()> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await?;
    let codec: ProstCodec<M, Answer> = ProstCodec::default();
    grpc.unary(tonic::Request::new(message), PathAndQuery::from_static(method), codec)
        .await?;
    Ok(())
}

async fn theirs(places: &Places, dir: &Path, time: Duration, report: &Report) -> Result<()> {
    let mut command = Command::new(places.programs.join("etcd"));
    command.arg("--data-dir").arg(dir).args(["--log-level", "error"]);
    let daemon = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let _daemon = Daemon(daemon);
    let deadline = Instant::now() + Duration::from_secs(30);
    let endpoint = Endpoint::from_static(ENDPOINT);
    while endpoint.connect().await.is_err() {
        if Instant::now() > deadline {
            return Err(Error::said("etcd does not listen after 30 s"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        channels.push(endpoint.connect().await?);
    }
    let clients = |count| {
        (0..count)
            .map(|i| channels[i % CONNECTIONS].clone())
            .collect::<Vec<_>>()
    };
    // it listens before it has elected itself
    call(
        channels[0].clone(),
        PutRequest {
            key: key(0, 0),
            value: Bytes::new(),
        },
        "/etcdserverpb.KV/Put",
    )
    .await?;
    let value = Bytes::from(vec![b'x'; SIZE]);
    for (count, figure) in CLIENTS {
        let value = value.clone();
        let put = move |channel, client, i| {
            call(
                channel,
                PutRequest {
                    key: key(client, i),
                    value: value.clone(),
                },
                "/etcdserverpb.KV/Put",
            )
        };
        report.figure(figure, rate(clients(count), time, put).await?);
    }
    let get = |channel, client, i| call(channel, RangeRequest { key: key(client, i) }, "/etcdserverpb.KV/Range");
    report.figure("store.range", rate(clients(100), time, get).await?);
    Ok(())
}
