//! `logs`: what containers have said, and go on to say.

use std::io::Write;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::api::{Call, Query};
use crate::cmd::describe::str_of;
use crate::error::{Error, Result, fail};
use crate::pods::{self, Order};
use crate::select::{Info, Selection};
use crate::session::{Session, duration};

const USAGE: &str = "expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.\nPOD or TYPE/NAME is a required argument for the logs command";
/// Lines shown of each container that a selector finds.
const TAIL_OF_SELECTED: i64 = 10;

/// Print the logs for a container in a pod
#[derive(Debug, clap::Args)]
pub struct Args {
    args: Vec<String>,
    /// Specify if the logs should be streamed
    #[arg(long, short)]
    follow: bool,
    /// If true, print the logs for the previous instance of the container in a pod if it exists
    #[arg(long, short)]
    previous: bool,
    /// Include timestamps on each line in the log output
    #[arg(long)]
    timestamps: bool,
    /// Get all containers' logs in the pod(s)
    #[arg(long)]
    all_containers: bool,
    /// Get logs from all pod(s)
    #[arg(long)]
    all_pods: bool,
    /// Print the logs of this container
    #[arg(long, short, default_value = "", hide_default_value = true)]
    container: String,
    /// Selector (label query) to filter on
    #[arg(long, short = 'l')]
    selector: Option<String>,
    /// Lines of recent log file to display
    #[arg(long, allow_negative_numbers = true)]
    tail: Option<i64>,
    /// Only return logs newer than a relative duration like 5s, 2m, or 3h
    #[arg(long, default_value = "0s", hide_default_value = true)]
    since: String,
    /// Only return logs after a specific date (RFC3339)
    #[arg(long)]
    since_time: Option<String>,
    /// Maximum bytes of logs to return
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, hide_default_value = true)]
    limit_bytes: i64,
    /// Prefix each log line with the log source (pod name and container name)
    #[arg(long)]
    prefix: bool,
    /// If watching / following pod logs, allow for any errors that occur to be non-fatal
    #[arg(long)]
    ignore_errors: bool,
    /// Specify maximum number of concurrent logs to follow when using by a selector
    #[arg(long, default_value_t = 5, hide_default_value = true)]
    max_log_requests: usize,
    /// The length of time to wait until at least one pod is running
    #[arg(long, default_value = "20s", hide_default_value = true)]
    pod_running_timeout: String,
    /// Skip verifying the identity of the kubelet that logs are requested from
    #[arg(long)]
    insecure_skip_tls_verify_backend: bool,
}

/// The log of one container.
#[derive(Debug, Clone)]
struct Source {
    namespace: String,
    pod: String,
    container: String,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    let container = match &args.args[..] {
        [] if args.selector.is_some() => args.container.as_str(),
        [] => return session.usage(USAGE),
        [_] if args.selector.is_some() => return session.usage("only a selector (-l) or a POD name is allowed"),
        [_] => args.container.as_str(),
        [_, container] => {
            if !args.container.is_empty() {
                return fail("only one of -c or an inline [CONTAINER] arg is allowed");
            }
            container.as_str()
        }
        _ => return session.usage(USAGE),
    };
    let query = query(args)?;
    if args.all_containers && !container.is_empty() {
        return fail(format!(
            "--all-containers=true should not be specified with container name {container}"
        ));
    }
    let mut sources = Vec::new();
    for pod in pods_of(session, args).await? {
        sources.extend(sources_of(session, args, &pod, container)?);
    }
    let prefix = args.prefix || args.all_pods;
    if !args.follow || sources.len() < 2 {
        for source in &sources {
            let mut lines = Lines::new(prefix.then(|| label(source)));
            let read = read(session, source, &query, |bytes| lines.write(session, &bytes)).await;
            match read {
                Err(error) if args.ignore_errors => session.println(&format!("error: {error}"))?,
                other => other?,
            }
        }
        return Ok(());
    }
    if sources.len() > args.max_log_requests {
        return fail(format!(
            "you are attempting to follow {} log streams, but maximum allowed concurrency is {}, use --max-log-requests to increase the limit",
            sources.len(),
            args.max_log_requests
        ));
    }
    together(session, args, sources, &query, prefix).await
}

fn query(args: &Args) -> Result<Query> {
    let mut query: Query = Vec::new();
    for (name, is) in [
        ("follow", args.follow),
        ("previous", args.previous),
        ("timestamps", args.timestamps),
        ("insecureSkipTLSVerifyBackend", args.insecure_skip_tls_verify_backend),
    ] {
        if is {
            query.push((name, "true".to_owned()));
        }
    }
    let since = match duration(&args.since) {
        Ok(since) => since,
        Err(_) if args.since.starts_with('-') => return fail("--since must be greater than 0"),
        Err(error) => return Err(error),
    };
    match (&args.since_time, since) {
        (Some(_), Some(_)) => return fail("at most one of `sinceTime` or `sinceSeconds` may be specified"),
        (Some(time), None) => query.push(("sinceTime", time.clone())),
        (None, Some(span)) => query.push(("sinceSeconds", format!("{}", span.as_secs_f64().round() as u64))),
        (None, None) => {}
    }
    let tail = args.tail.or_else(|| args.selector.as_ref().map(|_| TAIL_OF_SELECTED));
    match tail {
        Some(tail) if tail < -1 => return fail("--tail must be greater than or equal to -1"),
        Some(-1) | None => {}
        Some(tail) => query.push(("tailLines", tail.to_string())),
    }
    match args.limit_bytes {
        0 => {}
        n if n < 0 => return fail("--limit-bytes must be greater than 0"),
        n => query.push(("limitBytes", n.to_string())),
    }
    Ok(query)
}

