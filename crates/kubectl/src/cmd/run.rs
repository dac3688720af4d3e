//! `run`: one pod, and if wanted our terminal on it.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::apply::record;
use super::exec::attach_to;
use crate::change::Changer;
use crate::discovery::ResourceType;
use crate::error::{Error, Result, fail};
use crate::flags::{Change, Overrides};
use crate::print::go::quote;
use crate::select::Info;
use crate::session::{Session, duration};
use crate::watch;

/// Create and run a particular image in a pod
#[derive(Debug, clap::Args)]
pub struct Args {
    names: Vec<String>,
    /// The image for the container to run
    #[arg(long)]
    image: Option<String>,
    #[command(flatten)]
    change: Change,
    /// Environment variables to set in the container
    #[arg(long)]
    env: Vec<String>,
    /// Comma separated labels to apply to the pod
    #[arg(long, short)]
    labels: Option<String>,
    /// Annotations to apply to the pod
    #[arg(long)]
    annotations: Vec<String>,
    /// The port that this container exposes
    #[arg(long)]
    port: Option<u16>,
    /// The restart policy for this Pod
    #[arg(long, default_value = "Always", hide_default_value = true)]
    restart: String,
    /// The image pull policy for the container
    #[arg(long)]
    image_pull_policy: Option<String>,
    /// If true and extra arguments are present, use them as the 'command' field in the container
    #[arg(long)]
    command: bool,
    /// If true, create a ClusterIP service associated with the pod
    #[arg(long)]
    expose: bool,
    /// Keep stdin open on the container in the pod
    #[arg(long, short = 'i')]
    stdin: bool,
    /// Allocate a TTY for the container in the pod
    #[arg(long, short)]
    tty: bool,
    /// If true, wait for the Pod to start running, and then attach to the Pod
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    attach: Option<bool>,
    /// If true, delete the pod after it exits
    #[arg(long)]
    rm: bool,
    /// If true, suppress prompt messages
    #[arg(long, short)]
    quiet: bool,
    /// If true, run the container in privileged mode
    #[arg(long)]
    privileged: bool,
    /// The length of time to wait until at least one pod is running
    #[arg(long, default_value = "1m0s", hide_default_value = true)]
    pod_running_timeout: String,
    #[command(flatten)]
    overrides: Overrides,
    /// If true, the configuration of current object will be saved in its annotation
    #[arg(long)]
    save_config: bool,
    #[arg(last = true)]
    words: Vec<String>,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    let Some(image) = &args.image else {
        return fail("required flag(s) \"image\" not set");
    };
    let Some((name, more)) = args.names.split_first() else {
        return fail("NAME is required for run");
    };
    if !matches!(args.restart.as_str(), "Always" | "OnFailure" | "Never") {
        return fail(format!(
            "invalid restart policy: {}, valid values are: Always, OnFailure, Never",
            args.restart
        ));
    }
    if args.tty && !args.stdin {
        return session.usage("-i/--stdin is required for containers with -t/--tty=true");
    }
    if args.expose && args.port.is_none() {
        return fail("--port must be set when exposing a service");
    }
    let attach = args.attach.unwrap_or(args.stdin || args.tty);
    if args.rm && !attach {
        return fail("--rm should only be used for attached containers");
    }
    let words: Vec<&String> = more.iter().chain(&args.words).collect();
    let mut pod = pod(args, name, image, &words)?;
    args.overrides.apply(&mut pod)?;
    if args.save_config && args.change.dry_run != crate::flags::DryRun::Client {
        record(&mut pod)?;
    }
    let changer = Changer::new(session, &args.change, "kubectl-run")?;
    if attach && changer.dry_run != crate::flags::DryRun::None {
        return fail(format!(
            "--dry-run={} can't be used with attached containers options (--attach, --stdin, or --tty)",
            if changer.is_local() { "client" } else { "server" }
        ));
    }
    let mut info = made(session, &changer, "pods", pod).await?;
    if !attach || !changer.format.is_human() {
        changer.tell_typed(&info.object, "created")?;
    }
    if args.expose {
        let port = args.port.unwrap_or_default();
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"ports": [{"port": port, "protocol": "TCP", "targetPort": port}], "selector": labels(args, name)},
            "status": {"loadBalancer": {}},
        });
        let service = made(session, &changer, "services", service).await?;
        changer.tell_typed(&service.object, "created")?;
    }
    if !attach {
        return Ok(());
    }
    let ended = attached(session, args, &mut info).await;
    if args.rm {
        changer.delete(&info, None, "Background").await?;
        if !args.quiet {
            session.println(&format!(
                "pod {} deleted from {} namespace",
                quote(name),
                info.namespace
            ))?;
        }
    }
    ended
}

