//! `api-resources`, `api-versions`, `version`, `cluster-info`, `options` and what is refused.

use std::sync::Arc;

use api::version::{MINOR, VERSION};
use serde_json::{Value, json};

use crate::api::Call;
use crate::cmd::cluster_info_dump;
use crate::cmd::describe::{items, str_of};
use crate::discovery::ResourceType;
use crate::error::{Error, Result, fail};
use crate::print::{go, tabwriter::TabWriter, yaml};
use crate::select::Selection;
use crate::session::Session;

/// Print the supported API resources on the server
#[derive(Debug, clap::Args)]
pub struct Resources {
    args: Vec<String>,
    /// Limit to resources in the specified API group
    #[arg(long)]
    api_group: Option<String>,
    /// If false, non-namespaced resources will be returned
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    namespaced: Option<bool>,
    /// Limit to resources that support the specified verbs
    #[arg(long, value_delimiter = ',')]
    verbs: Vec<String>,
    /// Limit to resources that belong to the specified categories
    #[arg(long, value_delimiter = ',')]
    categories: Vec<String>,
    /// Sort by name or kind
    #[arg(long, default_value = "", hide_default_value = true)]
    sort_by: String,
    /// Output format: wide or name
    #[arg(long, short, default_value = "", hide_default_value = true)]
    output: String,
    /// Don't print headers
    #[arg(long)]
    no_headers: bool,
    /// Accepted; nothing is cached
    #[arg(long)]
    cached: bool,
}

/// Print the supported API versions on the server
#[derive(Debug, clap::Args)]
pub struct Versions {}

/// Print the client and server version information
#[derive(Debug, clap::Args)]
pub struct Version {
    args: Vec<String>,
    /// If true, shows client version only (no server required)
    #[arg(long)]
    client: bool,
    /// One of 'yaml' or 'json'
    #[arg(long, short, default_value = "", hide_default_value = true)]
    output: String,
}

/// Display cluster information
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ClusterInfo {
    /// Upstream takes any, and heeds none
    #[arg(hide = true)]
    _rest: Vec<String>,
    #[command(subcommand)]
    sub: Option<ClusterInfoSub>,
}

#[derive(Debug, clap::Subcommand)]
enum ClusterInfoSub {
    Dump(cluster_info_dump::Args),
}

