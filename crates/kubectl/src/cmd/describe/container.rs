//! The containers of a pod or of a template.

use api::quantity::Quantity;
use serde_json::Value;

use super::text::{Text, date, int, items, joined, str_of};
use crate::print::go::quote;

/// `pod` gives the values of fields; a template has none. `space` is what a template's lines are moved by.
pub fn containers(w: &mut Text, label: &str, list: &Value, statuses: &Value, pod: Option<&Value>, space: &str) {
    let none = if items(list).next().is_none() { " <none>" } else { "" };
    w.line(0, &format!("{space}{label}:{none}"));
    for container in items(list) {
        let status = items(statuses).find(|s| s["name"] == container["name"]);
        let indent = if space.is_empty() { "" } else { " " };
        w.line(1, &format!("{indent}{}:", str_of(&container["name"])));
        if let Some(status) = status {
            w.pair(2, "Container ID", str_of(&status["containerID"]));
        }
        w.pair(2, "Image", str_of(&container["image"]));
        if let Some(status) = status {
            w.pair(2, "Image ID", str_of(&status["imageID"]));
        }
        ports(w, container, "containerPort", "Port");
        ports(w, container, "hostPort", "Host Port");
        seccomp(w, &container["securityContext"], 2);
        words(w, "Command", &container["command"]);
        words(w, "Args", &container["args"]);
        if let Some(status) = status {
            state(w, "State", &status["state"]);
            if status["lastState"]["terminated"].is_object() {
                state(w, "Last State", &status["lastState"]);
            }
            w.pair(2, "Ready", if status["ready"] == true { "True" } else { "False" });
            w.pair(2, "Restart Count", &int(&status["restartCount"]).to_string());
        }
        resources(w, 2, &container["resources"]);
        for (title, field) in [
            ("Liveness", "livenessProbe"),
            ("Readiness", "readinessProbe"),
            ("Startup", "startupProbe"),
        ] {
            if container[field].is_object() {
                w.pair(2, title, &probe(&container[field]));
            }
        }
        env_from(w, container);
        env(w, container, pod);
        mounts(w, container);
    }
}

pub(crate) fn seccomp(w: &mut Text, security: &Value, depth: usize) {
    let profile = &security["seccompProfile"];
    if profile.is_object() {
        w.pair(depth, "SeccompProfile", str_of(&profile["type"]));
        if profile["type"] == "Localhost" {
            let deeper = if depth == 0 { 0 } else { depth + 1 };
            w.pair(deeper, "LocalhostProfile", str_of(&profile["localhostProfile"]));
        }
    }
}

fn ports(w: &mut Text, container: &Value, field: &str, title: &str) {
    let texts: Vec<String> = items(&container["ports"])
        .map(|p| {
            let text = format!("{}/{}", int(&p[field]), str_of(&p["protocol"]));
            match str_of(&p["name"]) {
                "" => text,
                name => format!("{text} ({name})"),
            }
        })
        .collect();
    match texts.len() {
        0 => w.pair(2, title, "<none>"),
        1 => w.pair(2, title, &texts[0]),
        _ => w.pair(2, &format!("{title}s"), &texts.join(", ")),
    }
}

fn words(w: &mut Text, title: &str, list: &Value) {
    if items(list).next().is_some() {
        w.line(2, &format!("{title}:"));
        for line in items(list).flat_map(|word| str_of(word).split('\n')) {
            w.line(3, line);
        }
    }
}

pub(crate) fn resources(w: &mut Text, depth: usize, resources: &Value) {
    for (title, field) in [("Limits", "limits"), ("Requests", "requests")] {
        let mut list = resources[field].as_object().into_iter().flatten().peekable();
        if list.peek().is_some() {
            w.line(depth, &format!("{title}:"));
        }
        for (name, quantity) in list {
            w.pair(depth + 1, name, &crate::print::go::sprint(quantity));
        }
    }
}