async fn made(session: &Session, changer: &Changer<'_>, plural: &str, mut object: Value) -> Result<Info> {
    if session.explicit_namespace() {
        object["metadata"]["namespace"] = json!(session.namespace()?);
    }
    let ty = ResourceType {
        version: "v1".to_owned(),
        plural: plural.to_owned(),
        namespaced: true,
        ..ResourceType::default()
    };
    let mut info = Info::of(&std::sync::Arc::new(ty), object);
    info.namespace = session.namespace()?;
    if !changer.is_local() {
        changer.create(&mut info).await?;
    }
    Ok(info)
}

fn labels(args: &Args, name: &str) -> Map<String, Value> {
    let given = args.labels.as_deref().unwrap_or_default();
    let pair = |p: &str| p.split_once('=').map(|(k, v)| (k.to_owned(), json!(v)));
    let mut labels: Map<String, Value> = given.split(',').filter_map(pair).collect();
    if labels.is_empty() {
        labels.insert("run".to_owned(), json!(name));
    }
    labels
}

fn pod(args: &Args, name: &str, image: &str, words: &[&String]) -> Result<Value> {
    let mut container = json!({"name": name, "image": image, "resources": {}});
    if !words.is_empty() {
        container[if args.command { "command" } else { "args" }] = json!(words);
    }
    let mut env = Vec::new();
    for text in &args.env {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => env.push(json!({"name": key, "value": value})),
            _ => return fail(format!("invalid env: {text}")),
        }
    }
    if !env.is_empty() {
        container["env"] = Value::Array(env);
    }
    if let Some(port) = args.port {
        container["ports"] = json!([{"containerPort": port}]);
    }
    if let Some(policy) = &args.image_pull_policy {
        container["imagePullPolicy"] = json!(policy);
    }
    if args.stdin {
        container["stdin"] = json!(true);
        // The container's input ends with ours.
        container["stdinOnce"] = json!(true);
    }
    if args.tty {
        container["tty"] = json!(true);
    }
    if args.privileged {
        container["securityContext"] = json!({"privileged": true});
    }
    let mut meta = json!({"name": name, "labels": labels(args, name)});
    for text in &args.annotations {
        if let Some((key, value)) = text.split_once('=') {
            meta["annotations"][key] = json!(value);
        }
    }
    Ok(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": meta,
        "spec": {"containers": [container], "dnsPolicy": "ClusterFirst", "restartPolicy": args.restart},
        "status": {},
    }))
}

fn phase(pod: &Value) -> &str {
    pod["status"]["phase"].as_str().unwrap_or_default()
}

/// Attaches as soon as it runs; what has ended before has its log instead.
async fn attached(session: &Session, args: &Args, info: &mut Info) -> Result<()> {
    let limit = duration(&args.pod_running_timeout)?.unwrap_or(Duration::MAX);
    let shown = info.clone();
    let until = |phases: &'static [&'static str]| {
        watch::follow(session, &shown, move |pod| match pod {
            None => fail("pod was deleted"),
            Some(pod) => Ok(phases.contains(&phase(pod)).then(|| pod.clone())),
        })
    };
    let started = timeout(limit, until(&["Running", "Succeeded", "Failed"])).await;
    let pod = started.unwrap_or_else(|_| fail("timed out waiting for the condition"))?;
    if phase(&pod) == "Running" {
        if let Err(error) = attach_to(session, &pod, "", args.stdin, args.tty, args.quiet).await {
            session.warn(&format!(
                "warning: couldn't attach to pod/{}, falling back to streaming logs: {error}",
                info.name
            ));
            log(session, info).await?;
        }
    } else {
        log(session, info).await?;
    }
    if args.restart == "Always" {
        return Ok(());
    }
    let pod = until(&["Succeeded", "Failed"]).await?;
    if phase(&pod) == "Succeeded" {
        return Ok(());
    }
    let code = pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"].as_u64();
    match code.and_then(|c| u8::try_from(c).ok()).filter(|c| *c > 0) {
        Some(code) => Err(Error::Coded {
            code,
            message: format!("pod {}/{} terminated (Error)", info.namespace, info.name),
        }),
        None => fail(format!(
            "pod {}/{} failed with unknown exit code",
            info.namespace, info.name
        )),
    }
}

async fn log(session: &Session, info: &Info) -> Result<()> {
    let path = format!(
        "/api/v1/namespaces/{}/pods/{}/log",
        info.namespace,
        crate::api::escape(&info.name)
    );
    let text = session.api()?.bytes(&crate::api::Call::get(path)).await?;
    session.write(&text)
}
