//! `drain`: takes the pods off a node, so that it can be served.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::delete::until_gone;
use super::nodes::{nodes, set_unschedulable};
use crate::api::Call;
use crate::change::Changer;
use crate::cmd::describe::{items, list, str_of};
use crate::discovery::ResourceType;
use crate::error::{Error, Result, all, fail, message};
use crate::flags::{Change, DryRun};
use crate::print::go::quote;
use crate::select::Info;
use crate::session::{Session, duration};

/// Before an eviction that a disruption budget refused is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Drain node in preparation for maintenance
#[derive(Debug, clap::Args)]
pub struct Args {
    nodes: Vec<String>,
    #[command(flatten)]
    change: Change,
    /// Selector (label query) to filter on
    #[arg(long, short = 'l')]
    selector: Option<String>,
    /// Label selector to filter pods on the node
    #[arg(long)]
    pod_selector: Option<String>,
    /// Continue even if there are pods that do not declare a controller
    #[arg(long)]
    force: bool,
    /// Ignore DaemonSet-managed pods
    #[arg(long)]
    ignore_daemonsets: bool,
    /// Continue even if there are pods using emptyDir
    #[arg(long)]
    delete_emptydir_data: bool,
    /// Force drain to use delete, even if eviction is supported
    #[arg(long)]
    disable_eviction: bool,
    /// Period of time in seconds given to each pod to terminate gracefully
    #[arg(long, default_value_t = -1, allow_negative_numbers = true, hide_default_value = true)]
    grace_period: i64,
    /// The length of time to wait before giving up, zero means infinite
    #[arg(long, default_value = "0s", hide_default_value = true)]
    timeout: String,
}

/// What is to become of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Delete,
    DeleteWith(&'static str),
    Skip,
    SkipWith(&'static str),
    Refuse(&'static str),
}

fn judge(pod: &Value, args: &Args) -> Verdict {
    let meta = &pod["metadata"];
    if meta["annotations"]["kubernetes.io/config.mirror"].is_string() {
        return Verdict::Skip;
    }
    let finished = matches!(str_of(&pod["status"]["phase"]), "Succeeded" | "Failed");
    let owner = items(&meta["ownerReferences"]).find(|o| o["controller"] == true);
    if owner.is_some_and(|o| o["kind"] == "DaemonSet") && !finished {
        return match args.ignore_daemonsets {
            true => Verdict::SkipWith("ignoring DaemonSet-managed Pods"),
            false => Verdict::Refuse("DaemonSet-managed Pods (use --ignore-daemonsets to ignore)"),
        };
    }
    if finished {
        return Verdict::Delete;
    }
    let local = items(&pod["spec"]["volumes"]).any(|v| v["emptyDir"].is_object());
    if local && !args.delete_emptydir_data {
        return Verdict::Refuse("Pods with local storage (use --delete-emptydir-data to override)");
    }
    match (owner.is_some(), args.force) {
        (true, _) if local => Verdict::DeleteWith("deleting Pods with local storage"),
        (true, _) => Verdict::Delete,
        (false, true) => Verdict::DeleteWith("deleting Pods that declare no controller"),
        (false, false) => Verdict::Refuse("Pods that declare no controller (use --force to override)"),
    }
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    let changer = Changer::new(session, &args.change, "")?;
    let mut infos = nodes(session, &args.nodes, args.selector.as_deref()).await?;
    let mut errors = Vec::new();
    for info in &mut infos {
        set_unschedulable(&changer, info, true).await?;
    }
    let mut pending = Vec::new();
    for info in &infos {
        match node(&changer, args, info).await {
            Ok(()) => changer.tell(&info.object, "drained")?,
            Err(error) => {
                let text = error.to_string();
                let said = if matches!(error, Error::Many(_)) {
                    format!("[{}]", text.replace('\n', ", "))
                } else {
                    text
                };
                session.warn(&format!(
                    "error: unable to drain node {} due to error: {said}, continuing command...",
                    quote(&info.name)
                ));
                pending.push(info.name.clone());
                errors.push(error);
            }
        }
    }
    if !pending.is_empty() {
        session.warn("There are pending nodes to be drained:");
        for name in pending {
            session.warn(&format!(" {name}"));
        }
    }
    // Told as several also where it is one, as upstream tells them.
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Error::Many(errors))
    }
}