fn state(w: &mut Text, title: &str, state: &Value) {
    if state["running"].is_object() {
        w.pair(2, title, "Running");
        w.pair(3, "Started", &date(&state["running"]["startedAt"]));
    } else if state["terminated"].is_object() {
        let ended = &state["terminated"];
        w.pair(2, title, "Terminated");
        w.some(3, "Reason", &ended["reason"]);
        w.some(3, "Message", &ended["message"]);
        w.pair(3, "Exit Code", &int(&ended["exitCode"]).to_string());
        if int(&ended["signal"]) > 0 {
            w.pair(3, "Signal", &int(&ended["signal"]).to_string());
        }
        w.pair(3, "Started", &date(&ended["startedAt"]));
        w.pair(3, "Finished", &date(&ended["finishedAt"]));
    } else {
        w.pair(2, title, "Waiting");
        w.some(3, "Reason", &state["waiting"]["reason"]);
    }
}

fn probe(probe: &Value) -> String {
    let attributes = format!(
        "delay={}s timeout={}s period={}s successThreshold={} failureThreshold={}",
        int(&probe["initialDelaySeconds"]),
        int(&probe["timeoutSeconds"]),
        int(&probe["periodSeconds"]),
        int(&probe["successThreshold"]),
        int(&probe["failureThreshold"])
    );
    let plain = |v: &Value| crate::print::go::sprint(v);
    if probe["exec"].is_object() {
        format!("exec [{}] {attributes}", joined(&probe["exec"]["command"], " "))
    } else if probe["httpGet"].is_object() {
        let get = &probe["httpGet"];
        let path = str_of(&get["path"]);
        let slash = if path.starts_with('/') || path.is_empty() {
            ""
        } else {
            "/"
        };
        format!(
            "http-get {}://{}:{}{slash}{path} {attributes}",
            str_of(&get["scheme"]).to_lowercase(),
            str_of(&get["host"]),
            plain(&get["port"])
        )
    } else if probe["tcpSocket"].is_object() {
        let socket = &probe["tcpSocket"];
        format!(
            "tcp-socket {}:{} {attributes}",
            str_of(&socket["host"]),
            plain(&socket["port"])
        )
    } else if probe["grpc"].is_object() {
        format!(
            "grpc <pod>:{} {} {attributes}",
            int(&probe["grpc"]["port"]),
            str_of(&probe["grpc"]["service"])
        )
    } else {
        format!("unknown {attributes}")
    }
}

fn env_from(w: &mut Text, container: &Value) {
    if items(&container["envFrom"]).next().is_none() {
        return;
    }
    w.line(2, "Environment Variables from:");
    for source in items(&container["envFrom"]) {
        let (kind, from) = match source["configMapRef"].is_object() {
            true => ("ConfigMap", &source["configMapRef"]),
            false => ("Secret", &source["secretRef"]),
        };
        let with = match str_of(&source["prefix"]) {
            "" => String::new(),
            prefix => format!(" with prefix '{prefix}'"),
        };
        w.line(
            3,
            &format!(
                "{}\t{kind}{with}\tOptional: {}",
                str_of(&from["name"]),
                from["optional"] == true
            ),
        );
    }
}

