//! `cluster-info dump`: what helps to find out what is wrong with a cluster, as files or as one stream.

use std::cell::Cell;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use serde_json::Value;

use crate::api::Call;
use crate::cmd::describe::{items, str_of};
use crate::error::{Result, message};
use crate::flags::Output;
use crate::print::Format;
use crate::session::{Session, duration};

/// What is written of each namespace, in upstream's order: the file's name, and the collection's path.
const COLLECTIONS: [(&str, &str, &str); 7] = [
    ("events", "/api/v1", "events"),
    ("replication-controllers", "/api/v1", "replicationcontrollers"),
    ("services", "/api/v1", "services"),
    ("daemonsets", "/apis/apps/v1", "daemonsets"),
    ("deployments", "/apis/apps/v1", "deployments"),
    ("replicasets", "/apis/apps/v1", "replicasets"),
    ("pods", "/api/v1", "pods"),
];

/// Dump relevant information for debugging and diagnosis
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    output: Output,
    /// Where to output the files. If empty or '-' uses stdout, otherwise creates a directory hierarchy in that directory
    #[arg(long, default_value = "", hide_default_value = true)]
    output_directory: String,
    /// A comma separated list of namespaces to dump
    #[arg(long, value_delimiter = ',')]
    namespaces: Vec<String>,
    /// If true, dump all namespaces. If true, --namespaces is ignored
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    /// The length of time to wait until at least one pod is running
    #[arg(long, default_value = "20s", hide_default_value = true)]
    pod_running_timeout: String,
    #[arg(hide = true)]
    _rest: Vec<String>,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    duration(&args.pod_running_timeout)?;
    let mut output = args.output.clone();
    let format = output.output.get_or_insert_with(|| "json".to_owned()).clone();
    let sink = Sink {
        session,
        format: Format::for_change(&output)?,
        extension: match format.as_str() {
            "json" => ".json",
            "yaml" => ".yaml",
            _ => ".txt",
        },
        folder: Some(PathBuf::from(&args.output_directory)).filter(|f| !matches!(f.to_str(), Some("" | "-"))),
        began: Cell::new(false),
    };
    let api = session.api()?;
    sink.list("nodes", &api.get("/api/v1/nodes").await?)?;
    let namespaces = match (args.all_namespaces, args.namespaces.as_slice()) {
        (true, _) => {
            let list = api.get("/api/v1/namespaces").await?;
            items(&list["items"])
                .map(|one| str_of(&one["metadata"]["name"]).to_owned())
                .collect()
        }
        (false, []) => vec!["kube-system".to_owned(), session.namespace()?],
        (false, named) => named.to_vec(),
    };
    for namespace in &namespaces {
        let mut pods = Value::Null;
        for (name, root, plural) in COLLECTIONS {
            let list = api.get(&format!("{root}/namespaces/{namespace}/{plural}")).await?;
            sink.list(&format!("{namespace}/{name}"), &list)?;
            pods = list;
        }
        for pod in items(&pods["items"]) {
            logs(&sink, namespace, pod).await?;
        }
    }
    if let Some(folder) = &sink.folder {
        session.println(&format!("Cluster info dumped to {}", folder.display()))?;
    }
    Ok(())
}

/// Where lists and logs go.
struct Sink<'a> {
    session: &'a Session,
    format: Format,
    extension: &'static str,
    folder: Option<PathBuf>,
    /// Whether something was written.
    began: Cell<bool>,
}

impl Sink<'_> {
    /// Writes a list. One without items is null, as Go writes it.
    fn list(&self, name: &str, list: &Value) -> Result<()> {
        let mut list = list.clone();
        if list["items"].as_array().is_some_and(Vec::is_empty) {
            list["items"] = Value::Null;
        }
        let mut text = self.format.object(&list)?;
        if self.folder.is_none() && self.extension == ".yaml" && self.began.replace(true) {
            text.insert_str(0, "---\n");
        }
        self.write(name, self.extension, text.as_bytes())
    }

    /// Writes a file, which its owner alone may read: logs may hold secrets.
    fn write(&self, name: &str, extension: &str, bytes: &[u8]) -> Result<()> {
        let Some(folder) = &self.folder else {
            return self.session.write(bytes);
        };
        let path = folder.join(format!("{name}{extension}"));
        let failed = |e: std::io::Error| message(format!("{}: {}", path.display(), crate::print::go::io_error(&e)));
        if let Some(parent) = path.parent() {
            let mut builder = std::fs::DirBuilder::new();
            builder.recursive(true).mode(0o700).create(parent).map_err(failed)?;
        }
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        file.write_all(bytes).map_err(failed)
    }
}

async fn logs(sink: &Sink<'_>, namespace: &str, pod: &Value) -> Result<()> {
    let name = str_of(&pod["metadata"]["name"]);
    let containers = ["initContainers", "containers"].into_iter();
    let containers = containers
        .flat_map(|field| items(&pod["spec"][field]))
        .map(|c| str_of(&c["name"]));
    let mut text = Vec::new();
    for container in containers {
        text.extend(format!("==== START logs for container {container} of pod {namespace}/{name} ====\n").bytes());
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/log");
        let call = Call::get(path).query(vec![("container", container.to_owned())]);
        match sink.session.api()?.bytes(&call).await {
            Ok(log) => text.extend(log),
            Err(error) => text.extend(format!("Request log error: {error}\n").bytes()),
        }
        text.extend(format!("==== END logs for container {container} of pod {namespace}/{name} ====\n").bytes());
    }
    sink.write(&format!("{namespace}/{name}/logs"), ".txt", &text)
}
