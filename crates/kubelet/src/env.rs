//! The environment of a container: every source, `$(VAR)` expansion, service variables and the downward API.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMap, Container, ObjectFieldSelector, Pod, ResourceFieldSelector, Secret, Service,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::pod::PodExt;
use crate::resources;

/// Why a container's configuration cannot be made (`CreateContainerConfigError`).
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum EnvError {
    #[error("configmap {0:?} not found")]
    NoConfigMap(String),
    #[error("secret {0:?} not found")]
    NoSecret(String),
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey {
        kind: &'static str,
        namespace: String,
        name: String,
        key: String,
    },
    #[error("unsupported fieldPath: {0}")]
    Field(String),
    #[error("unsupported container resource: {0}")]
    Resource(String),
    #[error("container {0} not found")]
    NoContainer(String),
    #[error("environment variable {0}: fileKeyRef is not supported")]
    File(String),
}

/// What environments are made of besides the pod itself.
#[derive(Debug, Default)]
pub struct Sources {
    pub config_maps: BTreeMap<String, Option<ConfigMap>>,
    pub secrets: BTreeMap<String, Option<Secret>>,
    pub services: Vec<Service>,
    pub pod_ips: Vec<String>,
    pub host_ips: Vec<String>,
    pub allocatable: BTreeMap<String, i64>,
}

