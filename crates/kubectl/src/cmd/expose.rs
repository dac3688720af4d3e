//! `expose`: a Service for the pods of an object.

use serde_json::{Map, Value, json};

use crate::change::Changer;
use crate::cmd::apply::record;
use crate::cmd::describe::{entries, items};
use crate::discovery::ResourceType;
use crate::error::{Result, all, fail};
use crate::flags::{Change, Files, Overrides};
use crate::select::{Info, Selection};
use crate::session::Session;

/// Longest name of a Service.
const LONGEST: usize = 63;

/// Take a replication controller, service, deployment or pod and expose it as a new Kubernetes service
#[derive(Debug, clap::Args)]
pub struct Args {
    args: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    change: Change,
    /// The port that the service should serve on
    #[arg(long)]
    port: Option<String>,
    /// Name or number for the port on the container that the service should direct traffic to
    #[arg(long)]
    target_port: Option<String>,
    /// The network protocol for the service to be created
    #[arg(long)]
    protocol: Option<String>,
    /// Type for this service: ClusterIP, NodePort, LoadBalancer, or ExternalName
    #[arg(long = "type")]
    of_type: Option<String>,
    /// The name for the newly created object
    #[arg(long)]
    name: Option<String>,
    /// Labels to apply to the service created by this call
    #[arg(long, short)]
    labels: Option<String>,
    /// A label selector to use for this service
    #[arg(long)]
    selector: Option<String>,
    /// Additional external IP address to accept for the service
    #[arg(long)]
    external_ip: Option<String>,
    /// IP to assign to the LoadBalancer
    #[arg(long)]
    load_balancer_ip: Option<String>,
    /// ClusterIP to be assigned to the service; 'None' for a headless service
    #[arg(long)]
    cluster_ip: Option<String>,
    /// Session affinity: 'None' or 'ClientIP'
    #[arg(long)]
    session_affinity: Option<String>,
    #[command(flatten)]
    overrides: Overrides,
    /// If true, the configuration of current object will be saved in its annotation
    #[arg(long)]
    save_config: bool,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    let changer = Changer::new(session, &args.change, "kubectl-expose")?;
    let mut selection = Selection::new(&args.args);
    selection.files = Some(&args.files);
    let (infos, mut errors) = selection.infos(session).await?;
    for info in infos {
        let mut service = service(args, &info)?;
        args.overrides.apply(&mut service)?;
        if args.save_config {
            record(&mut service)?;
        }
        if session.explicit_namespace() && changer.is_local() {
            service["metadata"]["namespace"] = json!(session.namespace()?);
        }
        let ty = ResourceType {
            version: "v1".to_owned(),
            plural: "services".to_owned(),
            namespaced: true,
            ..ResourceType::default()
        };
        let mut created = Info::of(&std::sync::Arc::new(ty), service);
        created.namespace.clone_from(&info.namespace);
        let done = if changer.is_local() {
            Ok(())
        } else {
            changer.create(&mut created).await
        };
        match done {
            Ok(()) => changer.tell_typed(&created.object, "exposed")?,
            Err(error) => errors.push(error),
        }
    }
    all(errors)
}

fn pairs(text: &str) -> Map<String, Value> {
    let pair = |p: &str| p.split_once('=').map(|(k, v)| (k.to_owned(), json!(v)));
    text.split(',').filter_map(pair).collect()
}

/// The labels that choose the object's pods.
fn selector(info: &Info) -> Result<Value> {
    let object = &info.object;
    let failed = |why: &str| {
        fail(format!(
            "couldn't retrieve selectors via --selector flag or introspection: {why}"
        ))
    };
    match info.ty.kind.as_str() {
        "Pod" => match object["metadata"]["labels"].as_object().filter(|l| !l.is_empty()) {
            Some(labels) => Ok(json!(labels)),
            None => failed("the pod has no labels and cannot be exposed"),
        },
        "ReplicationController" | "Service" => match object["spec"]["selector"].as_object().filter(|s| !s.is_empty()) {
            Some(selector) => Ok(json!(selector)),
            None => failed("the service has no pod selector set"),
        },
        _ => {
            let tree = &object["spec"]["selector"];
            if items(&tree["matchExpressions"]).next().is_some() {
                return failed("couldn't convert expressions to map-based selector format");
            }
            match tree["matchLabels"].as_object().filter(|s| !s.is_empty()) {
                Some(labels) => Ok(json!(labels)),
                None => failed("invalid deployment: no selectors, therefore cannot be exposed"),
            }
        }
    }
}

