//! Node authorization: a kubelet reads its own node, the pods bound to it, and what those refer to.

use serde_json::Value;

use crate::authorization::node_graph::{NodeGraph, Referent};
use crate::authorization::{Attributes, Decision};
use crate::http::user::User;
use crate::registry::Registry;

/// The namespace that nodes have their leases in.
pub const LEASES: &str = "kube-node-lease";

/// What every node may do: verbs, groups, resources. What is subdivided by `decide` is not here.
const RULES: [(&[&str], &[&str], &[&str]); 9] = [
    (&["create"], &["authentication.k8s.io"], &["tokenreviews"]),
    (
        &["create"],
        &["authorization.k8s.io"],
        &["subjectaccessreviews", "localsubjectaccessreviews"],
    ),
    (&["get", "list", "watch"], &[""], &["services"]),
    (&["create", "update", "patch"], &["", "events.k8s.io"], &["events"]),
    (&["get"], &[""], &["endpoints"]),
    (
        &["create", "get", "list", "watch"],
        &["certificates.k8s.io"],
        &["certificatesigningrequests"],
    ),
    (
        &["get", "list", "watch"],
        &["certificates.k8s.io"],
        &["clustertrustbundles"],
    ),
    (&["get", "list", "watch"], &["storage.k8s.io"], &["csidrivers"]),
    (&["get", "list", "watch"], &["node.k8s.io"], &["runtimeclasses"]),
];

/// A question of one node.
struct Question<'a> {
    registry: &'a Registry,
    graph: &'a NodeGraph,
    node: &'a str,
    a: &'a Attributes<'a>,
}

/// The decision for a node; of others it has no opinion.
pub fn decide(registry: &Registry, graph: &NodeGraph, user: &User, a: &Attributes<'_>) -> Decision {
    let Some(node) = user.node_name() else {
        return Decision::no_opinion("");
    };
    if node.is_empty() {
        return Decision::no_opinion(format!("unknown node for user {:?}", user.name));
    }
    let question = Question {
        registry,
        graph,
        node,
        a,
    };
    question.decide()
}

