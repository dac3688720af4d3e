//! `describe` of claims, volumes and their classes.

use serde_json::Value;

use super::text::{Text, date, in_one_line, items, list, or, str_of};
use super::volume;
use crate::age;
use crate::error::Result;
use crate::session::Session;

const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// The short form of each access mode, in upstream's order.
fn access_modes(modes: &Value) -> String {
    let has = |mode: &str| items(modes).any(|m| m == mode);
    let known = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let short: Vec<&str> = known.iter().filter(|(mode, _)| has(mode)).map(|(_, s)| *s).collect();
    short.join(",")
}

fn class_of(object: &Value) -> &str {
    let annotated = &object["metadata"]["annotations"][BETA_CLASS];
    match annotated.as_str() {
        Some(class) => class,
        None => str_of(&object["spec"]["storageClassName"]),
    }
}

fn phase(w: &mut Text, object: &Value) {
    match object["metadata"]["deletionTimestamp"].as_str() {
        Some(at) => {
            let since = age::since(at, jiff::Timestamp::now());
            w.pair(0, "Status", &format!("Terminating (lasts {since})"));
        }
        None => w.pair(0, "Status", str_of(&object["status"]["phase"])),
    }
}

fn finalizers(w: &mut Text, meta: &Value) {
    let list: Vec<&str> = items(&meta["finalizers"]).map(str_of).collect();
    w.pair(0, "Finalizers", &format!("[{}]", list.join(" ")));
}

pub(crate) async fn claim(session: &Session, w: &mut Text, claim: &Value) -> Result<()> {
    let (meta, spec, status) = (&claim["metadata"], &claim["spec"], &claim["status"]);
    let namespace = str_of(&meta["namespace"]);
    w.pair(0, "Name", str_of(&meta["name"]));
    w.pair(0, "Namespace", namespace);
    w.pair(0, "StorageClass", class_of(claim));
    phase(w, claim);
    let volume = str_of(&spec["volumeName"]);
    w.pair(0, "Volume", volume);
    w.labels("", "Labels", &meta["labels"]);
    w.annotations("Annotations", &meta["annotations"]);
    finalizers(w, meta);
    let (capacity, modes) = match volume {
        "" => ("", String::new()),
        _ => (
            or(&status["capacity"]["storage"], "0"),
            access_modes(&status["accessModes"]),
        ),
    };
    w.pair(0, "Capacity", capacity);
    w.pair(0, "Access Modes", &modes);
    w.some(0, "VolumeMode", &spec["volumeMode"]);
    let source = &spec["dataSource"];
    if source.is_object() {
        w.line(0, "DataSource:");
        w.some(1, "APIGroup", &source["apiGroup"]);
        w.pair(1, "Kind", str_of(&source["kind"]));
        w.pair(1, "Name", str_of(&source["name"]));
    }
    let pods = list(session, &format!("/api/v1/namespaces/{namespace}/pods"), Vec::new()).await?;
    let name = &meta["name"];
    let users: Vec<String> = pods
        .iter()
        .filter(|pod| items(&pod["spec"]["volumes"]).any(|v| v["persistentVolumeClaim"]["claimName"] == *name))
        .map(|pod| str_of(&pod["metadata"]["name"]).to_owned())
        .collect();
    w.list("Used By", &users);
    if items(&status["conditions"]).next().is_some() {
        w.line(0, "Conditions:");
        w.line(1, "Type\tStatus\tLastProbeTime\tLastTransitionTime\tReason\tMessage");
        w.line(
            1,
            "----\t------\t-----------------\t------------------\t------\t-------",
        );
        for c in items(&status["conditions"]) {
            let text = |field: &str| str_of(&c[field]);
            w.line(
                1,
                &format!(
                    "{} \t{}\t{} \t{} \t{} \t{}",
                    text("type"),
                    text("status"),
                    date(&c["lastProbeTime"]),
                    date(&c["lastTransitionTime"]),
                    text("reason"),
                    text("message")
                ),
            );
        }
    }
    Ok(())
}

pub(crate) fn volume(w: &mut Text, object: &Value) {
    let (meta, spec) = (&object["metadata"], &object["spec"]);
    w.pair(0, "Name", str_of(&meta["name"]));
    w.labels("", "Labels", &meta["labels"]);
    w.annotations("Annotations", &meta["annotations"]);
    finalizers(w, meta);
    w.pair(0, "StorageClass", class_of(object));
    phase(w, object);
    let claim = &spec["claimRef"];
    let claim = if claim.is_object() {
        format!("{}/{}", str_of(&claim["namespace"]), str_of(&claim["name"]))
    } else {
        String::new()
    };
    w.pair(0, "Claim", &claim);
    w.pair(0, "Reclaim Policy", str_of(&spec["persistentVolumeReclaimPolicy"]));
    w.pair(0, "Access Modes", &access_modes(&spec["accessModes"]));
    w.some(0, "VolumeMode", &spec["volumeMode"]);
    w.pair(0, "Capacity", or(&spec["capacity"]["storage"], "0"));
    node_affinity(w, &spec["nodeAffinity"]);
    w.pair(0, "Message", str_of(&object["status"]["message"]));
    w.line(0, "Source:");
    volume::source(w, spec);
}

