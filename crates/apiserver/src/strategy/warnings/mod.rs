//! What who writes an object is warned of: the words are those of upstream's strategies. Paths are made only for what is told.

pub mod custom;
mod kinds;
mod pod;
mod volumes;

use api::quantity::Quantity;
use serde_json::Value;

use crate::strategy::{text, validation::cursor::quantity};

/// The warnings for what is to become a new object, before the server changes it.
pub fn before_creation(group: &str, plural: &str, new: &Value) -> Vec<String> {
    if (group, plural) != ("", "pods") {
        return Vec::new();
    }
    let found = crate::strategy::pod::app_armor_annotations(new).into_iter();
    let why = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
    found
        .map(|(_, _, key, _)| format!("metadata.annotations[{key}]: {why}"))
        .collect()
}

/// The warnings for a new object, or for an update of `old`.
pub fn of(group: &str, plural: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut told = Vec::new();
    match (group, plural) {
        // as upstream: people rarely update pods
        ("", "pods") if old.is_none() => {
            kinds::hostname(&mut told, new, "the Pod's hostname");
            pod::pod(&mut told, new, "");
        }
        ("", "secrets") => kinds::key_pair(&mut told, new),
        ("", "replicationcontrollers") => {
            kinds::named(&mut told, new, old);
            // upstream looks at the template that was before
            kinds::template(&mut told, old.unwrap_or(new), changed(new, old));
        }
        ("apps", "deployments" | "replicasets") => {
            kinds::named(&mut told, new, old);
            kinds::template(&mut told, new, changed(new, old));
        }
        ("apps", "daemonsets") => {
            let template = |object: &Value| object.pointer("/spec/template").cloned();
            let changed = old.is_none_or(|old| template(old) != template(new));
            kinds::template(&mut told, new, changed);
        }
        ("apps", "statefulsets") => {
            kinds::template(&mut told, new, changed(new, old));
            kinds::stateful_set(&mut told, new, old.is_some());
        }
        ("", "podtemplates") if changed(new, old) => pod::pod(&mut told, &new["template"], "template"),
        ("batch", "jobs") => {
            kinds::named(&mut told, new, old);
            if changed(new, old) {
                kinds::job(&mut told, &new["spec"], "spec");
            }
        }
        ("batch", "cronjobs") => {
            kinds::named(&mut told, new, old);
            if changed(new, old) {
                kinds::job(&mut told, &new["spec"]["jobTemplate"]["spec"], "spec.jobTemplate.spec");
            }
            if old.is_some() && text(new, &["spec", "schedule"]).is_some_and(|s| s.contains("TZ")) {
                told.push(
                    "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
                     https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                        .to_owned(),
                );
            }
        }
        ("", "services") => kinds::service(&mut told, new),
        ("", "endpoints") => kinds::endpoints(&mut told, new),
        ("discovery.k8s.io", "endpointslices") => kinds::endpoint_slice(&mut told, new, old.is_some()),
        ("", "nodes") => kinds::node(&mut told, new),
        ("", "persistentvolumes") => volumes::volume(&mut told, new),
        ("", "persistentvolumeclaims") => volumes::claim(&mut told, new),
        ("", "resourcequotas") if old.is_none() => kinds::quota(&mut told, new),
        ("networking.k8s.io", "networkpolicies") => kinds::network_policy(&mut told, new),
        ("networking.k8s.io", "ingresses") if old.is_none() => kinds::ingress(&mut told, new),
        ("node.k8s.io", "runtimeclasses") => {
            for key in keys(new.pointer("/scheduling/nodeSelector")) {
                told.extend(deprecated_label(key).map(|why| format!("scheduling.nodeSelector: {why}")));
            }
        }
        ("apiextensions.k8s.io", "customresourcedefinitions") => told.extend(custom::formats(new, old)),
        ("storage.k8s.io", "storageclasses") => volumes::class(&mut told, new),
        ("storage.k8s.io", "csistoragecapacities") => kinds::capacity(&mut told, new),
        ("storage.k8s.io", "csidrivers") => volumes::driver(&mut told, new, old),
        ("resource.k8s.io", "resourceslices") => {
            let driver = text(new, &["spec", "driver"]).unwrap_or_default();
            if driver != driver.to_lowercase() {
                told.push(format!(
                    "spec.driver: driver names should be lowercase; {driver:?} contains uppercase characters"
                ));
            }
        }
        _ => {}
    }
    told
}

