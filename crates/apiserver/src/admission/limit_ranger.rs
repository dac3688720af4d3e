//! LimitRanger: default requests and limits from a namespace's LimitRanges, and their bounds.

use std::collections::{BTreeMap, BTreeSet};

use api::pod::{self, Resources, amounts};
use api::quantity::Quantity;
use serde_json::{Value, json};

use crate::admission::{Attributes, Operation, Plugin};
use crate::http::status::Result;
use crate::tree::text;

/// Says what a pod was given without asking.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";
/// The most that is counted in thousandths.
const MAX_MILLI_VALUE: i64 = i64::MAX / 1000;

/// The limits of each LimitRange of the namespace.
fn ranges(attributes: &Attributes<'_>) -> Result<Vec<Vec<Value>>> {
    let ranges = attributes.registry.list("", "limitranges", attributes.namespace);
    let limits = |range: Value| range.pointer("/spec/limits").and_then(Value::as_array).cloned();
    let each = ranges.iter().map(|range| Ok(limits(range.tree()?).unwrap_or_default()));
    each.collect()
}

/// Holds pods and claims to the limits of their namespace.
pub struct LimitRanger;

impl Plugin for LimitRanger {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        let claim = |operation| asked.is("", "persistentvolumeclaims", operation);
        asked.resizes_pod()
            || asked.is("", "pods", Operation::Create)
            || claim(Operation::Create)
            || claim(Operation::Update)
    }

    fn admit(&self, asked: &Attributes<'_>, tree: &mut Value, _: Option<&Value>) -> Result<()> {
        if !asked.resource.is("", "pods") || ends(tree) {
            return Ok(());
        }
        for limits in ranges(asked)? {
            give_defaults(&limits, tree);
        }
        Ok(())
    }

    fn validate(&self, asked: &Attributes<'_>, tree: &Value, _: Option<&Value>) -> Result<()> {
        if ends(tree) {
            return Ok(());
        }
        for limits in ranges(asked)? {
            let mut problems = match asked.resource.is("", "pods") {
                true => of_pod(&limits, tree),
                false => of_claim(&limits, tree),
            };
            // the same of several containers is said once
            let mut seen = BTreeSet::new();
            problems.retain(|problem| seen.insert(problem.clone()));
            let all = match problems.as_slice() {
                [] => continue,
                [one] => one.clone(),
                many => format!("[{}]", many.join(", ")),
            };
            return Err(asked.resource.forbidden(asked.name, &all));
        }
        Ok(())
    }
}

/// What is on its way out is not limited any more.
fn ends(tree: &Value) -> bool {
    text(tree, &["metadata", "deletionTimestamp"]).is_some()
}