impl Question<'_> {
    fn decide(&self) -> Decision {
        let a = self.a;
        if !a.is_resource {
            return Decision::no_opinion("");
        }
        match (a.group, a.resource) {
            ("", "secrets") => self.read_namespaced(Referent::Secret),
            ("", "configmaps") => self.read_namespaced(Referent::ConfigMap),
            ("", "persistentvolumeclaims") if a.subresource == "status" => match a.verb {
                "update" | "patch" => self.referred(Referent::Claim),
                _ => Decision::no_opinion("can only get/update/patch this type"),
            },
            ("", "persistentvolumeclaims") => self.get(|q| q.referred(Referent::Claim)),
            ("", "persistentvolumes") => self.get(Question::volume),
            ("resource.k8s.io", "resourceclaims") => self.get(|q| q.referred(Referent::ResourceClaim)),
            ("storage.k8s.io", "volumeattachments") => self.get(|q| q.of_node("/spec/nodeName")),
            ("", "serviceaccounts") => self.service_account(),
            ("coordination.k8s.io", "leases") => self.lease(),
            ("storage.k8s.io", "csinodes") => self.csi_node(),
            ("resource.k8s.io", "resourceslices") => self.resource_slice(),
            ("certificates.k8s.io", "podcertificaterequests") => self.pod_certificate(),
            ("", "nodes") => self.own_node(),
            ("", "pods") => self.pod(),
            _ => {
                let known = RULES.iter().any(|(verbs, groups, resources)| {
                    verbs.contains(&a.verb) && groups.contains(&a.group) && resources.contains(&a.resource)
                });
                Decision {
                    allowed: known && a.subresource.is_empty(),
                    reason: String::new(),
                }
            }
        }
    }

    /// One object by its name, as `check` allows it.
    fn get(&self, check: impl FnOnce(&Self) -> Decision) -> Decision {
        if self.a.verb != "get" {
            return Decision::no_opinion("can only get individual resources of this type");
        }
        if !self.a.subresource.is_empty() {
            return Decision::no_opinion("cannot get subresource");
        }
        self.named(check)
    }

    /// An empty name is no name, and no scope either: it is never everything.
    fn named(&self, check: impl FnOnce(&Self) -> Decision) -> Decision {
        if self.a.name.is_empty() {
            return Decision::no_opinion("No Object name found");
        }
        check(self)
    }

    /// Reads of one object in one namespace; a list or watch of one name is such a read.
    fn read_namespaced(&self, kind: Referent) -> Decision {
        if !matches!(self.a.verb, "get" | "list" | "watch") {
            return Decision::no_opinion("can only read resources of this type");
        }
        if !self.a.subresource.is_empty() {
            return Decision::no_opinion("cannot read subresource");
        }
        if self.a.namespace.is_empty() {
            return Decision::no_opinion("can only read namespaced object of this type");
        }
        self.referred(kind)
    }

    /// Whether something on the node refers to the object.
    fn referred(&self, kind: Referent) -> Decision {
        self.named(|q| {
            let found = q.graph.reaches(q.registry, q.node, kind, q.a.namespace, q.a.name);
            q.related(found)
        })
    }

    fn related(&self, found: bool) -> Decision {
        if found {
            return Decision::allow();
        }
        let node = self.node;
        Decision::no_opinion(format!("no relationship found between node '{node}' and this object"))
    }

    /// A volume is related by the claim that it is bound to.
    fn volume(&self) -> Decision {
        let volume = self.registry.get("", "persistentvolumes", "", self.a.name);
        let tree = volume.and_then(|volume| volume.tree().ok());
        let claim = tree.as_ref().and_then(|tree| tree.pointer("/spec/claimRef"));
        let text = |key: &str| {
            claim
                .and_then(|c| c.get(key))
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let (namespace, name) = (text("namespace"), text("name"));
        let found = !name.is_empty()
            && self
                .graph
                .reaches(self.registry, self.node, Referent::Claim, namespace, name);
        self.related(found)
    }

    /// Whether the object itself says that it is of this node.
    fn of_node(&self, path: &str) -> Decision {
        self.named(|q| {
            let object = q.registry.get(q.a.group, q.a.resource, q.a.namespace, q.a.name);
            let tree = object.and_then(|object| object.tree().ok());
            let node = tree
                .as_ref()
                .and_then(|tree| tree.pointer(path))
                .and_then(Value::as_str);
            q.related(node == Some(q.node))
        })
    }

    fn service_account(&self) -> Decision {
        let a = self.a;
        if a.verb == "get" && a.subresource.is_empty() {
            return self.read_namespaced(Referent::ServiceAccount);
        }
        if a.verb != "create" || a.name.is_empty() {
            return Decision::no_opinion("can only create tokens for individual service accounts");
        }
        if a.subresource != "token" {
            return Decision::no_opinion("can only create token subresource of serviceaccount");
        }
        self.referred(Referent::ServiceAccount)
    }

    /// `create` has no name yet: admission compares it.
    fn own_name(&self, what: &str) -> Decision {
        if self.a.verb != "create" && self.a.name != self.node {
            let why = format!("can only access {what} with the same name as the requesting node");
            return Decision::no_opinion(why);
        }
        Decision::allow()
    }

    fn writes_one(&self) -> bool {
        matches!(self.a.verb, "get" | "create" | "update" | "patch" | "delete")
    }

    fn lease(&self) -> Decision {
        if !self.writes_one() {
            return Decision::no_opinion("can only get, create, update, patch, or delete a node lease");
        }
        if self.a.namespace != LEASES {
            let why = format!("can only access leases in the {LEASES:?} system namespace");
            return Decision::no_opinion(why);
        }
        self.own_name("node lease")
    }

    fn csi_node(&self) -> Decision {
        match self.a.subresource {
            "" if self.writes_one() => {}
            "" => return Decision::no_opinion("can only get, create, update, patch, or delete a CSINode"),
            "status" => return Decision::no_opinion("CSINode status access requires CSIVolumeHealth feature"),
            _ => return Decision::no_opinion("cannot authorize CSINode subresources"),
        }
        self.own_name("CSINode")
    }

    /// Whether the request asks for no more than what a field says is of this node.
    fn narrowed_to_node(&self, field: &str) -> bool {
        let mut terms = self.a.fields.iter();
        terms.any(|term| term.equal && term.field == field && term.value == self.node)
    }

    fn resource_slice(&self) -> Decision {
        if !self.a.subresource.is_empty() {
            return Decision::no_opinion("cannot authorize ResourceSlice subresources");
        }
        match self.a.verb {
            // admission compares the node's name
            "create" => Decision::allow(),
            "get" | "update" | "patch" | "delete" => self.of_node("/spec/nodeName"),
            "watch" | "list" | "deletecollection" if self.narrowed_to_node("spec.nodeName") => Decision::allow(),
            "watch" | "list" | "deletecollection" => {
                Decision::no_opinion("can only list/watch/deletecollection resourceslices with nodeName field selector")
            }
            _ => Decision::no_opinion(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
            ),
        }
    }

    fn pod_certificate(&self) -> Decision {
        if !self.a.subresource.is_empty() {
            return Decision::no_opinion("nodes may not access the status subresource of PodCertificateRequests");
        }
        match self.a.verb {
            // admission looks at what is asked for
            "create" => Decision::allow(),
            "get" => self.of_node("/spec/nodeName"),
            "list" | "watch" if self.narrowed_to_node("spec.nodeName") => Decision::allow(),
            "list" | "watch" => {
                Decision::no_opinion("can only list/watch podcertificaterequests with nodeName field selector")
            }
            verb => Decision::no_opinion(format!("nodes may not {verb} podcertificaterequests")),
        }
    }

    /// A node may ask for itself before it is there. What it writes is up to admission.
    fn own_node(&self) -> Decision {
        let (node, a) = (self.node, self.a);
        match (a.subresource, a.verb) {
            ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Decision::allow(),
            ("", "get" | "list" | "watch") if a.name == node => Decision::allow(),
            ("", "get" | "list" | "watch") if a.name.is_empty() => {
                Decision::no_opinion(format!("node '{node}' cannot read all nodes, only its own Node object"))
            }
            ("", "get" | "list" | "watch") => Decision::no_opinion(format!(
                "node '{node}' cannot read '{}', only its own Node object",
                a.name
            )),
            _ => Decision::no_opinion(""),
        }
    }

    /// What a node writes of pods is up to admission.
    fn pod(&self) -> Decision {
        match (self.a.subresource, self.a.verb) {
            ("", "get") => self.get(|q| q.of_node("/spec/nodeName")),
            ("", "list" | "watch") if self.narrowed_to_node("spec.nodeName") => Decision::allow(),
            ("", "list" | "watch") if !self.a.name.is_empty() => self.of_node("/spec/nodeName"),
            ("", "list" | "watch") => {
                Decision::no_opinion("can only list/watch pods with spec.nodeName field selector")
            }
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Decision::allow(),
            _ => Decision::no_opinion(""),
        }
    }
}
