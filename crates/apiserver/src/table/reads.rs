//! Which fields the columns of a kind read: of kinds that there are many of, or whose objects are large, a row is made
//! from those alone.

use api::raw::Projection;

use crate::registry::resource::Resource;

const PODS: &[&str] = &[
    "metadata/name",
    "metadata/creationTimestamp",
    "metadata/deletionTimestamp",
    "spec/containers/name",
    "spec/initContainers/name",
    "spec/initContainers/restartPolicy",
    "spec/nodeName",
    "spec/readinessGates",
    "status/phase",
    "status/reason",
    "status/podIPs",
    "status/nominatedNodeName",
    "status/conditions/type",
    "status/conditions/status",
    "status/conditions/reason",
    "status/initContainerStatuses/name",
    "status/initContainerStatuses/ready",
    "status/initContainerStatuses/started",
    "status/initContainerStatuses/restartCount",
    "status/initContainerStatuses/state",
    "status/initContainerStatuses/lastState/terminated/finishedAt",
    "status/containerStatuses/ready",
    "status/containerStatuses/restartCount",
    "status/containerStatuses/state",
    "status/containerStatuses/lastState/terminated/finishedAt",
];

const CONFIG_MAPS: &[&str] = &["metadata/name", "metadata/creationTimestamp", "data/*", "binaryData/*"];

const SECRETS: &[&str] = &["metadata/name", "metadata/creationTimestamp", "type", "data/*"];

const REPLICA_SETS: &[&str] = &[
    "metadata/name",
    "metadata/creationTimestamp",
    "spec/replicas",
    "spec/selector",
    "spec/template/spec/containers/name",
    "spec/template/spec/containers/image",
    "status/replicas",
    "status/readyReplicas",
];

/// What is read of the objects of a resource; of other kinds than those above everything but who manages which field.
pub fn of(resource: &Resource) -> Projection {
    match named(&resource.group, &resource.plural) {
        Some(paths) => Projection::new(paths),
        None => Projection::without("metadata", if resource.is_custom() { &[] } else { &["managedFields"] }),
    }
}

fn named(group: &str, plural: &str) -> Option<&'static [&'static str]> {
    Some(match (group, plural) {
        ("", "pods") => PODS,
        ("", "configmaps") => CONFIG_MAPS,
        ("", "secrets") => SECRETS,
        ("apps", "replicasets") => REPLICA_SETS,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::http::negotiate::FormVersion;
    use crate::registry::builtin_resources;
    use crate::table::{Include, Rows};

    /// Cells of an object with everything that a column may read, each value of its own.
    #[test]
    fn a_row_of_what_is_read_is_the_row_of_the_whole_object() {
        let status = |name: &str, ready: bool, state: Value| {
            json!({ "name": name, "image": "i", "ready": ready, "started": true, "restartCount": 3, "state": state,
                "lastState": { "terminated": { "exitCode": 1, "finishedAt": "2026-01-02T03:04:05Z", "reason": "Error" } } })
        };
        let meta = json!({ "name": "n", "namespace": "s", "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{ "manager": "m" }] });
        let pod = |status: Value| {
            json!({ "metadata": meta, "spec": { "nodeName": "node", "readinessGates": [{ "conditionType": "gate" }],
                "containers": [{ "name": "a", "image": "x" }, { "name": "b" }],
                "initContainers": [{ "name": "side", "restartPolicy": "Always" }, { "name": "once" }] }, "status": status })
        };
        let conditions = json!([{ "type": "Ready", "status": "True" }, { "type": "gate", "status": "True" }, { "type": "Initialized", "status": "True" }]);
        let running = json!({ "phase": "Running", "podIPs": [{ "ip": "10.0.0.1" }], "nominatedNodeName": "other", "conditions": conditions,
            "initContainerStatuses": [status("side", true, json!({ "running": {} })), status("once", false, json!({ "terminated": { "exitCode": 0 } }))],
            "containerStatuses": [status("a", true, json!({ "running": {} })), status("b", false, json!({ "waiting": { "reason": "CrashLoopBackOff" } }))] });
        let starting = json!({ "phase": "Pending", "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "SchedulingGated" }],
            "initContainerStatuses": [status("side", true, json!({ "running": {} })), status("once", false, json!({ "terminated": { "exitCode": 2, "signal": 9 } }))] });
        let gone = json!({ "phase": "Failed", "reason": "NodeLost" });
        let mut deleted = pod(gone.clone());
        deleted["metadata"]["deletionTimestamp"] = json!("2026-01-02T00:00:00Z");
        let objects = [
            ("", "pods", pod(running)),
            ("", "pods", pod(starting)),
            ("", "pods", pod(gone)),
            ("", "pods", deleted),
            (
                "",
                "configmaps",
                json!({ "metadata": meta, "data": { "a": "1", "b": "2" }, "binaryData": { "c": "AA==" } }),
            ),
            (
                "",
                "secrets",
                json!({ "metadata": meta, "type": "Opaque", "data": { "a": "MQ==" } }),
            ),
            (
                "apps",
                "replicasets",
                json!({ "metadata": meta, "status": { "replicas": 2, "readyReplicas": 1 },
                "spec": { "replicas": 3, "selector": { "matchLabels": { "a": "b" } }, "template": { "spec": { "containers": [{ "name": "c", "image": "i" }] } } } }),
            ),
        ];
        let resources = builtin_resources();
        for (group, plural, object) in objects {
            let resource = resources.iter().find(|r| r.is(group, plural)).unwrap();
            let rows = Rows::of(resource, Include::Metadata, FormVersion::V1);
            let mut written = Vec::new();
            rows.write(object.to_string().as_bytes(), &mut written).unwrap();
            let row: Value = serde_json::from_slice(&written).unwrap();
            assert_eq!(row["cells"], Value::from(rows.cells(&object)), "{plural}");
            assert_eq!(row["object"]["metadata"], object["metadata"], "{plural}");
        }
    }
}
