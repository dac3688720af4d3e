//! Columns of nodes, namespaces, storage, policy and the other kinds of the cluster.

use serde_json::{Value, json};

use super::BuiltinColumn;
use super::cells::{AGE, NAME, count, flag, has_condition, int_or, length, list, or, since, text};

const NODES: &[BuiltinColumn] = &[
    NAME,
    ("Status", "string", 0, node_status),
    ("Roles", "string", 0, node_roles),
    AGE,
    ("Version", "string", 0, |n| {
        json!(text(n, "/status/nodeInfo/kubeletVersion"))
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

const NAMESPACES: &[BuiltinColumn] = &[NAME, ("Status", "string", 0, |n| json!(text(n, "/status/phase"))), AGE];

const CONFIG_MAPS: &[BuiltinColumn] = &[
    NAME,
    ("Data", "string", 0, |m| {
        let size = |path: &str| length(m, path).as_u64().unwrap_or(0);
        json!(size("/data") + size("/binaryData"))
    }),
    AGE,
];

const SECRETS: &[BuiltinColumn] = &[
    NAME,
    ("Type", "string", 0, |s| json!(text(s, "/type"))),
    ("Data", "string", 0, |s| length(s, "/data")),
    AGE,
];

const ONLY_AGE: &[BuiltinColumn] = &[NAME, AGE];

const EVENTS: &[BuiltinColumn] = &[
    ("Last Seen", "string", 0, |e| Times::of(e).last),
    ("Type", "string", 0, |e| json!(text(e, "/type"))),
    ("Reason", "string", 0, |e| json!(text(e, "/reason"))),
    ("Object", "string", 0, involved),
    ("Subobject", "string", 1, |e| {
        json!(text(e, "/involvedObject/fieldPath"))
    }),
    ("Source", "string", 1, event_source),
    ("Message", "string", 0, |e| {
        json!(event_text(e, "/message", "/note").trim())
    }),
    ("First Seen", "string", 1, |e| Times::of(e).first),
    ("Count", "string", 1, |e| json!(Times::of(e).count)),
    ("Name", "string", 1, |e| json!(text(e, "/metadata/name"))),
];

const VOLUMES: &[BuiltinColumn] = &[
    NAME,
    ("Capacity", "string", 0, |v| or(v, "/spec/capacity/storage", "0")),
    ("Access Modes", "string", 0, |v| access_modes(v, "/spec/accessModes")),
    ("Reclaim Policy", "string", 0, |v| {
        json!(text(v, "/spec/persistentVolumeReclaimPolicy"))
    }),
    ("Status", "string", 0, phase),
    ("Claim", "string", 0, |v| match v.pointer("/spec/claimRef") {
        Some(claim) => json!(format!("{}/{}", text(claim, "/namespace"), text(claim, "/name"))),
        None => json!(""),
    }),
    ("StorageClass", "string", 0, |v| {
        json!(text(v, "/spec/storageClassName"))
    }),
    ("VolumeAttributesClass", "string", 0, |v| {
        or(v, "/spec/volumeAttributesClassName", "<unset>")
    }),
    ("Reason", "string", 0, |v| json!(text(v, "/status/reason"))),
    AGE,
    ("VolumeMode", "string", 1, |v| or(v, "/spec/volumeMode", "<unset>")),
];

const CLAIMS: &[BuiltinColumn] = &[
    NAME,
    ("Status", "string", 0, phase),
    ("Volume", "string", 0, |c| json!(text(c, "/spec/volumeName"))),
    ("Capacity", "string", 0, |c| match text(c, "/spec/volumeName") {
        "" => json!(""),
        _ => or(c, "/status/capacity/storage", "0"),
    }),
    ("Access Modes", "string", 0, |c| match text(c, "/spec/volumeName") {
        "" => json!(""),
        _ => access_modes(c, "/status/accessModes"),
    }),
    ("StorageClass", "string", 0, |c| {
        json!(text(c, "/spec/storageClassName"))
    }),
    ("VolumeAttributesClass", "string", 0, |c| {
        or(c, "/spec/volumeAttributesClassName", "<unset>")
    }),
    AGE,
    ("VolumeMode", "string", 1, |c| or(c, "/spec/volumeMode", "<unset>")),
];

const STORAGE_CLASSES: &[BuiltinColumn] = &[
    ("Name", "string", 0, |c| {
        name_or_default(c, "storageclass.kubernetes.io/is-default-class")
    }),
    ("Provisioner", "string", 0, |c| json!(text(c, "/provisioner"))),
    ("ReclaimPolicy", "string", 0, |c| or(c, "/reclaimPolicy", "Delete")),
    ("VolumeBindingMode", "string", 0, |c| {
        or(c, "/volumeBindingMode", "Immediate")
    }),
    ("AllowVolumeExpansion", "string", 0, |c| {
        json!(flag(c, "/allowVolumeExpansion"))
    }),
    AGE,
];

const VOLUME_ATTRIBUTES_CLASSES: &[BuiltinColumn] = &[
    NAME,
    ("DriverName", "string", 0, |c| json!(text(c, "/driverName"))),
    AGE,
];

const ATTACHMENTS: &[BuiltinColumn] = &[
    NAME,
    ("Attacher", "string", 0, |a| json!(text(a, "/spec/attacher"))),
    ("PV", "string", 0, |a| {
        json!(text(a, "/spec/source/persistentVolumeName"))
    }),
    ("Node", "string", 0, |a| json!(text(a, "/spec/nodeName"))),
    ("Attached", "boolean", 0, |a| json!(flag(a, "/status/attached"))),
    AGE,
];

const CSI_NODES: &[BuiltinColumn] = &[NAME, ("Drivers", "integer", 0, |n| length(n, "/spec/drivers")), AGE];

const CSI_DRIVERS: &[BuiltinColumn] = &[
    NAME,
    ("AttachRequired", "boolean", 0, |d| {
        json!(d.pointer("/spec/attachRequired") != Some(&Value::Bool(false)))
    }),
    ("PodInfoOnMount", "boolean", 0, |d| {
        json!(flag(d, "/spec/podInfoOnMount"))
    }),
    ("StorageCapacity", "boolean", 0, |d| {
        json!(flag(d, "/spec/storageCapacity"))
    }),
    ("TokenRequests", "string", 0, |d| {
        match d.pointer("/spec/tokenRequests") {
            Some(_) => {
                let all: Vec<&str> = list(d, "/spec/tokenRequests").map(|t| text(t, "/audience")).collect();
                json!(all.join(","))
            }
            None => json!("<unset>"),
        }
    }),
    ("RequiresRepublish", "boolean", 0, |d| {
        json!(flag(d, "/spec/requiresRepublish"))
    }),
    ("Modes", "string", 0, |d| {
        let all: Vec<&str> = list(d, "/spec/volumeLifecycleModes")
            .filter_map(Value::as_str)
            .collect();
        json!(if all.is_empty() {
            "<none>".to_owned()
        } else {
            all.join(",")
        })
    }),
    AGE,
];

const CSI_CAPACITIES: &[BuiltinColumn] = &[
    NAME,
    ("StorageClassName", "string", 0, |c| json!(text(c, "/storageClassName"))),
    ("Capacity", "string", 0, |c| or(c, "/capacity", "<unset>")),
];

const BINDINGS: &[BuiltinColumn] = &[
    NAME,
    ("Role", "string", 0, |b| {
        json!(format!("{}/{}", text(b, "/roleRef/kind"), text(b, "/roleRef/name")))
    }),
    AGE,
    ("Users", "string", 1, |b| subjects(b, "User")),
    ("Groups", "string", 1, |b| subjects(b, "Group")),
    ("ServiceAccounts", "string", 1, |b| subjects(b, "ServiceAccount")),
];

const SIGNING_REQUESTS: &[BuiltinColumn] = &[
    NAME,
    AGE,
    ("SignerName", "string", 0, |c| or(c, "/spec/signerName", "<none>")),
    ("Requestor", "string", 0, |c| json!(text(c, "/spec/username"))),
    ("RequestedDuration", "string", 0, |c| {
        match c.pointer("/spec/expirationSeconds").and_then(Value::as_i64) {
            Some(seconds) => json!(api::duration::human(seconds)),
            None => json!("<none>"),
        }
    }),
    ("Condition", "string", 0, signing_state),
];

const LEASES: &[BuiltinColumn] = &[
    NAME,
    ("Holder", "string", 0, |l| json!(text(l, "/spec/holderIdentity"))),
    AGE,
];

const QUOTAS: &[BuiltinColumn] = &[
    NAME,
    ("Request", "string", 0, |q| quota(q, false)),
    ("Limit", "string", 0, |q| quota(q, true)),
    AGE,
];

const PRIORITY_CLASSES: &[BuiltinColumn] = &[
    NAME,
    ("Value", "integer", 0, |c| json!(count(c, "/value"))),
    ("Global-Default", "boolean", 0, |c| json!(flag(c, "/globalDefault"))),
    AGE,
    ("PreemptionPolicy", "string", 1, |c| json!(text(c, "/preemptionPolicy"))),
];

const RUNTIME_CLASSES: &[BuiltinColumn] = &[NAME, ("Handler", "string", 0, |c| json!(text(c, "/handler"))), AGE];

const WEBHOOKS: &[BuiltinColumn] = &[NAME, ("Webhooks", "integer", 0, |w| length(w, "/webhooks")), AGE];

const VALIDATING_POLICIES: &[BuiltinColumn] = &[
    NAME,
    ("Validations", "integer", 0, |p| length(p, "/spec/validations")),
    ("ParamKind", "string", 0, param_kind),
    AGE,
];

const MUTATING_POLICIES: &[BuiltinColumn] = &[
    NAME,
    ("Mutations", "integer", 0, |p| length(p, "/spec/mutations")),
    ("ParamKind", "string", 0, param_kind),
    AGE,
];

const POLICY_BINDINGS: &[BuiltinColumn] = &[
    NAME,
    ("PolicyName", "string", 0, |b| json!(text(b, "/spec/policyName"))),
    ("ParamRef", "string", 0, |b| {
        match (text(b, "/spec/paramRef/namespace"), text(b, "/spec/paramRef/name")) {
            (_, "") => json!("<unset>"),
            ("", name) => json!(format!("*/{name}")),
            (namespace, name) => json!(format!("{namespace}/{name}")),
        }
    }),
    AGE,
];

const FLOW_SCHEMAS: &[BuiltinColumn] = &[
    NAME,
    ("PriorityLevel", "string", 0, |f| {
        json!(text(f, "/spec/priorityLevelConfiguration/name"))
    }),
    ("MatchingPrecedence", "string", 0, |f| {
        json!(count(f, "/spec/matchingPrecedence"))
    }),
    ("DistinguisherMethod", "string", 0, |f| {
        or(f, "/spec/distinguisherMethod/type", "<none>")
    }),
    AGE,
    ("MissingPL", "string", 0, |f| {
        let dangling = list(f, "/status/conditions").find(|c| c["type"] == "Dangling");
        json!(dangling.map_or("?", |c| text(c, "/status")))
    }),
];

const PRIORITY_LEVELS: &[BuiltinColumn] = &[
    NAME,
    ("Type", "string", 0, |p| json!(text(p, "/spec/type"))),
    ("NominalConcurrencyShares", "string", 0, |p| {
        number_or_none(p, "/spec/limited/nominalConcurrencyShares")
    }),
    ("Queues", "string", 0, |p| {
        number_or_none(p, "/spec/limited/limitResponse/queuing/queues")
    }),
    ("HandSize", "string", 0, |p| {
        number_or_none(p, "/spec/limited/limitResponse/queuing/handSize")
    }),
    ("QueueLengthLimit", "string", 0, |p| {
        number_or_none(p, "/spec/limited/limitResponse/queuing/queueLengthLimit")
    }),
    AGE,
];

const RESOURCE_CLAIMS: &[BuiltinColumn] = &[NAME, ("State", "string", 0, claim_state), AGE];

const RESOURCE_SLICES: &[BuiltinColumn] = &[
    NAME,
    ("Node", "string", 0, |s| json!(text(s, "/spec/nodeName"))),
    ("Driver", "string", 0, |s| json!(text(s, "/spec/driver"))),
    ("Pool", "string", 0, |s| json!(text(s, "/spec/pool/name"))),
    AGE,
];

const API_SERVICES: &[BuiltinColumn] = &[
    NAME,
    ("Service", "string", 0, |s| match text(s, "/spec/service/name") {
        "" => json!("Local"),
        name => json!(format!("{}/{name}", text(s, "/spec/service/namespace"))),
    }),
    ("Available", "string", 0, |s| {
        match list(s, "/status/conditions").find(|c| c["type"] == "Available") {
            Some(c) if c["status"] == "True" => json!("True"),
            Some(c) => json!(format!("{} ({})", text(c, "/status"), text(c, "/reason"))),
            None => json!("Unknown"),
        }
    }),
    AGE,
];

pub fn columns(group: &str, plural: &str) -> Option<&'static [BuiltinColumn]> {
    Some(match (group, plural) {
        ("", "nodes") => NODES,
        ("", "namespaces") => NAMESPACES,
        ("", "componentstatuses") => super::component_status::COLUMNS,
        ("", "configmaps") => CONFIG_MAPS,
        ("", "secrets") => SECRETS,
        ("", "serviceaccounts") => ONLY_AGE,
        ("" | "events.k8s.io", "events") => EVENTS,
        ("", "persistentvolumes") => VOLUMES,
        ("", "persistentvolumeclaims") => CLAIMS,
        ("", "resourcequotas") => QUOTAS,
        ("storage.k8s.io", "storageclasses") => STORAGE_CLASSES,
        ("storage.k8s.io", "volumeattributesclasses") => VOLUME_ATTRIBUTES_CLASSES,
        ("storage.k8s.io", "volumeattachments") => ATTACHMENTS,
        ("storage.k8s.io", "csinodes") => CSI_NODES,
        ("storage.k8s.io", "csidrivers") => CSI_DRIVERS,
        ("storage.k8s.io", "csistoragecapacities") => CSI_CAPACITIES,
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => BINDINGS,
        ("certificates.k8s.io", "certificatesigningrequests") => SIGNING_REQUESTS,
        ("coordination.k8s.io", "leases") => LEASES,
        ("scheduling.k8s.io", "priorityclasses") => PRIORITY_CLASSES,
        ("node.k8s.io", "runtimeclasses") => RUNTIME_CLASSES,
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations" | "validatingwebhookconfigurations") => {
            WEBHOOKS
        }
        ("admissionregistration.k8s.io", "validatingadmissionpolicies") => VALIDATING_POLICIES,
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies") => MUTATING_POLICIES,
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings" | "mutatingadmissionpolicybindings") => {
            POLICY_BINDINGS
        }
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => FLOW_SCHEMAS,
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => PRIORITY_LEVELS,
        ("resource.k8s.io", "deviceclasses" | "resourceclaimtemplates") => ONLY_AGE,
        ("resource.k8s.io", "resourceclaims") => RESOURCE_CLAIMS,
        ("resource.k8s.io", "resourceslices") => RESOURCE_SLICES,
        ("apiregistration.k8s.io", "apiservices") => API_SERVICES,
        _ => return None,
    })
}