/// Output shell completion code for the specified shell
#[derive(Debug, clap::Args)]
pub struct Completion {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

pub(crate) async fn resources(session: &Session, args: &Resources) -> Result<()> {
    if !args.args.is_empty() {
        return session.usage(format!("unexpected arguments: [{}]", args.args.join(" ")));
    }
    if !matches!(args.sort_by.as_str(), "" | "name" | "kind") {
        return fail("--sort-by accepts only name or kind");
    }
    if !matches!(args.output.as_str(), "" | "wide" | "name") {
        return fail(format!("--output {} is not available", args.output));
    }
    let discovery = session.resources().await?;
    let has = |of: &[String], all: &[String]| all.iter().all(|v| of.contains(v));
    let mut list: Vec<&Arc<ResourceType>> = discovery
        .preferred()
        .filter(|t| !t.verbs.is_empty())
        .filter(|t| args.api_group.as_ref().is_none_or(|g| *g == t.group))
        .filter(|t| args.namespaced.is_none_or(|n| n == t.namespaced))
        .filter(|t| has(&t.verbs, &args.verbs) && has(&t.categories, &args.categories))
        .collect();
    list.sort_by(|a, b| {
        let key = |t: &ResourceType| match args.sort_by.as_str() {
            "name" => t.plural.clone(),
            "kind" => t.kind.clone(),
            _ => t.group.clone(),
        };
        (key(a), &a.plural).cmp(&(key(b), &b.plural))
    });
    if args.output == "name" {
        let names: Vec<String> = list.iter().map(|t| format!("{}\n", t.group_resource())).collect();
        return session.print(&names.concat());
    }
    let wide = args.output == "wide";
    let mut out = TabWriter::table();
    if !args.no_headers {
        let more = if wide { "\tVERBS\tCATEGORIES" } else { "" };
        out.line(&format!("NAME\tSHORTNAMES\tAPIVERSION\tNAMESPACED\tKIND{more}"));
    }
    for t in list {
        let more = match wide {
            true => format!("\t{}\t{}", t.verbs.join(","), t.categories.join(",")),
            false => String::new(),
        };
        out.line(&format!(
            "{}\t{}\t{}\t{}\t{}{more}",
            t.plural,
            t.short_names.join(","),
            t.api_version(),
            t.namespaced,
            t.kind
        ));
    }
    session.print(&out.flush())
}

pub(crate) async fn versions(session: &Session, _: &Versions) -> Result<()> {
    let groups = &session.resources().await?.groups;
    let join = |(group, versions): &(String, Vec<String>)| {
        versions
            .iter()
            .map(|v| api::gvk::join_api_version(group, v))
            .collect::<Vec<_>>()
    };
    let mut all: Vec<String> = groups.iter().flat_map(join).collect();
    all.sort();
    let lines: Vec<String> = all.into_iter().map(|v| format!("{v}\n")).collect();
    session.print(&lines.concat())
}

pub(crate) async fn version(session: &Session, args: &Version) -> Result<()> {
    if !args.args.is_empty() {
        return fail(format!("extra arguments: [{}]", args.args.join(" ")));
    }
    if !matches!(args.output.as_str(), "" | "json" | "yaml") {
        return fail("--output must be 'yaml' or 'json'");
    }
    let mut info = json!({"clientVersion": {
        "gitVersion": VERSION, "major": "1", "minor": MINOR.to_string(), "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, go_arch()),
    }});
    info["kustomizeVersion"] = json!(crate::kustomize::VERSION);
    let mut failed = None;
    if !args.client {
        match session.api()?.json(&Call::get("/version")).await {
            Ok(server) => info["serverVersion"] = server,
            Err(error) => failed = Some(error),
        }
    }
    match args.output.as_str() {
        "yaml" => session.println(&yaml::to_string(&info))?,
        "json" => session.println(&go::json(&info, Some("  ")))?,
        _ => {
            session.println(&format!("Client Version: {VERSION}"))?;
            session.println(&format!("Kustomize Version: {}", crate::kustomize::VERSION))?;
            if let Some(server) = info["serverVersion"]["gitVersion"].as_str() {
                session.println(&format!("Server Version: {server}"))?;
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

pub(crate) async fn cluster_info(session: &Session, args: &ClusterInfo) -> Result<()> {
    if let Some(ClusterInfoSub::Dump(args)) = &args.sub {
        return cluster_info_dump::run(session, args).await;
    }
    let types = ["services".to_owned()];
    let mut selection = Selection::new(&types);
    selection.labels = Some("kubernetes.io/cluster-service=true");
    let services = selection.all(session).await?;
    let url = session.api()?.url.clone();
    let mut text = format!("Kubernetes control plane is running at {url}\n");
    for info in services {
        let service = &info.object;
        let meta = &service["metadata"];
        let first = &service["spec"]["ports"][0];
        let point = &service["status"]["loadBalancer"]["ingress"][0];
        let link = match point {
            Value::Null => {
                let secure = first["name"] == "https" || first["port"] == 443;
                let scheme = if secure { "https:" } else { "" };
                let port = match (str_of(&first["name"]), scheme) {
                    ("", "") => String::new(),
                    (name, _) => format!(":{name}"),
                };
                format!(
                    "{url}/api/v1/namespaces/{}/services/{scheme}{}{port}/proxy",
                    info.namespace, info.name
                )
            }
            point => {
                let host = point["ip"].as_str().unwrap_or_else(|| str_of(&point["hostname"]));
                let one = |p: &Value| format!("http://{host}:{} ", p["port"]);
                items(&service["spec"]["ports"]).map(one).collect()
            }
        };
        let name = meta["labels"]["kubernetes.io/name"]
            .as_str()
            .filter(|n| !n.is_empty())
            .unwrap_or(&info.name);
        text.push_str(&format!("{name} is running at {link}\n"));
    }
    session.print(&format!(
        "{text}\nTo further debug and diagnose cluster problems, use 'kubectl cluster-info dump'.\n"
    ))
}

pub(crate) fn completion(session: &Session, args: &Completion) -> Result<()> {
    match args.words.first().map(String::as_str) {
        None => session.usage("Shell not specified."),
        Some("bash" | "zsh" | "fish" | "powershell") => {
            Err(Error::Message("shell completion is not supported".to_owned()))
        }
        Some(other) => session.usage(format!("Unsupported shell type {}.", go::quote(other))),
    }
}
