//! `describe pod`, and the template of pods that controllers show.

use jiff::Timestamp;
use serde_json::Value;

use super::container::{containers, resources, seccomp};
use super::text::{Text, controller, date, int, items, selector, str_of};
use super::volume::volumes;
use crate::age;

pub(crate) fn describe(w: &mut Text, pod: &Value) {
    let (meta, spec, status) = (&pod["metadata"], &pod["spec"], &pod["status"]);
    w.pair(0, "Name", str_of(&meta["name"]));
    w.pair(0, "Namespace", str_of(&meta["namespace"]));
    w.some(0, "Priority", &spec["priority"]);
    w.some(0, "Priority Class Name", &spec["priorityClassName"]);
    w.some(0, "Runtime Class Name", &spec["runtimeClassName"]);
    w.some(0, "Service Account", &spec["serviceAccountName"]);
    match str_of(&spec["nodeName"]) {
        "" => w.pair(0, "Node", "<none>"),
        node => w.pair(0, "Node", &format!("{node}/{}", str_of(&status["hostIP"]))),
    }
    if status["startTime"].is_string() {
        w.pair(0, "Start Time", &date(&status["startTime"]));
    }
    w.labels("", "Labels", &meta["labels"]);
    w.annotations("Annotations", &meta["annotations"]);
    let phase = str_of(&status["phase"]);
    if meta["deletionTimestamp"].is_string() && !matches!(phase, "Failed" | "Succeeded") {
        let lasts = age::since(str_of(&meta["deletionTimestamp"]), Timestamp::now());
        w.pair(0, "Status", &format!("Terminating (lasts {lasts})"));
        w.pair(
            0,
            "Termination Grace Period",
            &format!("{}s", int(&meta["deletionGracePeriodSeconds"])),
        );
    } else {
        w.pair(0, "Status", phase);
    }
    w.some(0, "Reason", &status["reason"]);
    w.some(0, "Message", &status["message"]);
    seccomp(w, &spec["securityContext"], 0);
    w.pair(0, "IP", str_of(&status["podIP"]));
    if items(&status["podIPs"]).next().is_none() {
        w.pair(0, "IPs", "<none>");
    } else {
        w.line(0, "IPs:");
        for ip in items(&status["podIPs"]) {
            w.pair(1, "IP", str_of(&ip["ip"]));
        }
    }
    if let Some(owner) = controller(pod) {
        w.pair(0, "Controlled By", &owner);
    }
    w.some(0, "NominatedNodeName", &status["nominatedNodeName"]);
    if spec["resources"].is_object() {
        w.line(0, "Resources:");
        resources(w, 1, &spec["resources"]);
    }
    if items(&spec["initContainers"]).next().is_some() {
        containers(
            w,
            "Init Containers",
            &spec["initContainers"],
            &status["initContainerStatuses"],
            Some(pod),
            "",
        );
    }
    containers(
        w,
        "Containers",
        &spec["containers"],
        &status["containerStatuses"],
        Some(pod),
        "",
    );
    if items(&spec["ephemeralContainers"]).next().is_some() {
        let (list, statuses) = (&spec["ephemeralContainers"], &status["ephemeralContainerStatuses"]);
        containers(w, "Ephemeral Containers", list, statuses, Some(pod), "");
    }
    if items(&spec["readinessGates"]).next().is_some() {
        w.line(0, "Readiness Gates:");
        w.line(1, "Type\tStatus");
        for gate in items(&spec["readinessGates"]) {
            let found = items(&status["conditions"]).find(|c| c["type"] == gate["conditionType"]);
            let state = found.map_or("<none>", |c| str_of(&c["status"]));
            w.line(1, &format!("{} \t{state} ", str_of(&gate["conditionType"])));
        }
    }
    if items(&status["conditions"]).next().is_some() {
        w.line(0, "Conditions:");
        w.line(1, "Type\tStatus");
        for condition in items(&status["conditions"]) {
            w.line(
                1,
                &format!("{} \t{} ", str_of(&condition["type"]), str_of(&condition["status"])),
            );
        }
    }
    volumes(w, &spec["volumes"], "");
    w.pair(0, "QoS Class", str_of(&status["qosClass"]));
    w.labels("", "Node-Selectors", &spec["nodeSelector"]);
    w.tolerations("", &spec["tolerations"]);
    spread(w, &spec["topologySpreadConstraints"], "");
}

/// `Pod Template:` of a controller.
pub fn template(w: &mut Text, template: &Value) {
    let (meta, spec) = (&template["metadata"], &template["spec"]);
    w.line(0, "Pod Template:");
    w.labels("", "  Labels", &meta["labels"]);
    if meta["annotations"].as_object().is_some_and(|a| !a.is_empty()) {
        w.annotations("  Annotations", &meta["annotations"]);
    }
    w.some(1, "Service Account", &spec["serviceAccountName"]);
    if items(&spec["initContainers"]).next().is_some() {
        containers(w, "Init Containers", &spec["initContainers"], &Value::Null, None, "  ");
    }
    containers(w, "Containers", &spec["containers"], &Value::Null, None, "  ");
    volumes(w, &spec["volumes"], "  ");
    spread(w, &spec["topologySpreadConstraints"], "  ");
    w.some(1, "Priority Class Name", &spec["priorityClassName"]);
    w.labels("", "  Node-Selectors", &spec["nodeSelector"]);
    w.tolerations("  ", &spec["tolerations"]);
}

fn spread(w: &mut Text, constraints: &Value, space: &str) {
    let mut list: Vec<&Value> = items(constraints).collect();
    list.sort_by_key(|c| str_of(&c["topologyKey"]));
    for (i, constraint) in list.into_iter().enumerate() {
        let mut text = format!(
            "{}:{} when max skew {} is exceeded",
            str_of(&constraint["topologyKey"]),
            str_of(&constraint["whenUnsatisfiable"]),
            int(&constraint["maxSkew"])
        );
        if constraint["labelSelector"].is_object() {
            text.push_str(&format!(" for selector {}", selector(&constraint["labelSelector"])));
        }
        let head = if i == 0 { "Topology Spread Constraints:" } else { "" };
        w.line(0, &format!("{space}{head}\t{text}"));
    }
}
