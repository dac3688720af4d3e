//! `describe`: objects for people, with what belongs to them and what happened to them.

mod container;
mod network;
mod node;
mod plain;
mod pod;
mod policy;
mod rbac;
mod service;
mod signing;
mod storage;
mod text;
mod volume;
mod workload;

pub(crate) use text::{entries, interval, items, joined, list, selector, str_of};
pub(crate) use workload::replica_sets;

use clap::ArgAction;
use serde_json::Value;

use crate::error::{Result, all, fail};
use crate::flags::Files;
use crate::select::{CHUNK, Info, Selection};
use crate::session::Session;
use text::{Text, events_of};

/// A template of pods, its columns parted by tabs.
pub fn template_text(template: &Value) -> String {
    let mut w = Text::raw();
    pod::template(&mut w, template);
    w.end()
}

/// Show details of a specific resource or group of resources
#[derive(Debug, clap::Args)]
pub struct Args {
    args: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// Selector (label query) to filter on
    #[arg(long, short = 'l')]
    selector: Option<String>,
    /// If present, list the requested object(s) across all namespaces
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    /// If true, display events related to the described object
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, hide_possible_values = true)]
    show_events: Option<bool>,
    /// Return large lists in chunks rather than all at once
    #[arg(long, default_value_t = CHUNK, hide_default_value = true)]
    chunk_size: u32,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    if args.args.is_empty() && args.files.is_empty() {
        return fail(
            "You must specify the type of resource to describe. Use \"kubectl api-resources\" for a complete list of supported resources.",
        );
    }
    let mut selection = Selection::new(&args.args);
    selection.files = Some(&args.files);
    selection.labels = args.selector.as_deref();
    selection.all_namespaces = args.all_namespaces;
    selection.allow_all = true;
    selection.latest = true;
    selection.chunk = args.chunk_size;
    let (mut infos, mut errors) = selection.infos(session).await?;
    // Of several objects the events would be too much, if they are not asked for.
    let show_events = args.show_events.unwrap_or(infos.len() == 1 && errors.is_empty());
    let mut last = "";
    if errors.len() == 1 && errors[0].is_not_found() && args.args.len() == 2 {
        let found = by_prefix(session, args).await?;
        if !found.is_empty() {
            (infos, errors) = (found, Vec::new());
            last = "\n";
        }
    }
    for (i, info) in infos.iter().enumerate() {
        let text = describe(session, info, show_events).await?;
        let between = if i == 0 || !last.is_empty() { "" } else { "\n\n" };
        session.print(&format!("{between}{text}{last}"))?;
    }
    if infos.is_empty() && errors.is_empty() {
        session.warn(&match args.all_namespaces {
            true => "No resources found".to_owned(),
            false => format!("No resources found in {} namespace.", session.namespace()?),
        });
    }
    all(errors)
}

/// `describe pod web` means every pod whose name starts with `web`, if none is called so.
async fn by_prefix(session: &Session, args: &Args) -> Result<Vec<Info>> {
    let types = [args.args[0].clone()];
    let mut selection = Selection::new(&types);
    selection.allow_all = true;
    selection.all_namespaces = args.all_namespaces;
    let mut infos = selection.all(session).await?;
    infos.retain(|i| i.name.starts_with(&args.args[1]));
    Ok(infos)
}

async fn describe(session: &Session, info: &Info, show_events: bool) -> Result<String> {
    let object = &info.object;
    let mut w = Text::new();
    let mut with_events = show_events;
    match (info.ty.group.as_str(), info.ty.kind.as_str()) {
        ("", "Pod") => pod::describe(&mut w, object),
        ("", "Node") => node::describe(session, &mut w, object).await?,
        ("", "Service") => service::describe(session, &mut w, object).await?,
        ("", "ConfigMap") => plain::config_map(&mut w, object),
        ("", "Secret") => {
            plain::secret(&mut w, object);
            with_events = false;
        }
        ("", "ServiceAccount") => plain::service_account(&mut w, object),
        ("", "Namespace") => {
            plain::namespace(session, &mut w, object).await?;
            with_events = false;
        }
        ("", "ReplicationController") | ("apps", "ReplicaSet") => {
            workload::replica_set(session, &mut w, object).await?;
        }
        ("apps", "Deployment") => workload::deployment(session, &mut w, object).await?,
        ("apps", "StatefulSet") => workload::stateful_set(session, &mut w, object).await?,
        ("apps", "DaemonSet") => workload::daemon_set(session, &mut w, object).await?,
        ("batch", "Job") => workload::job(&mut w, object),
        ("batch", "CronJob") => workload::cron_job(&mut w, object),
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => {
            rbac::role(&mut w, object);
            with_events = false;
        }
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            rbac::binding(&mut w, object);
            with_events = false;
        }
        ("networking.k8s.io", "Ingress") => network::ingress(session, &mut w, object).await,
        ("networking.k8s.io", "IngressClass") => network::class(&mut w, object),
        ("networking.k8s.io", "NetworkPolicy") => {
            network::policy(&mut w, object);
            with_events = false;
        }
        ("", "Endpoints") => network::endpoint_lists(&mut w, object),
        ("discovery.k8s.io", "EndpointSlice") => network::slice(&mut w, object),
        ("autoscaling", "HorizontalPodAutoscaler") => policy::autoscaler(&mut w, object),
        ("policy", "PodDisruptionBudget") => policy::budget(&mut w, object),
        ("scheduling.k8s.io", "PriorityClass") => policy::priority(&mut w, object),
        ("", "ResourceQuota") => {
            policy::quota(&mut w, object);
            with_events = false;
        }
        ("", "LimitRange") => {
            policy::range(&mut w, object);
            with_events = false;
        }
        ("", "PersistentVolumeClaim") => storage::claim(session, &mut w, object).await?,
        ("", "PersistentVolume") => storage::volume(&mut w, object),
        ("storage.k8s.io", "StorageClass") => storage::class(&mut w, object),
        ("storage.k8s.io", "CSINode") => storage::node(&mut w, object),
        ("certificates.k8s.io", "CertificateSigningRequest") => signing::request(&mut w, object)?,
        _ => plain::generic(&mut w, object),
    }
    if with_events {
        w.events(&events(session, info).await);
    }
    Ok(w.end())
}

/// What happened to the object; nothing where that may not be read.
async fn events(session: &Session, info: &Info) -> Vec<Value> {
    let object = &info.object;
    let uid = str_of(&object["metadata"]["uid"]);
    let kind = if info.ty.is("", "Pod") {
        ""
    } else {
        info.ty.kind.as_str()
    };
    let uid = match object["metadata"]["annotations"]["kubernetes.io/config.mirror"].as_str() {
        Some(mirrored) if info.ty.is("", "Pod") => mirrored,
        _ => uid,
    };
    let mut found = events_of(session, object, kind, uid).await.unwrap_or_default();
    if info.ty.is("", "Node") {
        // The kubelet takes the node's name for its uid.
        found.extend(events_of(session, object, kind, &info.name).await.unwrap_or_default());
    }
    found
}
