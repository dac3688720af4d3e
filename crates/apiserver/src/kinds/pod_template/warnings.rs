//! Warnings of pods and of templates of pods.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use crate::kinds::core::persistent_volume_claim;
use crate::kinds::volume;
use crate::kinds::warnings::{address, deprecated_label, field, fraction, has, items, join, keys, selector_term};

/// `pod` has metadata and a spec; `at` is its path, empty for a pod itself.
pub fn pod(told: &mut Vec<String>, pod: &Value, at: &str) {
    let (spec, annotations) = (&pod["spec"], &pod["metadata"]["annotations"]);
    let in_spec = |rest: &str| join(at, &format!("spec.{rest}"));
    let annotation = |key: &str| join(at, &format!("metadata.annotations[{key}]"));
    node_choice(told, spec, &in_spec);
    for (key, why) in [
        (
            "scheduler.alpha.kubernetes.io/critical-pod",
            "non-functional in v1.16+; use the \"priorityClassName\" field instead",
        ),
        (
            "security.alpha.kubernetes.io/sysctls",
            "non-functional in v1.11+; use the \"sysctls\" field instead",
        ),
        (
            "security.alpha.kubernetes.io/unsafe-sysctls",
            "non-functional in v1.11+; use the \"sysctls\" field instead",
        ),
    ] {
        if has(annotations, key) {
            told.push(format!("{}: {why}", annotation(key)));
        }
    }
    sources(told, spec, &in_spec);
    overlaps(told, spec);
    repeated(told, spec, "hostAliases", "ip", &in_spec);
    repeated(told, spec, "imagePullSecrets", "name", &in_spec);
    for (i, secret) in items(spec.get("imagePullSecrets")).iter().enumerate() {
        if field(secret, "name").is_empty() {
            let at = in_spec(&format!("imagePullSecrets[{i}].name"));
            told.push(format!("{at}: invalid empty name \"\""));
        }
    }
    for name in ["memory", "ephemeral-storage"] {
        if let Some(why) = fraction(spec.get("overhead"), name) {
            told.push(format!("{}: {why}", in_spec(&format!("overhead[{name}]"))));
        }
    }
    let security = &spec["securityContext"];
    let seccomp = "use the \"seccompProfile\" field instead";
    let key = "seccomp.security.alpha.kubernetes.io/pod";
    if !has(security, "seccompProfile") && has(annotations, key) {
        told.push(format!("{}: non-functional in v1.27+; {seccomp}", annotation(key)));
    }
    for (container, place) in containers(spec) {
        // most pods have none: their keys are not even made
        if annotations.is_object() {
            let (name, own) = (field(container, "name"), &container["securityContext"]);
            let key = format!("container.seccomp.security.alpha.kubernetes.io/{name}");
            if !has(own, "seccompProfile") && has(annotations, &key) {
                told.push(format!("{}: non-functional in v1.27+; {seccomp}", annotation(&key)));
            }
            let key = format!("container.apparmor.security.beta.kubernetes.io/{name}");
            let differs = || app_armor(field(annotations, &key)).is_none_or(|said| security["appArmorProfile"] != said);
            if !at.is_empty() && !has(own, "appArmorProfile") && has(annotations, &key) && differs() {
                let why = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
                told.push(format!("{}: {why}", annotation(&key)));
            }
        }
        for name in ["memory", "ephemeral-storage"] {
            for list in ["limits", "requests"] {
                if let Some(why) = fraction(container["resources"].get(list), name) {
                    told.push(format!(
                        "{}: {why}",
                        in_spec(&format!("{place}.resources.{list}[{name}]"))
                    ));
                }
            }
        }
        hidden_variables(told, container, || in_spec(&format!("{place}.env")));
    }
    ports(told, spec, &in_spec);
    if spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|n| n < 0) {
        let why = "must be >= 0; negative values are invalid and will be treated as 1";
        told.push(format!("{}: {why}", in_spec("terminationGracePeriodSeconds")));
    }
    companions(told, &spec["affinity"], &in_spec);
    for (i, server) in items(spec.pointer("/dnsConfig/nameservers")).iter().enumerate() {
        let at = || in_spec(&format!("dnsConfig.nameservers[{i}]"));
        address(told, server.as_str().unwrap_or_default(), at);
    }
    for (i, alias) in items(spec.get("hostAliases")).iter().enumerate() {
        address(told, field(alias, "ip"), || in_spec(&format!("hostAliases[{i}].ip")));
    }
}