fn give_defaults(limits: &[Value], tree: &mut Value) {
    let of_containers = limits.iter().filter(|l| text(l, &["type"]) == Some("Container"));
    let (mut requests, mut ceilings) = (BTreeMap::new(), BTreeMap::new());
    for limit in of_containers {
        for (key, defaults) in [("defaultRequest", &mut requests), ("default", &mut ceilings)] {
            let given = limit.get(key).and_then(Value::as_object);
            defaults.extend(given.into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())));
        }
    }
    let mut notes = Vec::new();
    for (field, what) in [("containers", "container"), ("initContainers", "init container")] {
        let Some(list) = tree["spec"].get_mut(field).and_then(Value::as_array_mut) else {
            continue;
        };
        for container in list {
            let name = text(container, &["name"]).unwrap_or_default().to_owned();
            for (kind, defaults, shown) in [("requests", &requests, "request"), ("limits", &ceilings, "limit")] {
                let given = fill(container, kind, defaults);
                if !given.is_empty() {
                    notes.push(format!("{} {shown} for {what} {name}", given.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        let text = format!("LimitRanger plugin set: {}", notes.join("; "));
        tree["metadata"]["annotations"][ANNOTATION] = json!(text);
    }
}

/// Fills in what is missing and names it.
fn fill(container: &mut Value, kind: &str, defaults: &BTreeMap<String, Value>) -> Vec<String> {
    let mut given = Vec::new();
    for (name, value) in defaults {
        let map = &mut container["resources"][kind];
        if map.is_null() {
            *map = json!({});
        }
        if let Some(map) = map.as_object_mut() {
            map.entry(name.clone()).or_insert_with(|| {
                given.push(name.clone());
                value.clone()
            });
        }
    }
    given
}

fn of_pod(limits: &[Value], tree: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    for limit in limits {
        match text(limit, &["type"]) {
            Some("Container") => {
                for container in pod::containers(tree).chain(pod::init_containers(tree)) {
                    let requests = amounts(container.pointer("/resources/requests"));
                    let limits = amounts(container.pointer("/resources/limits"));
                    problems.extend(outside(limit, "Container", &requests, &limits));
                }
            }
            Some("Pod") => {
                let asked = asked_for(tree);
                problems.extend(outside(limit, "Pod", &pod::requests(&asked), &pod::limits(&asked)));
            }
            _ => {}
        }
    }
    problems
}

/// The pod without what it has now and what it costs to run; of its own resources CPU and memory count.
fn asked_for(tree: &Value) -> Value {
    let mut spec = tree["spec"].clone();
    if let Some(spec) = spec.as_object_mut() {
        spec.remove("overhead");
    }
    for kind in ["requests", "limits"] {
        if let Some(own) = spec
            .pointer_mut(&format!("/resources/{kind}"))
            .and_then(Value::as_object_mut)
        {
            own.retain(|name, _| matches!(name.as_str(), "cpu" | "memory"));
        }
    }
    json!({ "spec": spec })
}

fn of_claim(limits: &[Value], tree: &Value) -> Vec<String> {
    const KIND: &str = "PersistentVolumeClaim";
    let requests = amounts(tree.pointer("/spec/resources/requests"));
    let of_claims = limits.iter().filter(|l| text(l, &["type"]) == Some(KIND));
    let check = |limit: &Value| {
        let bounds = |key, check| bounds(limit, key, KIND, &requests, &Resources::new(), check);
        [bounds("min", below), bounds("max", request_above)].concat()
    };
    of_claims.flat_map(check).collect()
}

fn outside(limit: &Value, kind: &str, requests: &Resources, limits: &Resources) -> Vec<String> {
    let bounds = |key, check| bounds(limit, key, kind, requests, limits, check);
    [
        bounds("min", below),
        bounds("max", above),
        bounds("maxLimitRequestRatio", apart),
    ]
    .concat()
}

/// A bound of a resource, and what is asked of it.
struct Bounded<'a> {
    name: &'a str,
    kind: &'a str,
    bound: &'a Quantity,
    request: Option<&'a Quantity>,
    limit: Option<&'a Quantity>,
}

/// What is said of a bound that is not held.
type Check = fn(&Bounded<'_>) -> Option<String>;

/// What `check` says of each bound of a limit.
fn bounds(limit: &Value, key: &str, kind: &str, requests: &Resources, limits: &Resources, check: Check) -> Vec<String> {
    let each = |(name, bound): (&String, &Quantity)| {
        check(&Bounded {
            name,
            kind,
            bound,
            request: requests.get(name),
            limit: limits.get(name),
        })
    };
    amounts(limit.get(key)).iter().filter_map(each).collect()
}

fn below(asked: &Bounded<'_>) -> Option<String> {
    let (name, kind, least) = (asked.name, asked.kind, asked.bound);
    let start = format!("minimum {name} usage per {kind} is {least}");
    match (asked.request, asked.limit) {
        (None, _) => Some(format!("{start}.  No request is specified")),
        (Some(request), _) if request < least => Some(format!("{start}, but request is {request}")),
        (_, Some(limit)) if limit < least => Some(format!("{start}, but limit is {limit}")),
        _ => None,
    }
}

fn above(asked: &Bounded<'_>) -> Option<String> {
    let (name, kind, most) = (asked.name, asked.kind, asked.bound);
    let start = format!("maximum {name} usage per {kind} is {most}");
    match (asked.request, asked.limit) {
        (_, None) => Some(format!("{start}.  No limit is specified")),
        (_, Some(limit)) if limit > most => Some(format!("{start}, but limit is {limit}")),
        (Some(request), _) if request > most => Some(format!("{start}, but request is {request}")),
        _ => None,
    }
}

/// For what has no limits.
fn request_above(asked: &Bounded<'_>) -> Option<String> {
    let (name, kind, most) = (asked.name, asked.kind, asked.bound);
    let start = format!("maximum {name} usage per {kind} is {most}");
    match asked.request {
        None => Some(format!("{start}.  No request is specified")),
        Some(request) if request > most => Some(format!("{start}, but request is {request}")),
        Some(_) => None,
    }
}

/// How many times its request a limit may be.
fn apart(asked: &Bounded<'_>) -> Option<String> {
    let (name, kind, most) = (asked.name, asked.kind, asked.bound);
    let start = format!("{name} max limit to request ratio per {kind} is {most}");
    let is_some = |amount: &&Quantity| !amount.is_zero();
    let Some(request) = asked.request.filter(is_some) else {
        return Some(format!("{start}, but no request is specified or request is 0"));
    };
    let Some(limit) = asked.limit.filter(is_some) else {
        return Some(format!("{start}, but no limit is specified or limit is 0"));
    };
    let precise = [request, limit, most].iter().all(|q| q.value() <= MAX_MILLI_VALUE);
    let counted = |amount: &Quantity| match precise {
        true => amount.milli_value() as f64,
        false => amount.value() as f64,
    };
    let ratio = counted(limit) / counted(request);
    let most = match most.value() <= MAX_MILLI_VALUE {
        true => most.milli_value() as f64 / 1000.0,
        false => most.value() as f64,
    };
    (ratio > most).then(|| format!("{start}, but provided ratio is {ratio:.6}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(requests: Value, limits: Value) -> Value {
        let mut container = json!({ "name": "a" });
        container["resources"]["requests"] = requests;
        container["resources"]["limits"] = limits;
        container
    }

    #[test]
    fn requests_limits_and_their_ratio_have_bounds() {
        let limit = json!({ "type": "Container", "min": { "cpu": "100m" }, "max": { "cpu": "1" }, "maxLimitRequestRatio": { "cpu": "2" } });
        for (request, most, wanted) in [
            ("100m", "200m", &[][..]),
            (
                "50m",
                "60m",
                &["minimum cpu usage per Container is 100m, but request is 50m"],
            ),
            (
                "600m",
                "1500m",
                &[
                    "maximum cpu usage per Container is 1, but limit is 1500m",
                    "cpu max limit to request ratio per Container is 2, but provided ratio is 2.500000",
                ],
            ),
        ] {
            let tree =
                json!({ "spec": { "initContainers": [container(json!({ "cpu": request }), json!({ "cpu": most }))] } });
            assert_eq!(of_pod(std::slice::from_ref(&limit), &tree), wanted, "{request} {most}");
        }
        let open = json!({ "spec": { "containers": [{ "name": "a" }] } });
        let wanted = [
            "minimum cpu usage per Container is 100m.  No request is specified",
            "maximum cpu usage per Container is 1.  No limit is specified",
            "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
        ];
        assert_eq!(of_pod(&[limit], &open), wanted);
    }

    #[test]
    fn a_pod_is_measured_as_a_whole_with_its_sidecars_and_without_its_overhead() {
        let limit = json!({ "type": "Pod", "max": { "memory": "2Gi" } });
        let part = || container(json!({ "memory": "1Gi" }), json!({ "memory": "1Gi" }));
        let mut tree = json!({ "spec": { "containers": [part(), part()], "overhead": { "memory": "1Gi" } } });
        assert!(of_pod(std::slice::from_ref(&limit), &tree).is_empty());
        let mut sidecar = part();
        sidecar["restartPolicy"] = json!("Always");
        tree["spec"]["initContainers"] = json!([sidecar]);
        let wanted = ["maximum memory usage per Pod is 2Gi, but limit is 3Gi"];
        assert_eq!(of_pod(&[limit], &tree), wanted);
    }

    #[test]
    fn of_a_claim_only_the_request_counts() {
        let limit =
            json!({ "type": "PersistentVolumeClaim", "min": { "storage": "1Gi" }, "max": { "storage": "2Gi" } });
        let claim = |size: &str| json!({ "spec": { "resources": { "requests": { "storage": size } } } });
        let check = |size: &str| of_claim(std::slice::from_ref(&limit), &claim(size));
        assert!(check("1Gi").is_empty());
        let wanted = ["minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1G"];
        assert_eq!(check("1G"), wanted);
        let wanted = ["maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"];
        assert_eq!(check("3Gi"), wanted);
    }

    #[test]
    fn defaults_fill_what_is_missing_and_are_noted() {
        let limits = [
            json!({ "type": "Container", "default": { "cpu": "1", "memory": "1Gi" }, "defaultRequest": { "cpu": "100m" } }),
            json!({ "type": "Pod", "default": { "cpu": "9" } }),
        ];
        let mut tree = json!({ "spec": { "containers": [container(json!({}), json!({ "cpu": "2" }))] } });
        give_defaults(&limits, &mut tree);
        let resources = json!({ "requests": { "cpu": "100m" }, "limits": { "cpu": "2", "memory": "1Gi" } });
        assert_eq!(tree["spec"]["containers"][0]["resources"], resources);
        let note = "LimitRanger plugin set: cpu request for container a; memory limit for container a";
        assert_eq!(tree["metadata"]["annotations"][ANNOTATION], note);
    }
}
