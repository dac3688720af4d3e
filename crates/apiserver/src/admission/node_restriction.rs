//! NodeRestriction: a kubelet writes its own node, the pods bound to it, its lease, and nothing else.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::admission::{Attributes, Operation, Plugin, certificate_signers, node_pod_certificate, node_token};
use crate::authorization::node::LEASES;
use crate::authorization::node_graph::{Referent, references};
use crate::http::status::{ApiError, Result};
use crate::tree::text;

const MIRROR: &str = "kubernetes.io/config.mirror";
/// Who signs what nodes authenticate with.
const NODE_SIGNERS: [&str; 2] = [
    "kubernetes.io/kubelet-serving",
    "kubernetes.io/kube-apiserver-client-kubelet",
];

/// The domain of labels that only administrators set.
const RESTRICTED: &str = "node-restriction.kubernetes.io";

/// Labels of `kubernetes.io` and `k8s.io` that a kubelet may set on itself.
const OWN_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
];

/// Keeps nodes to their own. It reads what they ask for, before the rest of the pipeline undoes what a path may not change.
pub struct NodeRestriction;

impl Plugin for NodeRestriction {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        asked.operation != Operation::Connect && asked.user.node_name().is_some()
    }

    fn admit(&self, asked: &Attributes<'_>, tree: &mut Value, old: Option<&Value>) -> Result<()> {
        let Some(node) = asked.user.node_name() else {
            return Ok(());
        };
        if asked.resource.is("", "serviceaccounts") && asked.subresource == "token" {
            return node_token::admit(asked, tree);
        }
        // what has no name yet is called so
        let name = match asked.name {
            "" => "Unknown",
            name => name,
        };
        let refuse = |why: String| Err(asked.resource.forbidden(name, &why));
        if node.is_empty() {
            return refuse(format!("could not determine node from user {:?}", asked.user.name));
        }
        // an empty list, a null and nothing are the same
        let resource = asked.resource;
        let mut wanted = tree.clone();
        if !wanted.is_null() && asked.kind().kind == resource.kind {
            resource.schema.get().set_defaults(resource.root, &mut wanted);
            resource.schema.get().normalize(resource.root, &mut wanted);
        }
        if resource.is("certificates.k8s.io", "podcertificaterequests") {
            return node_pod_certificate::admit(asked, node, &wanted);
        }
        let evicted = match asked.subresource {
            "eviction" if resource.is("", "pods") => {
                let pod = asked.registry.get("", "pods", asked.namespace, asked.name);
                // the plugin that looks calls a pod by its kind
                let pod = pod.ok_or_else(|| ApiError::not_found("", "pod", asked.name))?;
                Some(pod.tree()?)
            }
            _ => None,
        };
        let question = Question {
            attributes: asked,
            node,
            new: &wanted,
            old: evicted.as_ref().or(old),
        };
        question.check().or_else(|Refusal(why)| refuse(why))
    }
}

/// What a node asks for.
struct Question<'a> {
    attributes: &'a Attributes<'a>,
    node: &'a str,
    new: &'a Value,
    old: Option<&'a Value>,
}

/// Why a node may not do what it asks for, in upstream's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

type Verdict = std::result::Result<(), Refusal>;

fn deny(why: impl Into<String>) -> Verdict {
    Err(Refusal(why.into()))
}

