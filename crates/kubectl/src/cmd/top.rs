//! `top`: what nodes and pods use, as the metrics API says it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use api::quantity::Quantity;
use jiff::Timestamp;
use serde_json::Value;

use crate::api::{Call, Query};
use crate::cmd::describe::{items, str_of};
use crate::error::{Result, fail};
use crate::print::go;
use crate::print::tabwriter::TabWriter;
use crate::session::Session;

const GROUP: &str = "metrics.k8s.io";
/// The one of these that the server names first is asked.
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];
/// Seconds in which a new pod need not have metrics.
const DELAY: i64 = 120;

/// Display resource (CPU/memory) usage
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Display resource (CPU/memory) usage of nodes
    #[command(aliases = ["nodes", "no"])]
    Node(Nodes),
    /// Display resource (CPU/memory) usage of pods
    #[command(aliases = ["pods", "po"])]
    Pod(Pods),
}

#[derive(Debug, clap::Args)]
struct Shown {
    /// Selector (label query) to filter on
    #[arg(long, short = 'l', default_value = "", hide_default_value = true)]
    selector: String,
    /// Sort by cpu or memory
    #[arg(long, default_value = "", hide_default_value = true)]
    sort_by: String,
    /// If present, print output without headers
    #[arg(long)]
    no_headers: bool,
    /// Print resources related to swap memory
    #[arg(long)]
    show_swap: bool,
    /// Accepted; metrics are read as JSON
    #[arg(long, hide = true)]
    use_protocol_buffers: bool,
}

#[derive(Debug, clap::Args)]
struct Nodes {
    names: Vec<String>,
    #[command(flatten)]
    shown: Shown,
    /// Print node resources based on Capacity instead of Allocatable
    #[arg(long)]
    show_capacity: bool,
}

#[derive(Debug, clap::Args)]
struct Pods {
    names: Vec<String>,
    #[command(flatten)]
    shown: Shown,
    /// Selector (field query) to filter on
    #[arg(long, default_value = "", hide_default_value = true)]
    field_selector: String,
    /// If present, print usage of containers within a pod
    #[arg(long)]
    containers: bool,
    /// If present, list the pods of all namespaces
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    /// Print the sum of the resource usage
    #[arg(long)]
    sum: bool,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    match &args.what {
        What::Node(args) => nodes(session, args).await,
        What::Pod(args) => pods(session, args).await,
    }
}

/// What something uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Usage {
    /// Thousandths of a core.
    cpu: i64,
    /// Bytes.
    memory: i64,
    swap: i64,
}

impl Usage {
    fn of(usage: &Value) -> Usage {
        let quantity = |name: &str| go::sprint(&usage[name]).parse::<Quantity>().ok();
        Usage {
            cpu: quantity("cpu").map_or(0, |q| q.milli_value()),
            memory: quantity("memory").map_or(0, |q| q.value()),
            swap: quantity("swap").map_or(0, |q| q.value()),
        }
    }

    fn sum<'a>(all: impl Iterator<Item = &'a Usage>) -> Usage {
        all.fold(Usage::default(), |sum, one| Usage {
            cpu: sum.cpu + one.cpu,
            memory: sum.memory + one.memory,
            swap: sum.swap + one.swap,
        })
    }

    /// The cells of a line, each with its tab.
    fn cells(&self, swap: bool) -> String {
        let mebibytes = |bytes: i64| bytes / (1 << 20);
        let more = if swap {
            format!("{}Mi\t", mebibytes(self.swap))
        } else {
            String::new()
        };
        format!("{}m\t{}Mi\t{more}", self.cpu, mebibytes(self.memory))
    }
}

impl Shown {
    fn check(&self) -> Result<()> {
        match self.sort_by.as_str() {
            "" | "cpu" | "memory" => Ok(()),
            _ => fail("--sort-by accepts only cpu or memory"),
        }
    }

