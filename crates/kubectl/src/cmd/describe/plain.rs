//! `describe` of small objects, and of every object without a form of its own.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::policy::scope_meaning;
use super::text::{Text, date, entries, head, items, list, str_of};
use crate::error::Result;
use crate::print::go;
use crate::session::Session;

const SHOWN_ABOVE: [&str; 5] = [
    ".metadata.managedFields",
    ".metadata.name",
    ".metadata.namespace",
    ".metadata.labels",
    ".metadata.annotations",
];

/// Field by field.
pub fn generic(w: &mut Text, object: &Value) {
    head(w, object);
    if let Value::Object(map) = object {
        tree(w, 0, map, "");
    }
}

fn tree(w: &mut Text, depth: usize, map: &Map<String, Value>, above: &str) {
    for (field, value) in map {
        let path = format!("{above}.{field}");
        if SHOWN_ABOVE.contains(&path.as_str()) {
            continue;
        }
        let label = label_of(field);
        match value {
            Value::Object(inner) => {
                w.line(depth, &format!("{label}:"));
                tree(w, depth + 1, inner, &path);
            }
            Value::Array(list) => {
                w.line(depth, &format!("{label}:"));
                for item in list {
                    match item {
                        Value::Object(inner) => tree(w, depth + 1, inner, &path),
                        other => w.line(depth + 1, &go::sprint(other)),
                    }
                }
            }
            other => w.pair(depth, &label, &go::sprint(other)),
        }
    }
}

/// `creationTimestamp` is `Creation Timestamp`.
fn label_of(field: &str) -> String {
    if field.chars().any(|c| !c.is_alphabetic() && c != '-') {
        return field.to_owned();
    }
    let mut words = Vec::new();
    let parts = camel_case(field);
    let mut at = 0;
    while at < parts.len() {
        let mut part = parts[at].clone();
        let upper = part.len() >= 2 && part.chars().all(|c| !c.is_alphabetic() || c.is_uppercase());
        if upper && parts.get(at + 1).is_some_and(|n| n.starts_with(char::is_uppercase)) {
            part.push_str(&parts[at + 1]);
            at += 1;
        }
        at += 1;
        if ["API", "URL", "UID", "GUID"].contains(&part.to_uppercase().as_str()) {
            part = part.to_uppercase();
        } else if part.to_lowercase() == part
            && let Some(first) = part.chars().next()
        {
            part = format!("{}{}", first.to_uppercase(), &part[first.len_utf8()..]);
        }
        words.push(part);
    }
    words.join(" ")
}

/// `clusterIPs` is `cluster`, `I`, `Ps`: a run of capitals ends before the one that starts the next word.
fn camel_case(text: &str) -> Vec<String> {
    #[derive(PartialEq, Clone, Copy)]
    enum Class {
        Lower,
        Upper,
        Other,
    }
    let class = |c: char| match c {
        c if c.is_lowercase() => Class::Lower,
        c if c.is_uppercase() => Class::Upper,
        _ => Class::Other,
    };
    let mut runs: Vec<(Class, String)> = Vec::new();
    for c in text.chars() {
        match runs.last_mut() {
            Some((last, run)) if *last == class(c) => run.push(c),
            _ => runs.push((class(c), c.to_string())),
        }
    }
    for i in 0..runs.len().saturating_sub(1) {
        if runs[i].0 == Class::Upper
            && runs[i + 1].0 == Class::Lower
            && let Some(last) = runs[i].1.pop()
        {
            runs[i + 1].1.insert(0, last);
        }
    }
    runs.into_iter().map(|(_, run)| run).filter(|r| !r.is_empty()).collect()
}

pub(crate) fn config_map(w: &mut Text, object: &Value) {
    head(w, object);
    w.line(0, "");
    w.line(0, "Data");
    w.line(0, "====");
    for (key, value) in entries(&object["data"]) {
        w.line(0, &format!("{key}:"));
        w.line(0, "----");
        for line in value.split('\n') {
            w.line(0, line);
        }
        w.line(0, "");
    }
    w.line(0, "");
    w.line(0, "BinaryData");
    w.line(0, "====");
    for (key, value) in entries(&object["binaryData"]) {
        w.line(0, &format!("{key}: {} bytes", length(value)));
    }
    w.line(0, "");
}

fn length(base64: &str) -> usize {
    STANDARD.decode(base64).map_or(0, |bytes| bytes.len())
}

pub(crate) fn secret(w: &mut Text, object: &Value) {
    head(w, object);
    w.line(0, "");
    w.pair(0, "Type", str_of(&object["type"]));
    w.line(0, "");
    w.line(0, "Data");
    w.line(0, "====");
    let of_account = object["type"] == "kubernetes.io/service-account-token";
    for (key, value) in entries(&object["data"]) {
        match STANDARD.decode(value) {
            Ok(token) if key == "token" && of_account => w.pair(0, key, &String::from_utf8_lossy(&token)),
            _ => w.pair(0, key, &format!("{} bytes", length(value))),
        }
    }
}

