//! The flow schemas and priority levels that a server makes: mandatory ones, without which nobody could be served, and suggested ones
//! (`k8s.io/apiserver/pkg/apis/flowcontrol/bootstrap/default.go`).

use serde_json::{Value, json};

use super::level::{CATCH_ALL, EXEMPT};
use crate::kinds::flowcontrol::flow_schema::fixed_schema;
use crate::kinds::flowcontrol::priority_level_configuration::fixed_level;

const VERSION: &str = "flowcontrol.apiserver.k8s.io/v1";
/// Says whether the server keeps the spec as it makes it.
pub const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
const NODES: &str = "system:nodes";
const EVERYBODY: [&str; 2] = ["system:unauthenticated", "system:authenticated"];

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": VERSION, "kind": kind,
        "metadata": { "name": name, "annotations": { AUTO_UPDATE: "true" } },
        "spec": spec,
    })
}

fn level(name: &str, spec: &Value) -> Value {
    object("PriorityLevelConfiguration", name, spec)
}

/// The levels that every server has.
pub fn mandatory_levels() -> [Value; 2] {
    let exempt = json!({ "type": "Exempt", "exempt": { "nominalConcurrencyShares": 0, "lendablePercent": 0 } });
    [level(EXEMPT, &exempt), level(CATCH_ALL, &fixed_level())]
}

/// The schemas that every server has.
pub fn mandatory_schemas() -> Vec<Value> {
    let fixed = [EXEMPT, CATCH_ALL].into_iter();
    let fixed = fixed.filter_map(|name| Some((name, fixed_schema(name)?)));
    fixed.map(|(name, spec)| object("FlowSchema", name, &spec)).collect()
}

/// Levels by name, shares, the part that they lend, and queues with their hands.
const LEVELS: [(&str, u32, u32, u32, u32); 6] = [
    ("system", 30, 33, 64, 6),
    ("node-high", 40, 25, 64, 6),
    ("leader-election", 10, 0, 16, 4),
    ("workload-high", 40, 50, 128, 6),
    ("workload-low", 100, 90, 128, 6),
    ("global-default", 20, 50, 128, 6),
];

/// The levels that are made where nobody objects.
pub fn suggested_levels() -> Vec<Value> {
    let made = LEVELS.iter().map(|(name, shares, lendable, queues, hand)| {
        let queuing = json!({ "queues": queues, "handSize": hand, "queueLengthLimit": 50 });
        let spec = json!({ "type": "Limited", "limited": {
            "nominalConcurrencyShares": shares, "lendablePercent": lendable,
            "limitResponse": { "type": "Queue", "queuing": queuing },
        } });
        level(name, &spec)
    });
    made.collect()
}

fn groups(names: &[&str]) -> Vec<Value> {
    let subject = |name: &&str| json!({ "kind": "Group", "group": { "name": name } });
    names.iter().map(subject).collect()
}

fn users(names: &[&str]) -> Vec<Value> {
    let subject = |name: &&str| json!({ "kind": "User", "user": { "name": name } });
    names.iter().map(subject).collect()
}

fn system_accounts() -> Value {
    json!({ "kind": "ServiceAccount", "serviceAccount": { "namespace": "kube-system", "name": "*" } })
}

fn resources(verbs: &[&str], group: &str, resources: &[&str], cluster: bool) -> Value {
    let mut rule = json!({ "verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"] });
    if cluster {
        rule["clusterScope"] = json!(true);
    }
    rule
}

/// Everything that these may ask for.
fn everything(subjects: &[Value]) -> Value {
    let all = ["*"];
    json!({
        "subjects": subjects,
        "resourceRules": [resources(&all, "*", &all, true)],
        "nonResourceRules": [{ "verbs": all, "nonResourceURLs": all }],
    })
}

fn schema(name: &str, level: &str, precedence: u32, distinguisher: &str, rules: &Value) -> Value {
    let mut spec = json!({
        "priorityLevelConfiguration": { "name": level },
        "matchingPrecedence": precedence,
        "rules": [rules],
    });
    if !distinguisher.is_empty() {
        spec["distinguisherMethod"] = json!({ "type": distinguisher });
    }
    object("FlowSchema", name, &spec)
}

/// The schemas that are made where nobody objects.
pub fn suggested_schemas() -> Vec<Value> {
    const MANAGER: &str = "system:kube-controller-manager";
    const SCHEDULER: &str = "system:kube-scheduler";
    let (by_user, by_namespace) = ("ByUser", "ByNamespace");
    let leases = "coordination.k8s.io";
    let mut electing = users(&[MANAGER, SCHEDULER]);
    electing.push(system_accounts());
    let election = json!({
        "subjects": electing,
        "resourceRules": [resources(&["get", "create", "update"], leases, &["leases"], false)],
    });
    let node = json!({
        "subjects": groups(&[NODES]),
        "resourceRules": [
            resources(&["*"], "", &["nodes", "nodes/status"], true),
            resources(&["*"], leases, &["leases"], false),
        ],
    });
    let probes = json!({
        "subjects": groups(&EVERYBODY),
        "nonResourceRules": [{ "verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"] }],
    });
    vec![
        schema("system-nodes", "system", 500, by_user, &everything(&groups(&[NODES]))),
        schema("system-node-high", "node-high", 400, by_user, &node),
        schema("probes", EXEMPT, 2, "", &probes),
        schema("system-leader-election", "leader-election", 100, by_user, &election),
        schema(
            "kube-controller-manager",
            "workload-high",
            800,
            by_namespace,
            &everything(&users(&[MANAGER])),
        ),
        schema(
            "kube-scheduler",
            "workload-high",
            800,
            by_namespace,
            &everything(&users(&[SCHEDULER])),
        ),
        schema(
            "kube-system-service-accounts",
            "workload-high",
            900,
            by_namespace,
            &everything(&[system_accounts()]),
        ),
        schema(
            "service-accounts",
            "workload-low",
            9000,
            by_user,
            &everything(&groups(&["system:serviceaccounts"])),
        ),
        schema(
            "global-default",
            "global-default",
            9900,
            by_user,
            &everything(&groups(&EVERYBODY)),
        ),
    ]
}