/// All containers with their place in the spec, in the order of upstream's visits.
fn containers(spec: &Value) -> impl Iterator<Item = (&Value, Place)> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|list| {
            let places = (0..).map(move |at| Place { list, at });
            items(spec.get(list)).iter().zip(places)
        })
}

#[derive(Clone, Copy)]
struct Place {
    list: &'static str,
    at: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}]", self.list, self.at)
    }
}

/// Labels of nodes that have successors; spreading that counts no pod.
fn node_choice(told: &mut Vec<String>, spec: &Value, in_spec: &impl Fn(&str) -> String) {
    for key in keys(spec.get("nodeSelector")) {
        told.extend(deprecated_label(key).map(|why| format!("{}: {why}", in_spec(&format!("nodeSelector[{key}]")))));
    }
    let affinity = &spec["affinity"]["nodeAffinity"];
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    for (i, term) in items(affinity[required].get("nodeSelectorTerms")).iter().enumerate() {
        let at = || in_spec(&format!("affinity.nodeAffinity.{required}.nodeSelectorTerms[{i}]"));
        selector_term(told, term, false, at);
    }
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    for (i, term) in items(affinity.get(preferred)).iter().enumerate() {
        let at = || in_spec(&format!("affinity.nodeAffinity.{preferred}[{i}].preference"));
        selector_term(told, &term["preference"], true, at);
    }
    for (i, spread) in items(spec.get("topologySpreadConstraints")).iter().enumerate() {
        let at = |rest: &str| in_spec(&format!("topologySpreadConstraints[{i}].{rest}"));
        let key = field(spread, "topologyKey");
        if let Some(why) = deprecated_label(key) {
            told.push(format!("{}: {key} is {why}", at("topologyKey")));
        }
        no_selector(told, spread, || at("labelSelector"));
    }
}

fn no_selector(told: &mut Vec<String>, term: &Value, at: impl Fn() -> String) {
    if !has(term, "labelSelector") {
        told.push(format!("{}: a null labelSelector results in matching no pod", at()));
    }
}

/// Affinity to pods that no pod can match.
fn companions(told: &mut Vec<String>, affinity: &Value, in_spec: &impl Fn(&str) -> String) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        for (i, term) in items(affinity[kind].get(required)).iter().enumerate() {
            no_selector(told, term, || {
                in_spec(&format!("affinity.{kind}.{required}[{i}].labelSelector"))
            });
        }
        let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
        for (i, term) in items(affinity[kind].get(preferred)).iter().enumerate() {
            no_selector(told, &term["podAffinityTerm"], || {
                in_spec(&format!(
                    "affinity.{kind}.{preferred}[{i}].podAffinityTerm.labelSelector"
                ))
            });
        }
    }
}

/// Sources of volumes that nothing serves; amounts of claims.
fn sources(told: &mut Vec<String>, spec: &Value, in_spec: &impl Fn(&str) -> String) {
    for (i, volume) in items(spec.get("volumes")).iter().enumerate() {
        let at = |rest: &str| in_spec(&format!("volumes[{i}].{rest}"));
        if has(volume, "gitRepo") {
            let why = "deprecated in v1.11, and disabled by default in v1.33+";
            told.push(format!("{}: {why}", at("gitRepo")));
        }
        for (source, why) in volume::GONE.iter().filter(|(source, _)| has(volume, source)) {
            told.push(format!("{}: {why}", at(volume::shown(source))));
        }
        if let Some(template) = volume.pointer("/ephemeral/volumeClaimTemplate") {
            persistent_volume_claim::warn_of_spec(told, &template["spec"], || at("ephemeral.volumeClaimTemplate.spec"));
        }
    }
}

