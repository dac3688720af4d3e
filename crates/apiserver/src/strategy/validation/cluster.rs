//! Rules of Nodes, Namespaces, Events, Leases, RuntimeClasses and PriorityClasses.

use std::collections::{BTreeSet, HashSet};

use api::names;
use serde_json::Value;

use super::{Check, pod};
use crate::strategy::validation::common::{
    Errors, cidr, dns_label, immutable, labels, non_negative, one_of, positive, problems, qualified_name, require,
    resource_quantity,
};
use crate::strategy::validation::cursor::Cursor;

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
const FEATURE: usize = 253;
const AVOIDED_PODS: &str = "scheduler.alpha.kubernetes.io/preferAvoidPods";
const EVENT_TEXT: usize = 128;
const EVENT_NOTE: usize = 1024;
/// The highest priority that is not the system's.
const HIGHEST_PRIORITY: i64 = 1_000_000_000;
/// The system's own priority classes.
const SYSTEM_PRIORITIES: [(&str, i64); 2] = [
    ("system-node-critical", 2_000_001_000),
    ("system-cluster-critical", 2_000_000_000),
];

pub fn node(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    let spec = root.get("spec");
    if !check.is_status() {
        whole_node(&mut errors, &root);
    }
    let Some(old) = check.before() else {
        return errors;
    };
    // upstream asks some rules of a changed node once more
    avoided_pods(&mut errors, &root.at(&["metadata", "annotations"]));
    node_resources(&mut errors, &root);
    declared_features(&mut errors, &root.at(&["status", "declaredFeatures"]));
    let mut seen = HashSet::new();
    for address in root.at(&["status", "addresses"]).items() {
        let (kind, text) = (address.get("type").text(), address.get("address").text());
        if !seen.insert((kind, text)) {
            let shown = format!("{{\"Type\":{kind:?},\"Address\":{text:?}}}");
            errors.push(address.duplicate("").shown(&shown));
        }
    }
    let before = old.get("spec");
    let (networks, were) = (spec.get("podCIDRs"), before.get("podCIDRs"));
    let changes = match were.list() {
        [] => 0,
        list if list.len() != networks.list().len() => 1,
        list => list.iter().zip(networks.list()).filter(|(was, now)| was != now).count(),
    };
    for _ in 0..changes {
        errors.push(networks.forbidden("node updates may not change podCIDR except from \"\" to valid"));
    }
    let (provider, was) = (spec.get("providerID"), before.get("providerID"));
    if !was.text().is_empty() && provider.text() != was.text() {
        errors.push(provider.forbidden("node updates may not change providerID except from \"\" to valid"));
    }
    taints(&mut errors, &spec.get("taints"));
    errors
}

fn whole_node(errors: &mut Errors, root: &Cursor) {
    let spec = root.get("spec");
    avoided_pods(errors, &root.at(&["metadata", "annotations"]));
    taints(errors, &spec.get("taints"));
    node_resources(errors, root);
    let swap = root.at(&["status", "nodeInfo", "swap", "capacity"]);
    if swap.is_some() {
        positive(errors, &swap.named("metadata.nodeSwapStatus.capacity"));
    }
    declared_features(errors, &root.at(&["status", "declaredFeatures"]));
    pod_networks(errors, &spec.get("podCIDRs"));
}

fn node_resources(errors: &mut Errors, root: &Cursor) {
    for kind in ["capacity", "allocatable"] {
        for (name, amount) in root.at(&["status", kind]).entries() {
            resource_quantity(errors, &amount.named(format!("status.{kind}.{name}")), name);
        }
    }
}

/// What a node says it can do: names in order. KEP-5328.
fn declared_features(errors: &mut Errors, list: &Cursor) {
    let segment = |text: &str| {
        let first = text.chars().next();
        first.is_some_and(|c| c.is_ascii_alphabetic()) && text.chars().all(|c| c.is_ascii_alphanumeric())
    };
    let mut last: Option<&str> = None;
    for feature in list.items() {
        let name = feature.text();
        if name.len() > FEATURE {
            errors.push(feature.invalid(format!(
                "invalid feature name {name:?}: must be no more than {FEATURE} characters"
            )));
        } else if !name.starts_with(|c: char| c.is_ascii_uppercase()) || !name.split('/').all(segment) {
            errors.push(feature.invalid(format!(
                "invalid feature name {name:?}: must start with an UpperCamelCase segment, with subsequent segments \
                 separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters \
                 and slashes"
            )));
        }
        match last {
            Some(last) if last == name => errors.push(feature.duplicate(name)),
            Some(last) if last > name => errors.push(feature.invalid("list must be sorted alphabetically")),
            _ => {}
        }
        last = Some(name);
    }
}