async fn pods_of(session: &Session, args: &Args) -> Result<Vec<Value>> {
    let Some(name) = args.args.first() else {
        let types = ["pods".to_owned()];
        let mut selection = Selection::new(&types);
        selection.labels = args.selector.as_deref();
        let infos = selection.all(session).await?;
        if infos.is_empty() {
            session.warn(&format!("No resources found in {} namespace.", session.namespace()?));
        }
        return Ok(infos.into_iter().map(|i| i.object).collect());
    };
    let info: Info = match pods::named(session, name).await {
        Err(error) if error.is_not_found() => {
            return fail(format!(
                "error from server (NotFound): {error} in namespace \"{}\"",
                session.namespace()?
            ));
        }
        other => other?,
    };
    let timeout = duration(&args.pod_running_timeout)?.unwrap_or(Duration::MAX);
    let mut pods = pods::of(session, &info, timeout, Order::Logging).await?;
    if pods.len() > 1 && !args.all_pods {
        let name = str_of(&pods[0]["metadata"]["name"]);
        session.warn(&format!("Found {} pods, using pod/{name}", pods.len()));
        pods.truncate(1);
    }
    Ok(pods)
}

fn sources_of(session: &Session, args: &Args, pod: &Value, container: &str) -> Result<Vec<Source>> {
    let source = |container: &str| Source {
        namespace: str_of(&pod["metadata"]["namespace"]).to_owned(),
        pod: str_of(&pod["metadata"]["name"]).to_owned(),
        container: container.to_owned(),
    };
    if args.all_containers {
        let all = pods::containers(pod);
        let of = |field: &str| {
            all.iter()
                .filter(move |(f, _)| *f == field)
                .map(|(_, n)| source(n))
                .collect::<Vec<_>>()
        };
        return Ok([of("initContainers"), of("containers"), of("ephemeralContainers")].concat());
    }
    let name = pods::container(session, pod, container, args.all_pods)?;
    Ok(vec![source(&name)])
}

fn label(source: &Source) -> String {
    format!("[pod/{}/{}] ", source.pod, source.container)
}

/// Reads a log to its end.
async fn read(
    session: &Session,
    source: &Source,
    query: &Query,
    mut take: impl FnMut(Bytes) -> Result<()>,
) -> Result<()> {
    let path = format!(
        "/api/v1/namespaces/{}/pods/{}/log",
        source.namespace,
        crate::api::escape(&source.pod)
    );
    let call = Call::get(path)
        .query(vec![("container", source.container.clone())])
        .query(query.clone());
    let mut body = session.api()?.open(&call).await?.into_body();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            take(data)?;
        }
    }
    Ok(())
}

/// Bytes as they come, or whole lines with a prefix.
struct Lines {
    prefix: Option<String>,
    rest: BytesMut,
}

impl Lines {
    fn new(prefix: Option<String>) -> Lines {
        Lines {
            prefix,
            rest: BytesMut::new(),
        }
    }

    /// What can be shown of everything that has come.
    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Some(prefix) = &self.prefix else {
            return bytes.to_vec();
        };
        self.rest.extend_from_slice(bytes);
        let mut out = Vec::new();
        while let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
            out.extend_from_slice(prefix.as_bytes());
            out.extend_from_slice(&self.rest.split_to(end + 1));
        }
        out
    }

    fn write(&mut self, session: &Session, bytes: &[u8]) -> Result<()> {
        let text = self.take(bytes);
        session.write(&text)
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // A last line without an end.
        if let Some(prefix) = self.prefix.as_ref().filter(|_| !self.rest.is_empty()) {
            let mut out = std::io::stdout().lock();
            drop(
                out.write_all(prefix.as_bytes())
                    .and_then(|()| out.write_all(&self.rest)),
            );
        }
    }
}

/// Follows several logs at the same time, by whole lines.
async fn together(session: &Session, args: &Args, sources: Vec<Source>, query: &Query, prefix: bool) -> Result<()> {
    let (send, mut receive) = mpsc::channel::<Vec<u8>>(64);
    let readers = sources.iter().map(|source| {
        let send = send.clone();
        async move {
            let mut lines = Lines::new(Some(if prefix { label(source) } else { String::new() }));
            let (parts, mut taken) = mpsc::unbounded_channel();
            let reading = async move {
                let gone = |_| Error::Exit(1);
                let read = read(session, source, query, |bytes| parts.send(bytes).map_err(gone)).await;
                drop(parts);
                read
            };
            let passing = async {
                while let Some(bytes) = taken.recv().await {
                    let text = lines.take(&bytes);
                    if !text.is_empty() && send.send(text).await.is_err() {
                        break;
                    }
                }
            };
            let (read, ()) = tokio::join!(reading, passing);
            match read {
                Err(error) if args.ignore_errors => {
                    session.warn(&format!("error: {error}"));
                    Ok(())
                }
                other => other,
            }
        }
    });
    let reading = futures::future::try_join_all(readers.collect::<Vec<_>>());
    drop(send);
    let writing = async {
        while let Some(text) = receive.recv().await {
            session.write(&text)?;
        }
        Ok::<(), Error>(())
    };
    tokio::try_join!(reading, writing).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_stands_before_whole_lines() {
        let mut lines = Lines::new(Some("[a] ".to_owned()));
        assert_eq!(lines.take(b"x\ny"), b"[a] x\n");
        assert_eq!(lines.take(b"z\n"), b"[a] yz\n");
        assert_eq!(Lines::new(None).take(b"x\ny"), b"x\ny");
    }
}
