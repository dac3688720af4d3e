//! A pod, as policies see it. Pure.

use std::net::IpAddr;

use api::object::{Meta, Object};
use serde::Deserialize;

/// Labels, sorted by key.
pub type Labels = Box<[(Box<str>, Box<str>)]>;

/// The value of a label.
pub fn label<'a>(labels: &'a Labels, key: &str) -> Option<&'a str> {
    let at = labels.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
    labels.get(at).map(|(_, value)| &**value)
}

/// What is kept of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's UID: a pod that is made again under its name has another.
    pub uid: String,
    /// The pod's labels, which policies select by.
    pub labels: Labels,
    /// Empty until it is scheduled.
    pub node: String,
    /// The pod's addresses, one of each family at most.
    pub ips: Vec<IpAddr>,
    /// Protocol, name and number of the containers' named ports.
    pub ports: Vec<(u8, String, u16)>,
}

#[derive(Deserialize)]
struct Parts {
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Option<String>,
    host_network: Option<bool>,
    containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    restart_policy: Option<String>,
    ports: Option<Vec<ContainerPort>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerPort {
    name: Option<String>,
    protocol: Option<String>,
    container_port: u16,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<IpAddr>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<PodIp>>,
}

#[derive(Deserialize)]
struct PodIp {
    ip: Option<IpAddr>,
}

/// The number of a protocol, by the API's name.
pub fn protocol_number(name: &str) -> Option<u8> {
    match name {
        "TCP" => Some(6),
        "UDP" => Some(17),
        "SCTP" => Some(132),
        _ => None,
    }
}

impl Pod {
    /// The pod's key, `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Reads a pod. `None` is one that no policy is about: it has the node's network, or it has ended and its addresses may be
    /// another's already.
    ///
    /// # Errors
    /// When the object is no pod.
    pub fn read(object: &Object) -> Result<Option<Pod>, serde_json::Error> {
        let parts: Parts = object.decode()?;
        Ok(Pod::of(&object.meta, parts))
    }

    fn of(meta: &Meta, parts: Parts) -> Option<Pod> {
        let ended = matches!(parts.status.phase.as_deref(), Some("Succeeded" | "Failed"));
        if ended || parts.spec.host_network == Some(true) {
            return None;
        }
        let sidecars = parts.spec.init_containers.into_iter().flatten();
        let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
        let containers = parts.spec.containers.into_iter().flatten().chain(sidecars);
        let ports = containers
            .flat_map(|c| c.ports.into_iter().flatten())
            .filter_map(|port| {
                let protocol = protocol_number(port.protocol.as_deref().unwrap_or("TCP"))?;
                Some((protocol, port.name.filter(|n| !n.is_empty())?, port.container_port))
            });
        let ports = ports.collect();
        let mut ips: Vec<IpAddr> = parts
            .status
            .pod_ips
            .into_iter()
            .flatten()
            .filter_map(|p| p.ip)
            .collect();
        if ips.is_empty() {
            ips.extend(parts.status.pod_ip);
        }
        Some(Pod {
            namespace: meta.namespace.to_string(),
            name: meta.name.to_string(),
            uid: meta.uid.to_string(),
            labels: meta.labels.clone(),
            node: parts.spec.node_name.unwrap_or_default(),
            ips,
            ports,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(pod: &Value) -> Option<Pod> {
        Pod::read(&Object::parse(serde_json::to_vec(pod).unwrap().into()).unwrap()).unwrap()
    }

    #[test]
    fn a_pods_addresses_labels_and_named_ports_are_read() {
        let mut pod = json!({
            "metadata": {"namespace": "n", "name": "p", "uid": "u", "labels": {"b": "2", "a": "1"}},
            "spec": {
                "nodeName": "node",
                "containers": [{"name": "c", "ports": [
                    {"name": "http", "containerPort": 80}, {"containerPort": 81}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}
                ]}],
                "initContainers": [
                    {"name": "i", "ports": [{"name": "no", "containerPort": 1}]},
                    {"name": "s", "restartPolicy": "Always", "ports": [{"name": "side", "containerPort": 2, "protocol": "SCTP"}]},
                ],
            },
            "status": {"phase": "Running", "podIP": "10.42.0.2", "podIPs": [{"ip": "10.42.0.2"}, {"ip": "fd42::2"}]},
        });
        let is = read(&pod).unwrap();
        assert_eq!(is.key(), "n/p");
        assert_eq!(label(&is.labels, "b"), Some("2"));
        let ips: Vec<IpAddr> = vec!["10.42.0.2".parse().unwrap(), "fd42::2".parse().unwrap()];
        assert_eq!(is.ips, ips);
        let port = |protocol, name: &str, number| (protocol, name.to_owned(), number);
        assert_eq!(
            is.ports,
            [port(6, "http", 80), port(17, "dns", 53), port(132, "side", 2)]
        );
        for (path, value) in [("/status/phase", "Succeeded"), ("/status/phase", "Failed")] {
            *pod.pointer_mut(path).unwrap() = value.into();
            assert_eq!(read(&pod), None);
        }
        pod["status"] = json!({});
        assert_eq!(read(&pod).unwrap().ips, [] as [IpAddr; 0]);
        pod["spec"]["hostNetwork"] = true.into();
        assert_eq!(read(&pod), None);
    }
}