/// The name, and whether the class is the default one.
pub fn name_or_default(class: &Value, annotation: &str) -> Value {
    let name = text(class, "/metadata/name");
    let value = class.pointer("/metadata/annotations").and_then(|a| a.get(annotation));
    json!(if value.and_then(Value::as_str) == Some("true") {
        format!("{name} (default)")
    } else {
        name.to_owned()
    })
}

fn node_status(node: &Value) -> Value {
    let ready = list(node, "/status/conditions").any(|c| c["type"] == "Ready");
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
    let found = list(node, "/status/addresses").find(|a| a["type"] == kind);
    json!(found.map_or("<none>", |a| text(a, "/address")))
}

fn kernel(node: &Value) -> Value {
    let kernel = match text(node, "/status/nodeInfo/kernelVersion") {
        "" => "<unknown>",
        kernel => kernel,
    };
    json!(match text(node, "/status/nodeInfo/architecture") {
        "" => kernel.to_owned(),
        architecture => format!("{kernel} ({architecture})"),
    })
}

fn phase(tree: &Value) -> Value {
    match text(tree, "/metadata/deletionTimestamp") {
        "" => json!(text(tree, "/status/phase")),
        _ => json!("Terminating"),
    }
}

fn access_modes(tree: &Value, path: &str) -> Value {
    let has = |mode: &str| list(tree, path).any(|m| m == mode);
    let known = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let all: Vec<&str> = known
        .into_iter()
        .filter(|(mode, _)| has(mode))
        .map(|(_, short)| short)
        .collect();
    json!(all.join(","))
}