/// The annotation that tells the scheduler which controllers' pods a node would rather not have.
fn avoided_pods(errors: &mut Errors, annotations: &Cursor) {
    let annotation = annotations.get(AVOIDED_PODS);
    if annotation.text().is_empty() {
        return;
    }
    let tree: Value = match serde_json::from_str(annotation.text()) {
        Ok(tree) => tree,
        Err(error) => {
            errors.push(annotations.get("AvoidPods").wrong(AVOIDED_PODS, error));
            return;
        }
    };
    let entries = tree.get("preferAvoidPods").and_then(Value::as_array);
    for (i, entry) in entries.into_iter().flatten().enumerate() {
        let signature = Cursor::of(
            entry.get("podSignature"),
            format!("{}[{i}].PodSignature", annotation.path),
        );
        let controller = signature.get("podController");
        if !controller.is_some() {
            errors.push(signature.required(""));
        } else if !controller.get("controller").is_true() {
            let at = controller.named(format!("{}.PodController.Controller", signature.path));
            errors.push(at.wrong(false, "must point to a controller"));
        }
    }
}

/// The errors name the metadata, where taints stood once.
fn taints(errors: &mut Errors, list: &Cursor) {
    let mut seen = HashSet::new();
    for taint in list.named("metadata.taints").items() {
        let [key, value, effect] = ["key", "value", "effect"].map(|field| taint.get(field));
        qualified_name(errors, &key);
        let found = names::label_value_errors(value.text());
        if !found.is_empty() {
            errors.push(value.wrong(value.text(), found.join(";")));
        }
        one_of(errors, &effect, &EFFECTS);
        if !seen.insert((key.text(), effect.text())) {
            let mut error = taint.duplicate(taint.value.clone());
            error.detail = "taints must be unique by key and effect pair".into();
            errors.push(error);
        }
    }
}

fn pod_networks(errors: &mut Errors, list: &Cursor) {
    for network in list.items() {
        cidr(errors, &network, &[]);
    }
    let families: Vec<bool> = list.items().map(|n| n.text().contains(':')).collect();
    if families.len() > 2 || (families.len() == 2 && families[0] == families[1]) {
        errors.push(list.invalid("may specify no more than one CIDR for each IP family"));
    }
}

pub fn namespace(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    match check.subresource {
        "status" => {
            let phase = root.at(&["status", "phase"]).named("status.Phase");
            let deleted = root.at(&["metadata", "deletionTimestamp"]).is_some();
            let (wanted, why) = if deleted {
                (
                    "Terminating",
                    "may only be 'Terminating' if `deletionTimestamp` is not empty",
                )
            } else {
                ("Active", "may only be 'Active' if `deletionTimestamp` is empty")
            };
            if phase.text() != wanted {
                errors.push(phase.wrong(phase.text(), why));
            }
        }
        "finalize" => {
            for finalizer in root.at(&["spec", "finalizers"]).items() {
                namespace_finalizer(&mut errors, &finalizer);
            }
        }
        _ if check.old.is_none() => {
            let all = root.at(&["spec", "finalizers"]);
            for finalizer in all.items() {
                namespace_finalizer(&mut errors, &finalizer.named(&all.path));
            }
        }
        _ => {}
    }
    errors
}

/// A finalizer of a namespace's own list is Kubernetes' or has a domain.
fn namespace_finalizer(errors: &mut Errors, at: &Cursor) {
    qualified_name(errors, at);
    problems(errors, at, names::finalizer_error(at.text()));
}

/// A core Event; one that comes as `events.k8s.io` has more rules.
pub fn event(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    let newer = root.get("apiVersion").text() != "v1";
    // the two groups have other names for the same fields
    let field = |core: &'static str, other: &'static str| root.get(if newer { other } else { core }).named(core);
    let object = field("involvedObject", "regarding");
    let own = root.at(&["metadata", "namespace"]).text();
    let of_object = object.get("namespace");
    let mismatch = |errors: &mut Errors| {
        errors.push(of_object.wrong(of_object.text(), "does not match event.namespace"));
    };
    if !root.get("eventTime").is_some() {
        let fits = match of_object.text() {
            "" => matches!(own, "" | "default"),
            namespace => namespace == own,
        };
        if !fits {
            mismatch(&mut errors);
        }
    } else {
        if of_object.text().is_empty() && !matches!(own, "default" | "kube-system") {
            mismatch(&mut errors);
        }
        let controller = if newer {
            root.get("reportingController")
        } else {
            root.get("reportingComponent")
        };
        require(&mut errors, &controller);
        qualified_name(&mut errors, &controller);
        for name in ["reportingInstance", "action", "reason"] {
            let at = root.get(name);
            require(&mut errors, &at);
            if at.text().len() > EVENT_TEXT {
                errors.push(at.wrong("", format!("can have at most {EVENT_TEXT} characters")));
            }
        }
        let message = field("message", "note");
        if message.text().len() > EVENT_NOTE {
            errors.push(message.wrong("", format!("can have at most {EVENT_NOTE} characters")));
        }
    }
    if newer {
        newer_event(&mut errors, check, &root);
    }
    errors
}

