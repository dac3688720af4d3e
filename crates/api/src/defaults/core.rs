//! Defaults of the core group that depend on other fields: pods, services, volumes, claims, secrets, namespaces.

use serde_json::{Map, Value, json};

use crate::defaults::{items, made, object, set};

type Object = Map<String, Value>;

pub(crate) fn default(kind: &str, top: &mut Object) {
    match kind {
        "Pod" => {
            if let Some(spec) = object(top, "spec") {
                pod_spec(spec);
                pod_only(spec);
            }
        }
        "PodTemplate" => {
            if let Some(spec) = object(top, "template").and_then(|t| object(t, "spec")) {
                pod_spec(spec);
            }
        }
        "ReplicationController" => replication_controller(top),
        "Service" => service(top),
        "Secret" => set(top, "type", "Opaque"),
        "PersistentVolume" => {
            if let Some(spec) = made(top, "spec") {
                set(spec, "persistentVolumeReclaimPolicy", "Retain");
                set(spec, "volumeMode", "Filesystem");
                if let Some(host) = object(spec, "hostPath") {
                    set(host, "type", "");
                }
            }
            if let Some(status) = made(top, "status") {
                set(status, "phase", "Pending");
            }
        }
        "PersistentVolumeClaim" => {
            if let Some(spec) = made(top, "spec") {
                claim_spec(spec);
            }
            if let Some(status) = made(top, "status") {
                set(status, "phase", "Pending");
            }
        }
        "Endpoints" => {
            for subset in items(top, "subsets") {
                items(subset, "ports").for_each(|p| set(p, "protocol", "TCP"));
            }
        }
        "LimitRange" => {
            let Some(spec) = object(top, "spec") else { return };
            for limit in items(spec, "limits").filter(|l| l.get("type").is_some_and(|t| t == "Container")) {
                let copy = |from: Option<&Value>| from.and_then(Value::as_object).cloned().unwrap_or_default();
                let (most, least) = (copy(limit.get("max")), copy(limit.get("min")));
                fill(limit, "default", &most);
                let default = copy(limit.get("default"));
                fill(limit, "defaultRequest", &default);
                fill(limit, "defaultRequest", &least);
            }
        }
        "Namespace" => {
            if let Some(status) = made(top, "status") {
                set(status, "phase", "Active");
            }
        }
        "Node" => {
            let Some(status) = object(top, "status") else { return };
            let capacity = status.get("capacity").cloned();
            if let Some(capacity) = capacity {
                set(status, "allocatable", capacity);
            }
        }
        _ => {}
    }
}

/// Copies into a map of `parent` what it lacks.
fn fill(parent: &mut Object, key: &str, from: &Object) {
    if from.is_empty() {
        return;
    }
    if let Some(map) = made(parent, key) {
        from.iter().for_each(|(k, v)| set(map, k, v.clone()));
    }
}

pub(crate) fn claim_spec(spec: &mut Object) {
    set(spec, "volumeMode", "Filesystem");
}

fn replication_controller(top: &mut Object) {
    let labels = top
        .get("spec")
        .and_then(|s| s.pointer("/template/metadata/labels"))
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    if let Some(spec) = made(top, "spec") {
        if !labels.is_empty()
            && spec
                .get("selector")
                .and_then(Value::as_object)
                .is_none_or(Map::is_empty)
        {
            spec.insert("selector".into(), Value::Object(labels.clone()));
        }
        set(spec, "replicas", 1);
        template(spec);
    }
    let metadata = made(top, "metadata");
    if let Some(metadata) = metadata
        && metadata
            .get("labels")
            .and_then(Value::as_object)
            .is_none_or(Map::is_empty)
        && !labels.is_empty()
    {
        metadata.insert("labels".into(), Value::Object(labels));
    }
}