impl Question<'_> {
    fn check(&self) -> Verdict {
        let resource = self.attributes.resource;
        match (resource.group.as_str(), resource.plural.as_str()) {
            ("", "pods") => self.pods(),
            ("", "nodes") => self.nodes(),
            ("", "persistentvolumeclaims") => self.claims(),
            ("coordination.k8s.io", "leases") => self.leases(),
            ("storage.k8s.io", "csinodes") if self.attributes.name != self.node => {
                deny("can only access CSINode with the same name as the requesting node")
            }
            ("storage.k8s.io", "csinodes") if self.attributes.subresource == "status" => {
                deny("CSIVolumeHealth feature gate is disabled")
            }
            ("resource.k8s.io", "resourceslices") => self.slices(),
            ("certificates.k8s.io", "certificatesigningrequests") => self.signing_request(),
            _ => Ok(()),
        }
    }

    fn bound_here(&self, pod: Option<&Value>) -> bool {
        pod.is_some_and(|pod| text(pod, &["spec", "nodeName"]) == Some(self.node))
    }

    fn pods(&self) -> Verdict {
        let node = self.node;
        match (self.attributes.subresource, self.attributes.operation) {
            ("", Operation::Create) => self.mirror_pod(),
            ("", Operation::Delete) if self.bound_here(self.old) => Ok(()),
            ("", Operation::Delete) => deny(format!(
                "node {node:?} can only delete pods with spec.nodeName set to itself"
            )),
            ("", Operation::Update) => deny(format!(
                "unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods"
            )),
            ("status", Operation::Update) => self.pod_status(),
            ("status", operation) => deny(format!("unexpected operation {:?}", operation.name())),
            ("eviction", Operation::Create) if self.bound_here(self.old) => Ok(()),
            ("eviction", Operation::Create) => deny(format!(
                "node {node} can only evict pods with spec.nodeName set to itself"
            )),
            (_, Operation::Connect) => Ok(()),
            (other, _) => deny(format!(
                "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
            )),
        }
    }

    fn mirror_pod(&self) -> Verdict {
        let node = self.node;
        let annotations = self.new.pointer("/metadata/annotations");
        if annotations.is_none_or(|a| a.get(MIRROR).is_none()) {
            return deny(format!(
                "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
            ));
        }
        if !self.bound_here(Some(self.new)) {
            return deny(format!(
                "node {node:?} can only create pods with spec.nodeName set to itself"
            ));
        }
        let found = self.attributes.registry.get("", "nodes", "", node);
        let found = found.ok_or_else(|| Refusal(format!("nodes {node:?} not found")))?;
        owned_by(node, &found.object.meta.uid, self.new)?;
        match object_referred_to(self.new) {
            Some(kind) => deny(format!("node {node:?} can not create pods that reference {kind}")),
            None => Ok(()),
        }
    }

    fn pod_status(&self) -> Verdict {
        let node = self.node;
        if !self.bound_here(self.old) {
            return deny(format!(
                "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
            ));
        }
        for (path, what) in [
            ("/metadata/labels", "update labels through pod status"),
            ("/status/resourceClaimStatuses", "update resource claim statues"),
            (
                "/status/extendedResourceClaimStatus",
                "update extended resource claim status",
            ),
        ] {
            if self.changes(path) {
                return deny(format!("node {node:?} cannot {what}"));
            }
        }
        Ok(())
    }

    fn changes(&self, path: &str) -> bool {
        self.old.and_then(|old| old.pointer(path)) != self.new.pointer(path)
    }

    fn nodes(&self) -> Verdict {
        let (node, name) = (self.node, self.attributes.name);
        if name != node {
            return deny(format!("node {node:?} is not allowed to modify node {name:?}"));
        }
        let configured = self.new.pointer("/spec/configSource").is_some();
        match self.attributes.operation {
            Operation::Create if configured => deny(format!(
                "node {node:?} is not allowed to create pods with a non-nil configSource"
            )),
            Operation::Update if configured && self.changes("/spec/configSource") => deny(format!(
                "node {node:?} is not allowed to update configSource to a new non-nil configSource"
            )),
            Operation::Create | Operation::Update => labels_and_taints(node, self.new, self.old),
            Operation::Delete | Operation::Connect => Ok(()),
        }
    }

    /// A node says how far a claim has grown, and nothing else.
    fn claims(&self) -> Verdict {
        if self.attributes.subresource != "status" {
            return deny("may only update PVC status");
        }
        if self.attributes.operation != Operation::Update {
            return deny(format!("unexpected operation {:?}", self.attributes.operation.name()));
        }
        let others = |tree: &Value| {
            let mut tree = tree.clone();
            let mut remove = |from: &str, keys: &[&str]| {
                let map = tree.pointer_mut(from).and_then(Value::as_object_mut);
                let Some(map) = map else { return };
                map.retain(|key, _| !keys.contains(&key.as_str()));
            };
            remove("/metadata", &["resourceVersion", "managedFields"]);
            let growth = [
                "capacity",
                "conditions",
                "allocatedResourceStatuses",
                "allocatedResources",
            ];
            remove("/status", &growth);
            if tree.get("status").and_then(Value::as_object).is_some_and(Map::is_empty) {
                tree["status"].take();
            }
            tree
        };
        if self.old.map(others) != Some(others(self.new)) {
            return deny(format!(
                "node {:?} is not allowed to update fields other than status.quantity and status.conditions",
                self.node
            ));
        }
        Ok(())
    }

    fn leases(&self) -> Verdict {
        if self.attributes.namespace != LEASES {
            return deny(format!("can only access leases in the {LEASES:?} system namespace"));
        }
        if self.attributes.name != self.node {
            return deny("can only access node lease with the same name as the requesting node");
        }
        Ok(())
    }

    /// Other requests for slices are the authorizer's, who knows the object; these two it does not see.
    fn slices(&self) -> Verdict {
        let (slice, verb) = match self.attributes.operation {
            Operation::Create => (Some(self.new), "create"),
            Operation::Delete => (self.old, "delete"),
            Operation::Update | Operation::Connect => return Ok(()),
        };
        if self.bound_here(slice) {
            return Ok(());
        }
        deny(format!(
            "can only {verb} ResourceSlice with the same NodeName as the requesting node"
        ))
    }

    fn signing_request(&self) -> Verdict {
        let signer = text(self.new, &["spec", "signerName"]).unwrap_or_default();
        if self.attributes.operation != Operation::Create || !NODE_SIGNERS.contains(&signer) {
            return Ok(());
        }
        let subject = certificate_signers::subject_of(self.new);
        let subject = subject.map_err(|why| Refusal(format!("unable to parse csr: {why}")))?;
        let own = format!("system:node:{}", self.node);
        if subject.common_name != own {
            return deny(format!("can only create a node CSR with CN={own}"));
        }
        Ok(())
    }
}