    /// The largest first, or by name.
    fn sort<T>(&self, all: &mut [(T, Usage)])
    where
        T: Ord,
    {
        match self.sort_by.as_str() {
            "cpu" => all.sort_by_key(|(_, usage)| Reverse(usage.cpu)),
            "memory" => all.sort_by_key(|(_, usage)| Reverse(usage.memory)),
            _ => all.sort_by(|(a, _), (b, _)| a.cmp(b)),
        }
    }

    fn query(&self) -> Query {
        match self.selector.as_str() {
            "" => Vec::new(),
            selector => vec![("labelSelector", selector.to_owned())],
        }
    }
}

/// The path of the metrics API in the version that the server has.
async fn root(session: &Session) -> Result<String> {
    let groups = &session.resources().await?.groups;
    let versions = groups.iter().find(|(group, _)| group == GROUP);
    let known = versions.and_then(|(_, versions)| versions.iter().find(|v| VERSIONS.contains(&v.as_str())));
    match known {
        Some(version) => Ok(format!("/apis/{GROUP}/{version}")),
        None => fail("Metrics API not available"),
    }
}

/// The objects of a collection, or the one that is named.
async fn read(session: &Session, path: String, name: &str, query: Query) -> Result<Vec<Value>> {
    let api = session.api()?;
    if !name.is_empty() {
        return Ok(vec![api.get(&format!("{path}/{}", crate::api::escape(name))).await?]);
    }
    let list = api.json(&Call::get(path).query(query)).await?;
    Ok(items(&list["items"]).cloned().collect())
}

async fn nodes(session: &Session, args: &Nodes) -> Result<()> {
    let name = match args.names.as_slice() {
        [] => "",
        [name] => name.as_str(),
        _ => return session.usage("node [NAME | -l label]"),
    };
    args.shown.check()?;
    if !name.is_empty() && !args.shown.selector.is_empty() {
        return fail("only one of NAME or --selector can be provided");
    }
    let root = root(session).await?;
    let metrics = read(session, format!("{root}/nodes"), name, args.shown.query()).await?;
    if metrics.is_empty() {
        return fail("metrics not available yet");
    }
    let list = read(session, "/api/v1/nodes".to_owned(), name, args.shown.query()).await?;
    let of = if args.show_capacity { "capacity" } else { "allocatable" };
    let named = |object: &Value| str_of(&object["metadata"]["name"]).to_owned();
    let mut available: BTreeMap<String, Available> =
        list.iter().map(|node| (named(node), Available::of(node, of))).collect();
    let mut rows: Vec<(String, Usage)> = metrics
        .iter()
        .map(|one| (named(one), Usage::of(&one["usage"])))
        .collect();
    args.shown.sort(&mut rows);
    let mut out = TabWriter::table();
    if !args.shown.no_headers {
        let swap = if args.shown.show_swap {
            "SWAP(bytes)\tSWAP(%)\t"
        } else {
            ""
        };
        out.line(&format!("NAME\tCPU(cores)\tCPU(%)\tMEMORY(bytes)\tMEMORY(%)\t{swap}"));
    }
    for (name, usage) in rows {
        let has = available.remove(&name).unwrap_or_default();
        out.line(&format!("{name}\t{}", has.cells(&usage, args.shown.show_swap)));
    }
    // nodes that nobody has measured
    let unknown = "<unknown>\t".repeat(if args.shown.show_swap { 6 } else { 4 });
    available
        .keys()
        .for_each(|name| out.line(&format!("{name}\t{unknown}")));
    session.print(&out.flush())
}

/// What a node has to give; nothing where that is not known.
#[derive(Debug, Default)]
struct Available {
    cpu: Option<i64>,
    memory: Option<i64>,
    swap: Option<i64>,
}

impl Available {
    fn of(node: &Value, list: &str) -> Available {
        let status = &node["status"];
        let quantity = |name: &str| go::sprint(&status[list][name]).parse::<Quantity>().ok();
        Available {
            cpu: quantity("cpu").map(|q| q.milli_value()),
            memory: quantity("memory").map(|q| q.value()),
            swap: status["nodeInfo"]["swap"]["capacity"].as_i64(),
        }
    }

