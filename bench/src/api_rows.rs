//! Rows of the API server under load, with datastore, scheduler and controllers beside it and no node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::http::Call;
use crate::inside::{Report, Wanted};
use crate::load::{Extent, run};
use crate::node_rows::SETTLE;
use crate::objects::{config_map, idle_pod, namespace};
use crate::process;
use crate::watch;

const MANY: usize = 32;
const LISTED: usize = 3000;
const WATCHERS: usize = 100;
const WRITERS: usize = 8;

fn config_maps(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps")
}

/// A namespace in which pods can be made.
async fn make_namespace(cluster: &Cluster, name: &str) -> Result<()> {
    let mut connection = cluster.endpoint.connect().await?;
    connection
        .json(Call::post("/api/v1/namespaces", &namespace(name)))
        .await?;
    let accounts = format!("/api/v1/namespaces/{name}/serviceaccounts?fieldSelector=metadata.name%3Ddefault");
    watch::Watch::open(&cluster.endpoint, &accounts)
        .await?
        .until("the default service account", |_| true)
        .await?;
    Ok(())
}

pub async fn all(cluster: &Cluster, wanted: &Wanted, seconds: u64, report: &Report) -> Result<()> {
    let time = Extent::For(Duration::from_secs(seconds));
    if wanted.row("memory") {
        tokio::time::sleep(SETTLE).await;
        for (name, memory) in process::memory_by_process()? {
            report.say(format_args!("{name}: {:.1} MiB PSS", memory.pss / 1048576.0));
        }
        report.figure("memory.idle", process::memory()?.pss);
    }
    if wanted.row("creates") {
        make_namespace(cluster, "creates").await?;
        for (clients, key) in [(1, "creates.one"), (MANY, "creates.many")] {
            let outcome = run(&cluster.endpoint, &cluster.groups, clients, time, move |client, i| {
                Call::post(
                    config_maps("creates"),
                    &config_map(&format!("c-{clients}-{client}-{i}"), 0),
                )
            })
            .await?;
            report.figure(key, outcome.per_second());
            if clients == MANY {
                report.figure("creates.cpu", outcome.cpu_each());
            }
        }
    }
    if wanted.row("updates") || wanted.row("gets") {
        make_namespace(cluster, "objects").await?;
        let object = |client| format!("{}/object-{client}", config_maps("objects"));
        run(
            &cluster.endpoint,
            &cluster.groups,
            MANY,
            Extent::Each(1),
            |client, _| Call::post(config_maps("objects"), &config_map(&format!("object-{client}"), 0)),
        )
        .await?;
        if wanted.row("updates") {
            let outcome = run(&cluster.endpoint, &cluster.groups, MANY, time, move |client, i| {
                Call::put(object(client), &config_map(&format!("object-{client}"), i + 1))
            })
            .await?;
            report.figure("updates.many", outcome.per_second());
            report.figure("updates.cpu", outcome.cpu_each());
        }
        if wanted.row("gets") {
            let outcome = run(&cluster.endpoint, &cluster.groups, MANY, time, move |client, _| {
                Call::get(object(client))
            })
            .await?;
            report.figure("gets.many", outcome.per_second());
            report.figure("gets.cpu", outcome.cpu_each());
        }
    }
    if wanted.row("podcreates") || wanted.row("list") {
        pods(cluster, wanted, report).await?;
    }
    if wanted.row("watch") {
        watchers(cluster, time, report).await?;
    }
    if wanted.row("memory") {
        tokio::time::sleep(Duration::from_secs(5)).await;
        for (name, memory) in process::memory_by_process()? {
            report.say(format_args!("{name}: {:.1} MiB PSS", memory.pss / 1048576.0));
        }
        report.figure("memory.loaded", process::memory()?.pss);
    }
    Ok(())
}

/// Some 3,000 pods made, then listed.
async fn pods(cluster: &Cluster, wanted: &Wanted, report: &Report) -> Result<()> {
    const ROUNDS: usize = 10;
    make_namespace(cluster, "pods").await?;
    let path = "/api/v1/namespaces/pods/pods";
    let each = LISTED.div_ceil(MANY);
    let outcome = run(
        &cluster.endpoint,
        &cluster.groups,
        MANY,
        Extent::Each(each),
        move |client, i| Call::post(path, &idle_pod(&format!("application-{client}-{i}"))),
    )
    .await?;
    if wanted.row("podcreates") {
        report.figure("podcreates.many", outcome.per_second());
        report.figure("podcreates.cpu", outcome.cpu_each());
    }
    if wanted.row("list") {
        let list = Call::get(path);
        let mut connection = cluster.endpoint.connect().await?;
        let mut bytes = connection.measure(list.clone()).await?.1;
        let cpu = cluster.groups.cpu()?;
        for _ in 0..ROUNDS {
            let began = Instant::now();
            let (status, length) = connection.measure(list.clone()).await?;
            report.figure("list.time", began.elapsed().as_secs_f64());
            if !status.is_success() {
                return Err(Error::said(format!("LIST: {status}")));
            }
            bytes = length;
        }
        report.figure("list.cpu", (cluster.groups.cpu()? - cpu).as_secs_f64() / ROUNDS as f64);
        report.figure("list.bytes", bytes as f64);
    }
    Ok(())
}

/// Watchers of one kind while others write; every delivery is waited for.
async fn watchers(cluster: &Cluster, time: Extent, report: &Report) -> Result<()> {
    make_namespace(cluster, "watched").await?;
    run(
        &cluster.endpoint,
        &cluster.groups,
        WRITERS,
        Extent::Each(1),
        |client, _| Call::post(config_maps("watched"), &config_map(&format!("object-{client}"), 0)),
    )
    .await?;
    let counter = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    // only what comes from now on
    let path = format!("{}?resourceVersion={}", config_maps("watched"), now(cluster).await?);
    for _ in 0..WATCHERS {
        tasks.push(watch::count(&cluster.endpoint, &path, counter.clone()).await?);
    }
    let (cpu, began) = (cluster.groups.cpu()?, Instant::now());
    let outcome = run(&cluster.endpoint, &cluster.groups, WRITERS, time, |client, i| {
        let path = format!("{}/object-{client}", config_maps("watched"));
        Call::put(path, &config_map(&format!("object-{client}"), i + 1))
    })
    .await?;
    let expected = (outcome.requests * WATCHERS) as u64;
    let deadline = Instant::now() + Duration::from_secs(60);
    while counter.load(Ordering::Relaxed) < expected && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let elapsed = began.elapsed();
    let used = cluster.groups.cpu()? - cpu;
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    let delivered = counter.load(Ordering::Relaxed);
    if delivered < expected {
        return Err(Error::said(format!("of {expected} deliveries {delivered} came")));
    }
    report.figure("watch.deliveries", delivered as f64 / elapsed.as_secs_f64());
    report.figure("watch.cpu", used.as_secs_f64() / outcome.requests as f64);
    Ok(())
}

/// The resourceVersion of a list made now.
async fn now(cluster: &Cluster) -> Result<String> {
    let list = cluster
        .endpoint
        .connect()
        .await?
        .json(Call::get(config_maps("watched")))
        .await?;
    Ok(list["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default()
        .to_owned())
}