/// Entries of a list that have the same name.
fn repeated(told: &mut Vec<String>, spec: &Value, list: &str, name: &str, in_spec: &impl Fn(&str) -> String) {
    let mut seen = HashSet::new();
    for (i, item) in items(spec.get(list)).iter().enumerate() {
        let value = field(item, name);
        if !seen.insert(value) {
            told.push(format!(
                "{}: duplicate {name} {value:?}",
                in_spec(&format!("{list}[{i}].{name}"))
            ));
        }
    }
}

/// Variables that are defined again without using what they were.
fn hidden_variables(told: &mut Vec<String>, container: &Value, at: impl Fn() -> String) {
    let mut seen = HashSet::new();
    for (i, variable) in items(container.get("env")).iter().enumerate() {
        let (name, value) = (field(variable, "name"), field(variable, "value"));
        if seen.insert(name) {
            continue;
        }
        let before = format!("$({name})");
        if has(variable, "valueFrom") || value == before || !value.contains(&before) {
            told.push(format!(
                "{}[{i}]: hides previous definition of {name:?}, which may be dropped when using apply",
                at()
            ));
        }
    }
}

/// The profile that the annotation of old means.
fn app_armor(annotation: &str) -> Option<Value> {
    match annotation {
        "unconfined" => Some(json!({ "type": "Unconfined" })),
        "runtime/default" => Some(json!({ "type": "RuntimeDefault" })),
        other => {
            let profile = other.strip_prefix("localhost/").filter(|p| !p.is_empty())?;
            Some(json!({ "type": "Localhost", "localhostProfile": profile }))
        }
    }
}

/// Ports of different containers that are the same or have the same name.
fn ports(told: &mut Vec<String>, spec: &Value, in_spec: &impl Fn(&str) -> String) {
    let all = || {
        containers(spec).flat_map(|(container, place)| {
            let ports = items(container.get("ports")).iter().enumerate();
            ports.map(move |(i, port)| (port, (place, i)))
        })
    };
    let path = |(place, i): (Place, usize)| in_spec(&format!("{place}.ports[{i}]"));
    let number = |port: &Value, key: &str| port[key].as_i64().unwrap_or(0);
    let mut by_port: HashMap<_, Vec<_>> = HashMap::new();
    for (port, at) in all() {
        let (host, host_port) = (field(port, "hostIP"), number(port, "hostPort"));
        let protocol = field(port, "protocol");
        if !host.is_empty() && host_port == 0 {
            told.push(format!(
                "{}: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{} Protocol:{protocol} HostIP:{host}}}",
                path(at),
                field(port, "name"),
                number(port, "containerPort"),
            ));
        }
        let others = by_port.entry((number(port, "containerPort"), protocol)).or_default();
        for &(other, there) in &*others {
            let (other_host, other_port) = (field(other, "hostIP"), number(other, "hostPort"));
            let how = if host == other_host && host_port == other_port {
                "duplicate"
            } else if host_port == 0 || other_port == 0 {
                "overlapping"
            } else if host_port == other_port && host.is_empty() != other_host.is_empty() {
                "dangerously ambiguous"
            } else {
                continue;
            };
            told.push(format!("{}: {how} port definition with {}", path(at), path(there)));
        }
        others.push((port, at));
    }
    let mut by_name = HashMap::new();
    for (port, at) in all() {
        let name = field(port, "name");
        if name.is_empty() {
            continue;
        }
        match by_name.get(name) {
            None => {
                by_name.insert(name, at);
            }
            Some(first) => {
                let first = path(*first);
                told.push(format!(
                    "{}: duplicate port name {name:?} with {first}, services and probes that select ports by name will use {first}",
                    path(at)
                ));
            }
        }
    }
}