    /// A node's cells: of each resource what is used, and how many hundredths of what there is.
    fn cells(&self, usage: &Usage, swap: bool) -> String {
        let percent = |used: i64, available: Option<i64>| match available {
            None => String::new(),
            Some(0) => "0%\t".to_owned(),
            // to whole hundredths, towards zero; 128 bits hold any product
            Some(all) => format!("{}%\t", i128::from(used) * 100 / i128::from(all)),
        };
        let mebibytes = |bytes: i64| bytes / (1 << 20);
        let mut cells = format!(
            "{}m\t{}{}Mi\t{}",
            usage.cpu,
            percent(usage.cpu, self.cpu),
            mebibytes(usage.memory),
            percent(usage.memory, self.memory)
        );
        if swap {
            cells += &match self.swap {
                None => "<unknown>\t<unknown>\t".to_owned(),
                Some(_) => format!("{}Mi\t{}", mebibytes(usage.swap), percent(usage.swap, self.swap)),
            };
        }
        cells
    }
}

async fn pods(session: &Session, args: &Pods) -> Result<()> {
    let name = match args.names.as_slice() {
        [] => "",
        [name] => name.as_str(),
        _ => return session.usage("pod [NAME | -l label]"),
    };
    args.shown.check()?;
    let selects = !args.shown.selector.is_empty() || !args.field_selector.is_empty();
    if !name.is_empty() && selects {
        return fail("only one of NAME or selector can be provided");
    }
    let root = root(session).await?;
    let here = session.namespace()?;
    let below = |root: &str| match args.all_namespaces {
        true => format!("{root}/pods"),
        false => format!("{root}/namespaces/{here}/pods"),
    };
    let mut metrics = read(session, below(&root), name, args.shown.query()).await?;
    if !metrics.is_empty() && !args.field_selector.is_empty() {
        let query = [args.shown.query(), vec![("fieldSelector", args.field_selector.clone())]].concat();
        let chosen = read(session, below("/api/v1"), "", query).await?;
        let key =
            |object: &Value| object["metadata"]["namespace"].to_string() + &object["metadata"]["name"].to_string();
        let chosen: std::collections::HashSet<String> = chosen.iter().map(key).collect();
        metrics.retain(|one| chosen.contains(&key(one)));
    }
    if metrics.is_empty() {
        let mut query = args.shown.query();
        if !args.field_selector.is_empty() {
            query.push(("fieldSelector", args.field_selector.clone()));
        }
        for_want_of_metrics(&read(session, below("/api/v1"), name, query).await?)?;
        session.warn(&match args.all_namespaces {
            true => "No resources found".to_owned(),
            false => format!("No resources found in {here} namespace."),
        });
        return Ok(());
    }
    session.print(&table(args, &metrics))
}

/// Pods without metrics are too new, or nobody measures them.
fn for_want_of_metrics(pods: &[Value]) -> Result<()> {
    let now = Timestamp::now();
    for pod in pods {
        let meta = &pod["metadata"];
        let created = str_of(&meta["creationTimestamp"]).parse::<Timestamp>().unwrap_or(now);
        let age = now.duration_since(created);
        if age.as_secs() > DELAY {
            let nanos = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
            let shown = api::time::format_duration(nanos);
            let (namespace, name) = (str_of(&meta["namespace"]), str_of(&meta["name"]));
            return fail(format!(
                "Metrics not available for pod {namespace}/{name}, age: {shown}"
            ));
        }
    }
    if pods.is_empty() {
        return Ok(());
    }
    fail("metrics not available yet")
}

/// What a pod uses.
struct PodUsage {
    namespace: String,
    name: String,
    containers: Vec<(String, Usage)>,
    sum: Usage,
}

