//! Rows of a whole node: memory and CPU when idle, what pods cost, how soon they run and answer.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cluster::{Cluster, Places};
use crate::error::{Error, Result};
use crate::http::Call;
use crate::inside::Report;
use crate::objects;
use crate::process;
use crate::watch::Watch;

const PODS: &str = "/api/v1/namespaces/default/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

/// What is started late by a cluster has started, what was freed is given back.
pub const SETTLE: Duration = Duration::from_secs(15);

pub async fn idle(cluster: &Cluster, seconds: u64, report: &Report) -> Result<()> {
    tokio::time::sleep(SETTLE).await;
    let by_process = process::memory_by_process()?;
    let mut sum = process::Memory::default();
    for (name, memory) in by_process {
        report.say(format_args!(
            "{name}: {:.1} MiB PSS, {:.1} anonymous",
            memory.pss / 1048576.0,
            memory.anonymous / 1048576.0
        ));
        sum += memory;
    }
    report.figure("idle.pss", sum.pss);
    report.figure("idle.anonymous", sum.anonymous);
    let (cpu, began) = (cluster.groups.cpu()?, Instant::now());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let used = cluster.groups.cpu()? - cpu;
    report.figure("idle.cpu", used.as_secs_f64() / began.elapsed().as_secs_f64() * 100.0);
    Ok(())
}

#[derive(Default)]
struct Life {
    bound: Option<Instant>,
    running: Option<Instant>,
    gone: bool,
}

/// The value below which `share` of the values are.
fn quantile(values: &mut [Duration], share: f64) -> f64 {
    values.sort();
    let at = ((values.len() as f64 * share) as usize).min(values.len().saturating_sub(1));
    values.get(at).map_or(f64::NAN, Duration::as_secs_f64)
}

/// Takes events until every pod has what is asked for.
async fn follow(
    watch: &mut Watch,
    lives: &mut HashMap<String, Life>,
    what: &str,
    done: impl Fn(&Life) -> bool,
) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(150);
    while !lives.values().all(&done) {
        let event = watch.next(deadline, what).await?;
        let Some(life) = event.object["metadata"]["name"].as_str().and_then(|n| lives.get_mut(n)) else {
            continue;
        };
        if event.kind == "DELETED" {
            life.gone = true;
        } else {
            if event.object["spec"]["nodeName"].is_string() {
                life.bound.get_or_insert(event.at);
            }
            if event.object["status"]["containerStatuses"][0]["state"]["running"].is_object() {
                life.running.get_or_insert(event.at);
            }
        }
    }
    Ok(())
}

/// Single pods at two a second.
pub async fn pods(cluster: &Cluster, count: usize, report: &Report) -> Result<()> {
    cluster.service_account().await?;
    let mut watch = Watch::open(&cluster.endpoint, &format!("{PODS}?labelSelector=app%3Dbench")).await?;
    let mut connection = cluster.endpoint.connect().await?;
    let names: Vec<String> = (0..count).map(|i| format!("pod-{i}")).collect();
    let mut lives: HashMap<String, Life> = names.iter().map(|n| (n.clone(), Life::default())).collect();
    let cpu = cluster.groups.cpu()?;
    let mut clock = tokio::time::interval(Duration::from_millis(500));
    for name in &names {
        clock.tick().await;
        connection
            .json(Call::post(PODS, &objects::pod(name, objects::PAUSE)))
            .await?;
    }
    follow(&mut watch, &mut lives, "every pod runs", |l| l.running.is_some()).await?;
    for name in &names {
        connection
            .json(Call::delete(format!("{PODS}/{name}"), &json!({})))
            .await?;
    }
    follow(&mut watch, &mut lives, "every pod is gone", |l| l.gone).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    report.figure("pods.cpu", (cluster.groups.cpu()? - cpu).as_secs_f64() / count as f64);
    let mut waits: Vec<Duration> = lives.values().filter_map(|l| Some(l.running? - l.bound?)).collect();
    report.figure("pods.running_p50", quantile(&mut waits, 0.5));
    report.figure("pods.running_p99", quantile(&mut waits, 0.99));
    Ok(())
}

