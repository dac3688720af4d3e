//! Warnings of kinds that are not pods nor storage.

use serde_json::Value;

use super::{address, deprecated_label, field, has, items, keys, pod, subnet, volumes};
use crate::strategy::text;
use crate::strategy::validation::cursor::quantity;

/// Labels of nodes that a capacity's topology names.
pub(super) fn capacity(told: &mut Vec<String>, capacity: &Value) {
    let Some(topology) = capacity.get("nodeTopology") else {
        return;
    };
    for (i, expression) in items(topology.get("matchExpressions")).iter().enumerate() {
        let key = field(expression, "key");
        if let Some(why) = deprecated_label(key) {
            told.push(format!("nodeTopology.matchExpressions[{i}].key: {key} is {why}"));
        }
    }
    for key in keys(topology.get("matchLabels")) {
        told.extend(deprecated_label(key).map(|why| format!("nodeTopology.matchLabels.{key}: {why}")));
    }
}

/// A name that is not a DNS label, of which something that must be one is made.
pub(super) fn hostname(told: &mut Vec<String>, object: &Value, used: &str) {
    let problems = api::names::dns1123_label_errors(field(&object["metadata"], "name"));
    if !problems.is_empty() {
        told.push(format!(
            "metadata.name: this is used in {used}, which can result in surprising behavior; a DNS label is recommended: [{}]",
            problems.join(" ")
        ));
    }
}

/// The certificate and key of a TLS secret: whether there are such, in the words of Go's reader. That they belong together is not
/// looked at.
pub(super) fn key_pair(told: &mut Vec<String>, secret: &Value) {
    use base64::Engine;
    if field(secret, "type") != "kubernetes.io/tls" {
        return;
    }
    let blocks = |key: &str| -> Vec<String> {
        let text = text(secret, &["data", key]).unwrap_or_default();
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(text)
            .unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let kinds = text
            .split("-----BEGIN ")
            .skip(1)
            .filter_map(|rest| rest.split_once("-----"));
        kinds
            .filter(|(kind, rest)| rest.contains(&format!("-----END {kind}-----")))
            .map(|(kind, _)| kind.to_owned())
            .collect()
    };
    let (certificates, keys) = (blocks("tls.crt"), blocks("tls.key"));
    let is_key = |kind: &String| kind == "PRIVATE KEY" || kind.ends_with(" PRIVATE KEY");
    if !certificates.iter().any(|kind| kind == "CERTIFICATE") {
        told.push(match certificates.as_slice() {
            [] => "tls: failed to find any PEM data in certificate input".to_owned(),
            [one] if is_key(one) => "tls: failed to find certificate PEM data in certificate input, but did find a private key; \
                                     PEM inputs may have been switched"
                .to_owned(),
            kinds => format!(
                "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the following \
                 types: [{}]",
                kinds.join(" ")
            ),
        });
    } else if !keys.iter().any(is_key) {
        told.push(match keys.as_slice() {
            [] => "tls: failed to find any PEM data in key input".to_owned(),
            [one] if one == "CERTIFICATE" => {
                "tls: found a certificate rather than a key in the PEM for the private key".to_owned()
            }
            kinds => format!(
                "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM blocks of the \
                 following types: [{}]",
                kinds.join(" ")
            ),
        });
    }
}

/// The same for kinds that name pods after themselves.
pub(super) fn named(told: &mut Vec<String>, object: &Value, old: Option<&Value>) {
    if old.is_none() {
        hostname(told, object, "Pod names and hostnames");
    }
}

pub(super) fn template(told: &mut Vec<String>, object: &Value, changed: bool) {
    if changed {
        pod::pod(told, &object["spec"]["template"], "spec.template");
    }
}

pub(super) fn stateful_set(told: &mut Vec<String>, set: &Value, update: bool) {
    for (i, claim) in items(set.pointer("/spec/volumeClaimTemplates")).iter().enumerate() {
        // upstream names the spec in an update only, and so
        let spec = if update { ".Spec" } else { "" };
        volumes::claim_spec(told, &claim["spec"], || format!("spec.volumeClaimTemplates[{i}]{spec}"));
    }
    if set["spec"]["revisionHistoryLimit"].as_i64().is_some_and(|n| n < 0) {
        told.push(
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"
                .to_owned(),
        );
    }
}

pub(super) fn job(told: &mut Vec<String>, spec: &Value, at: &str) {
    let number = |key: &str| spec[key].as_i64().unwrap_or(0);
    let indexed = field(spec, "completionMode") == "Indexed";
    if indexed && number("completions") > 100_000 && number("parallelism") > 10_000 {
        told.push(format!(
            "{at}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes \
             might not be able to track completedIndexes when a big number of indexes fail"
        ));
    }
    pod::pod(told, &spec["template"], &format!("{at}.template"));
}