fn subjects(binding: &Value, kind: &str) -> Value {
    let of_kind = list(binding, "/subjects").filter(|s| s["kind"] == kind);
    let name = |s: &Value| match (kind, text(s, "/namespace")) {
        ("ServiceAccount", namespace) if !namespace.is_empty() => format!("{namespace}/{}", text(s, "/name")),
        _ => text(s, "/name").to_owned(),
    };
    json!(of_kind.map(name).collect::<Vec<_>>().join(", "))
}

fn signing_state(request: &Value) -> Value {
    let has = |kind: &str| list(request, "/status/conditions").any(|c| c["type"] == kind);
    let mut state = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    }
    .to_owned();
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !text(request, "/status/certificate").is_empty() {
        state.push_str(",Issued");
    }
    json!(state)
}

fn quota(quota: &Value, limits: bool) -> Value {
    let hard = quota.pointer("/status/hard").and_then(Value::as_object);
    let used = |name: &str| {
        quota
            .pointer("/status/used")
            .and_then(|u| u.get(name))
            .and_then(Value::as_str)
            .unwrap_or("0")
    };
    let of_kind = hard
        .into_iter()
        .flatten()
        .filter(|(name, _)| name.starts_with("limits.") == limits);
    let all: Vec<String> = of_kind
        .map(|(name, hard)| format!("{name}: {}/{}", used(name), hard.as_str().unwrap_or("0")))
        .collect();
    json!(all.join(", "))
}

