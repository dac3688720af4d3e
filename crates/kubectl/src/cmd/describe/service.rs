//! `describe service`, with the endpoints behind each port.

use serde_json::Value;

use super::text::{Text, int, items, joined, list, str_of};
use crate::error::Result;
use crate::print::go;
use crate::session::Session;

/// Endpoints shown of each port.
const MOST: usize = 3;

pub(crate) async fn describe(session: &Session, w: &mut Text, service: &Value) -> Result<()> {
    let (meta, spec) = (&service["metadata"], &service["spec"]);
    let namespace = str_of(&meta["namespace"]);
    let path = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices");
    let of = format!("kubernetes.io/service-name={}", str_of(&meta["name"]));
    let slices = list(session, &path, vec![("labelSelector", of)]).await?;
    w.pair(0, "Name", str_of(&meta["name"]));
    w.pair(0, "Namespace", namespace);
    w.labels("", "Labels", &meta["labels"]);
    w.annotations("Annotations", &meta["annotations"]);
    w.pair(0, "Selector", &crate::print::table::labels(&spec["selector"]));
    w.pair(0, "Type", str_of(&spec["type"]));
    w.some(0, "IP Family Policy", &spec["ipFamilyPolicy"]);
    let or_none = |v: &Value| match joined(v, ",") {
        text if text.is_empty() => "<none>".to_owned(),
        text => text,
    };
    w.pair(0, "IP Families", &or_none(&spec["ipFamilies"]));
    w.pair(0, "IP", str_of(&spec["clusterIP"]));
    w.pair(0, "IPs", &or_none(&spec["clusterIPs"]));
    if items(&spec["externalIPs"]).next().is_some() {
        w.pair(0, "External IPs", &joined(&spec["externalIPs"], ","));
    }
    w.some(0, "Desired LoadBalancer IP", &spec["loadBalancerIP"]);
    w.some(0, "External Name", &spec["externalName"]);
    let ingress: Vec<String> = items(&service["status"]["loadBalancer"]["ingress"])
        .map(ingress)
        .collect();
    if !ingress.is_empty() {
        w.pair(0, "LoadBalancer Ingress", &ingress.join(", "));
    }
    for port in items(&spec["ports"]) {
        let own = str_of(&port["name"]);
        let name = if own.is_empty() { "<unset>" } else { own };
        let protocol = str_of(&port["protocol"]);
        w.pair(0, "Port", &format!("{name}\t{}/{protocol}", int(&port["port"])));
        w.pair(
            0,
            "TargetPort",
            &format!("{}/{protocol}", go::sprint(&port["targetPort"])),
        );
        w.some(0, "AppProtocol", &port["appProtocol"]);
        if int(&port["nodePort"]) != 0 {
            w.pair(0, "NodePort", &format!("{name}\t{}/{protocol}", int(&port["nodePort"])));
        }
        w.pair(0, "Endpoints", &endpoints(&slices, own));
    }
    w.pair(0, "Session Affinity", str_of(&spec["sessionAffinity"]));
    w.some(0, "External Traffic Policy", &spec["externalTrafficPolicy"]);
    w.some(0, "Internal Traffic Policy", &spec["internalTrafficPolicy"]);
    if int(&spec["healthCheckNodePort"]) != 0 {
        w.pair(
            0,
            "HealthCheck NodePort",
            &int(&spec["healthCheckNodePort"]).to_string(),
        );
    }
    if items(&spec["loadBalancerSourceRanges"]).next().is_some() {
        w.pair(
            0,
            "LoadBalancer Source Ranges",
            &joined(&spec["loadBalancerSourceRanges"], ","),
        );
    }
    w.some(0, "Traffic Distribution", &spec["trafficDistribution"]);
    Ok(())
}

fn ingress(point: &Value) -> String {
    match (str_of(&point["ip"]), point["ipMode"].as_str()) {
        ("", _) => str_of(&point["hostname"]).to_owned(),
        (ip, Some(mode)) => format!("{ip} ({mode})"),
        (ip, None) => ip.to_owned(),
    }
}

/// The ready endpoints of a port, the first three by address.
pub fn endpoints(slices: &[Value], port_name: &str) -> String {
    if slices.is_empty() {
        return "<none>".to_owned();
    }
    let mut found: Vec<String> = Vec::new();
    for slice in slices {
        let ready = || items(&slice["endpoints"]).filter(|e| e["conditions"]["ready"] != false);
        if items(&slice["ports"]).next().is_none() {
            found.extend(ready().map(|e| str_of(&e["addresses"][0]).to_owned()));
        }
        for port in items(&slice["ports"]).filter(|p| str_of(&p["name"]) == port_name) {
            let number = int(&port["port"]);
            found.extend(ready().map(|e| match str_of(&e["addresses"][0]) {
                ip if ip.contains(':') => format!("[{ip}]:{number}"),
                ip => format!("{ip}:{number}"),
            }));
        }
    }
    let shown = found[..found.len().min(MOST)].join(",");
    match found.len().saturating_sub(MOST) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn three_endpoints_are_shown_and_the_rest_counted() {
        let endpoint = |ip: &str| json!({"addresses": [ip], "conditions": {"ready": true}});
        let slice = |ips: &[&str]| {
            let list: Vec<Value> = ips.iter().map(|ip| endpoint(ip)).collect();
            json!({"ports": [{"name": "", "port": 80}], "endpoints": list})
        };
        assert_eq!(endpoints(&[], ""), "<none>");
        assert_eq!(
            endpoints(&[slice(&["10.0.0.1", "fd00::1"])], ""),
            "10.0.0.1:80,[fd00::1]:80"
        );
        assert_eq!(
            endpoints(&[slice(&["a", "b", "c", "d", "e"])], ""),
            "a:80,b:80,c:80 + 2 more..."
        );
        assert_eq!(endpoints(&[slice(&["a"])], "http"), "");
    }
}