fn newer_event(errors: &mut Errors, check: &Check, root: &Cursor) {
    let series = root.get("series");
    let Some(old) = check.before() else {
        if series.is_some() {
            event_series(errors, &series);
        }
        let at = root.get("eventTime");
        if !at.is_some() {
            errors.push(at.required(""));
        }
        let kind = root.get("type");
        if !matches!(kind.text(), "Normal" | "Warning") {
            errors.push(kind.wrong("", format!("has invalid value: {}", kind.text())));
        }
        for (field, shown) in [
            ("deprecatedFirstTimestamp", "firstTimestamp"),
            ("deprecatedLastTimestamp", "lastTimestamp"),
            ("deprecatedCount", "count"),
            ("deprecatedSource", "source"),
        ] {
            let at = root.get(field).named(shown);
            let empty = at.map().is_some_and(|m| m.is_empty()) || at.int() == Some(0);
            if at.is_some() && !empty {
                errors.push(at.wrong("", "needs to be unset"));
            }
        }
        return;
    };
    if series.is_some() && series.value != old.get("series").value {
        event_series(errors, &series);
    }
    for (field, shown) in [
        ("regarding", "involvedObject"),
        ("reason", "reason"),
        ("note", "message"),
        ("deprecatedSource", "source"),
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
        ("type", "type"),
        ("eventTime", "eventTime"),
        ("action", "action"),
        ("related", "related"),
        ("reportingController", "reportingController"),
        ("reportingInstance", "reportingInstance"),
    ] {
        immutable(errors, &root.get(field).named(shown), &old.get(field));
    }
}

fn event_series(errors: &mut Errors, series: &Cursor) {
    if series.get("count").int().unwrap_or(0) < 2 {
        errors.push(series.get("count").wrong("", "should be at least 2"));
    }
    let last = series.get("lastObservedTime");
    if !last.is_some() {
        errors.push(last.required(""));
    }
}

pub fn lease(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let spec = check.root().get("spec");
    let seconds = spec.get("leaseDurationSeconds");
    if seconds.int().is_some_and(|n| n <= 0) {
        errors.push(seconds.invalid("must be greater than 0"));
    }
    non_negative(&mut errors, &spec.get("leaseTransitions"));
    let holder = spec.get("preferredHolder");
    if !holder.text().is_empty() && spec.get("strategy").text().is_empty() {
        errors.push(holder.forbidden("may only be specified if `strategy` is defined"));
    }
    errors
}

pub fn runtime_class(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    let handler = root.get("handler");
    if let Some(old) = check.before() {
        immutable(&mut errors, &handler, &old.get("handler"));
    }
    if require(&mut errors, &handler) {
        dns_label(&mut errors, &handler);
    }
    for (name, amount) in root.at(&["overhead", "podFixed"]).entries() {
        let at = amount.named(format!("overhead.limits[{name}]"));
        pod::container_resource(&mut errors, &at, name);
        resource_quantity(&mut errors, &at, name);
    }
    let scheduling = root.get("scheduling");
    labels(&mut errors, &scheduling.get("nodeSelector"));
    let tolerations = scheduling.get("tolerations");
    pod::tolerations(&mut errors, &tolerations);
    let mut seen = BTreeSet::new();
    for toleration in tolerations.items() {
        let key = ["key", "operator", "value", "effect"].map(|field| toleration.get(field).text());
        if !seen.insert(key) {
            errors.push(toleration.duplicate(toleration.value.clone()));
        }
    }
    errors
}

pub fn priority_class(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    let (name, value, policy) = (
        root.at(&["metadata", "name"]),
        root.get("value"),
        root.get("preemptionPolicy"),
    );
    if let Some(old) = check.before() {
        if value.int().unwrap_or(0) != old.get("value").int().unwrap_or(0) {
            errors.push(value.forbidden("may not be changed in an update."));
        }
        immutable(&mut errors, &policy, &old.get("preemptionPolicy"));
        return errors;
    }
    let number = value.int().unwrap_or(0);
    if name.text().starts_with("system-") {
        let own = SYSTEM_PRIORITIES.iter().find(|(known, _)| *known == name.text());
        let why = match own {
            None => Some(format!("{} is not a known system priority class", name.text())),
            Some((_, wanted)) if *wanted != number => {
                Some(format!("value of {} PriorityClass must be {wanted}", name.text()))
            }
            Some(_) if root.get("globalDefault").is_true() => {
                Some(format!("globalDefault of {} PriorityClass must be false", name.text()))
            }
            Some(_) => None,
        };
        if let Some(why) = why {
            errors.push(name.forbidden(format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
            )));
        }
    } else if number > HIGHEST_PRIORITY {
        errors.push(value.forbidden(format!(
            "maximum allowed value of a user defined priority is {HIGHEST_PRIORITY}"
        )));
    }
    if policy.is_some() {
        one_of(&mut errors, &policy, &["PreemptLowerPriority", "Never"]);
    }
    errors
}