fn param_kind(policy: &Value) -> Value {
    match policy.pointer("/spec/paramKind") {
        Some(kind) => json!(format!("{}/{}", text(kind, "/apiVersion"), text(kind, "/kind"))),
        None => json!("<unset>"),
    }
}

fn number_or_none(tree: &Value, path: &str) -> Value {
    match tree.pointer(path) {
        Some(Value::Number(n)) => json!(n),
        _ => int_or(tree, path, "<none>"),
    }
}

fn claim_state(claim: &Value) -> Value {
    let mut states = Vec::new();
    if !text(claim, "/metadata/deletionTimestamp").is_empty() {
        states.push("deleted");
    }
    if claim.pointer("/status/allocation").is_none() {
        states.push("pending");
    } else {
        states.push("allocated");
        if list(claim, "/status/reservedFor").count() > 0 {
            states.push("reserved");
        }
    }
    json!(states.join(","))
}

/// When an event was first and last seen, and how often.
struct Times {
    first: Value,
    last: Value,
    count: i64,
}

/// A field that has another name in `events.k8s.io`.
fn event_text<'a>(event: &'a Value, core: &str, other: &str) -> &'a str {
    match text(event, core) {
        "" => text(event, other),
        text => text,
    }
}

impl Times {
    fn of(event: &Value) -> Times {
        let first = match event_text(event, "/firstTimestamp", "/deprecatedFirstTimestamp") {
            "" => since(text(event, "/eventTime")),
            at => since(at),
        };
        let last = match event_text(event, "/lastTimestamp", "/deprecatedLastTimestamp") {
            "" => first.clone(),
            at => since(at),
        };
        let plain = count(event, "/count").max(count(event, "/deprecatedCount"));
        match event.get("series").filter(|s| !s.is_null()) {
            Some(series) => Times {
                first,
                last: since(text(series, "/lastObservedTime")),
                count: count(series, "/count"),
            },
            None => Times {
                first,
                last,
                count: plain.max(1),
            },
        }
    }
}

fn involved(event: &Value) -> Value {
    let object = if event.get("involvedObject").is_some() {
        &event["involvedObject"]
    } else {
        &event["regarding"]
    };
    let kind = text(object, "/kind").to_lowercase();
    json!(match text(object, "/name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    })
}

fn event_source(event: &Value) -> Value {
    let source = |field: &str, other: &str, third: &str| {
        let all = [text(event, field), text(event, other), text(event, third)];
        all.into_iter().find(|t| !t.is_empty()).unwrap_or_default().to_owned()
    };
    let component = source(
        "/source/component",
        "/deprecatedSource/component",
        "/reportingComponent",
    );
    let instance = source("/source/host", "/deprecatedSource/host", "/reportingInstance");
    json!(if instance.is_empty() {
        component
    } else {
        format!("{component}, {instance}")
    })
}
