//! What objects use of what ResourceQuotas limit, and which quotas concern them. Upstream: `quota/v1/evaluator/core`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::pod;
use crate::quantity::{Format, Quantity};
use crate::time::Instant;

/// Amounts by the names that a quota's `hard` has.
pub type Usage = BTreeMap<String, Quantity>;

/// Of these a quota counts requests under their plain names too, and limits.
const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// What an object uses. `resource` is `pods`, `deployments.apps`.
pub fn usage(resource: &str, object: &Value, now: Instant) -> Usage {
    let mut usage = Usage::from([(format!("count/{resource}"), count(1))]);
    match resource {
        "pods" if is_over(object, now) => {}
        "pods" => of_pod(&mut usage, object),
        "services" => of_service(&mut usage, object),
        "persistentvolumeclaims" => of_claim(&mut usage, object),
        "configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas" => {
            usage.insert(resource.to_owned(), count(1));
        }
        _ => {}
    }
    usage
}

fn count(number: usize) -> Quantity {
    Quantity::new(i64::try_from(number).unwrap_or(i64::MAX), Format::DecimalSi)
}

fn text<'a>(object: &'a Value, path: &str) -> Option<&'a str> {
    object.pointer(path)?.as_str().filter(|text| !text.is_empty())
}

/// Whether a pod has ended, or should have: one on a node that is lost is not to keep others out.
fn is_over(pod: &Value, now: Instant) -> bool {
    let deadline = text(pod, "/metadata/deletionTimestamp").and_then(Instant::parse);
    let grace = pod
        .pointer("/metadata/deletionGracePeriodSeconds")
        .and_then(Value::as_i64);
    let late = deadline.zip(grace).is_some_and(|(at, grace)| {
        let until = Instant {
            seconds: at.seconds + grace,
            ..at
        };
        now > until
    });
    pod::has_ended(pod) || late
}

fn of_pod(usage: &mut Usage, pod: &Value) {
    usage.insert("pods".to_owned(), count(1));
    for (name, amount) in pod::requests(pod) {
        let extended = name.contains('/')
            && (!name.contains("kubernetes.io/") || name.starts_with("deviceclass.resource.kubernetes.io/"));
        let plain = COMPUTE.contains(&name.as_str()) || name.starts_with("hugepages-");
        if plain || extended {
            usage.insert(format!("requests.{name}"), amount);
        }
        if plain {
            usage.insert(name, amount);
        }
    }
    for (name, amount) in pod::limits(pod) {
        if COMPUTE.contains(&name.as_str()) {
            usage.insert(format!("limits.{name}"), amount);
        }
    }
}

fn of_service(usage: &mut Usage, service: &Value) {
    let ports = service.pointer("/spec/ports").and_then(Value::as_array);
    let ports = ports.map(Vec::as_slice).unwrap_or_default();
    let balanced = text(service, "/spec/type") == Some("LoadBalancer");
    let node_ports = match text(service, "/spec/type") {
        Some("LoadBalancer") if service.pointer("/spec/allocateLoadBalancerNodePorts") == Some(&Value::Bool(false)) => {
            let fixed = |p: &&Value| p.get("nodePort").and_then(Value::as_i64).is_some_and(|n| n != 0);
            ports.iter().filter(fixed).count()
        }
        Some("NodePort" | "LoadBalancer") => ports.len(),
        _ => 0,
    };
    usage.insert("services".to_owned(), count(1));
    usage.insert("services.nodeports".to_owned(), count(node_ports));
    usage.insert("services.loadbalancers".to_owned(), count(balanced.into()));
}

fn of_claim(usage: &mut Usage, claim: &Value) {
    let class = text(claim, "/metadata/annotations/volume.beta.kubernetes.io~1storage-class");
    let class = class.or_else(|| text(claim, "/spec/storageClassName"));
    let amount = |path: &str| text(claim, path)?.parse::<Quantity>().ok();
    // one that grew, or was asked for more than it could grow to
    let allocated = amount("/status/allocatedResources/storage");
    let storage = amount("/spec/resources/requests/storage").map(|asked| allocated.map_or(asked, |a| a.max(asked)));
    let storage = storage.map(|bytes| Quantity::new(bytes.value(), bytes.format()));
    let mut of_kind = |prefix: &str| {
        usage.insert(format!("{prefix}persistentvolumeclaims"), count(1));
        if let Some(storage) = storage {
            usage.insert(format!("{prefix}requests.storage"), storage);
        }
    };
    of_kind("");
    if let Some(class) = class {
        of_kind(&format!("{class}.storageclass.storage.k8s.io/"));
    }
}

