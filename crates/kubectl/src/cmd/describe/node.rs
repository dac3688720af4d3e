//! `describe node`, with what its pods ask for.

use std::collections::BTreeMap;

use api::quantity::{Format, Quantity};
use jiff::Timestamp;
use serde_json::Value;

use super::text::{Text, date, entries, items, joined, list, str_of};
use crate::age;
use crate::error::Result;
use crate::print::go;
use crate::session::Session;

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";

type Amounts = BTreeMap<String, Quantity>;

pub(crate) async fn describe(session: &Session, w: &mut Text, node: &Value) -> Result<()> {
    let (meta, spec, status) = (&node["metadata"], &node["spec"], &node["status"]);
    let name = str_of(&meta["name"]);
    w.pair(0, "Name", name);
    w.pair(0, "Roles", &roles(&meta["labels"]));
    w.labels("", "Labels", &meta["labels"]);
    w.annotations("Annotations", &meta["annotations"]);
    w.pair(0, "CreationTimestamp", &date(&meta["creationTimestamp"]));
    w.taints(&spec["taints"]);
    w.pair(
        0,
        "Unschedulable",
        if spec["unschedulable"] == true { "true" } else { "false" },
    );
    lease(session, w, name).await?;
    if items(&status["conditions"]).next().is_some() {
        w.line(0, "Conditions:");
        w.line(
            1,
            "Type\tStatus\tLastHeartbeatTime\tLastTransitionTime\tReason\tMessage",
        );
        w.line(
            1,
            "----\t------\t-----------------\t------------------\t------\t-------",
        );
        for c in items(&status["conditions"]) {
            w.line(
                1,
                &format!(
                    "{} \t{} \t{} \t{} \t{} \t{}",
                    str_of(&c["type"]),
                    str_of(&c["status"]),
                    date(&c["lastHeartbeatTime"]),
                    date(&c["lastTransitionTime"]),
                    str_of(&c["reason"]),
                    str_of(&c["message"])
                ),
            );
        }
    }
    w.line(0, "Addresses:");
    for address in items(&status["addresses"]) {
        w.pair(1, str_of(&address["type"]), str_of(&address["address"]));
    }
    for (title, field) in [("Capacity", "capacity"), ("Allocatable", "allocatable")] {
        if status[field].as_object().is_some_and(|l| !l.is_empty()) {
            w.line(0, &format!("{title}:"));
            for (resource, amount) in entries(&status[field]) {
                w.pair(1, resource, amount);
            }
        }
    }
    w.line(0, "System Info:");
    let info = &status["nodeInfo"];
    for (title, field) in [
        ("Machine ID", "machineID"),
        ("System UUID", "systemUUID"),
        ("Boot ID", "bootID"),
        ("Kernel Version", "kernelVersion"),
        ("OS Image", "osImage"),
        ("Operating System", "operatingSystem"),
        ("Architecture", "architecture"),
        ("Container Runtime Version", "containerRuntimeVersion"),
        ("Kubelet Version", "kubeletVersion"),
    ] {
        w.pair(1, title, str_of(&info[field]));
    }
    w.some(0, "PodCIDR", &spec["podCIDR"]);
    if items(&spec["podCIDRs"]).next().is_some() {
        w.pair(0, "PodCIDRs", &joined(&spec["podCIDRs"], ","));
    }
    w.some(0, "ProviderID", &spec["providerID"]);
    let selector = format!("spec.nodeName={name},status.phase!=Succeeded,status.phase!=Failed");
    match list(session, "/api/v1/pods", vec![("fieldSelector", selector)]).await {
        Ok(found) => pods(w, status, &found),
        Err(e) if e.http_code() == Some(403) => w.pair(0, "Pods", "not authorized"),
        Err(e) => return Err(e),
    }
    Ok(())
}

fn roles(labels: &Value) -> String {
    let mut roles: Vec<&str> = entries(labels)
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => Some(value),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() {
        "<none>".to_owned()
    } else {
        roles.join(",")
    }
}

async fn lease(session: &Session, w: &mut Text, name: &str) -> Result<()> {
    let path = format!(
        "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{}",
        crate::api::escape(name)
    );
    match session.api()?.get(&path).await {
        Ok(lease) => {
            let spec = &lease["spec"];
            let time = |v: &Value| if v.is_string() { date(v) } else { "<unset>".to_owned() };
            w.line(0, "Lease:");
            w.pair(
                1,
                "HolderIdentity",
                spec["holderIdentity"].as_str().unwrap_or("<unset>"),
            );
            w.pair(1, "AcquireTime", &time(&spec["acquireTime"]));
            w.pair(1, "RenewTime", &time(&spec["renewTime"]));
        }
        Err(error) => w.pair(0, "Lease", &format!("Failed to get lease: {error}")),
    }
    Ok(())
}

fn amounts(tree: &Value) -> Amounts {
    let parsed = |(name, value): (&String, &Value)| Some((name.clone(), go::sprint(value).parse().ok()?));
    tree.as_object().into_iter().flatten().filter_map(parsed).collect()
}

fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = to.get(name).map_or_else(|| *amount, |old| old.add(amount));
        to.insert(name.clone(), sum);
    }
}

fn raise(to: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        if to.get(name).is_none_or(|old| *old < *amount) {
            to.insert(name.clone(), *amount);
        }
    }
}

/// What a pod asks for or is limited to: its containers together, or its greediest init container.
fn of_pod(pod: &Value, field: &str) -> Amounts {
    let spec = &pod["spec"];
    let mut total = Amounts::new();
    for container in items(&spec["containers"]) {
        add(&mut total, &amounts(&container["resources"][field]));
    }
    let (mut sidecars, mut greediest) = (Amounts::new(), Amounts::new());
    for container in items(&spec["initContainers"]) {
        let mut own = amounts(&container["resources"][field]);
        if container["restartPolicy"] == "Always" {
            add(&mut total, &own);
            add(&mut sidecars, &own);
            own.clone_from(&sidecars);
        } else {
            add(&mut own, &sidecars);
        }
        raise(&mut greediest, &own);
    }
    raise(&mut total, &greediest);
    for (name, amount) in amounts(&spec["resources"][field]) {
        total.insert(name, amount);
    }
    let mut overhead = amounts(&spec["overhead"]);
    if field == "limits" {
        overhead.retain(|name, _| total.contains_key(name));
    }
    add(&mut total, &overhead);
    total
}

fn zero() -> Quantity {
    Quantity::new(0, Format::DecimalSi)
}

/// `100m (5%)`.
fn share(amounts: &Amounts, of: &Amounts, name: &str) -> String {
    let amount = amounts.get(name).copied().unwrap_or_else(zero);
    let whole = of.get(name).map_or(0.0, Quantity::as_f64);
    let percent = if whole == 0.0 {
        0.0
    } else {
        amount.as_f64() / whole * 100.0
    };
    format!("{amount} ({}%)", percent as i64)
}

fn pods(w: &mut Text, status: &Value, pods: &[Value]) {
    let mut allocatable = amounts(&status["allocatable"]);
    if allocatable.is_empty() {
        allocatable = amounts(&status["capacity"]);
    }
    let now = Timestamp::now();
    w.pair(0, "Non-terminated Pods", &format!("({} in total)", pods.len()));
    w.line(
        1,
        "Namespace\tName\t\tCPU Requests\tCPU Limits\tMemory Requests\tMemory Limits\tAge",
    );
    w.line(
        1,
        "---------\t----\t\t------------\t----------\t---------------\t-------------\t---",
    );
    let (mut requested, mut limited) = (Amounts::new(), Amounts::new());
    for pod in pods {
        let (requests, limits) = (of_pod(pod, "requests"), of_pod(pod, "limits"));
        w.line(
            1,
            &format!(
                "{}\t{}\t\t{}\t{}\t{}\t{}\t{}",
                str_of(&pod["metadata"]["namespace"]),
                str_of(&pod["metadata"]["name"]),
                share(&requests, &allocatable, "cpu"),
                share(&limits, &allocatable, "cpu"),
                share(&requests, &allocatable, "memory"),
                share(&limits, &allocatable, "memory"),
                age::since(str_of(&pod["metadata"]["creationTimestamp"]), now)
            ),
        );
        add(&mut requested, &requests);
        add(&mut limited, &limits);
    }
    w.line(0, "Allocated resources:");
    w.line(1, "(Total limits may be over 100 percent, i.e., overcommitted.)");
    w.line(1, "Resource\tRequests\tLimits");
    w.line(1, "--------\t--------\t------");
    let line = |name: &str| {
        format!(
            "{name}\t{}\t{}",
            share(&requested, &allocatable, name),
            share(&limited, &allocatable, name)
        )
    };
    for name in ["cpu", "memory", "ephemeral-storage"] {
        w.line(1, &line(name));
    }
    for name in allocatable.keys().filter(|n| n.starts_with("hugepages-")) {
        w.line(1, &line(name));
    }
    let standard =
        |n: &str| matches!(n, "cpu" | "memory" | "ephemeral-storage" | "pods") || n.starts_with("hugepages-");
    for name in allocatable.keys().filter(|n| !standard(n)) {
        let plain = |of: &Amounts| of.get(name).copied().unwrap_or_else(zero).to_string();
        w.line(1, &format!("{name}\t{}\t{}", plain(&requested), plain(&limited)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_asks_for_its_containers_or_its_greediest_init_container() {
        let container = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let pod =
            json!({"spec": {"containers": [container("100m"), container("200m")], "initContainers": [container("1")]}});
        assert_eq!(of_pod(&pod, "requests")["cpu"].to_string(), "1");
        let pod = json!({"spec": {"containers": [container("100m"), container("200m")]}});
        let of = amounts(&json!({"cpu": "2"}));
        assert_eq!(share(&of_pod(&pod, "requests"), &of, "cpu"), "300m (15%)");
    }
}