/// A mirror pod goes with its node.
fn owned_by(node: &str, uid: &str, pod: &Value) -> Verdict {
    let owners = pod.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let can_only = |what: &str| deny(format!("node {node:?} can only create pods with {what} set to itself"));
    let owner = match owners.map(Vec::as_slice) {
        None | Some([]) => return can_only("an owner reference"),
        Some([owner]) => owner,
        Some(_) => return can_only("a single owner reference"),
    };
    if owner["apiVersion"] != "v1" || owner["kind"] != "Node" || owner["name"] != node {
        return can_only("an owner reference");
    }
    if owner["controller"] != true {
        return can_only("a controller owner reference");
    }
    if owner["blockOwnerDeletion"] == true {
        return deny(format!(
            "node {node:?} must not set blockOwnerDeletion on an owner reference"
        ));
    }
    let given = text(owner, &["uid"]).unwrap_or_default();
    if given != uid {
        return deny(format!("node {node} UID mismatch: expected {given} got {uid}"));
    }
    Ok(())
}

/// Volumes that need nothing of the API.
const LOCAL_VOLUMES: [&str; 22] = [
    "awsElasticBlockStore",
    "azureDisk",
    "cephfs",
    "cinder",
    "downwardAPI",
    "emptyDir",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "hostPath",
    "image",
    "iscsi",
    "nfs",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
];

/// The kind of an object that a pod needs from the API, if there is one.
fn object_referred_to(pod: &Value) -> Option<&'static str> {
    if text(pod, &["spec", "serviceAccountName"]).is_some_and(|name| !name.is_empty()) {
        return Some("serviceaccounts");
    }
    let (mut secrets, mut config_maps) = (false, false);
    references(pod, &mut |kind, name| {
        secrets |= kind == Referent::Secret && !name.is_empty();
        config_maps |= kind == Referent::ConfigMap && !name.is_empty();
    });
    let list = |path: &str| pod.pointer(path).and_then(Value::as_array).into_iter().flatten();
    if secrets {
        return Some("secrets");
    }
    if config_maps {
        return Some("configmaps");
    }
    if list("/spec/resourceClaims").next().is_some() {
        return Some("resourceclaims");
    }
    let has = |tree: &Value, key: &str| tree.get(key).is_some_and(|v| !v.is_null());
    let first = |tree: &Value, known: &[(&str, &'static str)]| {
        let found = known.iter().find(|(key, _)| has(tree, key));
        found.map(|(_, kind)| *kind)
    };
    list("/spec/volumes")
        .filter(|volume| !LOCAL_VOLUMES.iter().any(|local| has(volume, local)))
        .find_map(|volume| {
            let sources = volume.pointer("/projected/sources").and_then(Value::as_array);
            let projected = |source: &Value| first(source, &PROJECTED);
            first(volume, &VOLUMES).or_else(|| sources?.iter().find_map(projected))
        })
}

const VOLUMES: [(&str, &str); 7] = [
    ("configMap", "configmaps (via configmap volumes)"),
    ("secret", "secrets (via secret volumes)"),
    ("csi", "csidrivers (via CSI volumes)"),
    ("glusterfs", "endpoints (via glusterFS volumes)"),
    ("persistentVolumeClaim", "persistentvolumeclaims"),
    ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
    ("azureFile", "secrets (via azureFile volumes)"),
];

const PROJECTED: [(&str, &str); 5] = [
    ("configMap", "configmaps (via projected volumes)"),
    ("secret", "secrets (via projected volumes)"),
    ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
    ("clusterTrustBundle", "clustertrustbundles"),
    ("podCertificate", "podcertificates"),
];