/// Whether the scopes of a quota's spec take in an object. Only pods and claims are in any.
pub fn in_scope(quota: &Value, resource: &str, object: &Value) -> bool {
    let list = |path: &str| quota.pointer(path).and_then(Value::as_array).into_iter().flatten();
    let plain = list("/scopes").all(|scope| matches(resource, object, scope.as_str(), "Exists", &[]));
    plain
        && list("/scopeSelector/matchExpressions").all(|term| {
            let field = |name: &str| term.get(name).and_then(Value::as_str);
            let values = term.get("values").and_then(Value::as_array);
            let values = values.map(Vec::as_slice).unwrap_or_default();
            matches(
                resource,
                object,
                field("scopeName"),
                field("operator").unwrap_or_default(),
                values,
            )
        })
}

/// Whether a pod is one that ends by itself in a given time.
pub fn is_terminating(pod: &Value) -> bool {
    let deadline = pod.pointer("/spec/activeDeadlineSeconds").and_then(Value::as_i64);
    deadline.is_some_and(|seconds| seconds >= 0)
}

fn matches(resource: &str, object: &Value, scope: Option<&str>, operator: &str, values: &[Value]) -> bool {
    match (resource, scope.unwrap_or_default()) {
        ("pods", "Terminating") => is_terminating(object),
        ("pods", "NotTerminating") => !is_terminating(object),
        ("pods", "BestEffort") => pod::qos_class(object) == "BestEffort",
        ("pods", "NotBestEffort") => pod::qos_class(object) != "BestEffort",
        ("pods", "CrossNamespacePodAffinity") => uses_other_namespaces(object),
        ("pods", "PriorityClass") => selects(operator, values, &[text(object, "/spec/priorityClassName")]),
        ("persistentvolumeclaims", "VolumeAttributesClass") => {
            let paths = [
                "/spec/volumeAttributesClassName",
                "/status/currentVolumeAttributesClassName",
                "/status/modifyVolumeStatus/targetVolumeAttributesClassName",
            ];
            selects(operator, values, &paths.map(|path| text(object, path)))
        }
        _ => false,
    }
}

/// Whether one of the names, or there being none, is what the operator selects.
fn selects(operator: &str, values: &[Value], names: &[Option<&str>]) -> bool {
    let mut names = names.iter().flatten().peekable();
    let listed = |name: &&&str| values.iter().any(|v| v == **name);
    match (operator, names.peek().is_none()) {
        ("In", _) => names.any(|n| listed(&n)),
        ("NotIn", true) | ("DoesNotExist", true) | ("Exists", false) => true,
        ("NotIn", false) => names.any(|n| !listed(&n)),
        _ => false,
    }
}