fn node_affinity(w: &mut Text, affinity: &Value) {
    let required = &affinity["required"];
    if !required.is_object() {
        w.line(0, "Node Affinity:\t<none>");
        return;
    }
    w.line(0, "Node Affinity:\t");
    w.line(1, "Required Terms:\t");
    for (at, term) in items(&required["nodeSelectorTerms"]).enumerate() {
        let requirements: Vec<String> = items(&term["matchExpressions"]).map(requirement).collect();
        multiline(w, 2, &format!("Term {at}"), &requirements);
    }
}

/// A title with a value a line, at a depth.
fn multiline(w: &mut Text, depth: usize, title: &str, values: &[String]) {
    match values {
        [] => w.line(depth, &format!("{title}:\t<none>")),
        [first, rest @ ..] => {
            w.line(depth, &format!("{title}:\t{first}"));
            rest.iter().for_each(|value| w.line(depth, &format!("\t{value}")));
        }
    }
}

fn requirement(term: &Value) -> String {
    let values: Vec<&str> = items(&term["values"]).map(str_of).collect();
    let head = format!("{} {}", str_of(&term["key"]), str_of(&term["operator"]).to_lowercase());
    if values.is_empty() {
        head
    } else {
        format!("{head} [{}]", values.join(", "))
    }
}

pub(crate) fn class(w: &mut Text, class: &Value) {
    let annotations = &class["metadata"]["annotations"];
    let default = |key: &str| annotations[key] == "true";
    let is_default = default("storageclass.kubernetes.io/is-default-class")
        || default("storageclass.beta.kubernetes.io/is-default-class");
    w.pair(0, "Name", str_of(&class["metadata"]["name"]));
    w.pair(0, "IsDefaultClass", if is_default { "Yes" } else { "No" });
    w.pair(0, "Annotations", &in_one_line(annotations));
    w.pair(0, "Provisioner", str_of(&class["provisioner"]));
    w.pair(0, "Parameters", &in_one_line(&class["parameters"]));
    w.pair(0, "AllowVolumeExpansion", flag(&class["allowVolumeExpansion"]));
    if items(&class["mountOptions"]).next().is_none() {
        w.line(0, "MountOptions:\t<none>");
    } else {
        w.line(0, "MountOptions:");
        items(&class["mountOptions"]).for_each(|o| w.line(1, str_of(o)));
    }
    w.some(0, "ReclaimPolicy", &class["reclaimPolicy"]);
    w.some(0, "VolumeBindingMode", &class["volumeBindingMode"]);
    if !class["allowedTopologies"].is_array() {
        return;
    }
    w.line(0, "AllowedTopologies:\t");
    for (at, term) in items(&class["allowedTopologies"]).enumerate() {
        let terms: Vec<String> = items(&term["matchLabelExpressions"])
            .map(|t| {
                let values: Vec<&str> = items(&t["values"]).map(str_of).collect();
                format!("{} in [{}]", str_of(&t["key"]), values.join(", "))
            })
            .collect();
        multiline(w, 1, &format!("Term {at}"), &terms);
    }
}

/// How upstream shows a switch that may be absent.
pub fn flag(value: &Value) -> &'static str {
    match value.as_bool() {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    }
}

/// The drivers that a node has.
pub fn node(w: &mut Text, node: &Value) {
    let meta = &node["metadata"];
    w.pair(0, "Name", str_of(&meta["name"]));
    w.labels("", "Labels", &meta["labels"]);
    w.annotations("Annotations", &meta["annotations"]);
    w.pair(0, "CreationTimestamp", &date(&meta["creationTimestamp"]));
    w.line(0, "Spec:");
    let drivers = &node["spec"]["drivers"];
    if drivers.is_array() {
        w.line(1, "Drivers:");
    }
    for driver in items(drivers) {
        w.line(2, &format!("{}:", str_of(&driver["name"])));
        w.pair(3, "Node ID", str_of(&driver["nodeID"]));
        if let Some(count) = driver["allocatable"]["count"].as_i64() {
            w.line(3, "Allocatables:");
            w.pair(4, "Count", &count.to_string());
        }
        if driver["topologyKeys"].is_array() {
            let keys: Vec<&str> = items(&driver["topologyKeys"]).map(str_of).collect();
            w.pair(3, "Topology Keys", &format!("[{}]", keys.join(" ")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn access_modes_are_short_and_in_order() {
        assert_eq!(access_modes(&json!(["ReadWriteMany", "ReadWriteOnce"])), "RWO,RWX");
        let old = json!({"metadata": {"annotations": {BETA_CLASS: "a"}}, "spec": {"storageClassName": "b"}});
        assert_eq!(class_of(&old), "a");
    }
}