pub(crate) fn service_account(w: &mut Text, object: &Value) {
    head(w, object);
    let names: Vec<String> = items(&object["imagePullSecrets"])
        .map(|s| str_of(&s["name"]).to_owned())
        .collect();
    match &names[..] {
        [] => w.line(0, "Image pull secrets:\t<none>"),
        names => {
            for (i, name) in names.iter().enumerate() {
                let title = if i == 0 {
                    "Image pull secrets:"
                } else {
                    "                   "
                };
                w.line(0, &format!("{title}\t{name}"));
            }
        }
    }
}

pub(crate) async fn namespace(session: &Session, w: &mut Text, object: &Value) -> Result<()> {
    let meta = &object["metadata"];
    w.pair(0, "Name", str_of(&meta["name"]));
    w.labels("", "Labels", &meta["labels"]);
    w.annotations("Annotations", &meta["annotations"]);
    w.pair(0, "Status", str_of(&object["status"]["phase"]));
    if items(&object["status"]["conditions"]).next().is_some() {
        w.line(0, "Conditions:");
        w.line(1, "Type\tStatus\tLastTransitionTime\tReason\tMessage");
        w.line(1, "----\t------\t------------------\t------\t-------");
        for c in items(&object["status"]["conditions"]) {
            let at = date(&c["lastTransitionTime"]);
            let text = |field: &str| str_of(&c[field]).to_owned();
            w.line(
                1,
                &[text("type"), text("status"), at, text("reason"), text("message")].join("\t"),
            );
        }
    }
    let path = |plural: &str| format!("/api/v1/namespaces/{}/{plural}", str_of(&meta["name"]));
    let mut quotas = list(session, &path("resourcequotas"), Vec::new()).await?;
    quotas.sort_by_key(|q| str_of(&q["metadata"]["name"]).to_owned());
    w.line(0, "");
    if quotas.is_empty() {
        w.line(0, "No resource quota.");
    } else {
        w.line(0, "Resource Quotas");
        quotas.iter().for_each(|q| quota(w, q));
    }
    let ranges = list(session, &path("limitranges"), Vec::new()).await?;
    w.line(0, "");
    if ranges.is_empty() {
        w.line(0, "No LimitRange resource.");
    } else {
        w.line(0, "Resource Limits");
        RANGE_HEADS.iter().for_each(|line| w.line(0, &format!(" {line}")));
        ranges.iter().for_each(|r| limits(w, " ", r));
    }
    Ok(())
}

fn quota(w: &mut Text, quota: &Value) {
    w.pair(1, "Name", str_of(&quota["metadata"]["name"]));
    let mut scopes: Vec<&str> = items(&quota["spec"]["scopes"]).map(str_of).collect();
    scopes.sort_unstable();
    if !scopes.is_empty() {
        w.pair(1, "Scopes", &scopes.join(", "));
        for text in scopes.iter().filter_map(|scope| scope_meaning(scope)) {
            w.line(1, &format!("* {text}"));
        }
    }
    w.line(1, "Resource\tUsed\tHard");
    w.line(1, "--------\t---\t---");
    for (resource, hard) in entries(&quota["status"]["hard"]) {
        let used = quota["status"]["used"][resource].as_str().unwrap_or("0");
        w.line(1, &format!("{resource}\t{used}\t{hard}"));
    }
}

/// The head of a table of [`limits`].
pub const RANGE_HEADS: [&str; 2] = [
    "Type\tResource\tMin\tMax\tDefault Request\tDefault Limit\tMax Limit/Request Ratio",
    "----\t--------\t---\t---\t---------------\t-------------\t-----------------------",
];

pub(crate) fn limits(w: &mut Text, indent: &str, range: &Value) {
    for limit in items(&range["spec"]["limits"]) {
        let fields = ["min", "max", "defaultRequest", "default", "maxLimitRequestRatio"];
        let mut resources: Vec<&str> = fields
            .iter()
            .flat_map(|f| entries(&limit[*f]).map(|(k, _)| k))
            .collect();
        resources.sort_unstable();
        resources.dedup();
        for resource in resources {
            let values: Vec<&str> = fields
                .iter()
                .map(|f| limit[*f][resource].as_str().unwrap_or("-"))
                .collect();
            w.line(
                0,
                &format!("{indent}{}\t{resource}\t{}", str_of(&limit["type"]), values.join("\t")),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_titled_by_their_words() {
        for (field, label) in [
            ("creationTimestamp", "Creation Timestamp"),
            ("apiVersion", "API Version"),
            ("uid", "UID"),
            ("kind", "Kind"),
            ("clusterIPs", "Cluster I Ps"),
            ("a.b/c", "a.b/c"),
        ] {
            assert_eq!(label_of(field), label);
        }
    }
}