fn pod_spec(info: &Info) -> &Value {
    match info.ty.kind.as_str() {
        "Pod" => &info.object["spec"],
        _ => &info.object["spec"]["template"]["spec"],
    }
}

/// Number and protocol of each port of the object.
fn ports(info: &Info) -> Vec<(String, String)> {
    let protocol = |p: &Value| p["protocol"].as_str().unwrap_or("TCP").to_owned();
    if info.ty.kind == "Service" {
        return items(&info.object["spec"]["ports"])
            .map(|p| (p["port"].to_string(), protocol(p)))
            .collect();
    }
    let containers = items(&pod_spec(info)["containers"]);
    containers
        .flat_map(|c| items(&c["ports"]))
        .map(|p| (p["containerPort"].to_string(), protocol(p)))
        .collect()
}

fn service(args: &Args, info: &Info) -> Result<Value> {
    let exposable = matches!(
        info.ty.kind.as_str(),
        "Pod" | "Service" | "ReplicationController" | "Deployment" | "ReplicaSet"
    );
    if !exposable {
        return fail(format!("cannot expose a {}", super::rollout::group_kind(info)));
    }
    let selector = match &args.selector {
        Some(text) => Value::Object(pairs(text)),
        None => selector(info)?,
    };
    let known = ports(info);
    let headless = args.cluster_ip.as_deref() == Some("None");
    let wanted: Vec<String> = match &args.port {
        Some(text) => text.split(',').map(str::to_owned).collect(),
        None if known.is_empty() && !headless => {
            return fail("couldn't find port via --port flag or introspection");
        }
        None => known.iter().map(|(port, _)| port.clone()).collect(),
    };
    let several = wanted.len() > 1;
    let mut list = Vec::new();
    for (i, text) in wanted.iter().enumerate() {
        let Ok(number) = text.parse::<u16>() else {
            return fail(format!(
                "strconv.Atoi: parsing {}: invalid syntax",
                crate::print::go::quote(text)
            ));
        };
        let of_object = known.iter().find(|(port, _)| port == text).map(|(_, p)| p.clone());
        let protocol = args.protocol.clone().or(of_object).unwrap_or_else(|| "TCP".to_owned());
        let target = match args.target_port.as_deref() {
            Some(target) => target.parse::<u16>().map_or_else(|_| json!(target), |n| json!(n)),
            None => json!(number),
        };
        let mut port = json!({"port": number, "protocol": protocol, "targetPort": target});
        if several {
            port["name"] = json!(format!("port-{}", i + 1));
        }
        list.push(port);
    }
    let labels = match &args.labels {
        Some(text) => pairs(text),
        None => entries(&info.object["metadata"]["labels"])
            .map(|(k, v)| (k.to_owned(), json!(v)))
            .collect(),
    };
    let name: String = args
        .name
        .clone()
        .unwrap_or_else(|| info.name.chars().take(LONGEST).collect());
    let mut object = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": selector}, "status": {"loadBalancer": {}},
    });
    if !labels.is_empty() {
        object["metadata"]["labels"] = Value::Object(labels);
    }
    let spec = &mut object["spec"];
    if !list.is_empty() {
        spec["ports"] = Value::Array(list);
    }
    for (field, value) in [
        ("type", &args.of_type),
        ("clusterIP", &args.cluster_ip),
        ("loadBalancerIP", &args.load_balancer_ip),
        ("sessionAffinity", &args.session_affinity),
    ] {
        if let Some(value) = value {
            spec[field] = json!(value);
        }
    }
    if let Some(ip) = &args.external_ip {
        spec["externalIPs"] = json!([ip]);
    }
    Ok(object)
}