fn table(args: &Pods, metrics: &[Value]) -> String {
    let swap = args.shown.show_swap;
    let mut rows = Vec::new();
    for one in metrics {
        let text = |field: &str| str_of(&one["metadata"][field]).to_owned();
        let containers = items(&one["containers"]);
        let mut containers: Vec<(String, Usage)> = containers
            .map(|c| (str_of(&c["name"]).to_owned(), Usage::of(&c["usage"])))
            .collect();
        args.shown.sort(&mut containers);
        let sum = Usage::sum(containers.iter().map(|(_, usage)| usage));
        let (namespace, name) = (text("namespace"), text("name"));
        rows.push(PodUsage {
            namespace,
            name,
            containers,
            sum,
        });
    }
    match args.shown.sort_by.as_str() {
        "" => rows.sort_by(|a, b| match args.all_namespaces {
            true => (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)),
            false => a.name.cmp(&b.name),
        }),
        "cpu" => rows.sort_by_key(|row| Reverse(row.sum.cpu)),
        _ => rows.sort_by_key(|row| Reverse(row.sum.memory)),
    }
    let mut out = TabWriter::table();
    let mut columns = if swap { 4 } else { 3 };
    if !args.shown.no_headers {
        let mut head = String::new();
        if args.all_namespaces {
            head += "NAMESPACE\t";
            columns += 1;
        }
        if args.containers {
            head += "POD\t";
            columns += 1;
        }
        let swap = if swap { "SWAP(bytes)\t" } else { "" };
        out.line(&format!("{head}NAME\tCPU(cores)\tMEMORY(bytes)\t{swap}"));
    }
    for row in &rows {
        let name = &row.name;
        let before = if args.all_namespaces {
            format!("{}\t", row.namespace)
        } else {
            String::new()
        };
        if !args.containers {
            out.line(&format!("{before}{name}\t{}", row.sum.cells(swap)));
            continue;
        }
        for (container, usage) in &row.containers {
            out.line(&format!("{before}{name}\t{container}\t{}", usage.cells(swap)));
        }
    }
    if args.sum {
        let total = Usage::sum(rows.iter().map(|row| &row.sum));
        out.line(&format!("{}________\t________\t", "\t".repeat(columns - 2)));
        out.line(&format!("{}\t{}", "\t".repeat(columns - 3), total.cells(swap)));
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn args(words: &[&str]) -> Pods {
        #[derive(Debug, clap::Parser)]
        struct Line {
            #[command(flatten)]
            pods: Pods,
        }
        <Line as clap::Parser>::parse_from([&["top"], words].concat()).pods
    }

    fn metrics() -> Vec<Value> {
        let container =
            |name: &str, cpu: &str, memory: &str| json!({"name": name, "usage": {"cpu": cpu, "memory": memory}});
        vec![
            json!({"metadata": {"namespace": "b", "name": "a"}, "containers": [container("y", "12400u", "10Mi"), container("x", "1", "1Gi")]}),
            json!({"metadata": {"namespace": "a", "name": "b"}, "containers": [container("c", "2", "5Mi")]}),
        ]
    }

    /// What upstream prints of the same metrics.
    #[test]
    fn pods_are_shown_as_upstream_shows_them() {
        let lines = |words: &[&str]| -> Vec<String> {
            let text = table(&args(words), &metrics());
            text.lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
                .collect()
        };
        assert_eq!(
            lines(&[]),
            ["NAME CPU(cores) MEMORY(bytes)", "a 1013m 1034Mi", "b 2000m 5Mi"]
        );
        assert_eq!(
            lines(&["--no-headers", "--sort-by=memory"]),
            ["a 1013m 1034Mi", "b 2000m 5Mi"]
        );
        let expected = [
            "NAMESPACE POD NAME CPU(cores) MEMORY(bytes)",
            "a b c 2000m 5Mi",
            "b a x 1000m 1024Mi",
            "b a y 13m 10Mi",
            "________ ________",
            "3013m 1039Mi",
        ];
        assert_eq!(lines(&["-A", "--containers", "--sum"]), expected);
    }

    #[test]
    fn a_node_s_usage_is_shown_beside_what_it_has() {
        let node = json!({"status": {"allocatable": {"cpu": "4", "memory": "8Gi"}}});
        let usage = Usage::of(&json!({"cpu": "1999m", "memory": "1Gi"}));
        let cells = Available::of(&node, "allocatable").cells(&usage, true);
        assert_eq!(cells, "1999m\t49%\t1024Mi\t12%\t<unknown>\t<unknown>\t");
    }
}