pub(super) fn service(told: &mut Vec<String>, service: &Value) {
    let spec = &service["spec"];
    let (kind, cluster_ip) = (field(spec, "type"), field(spec, "clusterIP"));
    let outside = kind == "ExternalName";
    let headless = kind == "ClusterIP" && cluster_ip == "None";
    let hints = "service.kubernetes.io/topology-aware-hints";
    if has(&service["metadata"]["annotations"], hints) {
        told.push(format!(
            "annotation {hints} is deprecated, please use service.kubernetes.io/topology-mode instead"
        ));
    }
    let texts = |key: &str| items(spec.get(key)).iter().enumerate();
    if !outside && !cluster_ip.is_empty() && cluster_ip != "None" {
        for (i, ip) in texts("clusterIPs") {
            address(told, ip.as_str().unwrap_or_default(), || {
                format!("spec.clusterIPs[{i}]")
            });
        }
    }
    let external = !items(spec.get("externalIPs")).is_empty();
    let ignored = [
        ("loadBalancerIP", !field(spec, "loadBalancerIP").is_empty()),
        ("externalIPs", external),
        ("SessionAffinity", field(spec, "sessionAffinity") != "None"),
    ];
    for (what, _) in ignored.iter().filter(|(_, given)| headless && *given) {
        told.push(format!("spec.{what} is ignored for headless services"));
    }
    for (i, ip) in texts("externalIPs") {
        address(told, ip.as_str().unwrap_or_default(), || {
            format!("spec.externalIPs[{i}]")
        });
    }
    if external && !headless && !outside {
        told.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned());
    }
    address(told, field(spec, "loadBalancerIP"), || "spec.loadBalancerIP".to_owned());
    for (i, range) in texts("loadBalancerSourceRanges") {
        let at = || format!("spec.loadBalancerSourceRanges[{i}]");
        subnet(told, range.as_str().unwrap_or_default(), at);
    }
    if outside && external {
        told.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !outside && !field(spec, "externalName").is_empty() {
        told.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if field(spec, "trafficDistribution") == "PreferClose" {
        told.push("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".to_owned());
    }
}

/// Whether our own controllers wrote the object, which write addresses well.
fn managed_by(object: &Value, label: &str, controllers: &[&str]) -> bool {
    text(object, &["metadata", "labels", label]).is_some_and(|by| controllers.contains(&by))
}

pub(super) fn endpoints(told: &mut Vec<String>, endpoints: &Value) {
    let label = "endpoints.kubernetes.io/managed-by";
    if managed_by(endpoints, label, &["endpoint-controller"]) {
        return;
    }
    for (i, subset) in items(endpoints.get("subsets")).iter().enumerate() {
        for list in ["addresses", "notReadyAddresses"] {
            for (j, entry) in items(subset.get(list)).iter().enumerate() {
                address(told, field(entry, "ip"), || format!("subsets[{i}].{list}[{j}].ip"));
            }
        }
    }
}

pub(super) fn endpoint_slice(told: &mut Vec<String>, slice: &Value, update: bool) {
    if !update && field(slice, "addressType") == "FQDN" {
        told.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
    }
    let controllers = [
        "endpointslice-controller.k8s.io",
        "endpointslicemirroring-controller.k8s.io",
    ];
    if managed_by(slice, "endpointslice.kubernetes.io/managed-by", &controllers) {
        return;
    }
    for (i, endpoint) in items(slice.get("endpoints")).iter().enumerate() {
        for (j, ip) in items(endpoint.get("addresses")).iter().enumerate() {
            let at = || format!("endpoints[{i}].addresses[{j}]");
            address(told, ip.as_str().unwrap_or_default(), at);
        }
    }
}

pub(super) fn node(told: &mut Vec<String>, node: &Value) {
    let spec = &node["spec"];
    if has(spec, "configSource") {
        told.push("spec.configSource: the feature is removed".to_owned());
    }
    if !field(spec, "externalID").is_empty() {
        told.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned());
    }
    for (i, range) in items(spec.get("podCIDRs")).iter().enumerate() {
        subnet(told, range.as_str().unwrap_or_default(), || {
            format!("spec.podCIDRs[{i}]")
        });
    }
}

pub(super) fn quota(told: &mut Vec<String>, object: &Value) {
    let hard = |name: &str| quantity(object["spec"]["hard"].get(name)?);
    for resource in ["cpu", "memory", "storage", "ephemeral-storage"] {
        let named = |name: String| hard(&name).map(|amount| (name, amount));
        let bare = || named(resource.to_owned()).filter(|_| matches!(resource, "cpu" | "memory"));
        let request = named(format!("requests.{resource}")).or_else(bare);
        let limit = named(format!("limits.{resource}"));
        if let (Some((request, least)), Some((limit, most))) = (request, limit)
            && least > most
        {
            told.push(format!(
                "ResourceQuota {request} ({least}) should be less than {limit} ({most})"
            ));
        }
    }
}

pub(super) fn network_policy(told: &mut Vec<String>, policy: &Value) {
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for (i, rule) in items(policy["spec"].get(rules)).iter().enumerate() {
            for (j, peer) in items(rule.get(peers)).iter().enumerate() {
                let block = &peer["ipBlock"];
                let at = |rest: &str| format!("spec.{rules}[{i}].{peers}[{j}].ipBlock.{rest}");
                subnet(told, field(block, "cidr"), || at("cidr"));
                for (k, except) in items(block.get("except")).iter().enumerate() {
                    let except = except.as_str().unwrap_or_default();
                    subnet(told, except, || at(&format!("except[{k}]")));
                }
            }
        }
    }
}

pub(super) fn ingress(told: &mut Vec<String>, ingress: &Value) {
    let key = "kubernetes.io/ingress.class";
    if has(&ingress["metadata"]["annotations"], key) && !has(&ingress["spec"], "ingressClassName") {
        told.push(format!(
            "annotation {key:?} is deprecated, please use 'spec.ingressClassName' instead"
        ));
    }
}