fn env(w: &mut Text, container: &Value, pod: Option<&Value>) {
    let none = if items(&container["env"]).next().is_none() {
        "\t<none>"
    } else {
        ""
    };
    w.line(2, &format!("Environment:{none}"));
    for variable in items(&container["env"]) {
        let name = str_of(&variable["name"]);
        let from = &variable["valueFrom"];
        if from["fieldRef"].is_object() {
            let field = &from["fieldRef"];
            let path = str_of(&field["fieldPath"]);
            let value = pod.map(|p| field_of(p, path)).unwrap_or_default();
            w.line(
                3,
                &format!("{name}:\t{value} ({}:{path})", str_of(&field["apiVersion"])),
            );
        } else if from["resourceFieldRef"].is_object() {
            let resource = str_of(&from["resourceFieldRef"]["resource"]);
            let mut value = resource_of(container, &from["resourceFieldRef"]);
            if value == "0" && matches!(resource, "limits.cpu" | "limits.memory") {
                value = "node allocatable".to_owned();
            }
            w.line(3, &format!("{name}:\t{value} ({resource})"));
        } else if from["secretKeyRef"].is_object() || from["configMapKeyRef"].is_object() {
            let (key, place) = match from["secretKeyRef"].is_object() {
                true => (&from["secretKeyRef"], "in secret"),
                false => (&from["configMapKeyRef"], "of config map"),
            };
            w.line(
                3,
                &format!(
                    "{name}:\t<set to the key '{}' {place} '{}'>\tOptional: {}",
                    str_of(&key["key"]),
                    str_of(&key["name"]),
                    key["optional"] == true
                ),
            );
        } else if from.is_null() {
            for (i, line) in str_of(&variable["value"]).split('\n').enumerate() {
                w.line(
                    3,
                    &if i == 0 {
                        format!("{name}:\t{line}")
                    } else {
                        format!("\t{line}")
                    },
                );
            }
        }
    }
}

/// What `fieldRef` finds in the pod.
fn field_of(pod: &Value, path: &str) -> String {
    if let Some((map, key)) = path
        .split_once("['")
        .and_then(|(m, k)| Some((m, k.strip_suffix("']")?)))
    {
        let field = map.strip_prefix("metadata.").unwrap_or(map);
        return str_of(&pod["metadata"][field][key]).to_owned();
    }
    match path {
        "metadata.name" | "metadata.namespace" | "metadata.uid" => {
            str_of(&pod["metadata"][path.trim_start_matches("metadata.")]).to_owned()
        }
        "metadata.labels" | "metadata.annotations" => {
            let field = &pod["metadata"][path.trim_start_matches("metadata.")];
            let pairs: Vec<String> = super::text::entries(field)
                .map(|(k, v)| format!("{k}={}", quote(v)))
                .collect();
            pairs.join("\n")
        }
        // These are known to the server's conversion, but not to its path of texts.
        _ => String::new(),
    }
}

fn resource_of(container: &Value, field: &Value) -> String {
    let Some((kind, name)) = str_of(&field["resource"]).split_once('.') else {
        return String::new();
    };
    let parse = |v: &Value| crate::print::go::sprint(v).parse::<Quantity>().ok();
    let Some(amount) = parse(&container["resources"][kind][name]) else {
        return "0".to_owned();
    };
    let divisor = parse(&field["divisor"]).filter(|d| !d.is_zero());
    let (amount, divisor) = match name {
        "cpu" => (amount.milli_value(), divisor.map_or(1000, |d| d.milli_value())),
        _ => (amount.value(), divisor.map_or(1, |d| d.value())),
    };
    (amount.saturating_add(divisor - 1) / divisor.max(1)).to_string()
}

fn mounts(w: &mut Text, container: &Value) {
    let mut list: Vec<&Value> = items(&container["volumeMounts"]).collect();
    let none = if list.is_empty() { "\t<none>" } else { "" };
    w.line(2, &format!("Mounts:{none}"));
    list.sort_by_key(|m| str_of(&m["mountPath"]));
    for mount in list {
        let mut flags = if mount["readOnly"] == true {
            "ro".to_owned()
        } else {
            "rw".to_owned()
        };
        if let Some(path) = mount["subPath"].as_str().filter(|p| !p.is_empty()) {
            flags.push_str(&format!(",path={}", quote(path)));
        }
        w.line(
            3,
            &format!(
                "{} from {} ({flags})",
                str_of(&mount["mountPath"]),
                str_of(&mount["name"])
            ),
        );
    }
    let mut devices: Vec<&Value> = items(&container["volumeDevices"]).collect();
    if !devices.is_empty() {
        w.line(2, &format!("Devices:{none}"));
        devices.sort_by_key(|d| str_of(&d["devicePath"]));
        for device in devices {
            w.line(
                3,
                &format!("{} from {}", str_of(&device["devicePath"]), str_of(&device["name"])),
            );
        }
    }
}
