//! The pods behind an object: the pod itself, or those its selector chooses.

use std::cmp::Reverse;
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{Call, JSON};
use crate::cmd::describe::{items, selector, str_of};
use crate::error::{Result, fail, message};
use crate::select::{Info, Selection};
use crate::session::Session;
use crate::watch;

const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// Which pod of several is the best one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// For its logs.
    Logging,
    /// To run something in it.
    Active,
}

/// `web` is a pod, `deploy/web` is what it says.
pub async fn named(session: &Session, name: &str) -> Result<Info> {
    let args = match name.contains('/') {
        true => vec![name.to_owned()],
        false => vec!["pods".to_owned(), name.to_owned()],
    };
    let mut infos = Selection::new(&args).all(session).await?;
    match infos.len() {
        1 => Ok(infos.remove(0)),
        _ => fail("expected a resource"),
    }
}

/// The label selector of the pods an object stands for; `None` for a pod.
pub fn selector_of(info: &Info) -> Result<Option<String>> {
    let spec = &info.object["spec"];
    let plain = |labels: &Value| selector(&json!({"matchLabels": labels}));
    Ok(Some(match (info.ty.group.as_str(), info.ty.kind.as_str()) {
        ("", "Pod") => return Ok(None),
        ("", "ReplicationController") => plain(&spec["selector"]),
        ("", "Service") if spec["selector"].as_object().is_none_or(serde_json::Map::is_empty) => {
            return fail(format!(
                "invalid service '{}': Service is defined without a selector",
                info.name
            ));
        }
        ("", "Service") => plain(&spec["selector"]),
        ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet") | ("batch", "Job") => {
            selector(&spec["selector"])
        }
        (_, kind) => return fail(format!("selector for *{}.{kind} not implemented", info.ty.version)),
    }))
}

/// The pods an object stands for, the best one first; waits for one until there is one.
pub async fn of(session: &Session, info: &Info, timeout: Duration, order: Order) -> Result<Vec<Value>> {
    let what = if order == Order::Logging {
        "get the logs from"
    } else {
        "attach to"
    };
    let unable = |e| message(format!("cannot {what} *{}.{}: {e}", info.ty.version, info.ty.kind));
    let Some(labels) = selector_of(info).map_err(unable)? else {
        return Ok(vec![info.object.clone()]);
    };
    let path = format!("/api/v1/namespaces/{}/pods", info.namespace);
    let mut list = session
        .api()?
        .json(&Call::get(&path).query(vec![("labelSelector", labels.clone())]))
        .await?;
    let version = str_of(&list["metadata"]["resourceVersion"]).to_owned();
    let mut pods = match list["items"].take() {
        Value::Array(pods) => pods,
        _ => Vec::new(),
    };
    if pods.is_empty() {
        let query = vec![("labelSelector", labels), ("resourceVersion", version)];
        let first = async {
            let mut events = watch::open(session.api()?, &path, query, JSON).await?;
            while let Some(event) = events.next().await? {
                if event.kind == "ADDED" || event.kind == "MODIFIED" {
                    return Ok(event.object);
                }
            }
            fail("watch closed before UntilWithoutRetry timeout")
        };
        let found = tokio::time::timeout(timeout, first).await;
        pods.push(found.unwrap_or_else(|_| fail("timed out waiting for the condition"))?);
    }
    match order {
        Order::Logging => pods.sort_by_key(logging_rank),
        Order::Active => pods.sort_by_key(active_rank),
    }
    Ok(pods)
}

fn condition_since(pod: &Value) -> Option<&str> {
    let ready = items(&pod["status"]["conditions"]).find(|c| c["type"] == "Ready" && c["status"] == "True");
    ready.map(|c| str_of(&c["lastTransitionTime"]))
}

fn restarts(pod: &Value) -> i64 {
    let counts = items(&pod["status"]["containerStatuses"]).map(|s| s["restartCount"].as_i64().unwrap_or(0));
    counts.max().unwrap_or(0)
}

fn phase(pod: &Value) -> u8 {
    match str_of(&pod["status"]["phase"]) {
        "Pending" => 2,
        "Unknown" => 1,
        _ => 0,
    }
}

