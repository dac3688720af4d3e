//! Defaults of `flowcontrol.apiserver.k8s.io`.

use serde_json::{Map, Value};

use super::{object, set};

pub(crate) fn default(kind: &str, top: &mut Map<String, Value>) {
    let Some(spec) = object(top, "spec") else { return };
    match kind {
        "FlowSchema" => set(spec, "matchingPrecedence", 1000),
        "PriorityLevelConfiguration" => priority_level(spec),
        _ => {}
    }
}

fn priority_level(spec: &mut Map<String, Value>) {
    if let Some(exempt) = object(spec, "exempt") {
        set(exempt, "nominalConcurrencyShares", 0);
        set(exempt, "lendablePercent", 0);
    }
    let Some(limited) = object(spec, "limited") else { return };
    set(limited, "nominalConcurrencyShares", 30);
    set(limited, "lendablePercent", 0);
    if let Some(queuing) = object(limited, "limitResponse").and_then(|r| object(r, "queuing")) {
        set(queuing, "handSize", 8);
        set(queuing, "queues", 64);
        set(queuing, "queueLengthLimit", 50);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::gvk::GroupVersionKind;
    use crate::schema::Schema;

    #[test]
    fn what_is_left_out_or_zero_is_defaulted_unless_zero_can_be_told_from_nothing() {
        let schema = Schema::builtin();
        let set = |kind: &str, spec: serde_json::Value| {
            let root = schema
                .type_for(&GroupVersionKind::new("flowcontrol.apiserver.k8s.io", "v1", kind))
                .unwrap();
            let mut tree = json!({ "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": kind, "spec": spec });
            schema.set_defaults(root, &mut tree);
            tree["spec"].take()
        };
        let level = |limited| {
            set(
                "PriorityLevelConfiguration",
                json!({ "type": "Limited", "limited": limited }),
            )
        };
        let queue = json!({ "limitResponse": { "type": "Queue", "queuing": { "queues": 0 } } });
        let want = json!({ "nominalConcurrencyShares": 30, "lendablePercent": 0, "limitResponse": { "type": "Queue",
            "queuing": { "handSize": 8, "queues": 64, "queueLengthLimit": 50 } } });
        assert_eq!(level(queue)["limited"], want);
        let none = level(json!({ "nominalConcurrencyShares": 0, "limitResponse": { "type": "Reject" } }));
        assert_eq!(none["limited"]["nominalConcurrencyShares"], 0);
        assert_eq!(
            set("FlowSchema", json!({ "matchingPrecedence": 0 })),
            json!({ "matchingPrecedence": 1000 })
        );
    }

    #[test]
    fn a_condition_of_a_failure_policy_is_true_unless_said_otherwise() {
        let schema = Schema::builtin();
        let root = schema.type_for(&GroupVersionKind::new("batch", "v1", "Job")).unwrap();
        let conditions = json!([{ "type": "A" }, { "type": "B", "status": "" }, { "type": "C", "status": "False" }]);
        let rules = json!([{ "action": "Ignore", "onPodConditions": conditions }]);
        let mut job =
            json!({ "apiVersion": "batch/v1", "kind": "Job", "spec": { "podFailurePolicy": { "rules": rules } } });
        schema.set_defaults(root, &mut job);
        let conditions = job.pointer("/spec/podFailurePolicy/rules/0/onPodConditions").unwrap();
        let status: Vec<&str> = conditions
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["status"].as_str().unwrap())
            .collect();
        assert_eq!(status, ["True", "True", "False"]);
    }
}