fn uses_other_namespaces(pod: &Value) -> bool {
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let terms = |field: &str| {
            let list = pod.pointer(&format!(
                "/spec/affinity/{kind}/{field}DuringSchedulingIgnoredDuringExecution"
            ));
            list.and_then(Value::as_array).into_iter().flatten()
        };
        let preferred = terms("preferred").filter_map(|weighted| weighted.get("podAffinityTerm"));
        terms("required").chain(preferred).any(|term| {
            let named = term.get("namespaces").and_then(Value::as_array);
            named.is_some_and(|n| !n.is_empty()) || term.get("namespaceSelector").is_some_and(Value::is_object)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: Instant = Instant {
        seconds: 1_800_000_000,
        nanos: 0,
    };

    fn shown(resource: &str, object: &Value) -> Vec<String> {
        let usage = usage(resource, object, NOW);
        usage.iter().map(|(name, amount)| format!("{name}={amount}")).collect()
    }

    fn pod(requests: &Value) -> Value {
        json!({ "metadata": {}, "status": { "phase": "Running" },
            "spec": { "containers": [{ "name": "c", "resources": { "requests": requests, "limits": { "cpu": "1" } } }] } })
    }

    #[test]
    fn pods_use_what_they_request_until_they_are_over() {
        let mut pod = pod(&json!({ "cpu": "250m", "hugepages-2Mi": "4Mi", "example.com/card": "2", "other": "1" }));
        let all = [
            "count/pods=1",
            "cpu=250m",
            "hugepages-2Mi=4Mi",
            "limits.cpu=1",
            "pods=1",
            "requests.cpu=250m",
            "requests.example.com/card=2",
            "requests.hugepages-2Mi=4Mi",
        ];
        assert_eq!(shown("pods", &pod), all);
        pod["metadata"] = json!({ "deletionTimestamp": "2027-01-15T07:59:00Z", "deletionGracePeriodSeconds": 90 });
        assert_eq!(shown("pods", &pod), all, "it has its time to end");
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(30);
        assert_eq!(shown("pods", &pod), ["count/pods=1"], "it should be gone");
        pod["metadata"] = json!({});
        pod["status"]["phase"] = json!("Succeeded");
        assert_eq!(shown("pods", &pod), ["count/pods=1"]);
    }

    #[test]
    fn services_use_node_ports_as_they_will_get_them() {
        let service = |kind: &str, more: Value| {
            let mut tree =
                json!({ "spec": { "type": kind, "ports": [{ "port": 1, "nodePort": 30001 }, { "port": 2 }] } });
            if let (Some(spec), Value::Object(more)) = (tree["spec"].as_object_mut(), more) {
                spec.extend(more);
            }
            shown("services", &tree)
        };
        let want = |balancers, ports| {
            [
                "count/services=1".to_owned(),
                "services=1".to_owned(),
                format!("services.loadbalancers={balancers}"),
                format!("services.nodeports={ports}"),
            ]
        };
        assert_eq!(service("ClusterIP", json!({})), want(0, 0));
        assert_eq!(service("NodePort", json!({})), want(0, 2));
        assert_eq!(service("LoadBalancer", json!({})), want(1, 2));
        let only_fixed = json!({ "allocateLoadBalancerNodePorts": false });
        assert_eq!(service("LoadBalancer", only_fixed), want(1, 1));
    }

    #[test]
    fn claims_use_storage_of_their_class_in_whole_bytes() {
        let claim = json!({ "spec": { "storageClassName": "fast", "resources": { "requests": { "storage": "1500m" } } },
            "status": { "allocatedResources": { "storage": "1" } } });
        let want = [
            "count/persistentvolumeclaims=1",
            "fast.storageclass.storage.k8s.io/persistentvolumeclaims=1",
            "fast.storageclass.storage.k8s.io/requests.storage=2",
            "persistentvolumeclaims=1",
            "requests.storage=2",
        ];
        assert_eq!(shown("persistentvolumeclaims", &claim), want);
    }

    #[test]
    fn scopes_choose_pods_and_claims() {
        let scoped =
            |scope: &str, resource: &str, object: &Value| in_scope(&json!({ "scopes": [scope] }), resource, object);
        let selected = |scope: &str, operator: &str, values: &[&str], object: &Value| {
            let term = json!({ "scopeName": scope, "operator": operator, "values": values });
            let kind = if scope == "PriorityClass" {
                "pods"
            } else {
                "persistentvolumeclaims"
            };
            in_scope(
                &json!({ "scopeSelector": { "matchExpressions": [term] } }),
                kind,
                object,
            )
        };
        let plain = pod(&json!({}));
        assert!(in_scope(&json!({}), "pods", &plain));
        assert!(scoped("NotTerminating", "pods", &plain) && scoped("NotBestEffort", "pods", &plain));
        assert!(!scoped("Terminating", "pods", &plain) && !scoped("BestEffort", "pods", &plain));
        let ending = json!({ "spec": { "activeDeadlineSeconds": 5, "containers": [{}] } });
        assert!(scoped("Terminating", "pods", &ending) && scoped("BestEffort", "pods", &ending));
        assert!(
            !scoped("NotTerminating", "services", &json!({})),
            "services are in no scope"
        );
        let term = json!({ "namespaceSelector": {} });
        let far = json!({ "spec": { "affinity": { "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": 1, "podAffinityTerm": term }] } } } });
        assert!(scoped("CrossNamespacePodAffinity", "pods", &far));
        assert!(!scoped("CrossNamespacePodAffinity", "pods", &plain));

        let high = json!({ "spec": { "priorityClassName": "high" } });
        for (operator, values, of_high, of_none) in [
            ("In", &["high"][..], true, false),
            ("NotIn", &["high"], false, true),
            ("NotIn", &["low"], true, true),
            ("Exists", &[], true, false),
            ("DoesNotExist", &[], false, true),
        ] {
            let found = [&high, &plain].map(|pod| selected("PriorityClass", operator, values, pod));
            assert_eq!(found, [of_high, of_none], "{operator} {values:?}");
        }
        let moving = json!({ "spec": { "volumeAttributesClassName": "new" },
            "status": { "currentVolumeAttributesClassName": "old" } });
        assert!(selected("VolumeAttributesClass", "In", &["old"], &moving));
        assert!(
            selected("VolumeAttributesClass", "NotIn", &["old"], &moving),
            "another of its names is not listed"
        );
    }
}