fn service(top: &mut Object) {
    let Some(spec) = made(top, "spec") else { return };
    set(spec, "sessionAffinity", "None");
    if spec.get("sessionAffinity").is_some_and(|a| a == "None") {
        spec.remove("sessionAffinityConfig");
    } else if let Some(config) = made(spec, "sessionAffinityConfig").and_then(|c| made(c, "clientIP")) {
        set(config, "timeoutSeconds", 10800);
    }
    set(spec, "type", "ClusterIP");
    for port in items(spec, "ports") {
        set(port, "protocol", "TCP");
        let number = port.get("port").cloned().unwrap_or(json!(0));
        let absent = port
            .get("targetPort")
            .is_none_or(|t| *t == json!(0) || *t == json!("") || t.is_null());
        if absent {
            port.insert("targetPort".into(), number);
        }
    }
    let kind = spec.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let external_ips = spec.get("externalIPs").and_then(Value::as_array);
    let has_ips = kind == "ClusterIP" && external_ips.is_some_and(|ips| !ips.is_empty());
    if has_ips || matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        set(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
        set(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        set(spec, "allocateLoadBalancerNodePorts", true);
        if let Some(balancer) = object(top, "status").and_then(|s| object(s, "loadBalancer")) {
            let with_ip = |i: &&mut Object| i.get("ip").is_some_and(|ip| *ip != "");
            items(balancer, "ingress")
                .filter(with_ip)
                .for_each(|i| set(i, "ipMode", "VIP"));
        }
    }
}

/// The template of anything that makes pods.
pub fn template(spec: &mut Object) {
    if let Some(spec) = object(spec, "template").and_then(|t| object(t, "spec")) {
        pod_spec(spec);
    }
}

/// What only a pod itself gets, not a template.
fn pod_only(spec: &mut Object) {
    set(spec, "enableServiceLinks", true);
    for field in ["containers", "initContainers"] {
        for container in items(spec, field) {
            if let Some(resources) = object(container, "resources") {
                let limits = resources
                    .get("limits")
                    .and_then(Value::as_object)
                    .cloned()
                    .unwrap_or_default();
                fill(resources, "requests", &limits);
            }
        }
    }
    if spec.get("hostNetwork") == Some(&Value::Bool(true)) {
        host_ports(spec);
    }
}

fn host_ports(spec: &mut Object) {
    for field in ["containers", "initContainers"] {
        for container in items(spec, field) {
            for port in items(container, "ports") {
                let number = port.get("containerPort").cloned();
                if let Some(number) = number {
                    set(port, "hostPort", number);
                }
            }
        }
    }
}

pub(crate) fn pod_spec(spec: &mut Object) {
    set(spec, "dnsPolicy", "ClusterFirst");
    set(spec, "restartPolicy", "Always");
    set(spec, "securityContext", json!({}));
    set(spec, "terminationGracePeriodSeconds", 30);
    set(spec, "schedulerName", "default-scheduler");
    if let Some(account) = spec
        .get("serviceAccountName")
        .filter(|n| n.as_str().is_some_and(|n| !n.is_empty()))
        .cloned()
    {
        set(spec, "serviceAccount", account);
    } else if let Some(account) = spec.get("serviceAccount").cloned() {
        set(spec, "serviceAccountName", account);
    }
    for field in ["initContainers", "containers", "ephemeralContainers"] {
        items(spec, field).for_each(container);
    }
    items(spec, "volumes").for_each(volume);
}

/// `Always` for an image whose tag is `latest`, which one without a tag and a digest has; what names no image has none.
fn pull_policy(image: &str) -> &'static str {
    match tag(image) {
        Some("latest") => "Always",
        _ => "IfNotPresent",
    }
}

/// The tag of an image's name, by the grammar of `distribution/reference`.
fn tag(image: &str) -> Option<&str> {
    let (named, digest) = match image.split_once('@') {
        Some((named, digest)) => (named, Some(digest)),
        None => (image, None),
    };
    // a port stands before the last part
    let at = named.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match named[at..].split_once(':') {
        Some((last, tag)) => (&named[..at + last.len()], Some(tag)),
        None => (named, None),
    };
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_tag = |tag: &str| {
        (1..=128).contains(&tag.len())
            && tag.starts_with(word)
            && tag.chars().all(|c| word(c) || matches!(c, '.' | '-'))
    };
    let is_digest = |text: &str| {
        text.split_once(':')
            .is_some_and(|(_, hex)| hex.len() >= 32 && hex.bytes().all(|c| c.is_ascii_hexdigit()))
    };
    // the first part is a host where it looks like one
    let host = name.split_once('/').filter(|(host, _)| {
        host.contains(['.', ':']) || *host == "localhost" || host.bytes().any(|c| c.is_ascii_uppercase())
    });
    let path = host.map_or(name, |(_, path)| path);
    let identifier = image.len() == 64 && image.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    let fits = !identifier
        && name.len() <= 255
        && host.is_none_or(|(host, _)| is_host(host))
        && path.split('/').all(is_part)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest);
    match (tag, digest) {
        _ if !fits => None,
        (None, None) => Some("latest"),
        (tag, _) => tag,
    }
}

fn is_host(host: &str) -> bool {
    let (name, port) = host.rsplit_once(':').unwrap_or((host, "0"));
    let label = |label: &str| {
        let ends = label.starts_with(|c: char| c.is_ascii_alphanumeric())
            && label.ends_with(|c: char| c.is_ascii_alphanumeric());
        ends && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let named = match address {
        Some(address) => address.bytes().all(|c| c.is_ascii_hexdigit() || c == b':'),
        None => name.split('.').all(label),
    };
    named && !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit())
}