/// Fifty at once, and the memory they add.
pub async fn deployment(cluster: &Cluster, report: &Report) -> Result<()> {
    const REPLICAS: usize = 50;
    cluster.service_account().await?;
    tokio::time::sleep(SETTLE).await;
    let before = process::memory()?;
    let mut connection = cluster.endpoint.connect().await?;
    let mut watch = Watch::open(
        &cluster.endpoint,
        &format!("{DEPLOYMENTS}?fieldSelector=metadata.name%3Dmany"),
    )
    .await?;
    let began = Instant::now();
    connection
        .json(Call::post(
            DEPLOYMENTS,
            &objects::deployment("many", objects::PAUSE, REPLICAS),
        ))
        .await?;
    let ready = watch
        .until("50 pods are Ready", |e| e.object["status"]["readyReplicas"] == REPLICAS)
        .await?;
    report.figure("deployment.ready", (ready.at - began).as_secs_f64());
    tokio::time::sleep(SETTLE).await;
    let after = process::memory()?;
    report.figure("deployment.pss", (after.pss - before.pss) / REPLICAS as f64);
    report.say(format_args!(
        "anonymous memory a pod: {:.2} MiB",
        (after.anonymous - before.anonymous) / REPLICAS as f64 / 1048576.0
    ));
    remove_deployment(cluster, "many").await
}

/// Deletes it and waits until its pods are gone.
async fn remove_deployment(cluster: &Cluster, name: &str) -> Result<()> {
    let mut watch = Watch::open(
        &cluster.endpoint,
        &format!("{DEPLOYMENTS}?fieldSelector=metadata.name%3D{name}"),
    )
    .await?;
    let mut connection = cluster.endpoint.connect().await?;
    let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground"});
    connection
        .json(Call::delete(format!("{DEPLOYMENTS}/{name}"), &options))
        .await?;
    watch
        .until("the Deployment and its pods are gone", |e| e.kind == "DELETED")
        .await?;
    Ok(())
}

/// `kubectl apply` to the first answer that a pod gets by the Service's name.
pub async fn service(cluster: &Cluster, rounds: usize, report: &Report) -> Result<()> {
    cluster.service_account().await?;
    let mut connection = cluster.endpoint.connect().await?;
    let mut watch = Watch::open(&cluster.endpoint, &format!("{PODS}?labelSelector=app%3Dbench")).await?;
    connection
        .json(Call::post(PODS, &objects::pod("client", objects::DNSUTILS)))
        .await?;
    let running = |o: &serde_json::Value| o["status"]["containerStatuses"][0]["ready"] == true;
    watch.until("the client runs", |e| running(&e.object)).await?;
    for round in 0..rounds {
        let name = format!("web-{round}");
        // two documents
        let manifest = format!(
            "{}\n---\n{}\n",
            objects::deployment(&name, objects::NGINX, 2),
            objects::service(&name)
        );
        // it ends by itself, also when nothing ever answers
        let url = format!("http://{name}.default.svc.cluster.local/");
        let ask = format!(
            "echo begin; for i in $(seq 2000); do curl -sf -o /dev/null -m 1 {url} && exec echo end; sleep 0.01; done"
        );
        let mut asking = cluster.kubectl();
        let mut asking = asking
            .args(["exec", "client", "--", "sh", "-c", &ask])
            .stdout(Stdio::piped())
            .spawn()?;
        let said = asking
            .stdout
            .take()
            .ok_or_else(|| Error::said("kubectl exec has no output"))?;
        let mut said = BufReader::new(said).lines();
        expect(said.next(), "begin")?;
        let answered = std::thread::spawn(move || expect(said.next(), "end").map(|()| Instant::now()));
        tokio::time::sleep(Duration::from_millis(300)).await;
        let began = Instant::now();
        let mut apply = cluster
            .kubectl()
            .args(["apply", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        if let Some(mut input) = apply.stdin.take() {
            input.write_all(manifest.as_bytes())?;
        }
        let applied = apply.wait()?;
        if !applied.success() {
            asking.kill()?;
            return Err(Error::said(format!("kubectl apply: {applied}")));
        }
        let answered = answered
            .join()
            .map_err(|_| Error::said("the reader of kubectl exec ended"))??;
        asking.wait()?;
        report.figure("service.answer", (answered - began).as_secs_f64());
        remove_deployment(cluster, &name).await?;
    }
    connection
        .json(Call::delete(format!("{PODS}/client"), &json!({})))
        .await?;
    watch.until("the client is gone", |e| e.kind == "DELETED").await?;
    Ok(())
}

fn expect(line: Option<std::io::Result<String>>, what: &str) -> Result<()> {
    match line {
        Some(Ok(line)) if line == what => Ok(()),
        other => Err(Error::said(format!("kubectl exec said {other:?} in place of {what:?}"))),
    }
}

/// The archives that these rows need on the node.
pub fn archives(places: &Places) -> Vec<PathBuf> {
    vec![
        places.dir.join("pause.tar"),
        places.images.join("dnsutils.tar"),
        places.images.join("nginx.tar"),
    ]
}