/// Whether what the object asks for is new.
fn changed(new: &Value, old: Option<&Value>) -> bool {
    let generation = |object: &Value| object["metadata"]["generation"].as_i64();
    old.is_none_or(|old| generation(new) != generation(old))
}

/// The items of a list, none where there is no list.
fn items(list: Option<&Value>) -> &[Value] {
    list.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn keys(map: Option<&Value>) -> impl Iterator<Item = &str> {
    map.and_then(Value::as_object)
        .into_iter()
        .flat_map(|map| map.keys().map(String::as_str))
}

/// A text field, empty where it is absent.
fn field<'a>(tree: &'a Value, key: &str) -> &'a str {
    tree.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn has(tree: &Value, key: &str) -> bool {
    tree.get(key).is_some_and(|value| !value.is_null())
}

/// `base.rest`, or `rest` at the root.
fn join(base: &str, rest: &str) -> String {
    match base {
        "" => rest.to_owned(),
        base => format!("{base}.{rest}"),
    }
}

/// An amount of bytes that is not whole, as it would be written.
fn fraction(amounts: Option<&Value>, name: &str) -> Option<String> {
    let amount: Quantity = quantity(amounts?.get(name)?)?;
    (amount.milli_value() % 1000 != 0).then(|| {
        format!(
            "fractional byte value {:?} is invalid, must be an integer",
            amount.to_string()
        )
    })
}

/// What is to be said of a label of nodes that has a successor.
fn deprecated_label(key: &str) -> Option<&'static str> {
    Some(match key {
        "beta.kubernetes.io/arch" => "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
        "beta.kubernetes.io/os" => "deprecated since v1.14; use \"kubernetes.io/os\" instead",
        "failure-domain.beta.kubernetes.io/region" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead"
        }
        "failure-domain.beta.kubernetes.io/zone" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"
        }
        "beta.kubernetes.io/instance-type" => {
            "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"
        }
        "app.kubernetes.io/created-by" => "deprecated since v1.9",
        "scheduler.alpha.kubernetes.io/preferAvoidPods" => "deprecated since v1.22; use Taints and Tolerations instead",
        "node-role.kubernetes.io/master" => "use \"node-role.kubernetes.io/control-plane\" instead",
        _ => return None,
    })
}

/// What is to be said of the expressions of one node selector term; of values where labels are only preferred.
fn selector_term(told: &mut Vec<String>, term: &Value, values: bool, at: impl Fn() -> String) {
    for (i, expression) in items(term.get("matchExpressions")).iter().enumerate() {
        let key = field(expression, "key");
        if let Some(why) = deprecated_label(key) {
            told.push(format!("{}.matchExpressions[{i}].key: {key} is {why}", at()));
        }
        let given = items(expression.get("values")).iter().filter(|_| values);
        for (j, value) in given.enumerate() {
            let value = value.as_str().unwrap_or_default();
            for why in api::names::label_value_errors(value) {
                told.push(format!(
                    "{}.matchExpressions[{i}].values[{j}]: {value} is invalid, {why}",
                    at()
                ));
            }
        }
    }
}

/// An IPv6 address that is not written as programs write it. Whatever else could be wrong with an address is refused.
fn address(told: &mut Vec<String>, text: &str, at: impl Fn() -> String) {
    if let Ok(ip) = text.parse::<std::net::Ipv6Addr>()
        && ip.to_string() != text
    {
        told.push(format!(
            "{}: IPv6 address {text:?} should be in RFC 5952 canonical format ({:?})",
            at(),
            ip.to_string()
        ));
    }
}

/// The same for a subnet.
fn subnet(told: &mut Vec<String>, text: &str, at: impl Fn() -> String) {
    let Some((ip, length)) = text.split_once('/') else {
        return;
    };
    let Ok(ip) = ip.parse::<std::net::Ipv6Addr>() else {
        return;
    };
    let canonical = format!("{ip}/{length}");
    if canonical != text {
        told.push(format!(
            "{}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format ({canonical:?})",
            at()
        ));
    }
}