/// Assigned, running, ready for long, often restarted, old.
fn logging_rank(pod: &Value) -> impl Ord + use<> {
    let since = condition_since(pod).map(str::to_owned);
    (
        str_of(&pod["spec"]["nodeName"]).is_empty(),
        phase(pod),
        since.is_none(),
        since.unwrap_or_default(),
        Reverse(restarts(pod)),
        str_of(&pod["metadata"]["creationTimestamp"]).to_owned(),
    )
}

/// Assigned, running, ready for long, not on its way out, seldom restarted, old.
fn active_rank(pod: &Value) -> impl Ord + use<> {
    let since = condition_since(pod).map(str::to_owned);
    let phase = match str_of(&pod["status"]["phase"]) {
        "Running" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    (
        str_of(&pod["spec"]["nodeName"]).is_empty(),
        phase,
        since.is_none(),
        pod["metadata"]["deletionTimestamp"].is_string(),
        since.unwrap_or_default(),
        restarts(pod),
        str_of(&pod["metadata"]["creationTimestamp"]).to_owned(),
    )
}

/// The containers of every kind, with the field they are in.
pub fn containers(pod: &Value) -> Vec<(&'static str, &str)> {
    let fields = ["containers", "ephemeralContainers", "initContainers"];
    let of = |field: &'static str| items(&pod["spec"][field]).map(move |c| (field, str_of(&c["name"])));
    fields.into_iter().flat_map(of).collect()
}

fn shown(pod: &Value) -> String {
    let one = |(field, name): (&str, &str)| match field {
        "initContainers" => format!("{name} (init)"),
        "ephemeralContainers" => format!("{name} (ephem)"),
        _ => name.to_owned(),
    };
    containers(pod).into_iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The container with this name, or the one that is meant where none is named; then that is said.
pub fn container(session: &Session, pod: &Value, name: &str, quiet: bool) -> Result<String> {
    let all = containers(pod);
    let wanted = match name {
        "" => str_of(&pod["metadata"]["annotations"][DEFAULT_CONTAINER]),
        name => name,
    };
    if !wanted.is_empty() {
        if all.iter().any(|(_, n)| *n == wanted) {
            return Ok(wanted.to_owned());
        }
        return fail(format!(
            "container {wanted} is not valid for pod {} out of: {}",
            str_of(&pod["metadata"]["name"]),
            shown(pod)
        ));
    }
    let Some((_, first)) = all.first() else {
        return fail(format!(
            "pod {}/{} does not have any containers",
            str_of(&pod["metadata"]["namespace"]),
            str_of(&pod["metadata"]["name"])
        ));
    };
    if all.len() > 1 && !quiet {
        session.warn(&format!("Defaulted container \"{first}\" out of: {}", shown(pod)));
    }
    Ok((*first).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_and_ready_pods_come_first() {
        let pod = |name: &str, phase: &str, ready: Option<&str>| {
            json!({"metadata": {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"nodeName": "n"},
                "status": {"phase": phase, "conditions": ready.map(|t| json!([{"type": "Ready", "status": "True", "lastTransitionTime": t}]))}})
        };
        let mut pods = [
            pod("pending", "Pending", None),
            pod("new", "Running", Some("2026-01-02T00:00:00Z")),
            pod("unready", "Running", None),
            pod("old", "Running", Some("2026-01-01T00:00:00Z")),
        ];
        for by in [Order::Logging, Order::Active] {
            match by {
                Order::Logging => pods.sort_by_key(logging_rank),
                Order::Active => pods.sort_by_key(active_rank),
            }
            let names: Vec<&str> = pods.iter().map(|p| str_of(&p["metadata"]["name"])).collect();
            assert_eq!(names, ["old", "new", "unready", "pending"]);
        }
    }

    #[test]
    fn all_containers_are_named_with_their_kind() {
        let pod = json!({"spec": {"initContainers": [{"name": "i"}], "containers": [{"name": "a"}, {"name": "b"}]}});
        assert_eq!(shown(&pod), "a, b, i (init)");
    }
}