/// A node does not draw pods to itself or keep them away.
fn labels_and_taints(node: &str, tree: &Value, old: Option<&Value>) -> Verdict {
    let changed = |path: &str| old.is_some_and(|old| old.pointer(path) != tree.pointer(path));
    for (path, what) in [
        ("/spec/taints", "taints"),
        ("/metadata/ownerReferences", "ownerReferences"),
    ] {
        if changed(path) {
            return deny(format!("node {node:?} is not allowed to modify {what}"));
        }
    }
    let labels = |t: Option<&Value>| {
        t.and_then(|t| t.pointer("/metadata/labels"))
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default()
    };
    let (before, after) = (labels(old), labels(Some(tree)));
    let forbidden: BTreeSet<&str> = before
        .keys()
        .chain(after.keys())
        .filter(|key| before.get(*key) != after.get(*key) && !may_label(key))
        .map(String::as_str)
        .collect();
    if forbidden.is_empty() {
        return Ok(());
    }
    let forbidden = Vec::from_iter(forbidden).join(", ");
    deny(match old {
        Some(_) => format!("is not allowed to modify labels: {forbidden}"),
        None => format!("node {node:?} is not allowed to set the following labels: {forbidden}"),
    })
}

/// Whether a kubelet may set a label of its node.
fn may_label(key: &str) -> bool {
    let namespace = key.split_once('/').map_or("", |(n, _)| n);
    let within = |domain: &str| {
        let parent = namespace.strip_suffix(domain);
        parent.is_some_and(|parent| parent.is_empty() || parent.ends_with('.'))
    };
    let kubernetes = within("kubernetes.io") || within("k8s.io");
    let kubelet = within("kubelet.kubernetes.io") || within("node.kubernetes.io") || OWN_LABELS.contains(&key);
    !within(RESTRICTED) && (!kubernetes || kubelet)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_mirror_pod_is_owned_by_its_node_alone() {
        let owner = json!({ "apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": true });
        let check = |owners: Value| {
            let pod = json!({ "metadata": { "ownerReferences": owners } });
            owned_by("n", "u", &pod).map_err(|why| why.0)
        };
        let with = |key: &str, value: Value| {
            let mut owner = owner.clone();
            owner[key] = value;
            check(json!([owner])).unwrap_err()
        };
        assert_eq!(check(json!([owner])), Ok(()));
        assert!(check(json!([])).unwrap_err().contains("an owner reference"));
        assert!(
            check(json!([owner, owner]))
                .unwrap_err()
                .contains("a single owner reference")
        );
        assert!(with("name", json!("m")).contains("an owner reference"));
        assert!(with("controller", json!(false)).contains("a controller owner reference"));
        assert!(with("blockOwnerDeletion", json!(true)).contains("must not set blockOwnerDeletion"));
        assert_eq!(with("uid", json!("v")), "node n UID mismatch: expected v got u");
    }

    #[test]
    fn a_mirror_pod_needs_nothing_of_the_api() {
        let volume = |source: &str, value: Value| {
            let mut volume = json!({ "name": "v" });
            volume[source] = value;
            object_referred_to(&json!({ "spec": { "volumes": [volume] } }))
        };
        assert_eq!(volume("hostPath", json!({ "path": "/" })), None);
        assert_eq!(volume("projected", json!({ "sources": [{ "downwardAPI": {} }] })), None);
        let token = json!({ "sources": [{ "downwardAPI": {} }, { "serviceAccountToken": { "path": "t" } }] });
        assert_eq!(
            volume("projected", token),
            Some("serviceaccounts (via projected volumes)")
        );
        assert_eq!(volume("secret", json!({ "secretName": "s" })), Some("secrets"));
        assert_eq!(
            volume("csi", json!({ "driver": "d" })),
            Some("csidrivers (via CSI volumes)")
        );
        let env = json!({ "name": "a", "env": [{ "name": "E", "valueFrom": { "configMapKeyRef": { "name": "c", "key": "k" } } }] });
        assert_eq!(
            object_referred_to(&json!({ "spec": { "containers": [env] } })),
            Some("configmaps")
        );
    }

    #[test]
    fn a_node_labels_itself_within_bounds() {
        for (key, may) in [
            ("mine", true),
            ("example.com/a", true),
            ("kubernetes.io/hostname", true),
            ("node.kubernetes.io/anything", true),
            ("x.kubelet.kubernetes.io/anything", true),
            ("notkubernetes.io/a", true),
            ("kubernetes.io/role", false),
            ("x.k8s.io/role", false),
            ("node-role.kubernetes.io/control-plane", false),
            ("node-restriction.kubernetes.io/a", false),
            ("x.node-restriction.kubernetes.io/a", false),
        ] {
            assert_eq!(may_label(key), may, "{key}");
        }
        let node = |labels: Value| json!({ "metadata": { "labels": labels } });
        let made = labels_and_taints("n", &node(json!({ "k8s.io/b": "", "k8s.io/a": "" })), None);
        let why = "node \"n\" is not allowed to set the following labels: k8s.io/a, k8s.io/b";
        assert_eq!(made, deny(why));
        let changed = labels_and_taints(
            "n",
            &node(json!({ "k8s.io/a": "2" })),
            Some(&node(json!({ "k8s.io/a": "1" }))),
        );
        assert_eq!(changed, deny("is not allowed to modify labels: k8s.io/a"));
    }
}
