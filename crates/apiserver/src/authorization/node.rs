//! Node authorization: a kubelet reads what the pods bound to its node refer to.

use serde_json::Value;

use crate::authorization::Attributes;
use crate::registry::Registry;

/// The decision for a node; `None` leaves it to the next authorizer.
pub fn decide(registry: &Registry, node: &str, a: &Attributes<'_>) -> Option<bool> {
    if !a.is_resource {
        return None;
    }
    let read = matches!(a.verb, "get" | "list" | "watch");
    match (a.group, a.resource) {
        ("", "secrets" | "configmaps" | "persistentvolumeclaims") if read => {
            // one object at a time: `list` and `watch` narrowed to a name count as reading it
            Some(!a.name.is_empty() && refers(registry, node, a))
        }
        ("", "persistentvolumes") if a.verb == "get" => Some(volume_is_used(registry, node, a.name)),
        ("", "serviceaccounts") if a.verb == "create" && a.subresource == "token" => Some(
            pods_of(registry, node, a.namespace)
                .iter()
                .any(|p| p["spec"]["serviceAccountName"] == a.name),
        ),
        ("", "serviceaccounts") if a.verb == "get" => Some(
            pods_of(registry, node, a.namespace)
                .iter()
                .any(|p| p["spec"]["serviceAccountName"] == a.name),
        ),
        ("", "pods") => match (a.verb, a.subresource) {
            ("get" | "list" | "watch" | "create" | "delete", "") | ("create", "eviction") => Some(true),
            ("patch" | "update", "status") => Some(true),
            _ => None,
        },
        ("", "nodes") => match (a.verb, a.subresource) {
            ("create" | "get" | "list" | "watch", "") => Some(true),
            ("update" | "patch", "" | "status") => Some(true),
            _ => None,
        },
        ("", "services" | "endpoints") if read => Some(true),
        ("discovery.k8s.io", "endpointslices") if read => Some(true),
        ("node.k8s.io", "runtimeclasses") if read => Some(true),
        ("storage.k8s.io", "csidrivers" | "volumeattachments") if read => Some(true),
        ("storage.k8s.io", "csinodes") => Some(a.name.is_empty() || a.name == node),
        ("" | "events.k8s.io", "events") if matches!(a.verb, "create" | "update" | "patch") => Some(true),
        ("coordination.k8s.io", "leases") => {
            Some(a.namespace == "kube-node-lease" && (a.name.is_empty() || a.name == node))
        }
        ("certificates.k8s.io", "certificatesigningrequests") => match (a.verb, a.subresource) {
            ("create" | "get" | "list" | "watch", "") => Some(true),
            ("create", "selfnodeclient" | "selfnodeserver") => Some(true),
            _ => None,
        },
        ("authentication.k8s.io", "tokenreviews")
        | ("authorization.k8s.io", "subjectaccessreviews" | "localsubjectaccessreviews")
            if a.verb == "create" =>
        {
            Some(true)
        }
        ("certificates.k8s.io", "clustertrustbundles") if read => Some(true),
        _ => None,
    }
}

fn pods_of(registry: &Registry, node: &str, namespace: &str) -> Vec<Value> {
    let pods = registry.list("", "pods", namespace);
    pods.iter()
        .filter(|p| p.fields.first().is_some_and(|n| **n == *node))
        .filter_map(|p| p.tree().ok())
        .collect()
}

fn refers(registry: &Registry, node: &str, a: &Attributes<'_>) -> bool {
    pods_of(registry, node, a.namespace).iter().any(|pod| {
        let mut found = false;
        references(pod, &mut |kind, name| found |= kind == a.resource && name == a.name);
        found
    })
}

/// Calls `each` with every (plural, name) that a pod refers to in its namespace; the name is empty where there is none.
pub fn references(pod: &Value, each: &mut dyn FnMut(&str, &str)) {
    let list = |v: &Value, field: &str| v.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let name = |v: Option<&Value>| v.and_then(Value::as_str).unwrap_or_default().to_owned();
    let spec = &pod["spec"];
    for secret in list(spec, "imagePullSecrets") {
        each("secrets", &name(secret.get("name")));
    }
    for field in ["containers", "initContainers", "ephemeralContainers"] {
        for container in list(spec, field) {
            for source in list(&container, "envFrom") {
                each("configmaps", &name(source.pointer("/configMapRef/name")));
                each("secrets", &name(source.pointer("/secretRef/name")));
            }
            for variable in list(&container, "env") {
                each("configmaps", &name(variable.pointer("/valueFrom/configMapKeyRef/name")));
                each("secrets", &name(variable.pointer("/valueFrom/secretKeyRef/name")));
            }
        }
    }
    let volume_source = |v: &Value, each: &mut dyn FnMut(&str, &str)| {
        each("configmaps", &name(v.pointer("/configMap/name")));
        each(
            "secrets",
            &name(v.pointer("/secret/secretName").or_else(|| v.pointer("/secret/name"))),
        );
    };
    let pod_name = name(pod.pointer("/metadata/name"));
    for volume in list(spec, "volumes") {
        volume_source(&volume, each);
        each(
            "persistentvolumeclaims",
            &name(volume.pointer("/persistentVolumeClaim/claimName")),
        );
        if volume.get("ephemeral").is_some() {
            each(
                "persistentvolumeclaims",
                &format!("{pod_name}-{}", name(volume.get("name"))),
            );
        }
        for source in volume.get("projected").map(|p| list(p, "sources")).unwrap_or_default() {
            volume_source(&source, each);
        }
        for place in [
            "/csi/nodePublishSecretRef/name",
            "/iscsi/secretRef/name",
            "/cephfs/secretRef/name",
            "/rbd/secretRef/name",
            "/azureFile/secretName",
            "/cinder/secretRef/name",
            "/flexVolume/secretRef/name",
            "/scaleIO/secretRef/name",
            "/storageos/secretRef/name",
        ] {
            each("secrets", &name(volume.pointer(place)));
        }
    }
}

fn volume_is_used(registry: &Registry, node: &str, volume: &str) -> bool {
    pods_of(registry, node, "").iter().any(|pod| {
        let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
        let mut found = false;
        references(pod, &mut |kind, claim| {
            if kind == "persistentvolumeclaims"
                && !claim.is_empty()
                && let Some(claim) = registry.get("", kind, namespace, claim)
            {
                found |= claim.tree().is_ok_and(|c| c["spec"]["volumeName"] == volume);
            }
        });
        found
    })
}
