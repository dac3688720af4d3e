//! Node.

use std::collections::HashSet;

use api::field::FieldError;
use api::names;
use serde_json::{Value, json};

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, flag, has_condition, list_at, or, text_at};
use crate::kinds::rules::{cidr, one_of, positive, qualified_name, resource_quantity};
use crate::kinds::warnings::{field, has, items, subnet};
use crate::kinds::{Again, Asked, Check, Cursor, Errors, Kind};

pub(in crate::kinds) const KIND: Kind = Kind {
    read: one_network,
    // a node reports its status when it registers
    status_on_create: Some,
    disabled: &[&["spec", "configSource"]],
    metadata: Asked::on_update(Again::BOTH),
    warn: |told, new, _| warn(told, new),
    place: Some("minions"),
    absent: |path| if path == "spec.unschedulable" { "false" } else { "" },
    columns: COLUMNS,
    ..Kind::new("", "nodes", validate)
};

/// The one network of old is the first of the many of today.
fn one_network(node: &mut Value) {
    let Some(spec) = node.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    let one = spec
        .get("podCIDR")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let first = spec.get("podCIDRs").and_then(|all| all.get(0)).and_then(Value::as_str);
    if !one.is_empty() && first != Some(one.as_str()) {
        spec.insert("podCIDRs".into(), json!([one]));
    } else if one.is_empty()
        && let Some(first) = first.map(str::to_owned)
    {
        spec.insert("podCIDR".into(), json!(first));
    }
}

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Status", "string", 0, node_status),
    ("Roles", "string", 0, node_roles),
    AGE,
    ("Version", "string", 0, |n| {
        json!(text_at(n, "/status/nodeInfo/kubeletVersion"))
    }),
    ("Internal-IP", "string", 1, |n| node_address(n, "InternalIP")),
    ("External-IP", "string", 1, |n| node_address(n, "ExternalIP")),
    ("OS-Image", "string", 1, |n| {
        or(n, "/status/nodeInfo/osImage", "<unknown>")
    }),
    ("Kernel-Version", "string", 1, kernel),
    ("Container-Runtime", "string", 1, |n| {
        or(n, "/status/nodeInfo/containerRuntimeVersion", "<unknown>")
    }),
];

fn node_status(node: &Value) -> Value {
    let ready = list_at(node, "/status/conditions").any(|c| c["type"] == "Ready");
    let word = match (ready, has_condition(node, "Ready")) {
        (_, true) => "Ready",
        (true, false) => "NotReady",
        (false, false) => "Unknown",
    };
    let cordoned = if flag(node, "/spec/unschedulable") {
        ",SchedulingDisabled"
    } else {
        ""
    };
    json!(format!("{word}{cordoned}"))
}

fn node_roles(node: &Value) -> Value {
    let labels = node.pointer("/metadata/labels").and_then(Value::as_object);
    let role = |(key, value): (&String, &Value)| match key.strip_prefix("node-role.kubernetes.io/") {
        Some(role) => Some(role.to_owned()),
        None if key == "kubernetes.io/role" => value.as_str().map(str::to_owned),
        None => None,
    };
    let mut roles: Vec<String> = labels
        .into_iter()
        .flatten()
        .filter_map(role)
        .filter(|r| !r.is_empty())
        .collect();
    roles.sort();
    roles.dedup();
    json!(if roles.is_empty() {
        "<none>".to_owned()
    } else {
        roles.join(",")
    })
}

fn node_address(node: &Value, kind: &str) -> Value {
    let found = list_at(node, "/status/addresses").find(|a| a["type"] == kind);
    json!(found.map_or("<none>", |a| text_at(a, "/address")))
}

fn kernel(node: &Value) -> Value {
    let kernel = match text_at(node, "/status/nodeInfo/kernelVersion") {
        "" => "<unknown>",
        kernel => kernel,
    };
    json!(match text_at(node, "/status/nodeInfo/architecture") {
        "" => kernel.to_owned(),
        architecture => format!("{kernel} ({architecture})"),
    })
}

fn warn(told: &mut Vec<String>, node: &Value) {
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

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

const FEATURE: usize = 253;

const AVOIDED_PODS: &str = "scheduler.alpha.kubernetes.io/preferAvoidPods";

fn validate(check: &Check) -> Errors {
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
        let why = match provider.text() {
            "" => "field cannot be cleared once set",
            _ => "field cannot be modified once set",
        };
        errors.push(FieldError::invalid(&provider.path, Value::Null, why).shown("null"));
    }
    taints(&mut errors, &spec.get("taints"));
    let (external, was) = (spec.get("externalID"), before.get("externalID"));
    if external.text() != was.text() {
        errors.push(external.forbidden("may not be updated"));
    }
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