/// The ConfigMaps and Secrets that a container's environment names.
pub fn references(container: &Container) -> (Vec<String>, Vec<String>) {
    let (mut maps, mut secrets) = (Vec::new(), Vec::new());
    for from in container.env_from.iter().flatten() {
        maps.extend(from.config_map_ref.as_ref().map(|r| r.name.clone()));
        secrets.extend(from.secret_ref.as_ref().map(|r| r.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|e| e.value_from.as_ref()) {
        maps.extend(source.config_map_key_ref.as_ref().map(|r| r.name.clone()));
        secrets.extend(source.secret_key_ref.as_ref().map(|r| r.name.clone()));
    }
    (maps, secrets)
}

/// Replaces `$(NAME)` by its value; unknown names and `$$(NAME)` stay as text.
pub fn expand(text: &str, vars: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    // Behind the last one no name ends, and looking for its end again and again would cost the square of the text.
    let last = text.rfind(')');
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after
            .strip_prefix('(')
            .filter(|a| last.is_some_and(|last| text.len() - a.len() <= last))
            .and_then(|a| a.split_once(')'))
        {
            match vars(name) {
                Some(value) => out.push_str(&value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// The variables by which containers find services (`NAME_SERVICE_HOST` and the docker links).
pub fn service_vars(services: &[Service]) -> BTreeMap<String, String> {
    let mut vars = BTreeMap::new();
    for service in services {
        let Some(spec) = &service.spec else { continue };
        let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else {
            continue;
        };
        let name = service
            .metadata
            .name
            .as_deref()
            .unwrap_or_default()
            .to_uppercase()
            .replace('-', "_");
        let ports = spec.ports.as_deref().unwrap_or_default();
        let host = if ip.contains(':') {
            format!("[{ip}]")
        } else {
            ip.to_owned()
        };
        vars.insert(format!("{name}_SERVICE_HOST"), ip.to_owned());
        for (i, port) in ports.iter().enumerate() {
            if i == 0 {
                vars.insert(format!("{name}_SERVICE_PORT"), port.port.to_string());
            }
            if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
                vars.insert(
                    format!("{name}_SERVICE_PORT_{}", port_name.to_uppercase().replace('-', "_")),
                    port.port.to_string(),
                );
            }
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let lower = protocol.to_lowercase();
            let url = format!("{lower}://{host}:{}", port.port);
            if i == 0 {
                vars.insert(format!("{name}_PORT"), url.clone());
            }
            let prefix = format!("{name}_PORT_{}_{protocol}", port.port);
            vars.insert(prefix.clone(), url);
            vars.insert(format!("{prefix}_PROTO"), lower);
            vars.insert(format!("{prefix}_PORT"), port.port.to_string());
            vars.insert(format!("{prefix}_ADDR"), ip.to_owned());
        }
    }
    vars
}

/// The services whose variables a pod gets: the API server's always, those of its namespace unless it declines.
fn visible_services(pod: &Pod, services: &[Service]) -> BTreeMap<String, String> {
    let links = pod.spec.as_ref().and_then(|s| s.enable_service_links).unwrap_or(true);
    let of = |s: &Service, ns: &str| s.metadata.namespace.as_deref() == Some(ns);
    let master = |s: &Service| of(s, "default") && s.metadata.name.as_deref() == Some("kubernetes");
    let mut chosen: Vec<Service> = services.iter().filter(|s| master(s)).cloned().collect();
    if links {
        chosen.extend(services.iter().filter(|s| of(s, pod.namespace())).cloned());
    }
    service_vars(&chosen)
}

/// The complete environment, in the order the container gets it.
pub fn environment(pod: &Pod, container: &Container, sources: &Sources) -> Result<Vec<(String, String)>, EnvError> {
    let services = visible_services(pod, &sources.services);
    let mut vars: BTreeMap<String, String> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    let put = |vars: &mut BTreeMap<String, String>, order: &mut Vec<String>, name: String, value: String| {
        if vars.insert(name.clone(), value).is_none() {
            order.push(name);
        }
    };
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(r) = &from.config_map_ref {
            match sources.config_maps.get(&r.name).and_then(Option::as_ref) {
                Some(map) => {
                    for (key, value) in map.data.iter().flatten() {
                        put(&mut vars, &mut order, format!("{prefix}{key}"), value.clone());
                    }
                }
                None if r.optional == Some(true) => {}
                None => return Err(EnvError::NoConfigMap(r.name.clone())),
            }
        }
        if let Some(r) = &from.secret_ref {
            match sources.secrets.get(&r.name).and_then(Option::as_ref) {
                Some(secret) => {
                    for (key, value) in secret.data.iter().flatten() {
                        put(
                            &mut vars,
                            &mut order,
                            format!("{prefix}{key}"),
                            String::from_utf8_lossy(&value.0).into_owned(),
                        );
                    }
                }
                None if r.optional == Some(true) => {}
                None => return Err(EnvError::NoSecret(r.name.clone())),
            }
        }
    }
    for var in container.env.iter().flatten() {
        let value = match (&var.value, &var.value_from) {
            (Some(text), _) if !text.is_empty() => {
                Some(expand(text, &|n| vars.get(n).or_else(|| services.get(n)).cloned()))
            }
            (_, Some(source)) => from_source(pod, container, &var.name, source, sources)?,
            _ => Some(String::new()),
        };
        if let Some(value) = value {
            put(&mut vars, &mut order, var.name.clone(), value);
        }
    }
    for (name, value) in services {
        if !vars.contains_key(&name) {
            put(&mut vars, &mut order, name, value);
        }
    }
    Ok(order
        .into_iter()
        .map(|name| (name.clone(), vars.remove(&name).unwrap_or_default()))
        .collect())
}

fn from_source(
    pod: &Pod,
    container: &Container,
    variable: &str,
    source: &k8s_openapi::api::core::v1::EnvVarSource,
    sources: &Sources,
) -> Result<Option<String>, EnvError> {
    if let Some(field) = &source.field_ref {
        return field_value(pod, field, sources).map(Some);
    }
    if let Some(resource) = &source.resource_field_ref {
        return resource_value(pod, container, resource, &sources.allocatable).map(Some);
    }
    let no_key = |kind, name: &str, key: &str| EnvError::NoKey {
        kind,
        namespace: pod.namespace().to_owned(),
        name: name.to_owned(),
        key: key.to_owned(),
    };
    if let Some(r) = &source.config_map_key_ref {
        let optional = r.optional == Some(true);
        return match sources.config_maps.get(&r.name).and_then(Option::as_ref) {
            None if optional => Ok(None),
            None => Err(EnvError::NoConfigMap(r.name.clone())),
            Some(map) => match map.data.as_ref().and_then(|d| d.get(&r.key)) {
                Some(value) => Ok(Some(value.clone())),
                None if optional => Ok(None),
                None => Err(no_key("ConfigMap", &r.name, &r.key)),
            },
        };
    }
    if let Some(r) = &source.secret_key_ref {
        let optional = r.optional == Some(true);
        return match sources.secrets.get(&r.name).and_then(Option::as_ref) {
            None if optional => Ok(None),
            None => Err(EnvError::NoSecret(r.name.clone())),
            Some(secret) => match secret.data.as_ref().and_then(|d| d.get(&r.key)) {
                Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
                None if optional => Ok(None),
                None => Err(no_key("Secret", &r.name, &r.key)),
            },
        };
    }
    if source.file_key_ref.is_some() {
        return Err(EnvError::File(variable.to_owned()));
    }
    Ok(Some(String::new()))
}

/// `fieldRef` in an environment or a volume.
pub fn field_value(pod: &Pod, field: &ObjectFieldSelector, sources: &Sources) -> Result<String, EnvError> {
    let path = field.field_path.as_str();
    if let Some((map, key)) = path.strip_suffix("']").and_then(|p| p.split_once("['")) {
        let map = match map {
            "metadata.labels" => pod.metadata.labels.as_ref(),
            "metadata.annotations" => pod.metadata.annotations.as_ref(),
            _ => return Err(EnvError::Field(path.to_owned())),
        };
        return Ok(map.and_then(|m| m.get(key)).cloned().unwrap_or_default());
    }
    let lines = |map: Option<&BTreeMap<String, String>>| {
        map.into_iter()
            .flatten()
            .map(|(k, v)| format!("{k}={}", serde_json::Value::String(v.clone())))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let spec = pod.spec.as_ref();
    let some = |text: Option<&String>| text.cloned().unwrap_or_default();
    Ok(match path {
        "metadata.name" => pod.name().to_owned(),
        "metadata.namespace" => pod.namespace().to_owned(),
        "metadata.uid" => pod.uid().to_owned(),
        "metadata.labels" => lines(pod.metadata.labels.as_ref()),
        "metadata.annotations" => lines(pod.metadata.annotations.as_ref()),
        "spec.nodeName" => some(spec.and_then(|s| s.node_name.as_ref())),
        "spec.serviceAccountName" => some(spec.and_then(|s| s.service_account_name.as_ref())),
        "status.hostIP" => some(sources.host_ips.first()),
        "status.hostIPs" => sources.host_ips.join(","),
        "status.podIP" => some(sources.pod_ips.first()),
        "status.podIPs" => sources.pod_ips.join(","),
        _ => return Err(EnvError::Field(path.to_owned())),
    })
}

/// `resourceFieldRef`: limits fall back to what the node can give.
pub fn resource_value(
    pod: &Pod,
    container: &Container,
    field: &ResourceFieldSelector,
    allocatable: &BTreeMap<String, i64>,
) -> Result<String, EnvError> {
    let named = field.container_name.as_deref().filter(|n| !n.is_empty());
    let all = pod.every_container();
    let container = match named {
        Some(name) => all
            .iter()
            .map(|(_, c)| c)
            .find(|c| c.name == name)
            .ok_or_else(|| EnvError::NoContainer(name.to_owned()))?,
        None => container,
    };
    let unsupported = || EnvError::Resource(field.resource.clone());
    let (limits, name) = match field.resource.split_once('.') {
        Some(("limits", name)) => (true, name),
        Some(("requests", name)) => (false, name),
        _ => return Err(unsupported()),
    };
    if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !name.starts_with("hugepages-") {
        return Err(unsupported());
    }
    let set = resources::get(container, limits, name).or_else(|| {
        if limits {
            None
        } else {
            resources::get(container, true, name)
        }
    });
    let milli = match set.map(resources::milli) {
        Some(milli) => milli,
        None if limits => allocatable.get(name).copied().unwrap_or(0),
        None => 0,
    };
    let divisor = field
        .divisor
        .as_ref()
        .map(resources::milli)
        .filter(|d| *d > 0)
        .unwrap_or(1000);
    Ok(((milli + divisor - 1) / divisor).to_string())
}

/// The number of a port given by name or number.
pub fn port_number(container: &Container, port: &IntOrString) -> Option<u16> {
    match port {
        IntOrString::Int(n) => u16::try_from(*n).ok().filter(|n| *n > 0),
        IntOrString::String(name) => {
            let named = container
                .ports
                .iter()
                .flatten()
                .find(|p| p.name.as_deref() == Some(name));
            named
                .and_then(|p| u16::try_from(p.container_port).ok())
                .or_else(|| name.parse().ok())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_expanded_and_escapes_kept() {
        let vars = |n: &str| (n == "A").then(|| "1".to_owned());
        for (text, expected) in [
            ("$(A)", "1"),
            ("$$(A)", "$(A)"),
            ("$(B)x", "$(B)x"),
            ("a$", "a$"),
            ("$(A", "$(A"),
            ("$A", "$A"),
            ("$$$(A)", "$1"),
        ] {
            assert_eq!(expand(text, &vars), expected, "{text}");
        }
    }

    #[test]
    fn every_source_fills_the_environment_in_order() {
        let pod: Pod = serde_json::from_str(
            r#"{"metadata":{"name":"p","namespace":"n","labels":{"k":"v"}},"spec":{"enableServiceLinks":false,"containers":[{"name":"a",
            "resources":{"limits":{"cpu":"1500m"}},
            "envFrom":[{"prefix":"P_","configMapRef":{"name":"c"}},{"secretRef":{"name":"gone","optional":true}}],
            "env":[{"name":"X","value":"$(P_K)-$(Y)"},{"name":"Y","valueFrom":{"fieldRef":{"fieldPath":"metadata.labels['k']"}}},
            {"name":"CPU","valueFrom":{"resourceFieldRef":{"resource":"limits.cpu"}}},
            {"name":"MEM","valueFrom":{"resourceFieldRef":{"resource":"limits.memory","divisor":"1Mi"}}}]}]}}"#,
        )
        .unwrap();
        let map = ConfigMap {
            data: Some([("K".to_owned(), "1".to_owned())].into()),
            ..Default::default()
        };
        let sources = Sources {
            config_maps: [("c".to_owned(), Some(map))].into(),
            allocatable: [("memory".to_owned(), 2_097_152_000)].into(),
            ..Default::default()
        };
        let env = environment(&pod, &pod.containers()[0], &sources).unwrap();
        let text: Vec<String> = env.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(text, ["P_K=1", "X=1-$(Y)", "Y=v", "CPU=2", "MEM=2"]);
    }

    #[test]
    fn a_missing_key_is_named() {
        let pod: Pod = serde_json::from_str(
            r#"{"metadata":{"namespace":"n"},"spec":{"containers":[{"name":"a","env":[{"name":"X","valueFrom":{"configMapKeyRef":{"name":"c","key":"k"}}}]}]}}"#,
        )
        .unwrap();
        let mut sources = Sources::default();
        assert_eq!(
            environment(&pod, &pod.containers()[0], &sources)
                .unwrap_err()
                .to_string(),
            "configmap \"c\" not found"
        );
        sources.config_maps.insert("c".into(), Some(ConfigMap::default()));
        assert_eq!(
            environment(&pod, &pod.containers()[0], &sources)
                .unwrap_err()
                .to_string(),
            "couldn't find key k in ConfigMap n/c"
        );
    }

    #[test]
    fn services_are_told_by_both_families_of_variables() {
        let service: Service = serde_json::from_str(
            r#"{"metadata":{"name":"my-db","namespace":"n"},"spec":{"clusterIP":"10.0.0.9","ports":[{"name":"sql","port":5432}]}}"#,
        )
        .unwrap();
        let vars = service_vars(&[service]);
        assert_eq!(vars["MY_DB_SERVICE_PORT_SQL"], "5432");
        assert_eq!(vars["MY_DB_PORT_5432_TCP_ADDR"], "10.0.0.9");
        assert_eq!(vars["MY_DB_PORT"], "tcp://10.0.0.9:5432");
    }
}