/// Small letters and digits with `.`, `_`, `__` or dashes between them.
fn is_part(part: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let between = part.split(plain).filter(|between| !between.is_empty());
    part.starts_with(plain)
        && part.ends_with(plain)
        && between
            .into_iter()
            .all(|b| matches!(b, "." | "_" | "__") || b.bytes().all(|c| c == b'-'))
}

fn container(c: &mut Object) {
    let image = c.get("image").and_then(Value::as_str).unwrap_or_default().to_owned();
    set(c, "imagePullPolicy", pull_policy(&image));
    set(c, "terminationMessagePath", "/dev/termination-log");
    set(c, "terminationMessagePolicy", "File");
    set(c, "resources", json!({}));
    items(c, "ports").for_each(|p| set(p, "protocol", "TCP"));
    for variable in items(c, "env") {
        if let Some(source) = object(variable, "valueFrom") {
            if let Some(field) = object(source, "fieldRef") {
                set(field, "apiVersion", "v1");
            }
            if let Some(resource) = object(source, "resourceFieldRef") {
                set(resource, "divisor", "0");
            }
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = object(c, name) {
            set(probe, "timeoutSeconds", 1);
            set(probe, "periodSeconds", 10);
            set(probe, "successThreshold", 1);
            set(probe, "failureThreshold", 3);
            http_get(probe);
            if let Some(grpc) = object(probe, "grpc") {
                set(grpc, "service", "");
            }
        }
    }
    if let Some(hooks) = object(c, "lifecycle") {
        for name in ["postStart", "preStop"] {
            if let Some(hook) = object(hooks, name) {
                http_get(hook);
            }
        }
    }
}

fn http_get(handler: &mut Object) {
    if let Some(get) = object(handler, "httpGet") {
        set(get, "path", "/");
        if get.get("path").is_some_and(|p| p == "") {
            get.insert("path".into(), json!("/"));
        }
        set(get, "scheme", "HTTP");
    }
}

const SOURCES_WITH_MODE: [&str; 4] = ["secret", "configMap", "downwardAPI", "projected"];

fn volume(v: &mut Object) {
    if v.keys().all(|k| k == "name") {
        v.insert("emptyDir".into(), json!({}));
    }
    for name in SOURCES_WITH_MODE {
        if let Some(source) = object(v, name) {
            set(source, "defaultMode", 420);
        }
    }
    let down = |source: &mut Object| {
        for item in items(source, "items") {
            if let Some(field) = object(item, "fieldRef") {
                set(field, "apiVersion", "v1");
            }
            if let Some(resource) = object(item, "resourceFieldRef") {
                set(resource, "divisor", "0");
            }
        }
    };
    if let Some(source) = object(v, "downwardAPI") {
        down(source);
    }
    if let Some(projected) = object(v, "projected") {
        for source in items(projected, "sources") {
            if let Some(token) = object(source, "serviceAccountToken") {
                set(token, "expirationSeconds", 3600);
            }
            if let Some(source) = object(source, "downwardAPI") {
                down(source);
            }
        }
    }
    if let Some(host) = object(v, "hostPath") {
        set(host, "type", "");
    }
    if let Some(iscsi) = object(v, "iscsi") {
        set(iscsi, "iscsiInterface", "default");
    }
    if let Some(image) = object(v, "image") {
        let reference = image
            .get("reference")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        set(image, "pullPolicy", pull_policy(&reference));
    }
    if let Some(spec) = object(v, "ephemeral")
        .and_then(|e| object(e, "volumeClaimTemplate"))
        .and_then(|t| object(t, "spec"))
    {
        claim_spec(spec);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ParseImageName` of `pkg/util/parsers`.
    #[test]
    fn images_without_a_tag_are_pulled_always_and_what_names_no_image_is_not() {
        let digest = format!("i@sha256:{}", "a".repeat(64));
        let (both, hex) = (format!("i:latest@sha256:{}", "a".repeat(64)), "a".repeat(64));
        for image in [
            "i",
            "a/b",
            "localhost:5000/i",
            "r.example.org/a/b:latest",
            "[::1]:5000/a",
            "a__b--c.d",
            &both,
        ] {
            assert_eq!(pull_policy(image), "Always", "{image}");
        }
        for image in [
            "",
            " i",
            "I",
            "i:1",
            "a:b:c",
            "a..b",
            "-a",
            "a/",
            "/a",
            "a b",
            "i:",
            "i@sha256:x",
            "-x.y/a",
            &digest,
            &hex,
        ] {
            assert_eq!(pull_policy(image), "IfNotPresent", "{image}");
        }
    }
}