/// A path within a volume, and which source puts something there.
#[derive(PartialEq)]
struct Placed<'a> {
    path: &'a str,
    source: String,
}

impl std::fmt::Display for Placed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.source.as_str() {
            "" => write!(f, "{:?}", self.path),
            source => write!(f, "{:?} ({source})", self.path),
        }
    }
}

/// Files of one volume that hide each other.
fn overlaps(told: &mut Vec<String>, spec: &Value) {
    for volume in items(spec.get("volumes")) {
        let name = field(volume, "name");
        for (source, of) in [("configMap", "name"), ("secret", "secretName"), ("downwardAPI", "")] {
            let Some(given) = volume.get(source).filter(|given| given.is_object()) else {
                continue;
            };
            let kind = described(source, field(given, of));
            let mut all = Vec::new();
            for path in paths(given) {
                place(told, &mut all, path, String::new(), name, &kind);
            }
        }
        let mut all = Vec::new();
        for source in items(volume.pointer("/projected/sources")) {
            if !source
                .as_object()
                .is_some_and(|source| source.values().any(|s| !s.is_null()))
            {
                told.push(format!("volume {name:?} (Projected) has no sources provided"));
                continue;
            }
            for (path, from) in projected(source) {
                place(told, &mut all, path, from, name, "Projected");
            }
        }
    }
}

fn described(source: &str, name: &str) -> String {
    match source {
        "configMap" => format!("ConfigMap {name:?}"),
        "secret" => format!("Secret {name:?}"),
        _ => "DownwardAPI".to_owned(),
    }
}

fn paths(source: &Value) -> impl Iterator<Item = &str> {
    items(source.get("items")).iter().map(|item| field(item, "path"))
}

/// The paths of one source of a projected volume, each with where it comes from.
fn projected(source: &Value) -> Vec<(&str, String)> {
    for kind in ["configMap", "secret", "downwardAPI"] {
        if has(&source[kind], "items") {
            let from = described(kind, field(&source[kind], "name"));
            return paths(&source[kind]).map(|path| (path, from.clone())).collect();
        }
    }
    if has(source, "serviceAccountToken") {
        return vec![(
            field(&source["serviceAccountToken"], "path"),
            "ServiceAccountToken".to_owned(),
        )];
    }
    if has(source, "clusterTrustBundle") {
        let bundle = &source["clusterTrustBundle"];
        let named = if has(bundle, "name") { "name" } else { "signerName" };
        let from = format!("ClusterTrustBundle {:?}", field(bundle, named));
        return vec![(field(bundle, "path"), from)];
    }
    let certificate = &source["podCertificate"];
    [
        ("certificateChainPath", "PodCertificate chain"),
        ("keyPath", "PodCertificate key"),
        ("credentialBundlePath", "PodCertificate credential bundle"),
    ]
    .into_iter()
    .map(|(key, from)| (field(certificate, key), from.to_owned()))
    .filter(|(path, _)| !path.is_empty())
    .collect()
}

fn place<'a>(
    told: &mut Vec<String>,
    all: &mut Vec<Placed<'a>>,
    path: &'a str,
    source: String,
    volume: &str,
    kind: &str,
) {
    let new = Placed {
        path: path.trim_end_matches('/'),
        source,
    };
    let within = |inner: &str, outer: &str| {
        inner
            .strip_prefix(outer)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let hides = |old: &&Placed<'_>| {
        let both = !old.path.is_empty() && !new.path.is_empty();
        both && (within(old.path, new.path) || within(new.path, old.path))
    };
    let hidden = all.iter().filter(hides);
    told.extend(hidden.map(|old| format!("volume {volume:?} ({kind}): overlapping paths: {new} with {old}")));
    all.push(new);
}
