//! What the specification says, read off policies as they are written; knows nothing of how they are enforced.
#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use serde_json::Value;

pub struct Pod {
    pub namespace: &'static str,
    pub name: &'static str,
    pub ips: [IpAddr; 2],
    /// By which port its port named http is.
    pub http: u16,
    /// The node that is under test has it.
    pub local: bool,
}

pub struct Probe<'a> {
    pub from: &'a Pod,
    pub to: &'a Pod,
    pub v6: bool,
    pub protocol: &'static str,
    pub port: u16,
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// `labels` are the ones that tests give: `pod`, and `ns` of namespaces.
fn selects(selector: &Value, key: &str, value: &str) -> bool {
    let labels = selector["matchLabels"].as_object();
    let by_labels = labels.is_none_or(|all| all.iter().all(|(k, v)| k == key && v == value));
    let by_expressions = items(&selector["matchExpressions"]).iter().all(|e| {
        let has = e["key"] == key;
        let among = has && items(&e["values"]).iter().any(|v| v == value);
        match e["operator"].as_str() {
            Some("In") => among,
            Some("NotIn") => !among,
            Some("Exists") => has,
            Some("DoesNotExist") => !has,
            other => panic!("{other:?}"),
        }
    });
    by_labels && by_expressions
}

fn in_cidr(cidr: &str, ip: IpAddr) -> bool {
    let (net, bits) = cidr.split_once('/').unwrap();
    let bits: u32 = bits.parse().unwrap();
    match (net.parse().unwrap(), ip) {
        (IpAddr::V4(net), IpAddr::V4(ip)) => {
            let shift = |ip: u32| u64::from(ip) >> (32 - bits);
            shift(net.into()) == shift(ip.into())
        }
        (IpAddr::V6(net), IpAddr::V6(ip)) => {
            let shift = |ip: u128| ip.checked_shr(128 - bits).unwrap_or(0);
            shift(net.into()) == shift(ip.into())
        }
        _ => false,
    }
}

fn peer_is(peer: &Value, namespace: &str, pod: &Pod, v6: bool) -> bool {
    if let Some(cidr) = peer["ipBlock"]["cidr"].as_str() {
        let ip = pod.ips[usize::from(v6)];
        let out = items(&peer["ipBlock"]["except"]);
        return in_cidr(cidr, ip) && !out.iter().any(|e| in_cidr(e.as_str().unwrap(), ip));
    }
    let in_namespace = match peer.get("namespaceSelector") {
        Some(selector) => selects(selector, "ns", pod.namespace),
        None => pod.namespace == namespace,
    };
    in_namespace
        && peer
            .get("podSelector")
            .is_none_or(|selector| selects(selector, "pod", pod.name))
}

fn port_is(port: &Value, probe: &Probe<'_>) -> bool {
    if port["protocol"].as_str().unwrap_or("TCP") != probe.protocol {
        return false;
    }
    match (&port["port"], port["endPort"].as_u64()) {
        (Value::Null, _) => true,
        // the tests' pods name a TCP port
        (Value::String(name), _) => name == "http" && probe.protocol == "TCP" && probe.port == probe.to.http,
        (first, None) => first.as_u64() == Some(probe.port.into()),
        (first, Some(last)) => (first.as_u64().unwrap()..=last).contains(&probe.port.into()),
    }
}

/// Whether the policies let a packet pass on its way out of (into) a pod.
fn passes(policies: &[Value], egress: bool, probe: &Probe<'_>) -> bool {
    let (direction, rules, peers) = if egress {
        ("Egress", "egress", "to")
    } else {
        ("Ingress", "ingress", "from")
    };
    let (pod, other) = if egress {
        (probe.from, probe.to)
    } else {
        (probe.to, probe.from)
    };
    let about = policies.iter().filter(|p| {
        p["metadata"]["namespace"] == pod.namespace
            && selects(&p["spec"]["podSelector"], "pod", pod.name)
            && items(&p["spec"]["policyTypes"]).iter().any(|t| t == direction)
    });
    let mut isolated = false;
    for policy in about {
        isolated = true;
        let allows = |rule: &Value| {
            let (who, what) = (items(&rule[peers]), items(&rule["ports"]));
            let peer = who.is_empty() || who.iter().any(|p| peer_is(p, pod.namespace, other, probe.v6));
            peer && (what.is_empty() || what.iter().any(|p| port_is(p, probe)))
        };
        if items(&policy["spec"][rules]).iter().any(allows) {
            return true;
        }
    }
    !isolated
}

/// Whether the probe is answered.
pub fn allowed(policies: &[Value], probe: &Probe<'_>) -> bool {
    let itself = std::ptr::eq(probe.from, probe.to);
    let out = !probe.from.local || passes(policies, true, probe);
    let into = !probe.to.local || passes(policies, false, probe);
    itself || (out && into)
}