async fn node(changer: &Changer<'_>, args: &Args, info: &Info) -> Result<()> {
    let session = changer.session;
    let mut query = vec![("fieldSelector", format!("spec.nodeName={}", info.name))];
    if let Some(selector) = &args.pod_selector {
        query.push(("labelSelector", selector.clone()));
    }
    let pods = list(session, "/api/v1/pods", query).await?;
    let mut chosen = Vec::new();
    let mut warnings: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut refused: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for pod in pods {
        let meta = &pod["metadata"];
        let shown = format!("{}/{}", str_of(&meta["namespace"]), str_of(&meta["name"]));
        match judge(&pod, args) {
            Verdict::Delete => chosen.push(pod),
            Verdict::DeleteWith(why) => {
                warnings.entry(why).or_default().push(shown);
                chosen.push(pod);
            }
            Verdict::Skip => {}
            Verdict::SkipWith(why) => warnings.entry(why).or_default().push(shown),
            Verdict::Refuse(why) => refused.entry(why).or_default().push(shown),
        }
    }
    if !refused.is_empty() {
        let one = |(why, pods): (&str, Vec<String>)| message(format!("cannot delete {why}: {}", pods.join(", ")));
        return all(refused.into_iter().map(one).collect());
    }
    if !warnings.is_empty() {
        let texts: Vec<String> = warnings
            .into_iter()
            .map(|(why, pods)| format!("{why}: {}", pods.join(", ")))
            .collect();
        session.warn(&format!("Warning: {}", texts.join("; ")));
    }
    let deadline = duration(&args.timeout)?.map(|limit| Instant::now() + limit);
    let evictions = chosen.iter().map(|pod| evict(changer, args, pod, deadline));
    let done = futures::future::join_all(evictions).await;
    all(done.into_iter().filter_map(Result::err).collect())
}

async fn evict(changer: &Changer<'_>, args: &Args, pod: &Value, deadline: Option<Instant>) -> Result<()> {
    let session = changer.session;
    let ty = ResourceType {
        version: "v1".to_owned(),
        plural: "pods".to_owned(),
        kind: "Pod".to_owned(),
        namespaced: true,
        ..ResourceType::default()
    };
    let info = Info::of(&std::sync::Arc::new(ty), pod.clone());
    let (namespace, name) = (&info.namespace, &info.name);
    session.println(&format!("evicting pod {namespace}/{name}{}", changer.dry_run.suffix()))?;
    if changer.is_local() {
        return Ok(());
    }
    let grace = (args.grace_period >= 0).then_some(args.grace_period);
    let waiting = async {
        loop {
            match ask(changer, args, &info, grace).await {
                Ok(()) => break,
                Err(e) if e.is_not_found() => return Ok(()),
                Err(e) if e.http_code() == Some(429) => {
                    session.warn(&format!(
                        "error when evicting pods/{} -n {} (will retry after 5s): {e}",
                        quote(name),
                        quote(namespace)
                    ));
                    tokio::time::sleep(AGAIN).await;
                }
                Err(e) => {
                    return fail(format!(
                        "error when evicting pods/{} -n {}: {e}",
                        quote(name),
                        quote(namespace)
                    ));
                }
            }
        }
        if changer.dry_run == DryRun::Server {
            return Ok(());
        }
        until_gone(session, &info, str_of(&pod["metadata"]["uid"]), None).await
    };
    let late = || {
        let (name, namespace) = (quote(name), quote(namespace));
        fail(format!(
            "error when evicting pods/{name} -n {namespace}: global timeout reached: {}",
            args.timeout
        ))
    };
    match deadline {
        None => waiting.await,
        Some(deadline) => timeout_at(deadline, waiting).await.unwrap_or_else(|_| late()),
    }
}

async fn ask(changer: &Changer<'_>, args: &Args, info: &Info, grace: Option<i64>) -> Result<()> {
    if args.disable_eviction {
        return changer.delete(info, grace, "Background").await.map(drop);
    }
    let mut options = json!({});
    if let Some(grace) = grace {
        options["gracePeriodSeconds"] = json!(grace);
    }
    if changer.dry_run == DryRun::Server {
        options["dryRun"] = json!(["All"]);
    }
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": info.name, "namespace": info.namespace}, "deleteOptions": options});
    let call = Call::new(Method::POST, format!("{}/eviction", info.path())).json(&eviction);
    changer.session.api()?.bytes(&call).await.map(drop)
}
