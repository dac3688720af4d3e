//! Which nodes have a pod that refers to an object. Kept by the changes of pods and volumes, so that a question costs what has
//! changed since the last one and not what there is.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::registry::Registry;
use crate::registry::cached::Cached;

/// Pods with this annotation are made by kubelets and give their node nothing.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Kinds of objects that pods refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Referent {
    Secret,
    ConfigMap,
    Claim,
    ServiceAccount,
    ResourceClaim,
}

/// An object that is referred to.
type Key = (Referent, Box<str>, Box<str>);

/// Who refers to an object, and how often.
type Counts = HashMap<Box<str>, u32>;

/// The graph: from objects to nodes, and from Secrets to the claims of the volumes that need them.
#[derive(Debug, Default)]
pub struct NodeGraph(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Revisions of the last change of pods and of volumes that is in here; `None` before the first question.
    pods_at: Option<u64>,
    volumes_at: Option<u64>,
    nodes: HashMap<Key, Counts>,
    /// `namespace/name` of a Secret to `namespace/name` of claims.
    secrets: HashMap<Box<str>, Counts>,
}

impl NodeGraph {
    /// Whether a pod of the node refers to an object, or the volume of its claim does.
    pub fn reaches(&self, registry: &Registry, node: &str, kind: Referent, namespace: &str, name: &str) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.follow_pods(registry);
        if state.has(node, kind, namespace, name) {
            return true;
        }
        if kind != Referent::Secret {
            return false;
        }
        state.follow_volumes(registry);
        let claims = state.secrets.get(&*format!("{namespace}/{name}"));
        claims.is_some_and(|claims| {
            let mut claims = claims.keys().filter_map(|claim| claim.split_once('/'));
            claims.any(|(namespace, claim)| state.has(node, Referent::Claim, namespace, claim))
        })
    }
}

impl State {
    fn has(&self, node: &str, kind: Referent, namespace: &str, name: &str) -> bool {
        let nodes = self.nodes.get(&(kind, namespace.into(), name.into()));
        nodes.is_some_and(|nodes| nodes.contains_key(node))
    }

    fn follow_pods(&mut self, registry: &Registry) {
        let since = self.pods_at;
        self.pods_at = follow(registry, "pods", since, |change| match change {
            Step::Anew => self.nodes.clear(),
            Step::Change(old, new) if stays(old, new) => {}
            Step::Change(old, new) => {
                each_reference(old, |key, node| give_back(&mut self.nodes, &key, node));
                each_reference(new, |key, node| take(&mut self.nodes, key, node));
            }
        });
    }

    fn follow_volumes(&mut self, registry: &Registry) {
        let since = self.volumes_at;
        self.volumes_at = follow(registry, "persistentvolumes", since, |change| match change {
            Step::Anew => self.secrets.clear(),
            Step::Change(old, new) => {
                each_volume_secret(old, |secret, claim| give_back(&mut self.secrets, &secret, claim));
                each_volume_secret(new, |secret, claim| take(&mut self.secrets, secret, claim));
            }
        });
    }
}

/// What happened to a kind.
enum Step<'a> {
    /// The changes since the last question are forgotten: what follows is all there is.
    Anew,
    /// An object before and after.
    Change(Option<&'a Cached>, Option<&'a Cached>),
}

/// Tells each change since the last question; the revision to go on from.
fn follow(registry: &Registry, plural: &str, since: Option<u64>, mut tell: impl FnMut(Step<'_>)) -> Option<u64> {
    let catalog = registry.catalog();
    let cache = &catalog.stored("", plural)?.cache;
    if let Some((revision, changes)) = since.and_then(|since| cache.changes_after(since)) {
        for change in changes {
            let now = (!change.deleted).then_some(&*change.current);
            tell(Step::Change(change.previous.as_deref(), now));
        }
        return Some(revision);
    }
    let (revision, objects) = cache.snapshot();
    tell(Step::Anew);
    for object in objects {
        tell(Step::Change(None, Some(&*object)));
    }
    Some(revision)
}

fn take<K: Eq + std::hash::Hash>(map: &mut HashMap<K, Counts>, key: K, who: &str) {
    *map.entry(key).or_default().entry(who.into()).or_default() += 1;
}

fn give_back<K: Eq + std::hash::Hash>(map: &mut HashMap<K, Counts>, key: &K, who: &str) {
    let Some(counts) = map.get_mut(key) else { return };
    if let Some(count) = counts.get_mut(who) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(who);
        }
    }
    if counts.is_empty() {
        map.remove(key);
    }
}

/// Whether a pod refers to what it did before, told without reading it: only its node, its ephemeral containers (which
/// count its generation up) and the claims in its status may change.
fn stays(old: Option<&Cached>, new: Option<&Cached>) -> bool {
    let (Some(old), Some(new)) = (old, new) else {
        return false;
    };
    let (before, after) = (&old.object.meta, &new.object.meta);
    let claims = |pod: &Cached| {
        let has = |word: &[u8]| memchr::memmem::find(&pod.object.bytes, word).is_some();
        has(b"\"resourceClaimStatuses\"") || has(b"\"extendedResourceClaimStatus\"")
    };
    old.fields.first() == new.fields.first()
        && before.uid == after.uid
        && before.generation == after.generation
        && !claims(old)
        && !claims(new)
}

/// Calls `each` with what a bound pod refers to and its node.
fn each_reference(pod: Option<&Cached>, mut each: impl FnMut(Key, &str)) {
    let Some(pod) = pod else { return };
    let Some(node) = pod.fields.first().filter(|node| !node.is_empty()) else {
        return;
    };
    // a pod that cannot be read gives its node nothing
    let Ok(tree) = pod.tree() else { return };
    if tree
        .pointer("/metadata/annotations")
        .is_some_and(|a| a.get(MIRROR).is_some())
    {
        return;
    }
    let namespace = &*pod.object.meta.namespace;
    references(&tree, &mut |kind, name| {
        if !name.is_empty() {
            each((kind, namespace.into(), name.into()), node);
        }
    });
}

fn text<'a>(tree: &'a Value, path: &str) -> &'a str {
    tree.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(tree: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    tree.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

/// Calls `each` with everything that a pod refers to in its namespace; the name is empty where there is none.
pub fn references(pod: &Value, each: &mut dyn FnMut(Referent, &str)) {
    each(Referent::ServiceAccount, text(pod, "/spec/serviceAccountName"));
    for secret in list(pod, "/spec/imagePullSecrets") {
        each(Referent::Secret, text(secret, "/name"));
    }
    for field in ["/spec/containers", "/spec/initContainers", "/spec/ephemeralContainers"] {
        for container in list(pod, field) {
            for source in list(container, "/envFrom") {
                each(Referent::ConfigMap, text(source, "/configMapRef/name"));
                each(Referent::Secret, text(source, "/secretRef/name"));
            }
            for variable in list(container, "/env") {
                each(Referent::ConfigMap, text(variable, "/valueFrom/configMapKeyRef/name"));
                each(Referent::Secret, text(variable, "/valueFrom/secretKeyRef/name"));
            }
        }
    }
    for volume in list(pod, "/spec/volumes") {
        volume_references(pod, volume, each);
    }
    for claim in list(pod, "/status/resourceClaimStatuses") {
        each(Referent::ResourceClaim, text(claim, "/resourceClaimName"));
    }
    for claim in list(pod, "/spec/resourceClaims") {
        each(Referent::ResourceClaim, text(claim, "/resourceClaimName"));
    }
    let extended = text(pod, "/status/extendedResourceClaimStatus/resourceClaimName");
    each(Referent::ResourceClaim, extended);
}

fn volume_references(pod: &Value, volume: &Value, each: &mut dyn FnMut(Referent, &str)) {
    each(Referent::ConfigMap, text(volume, "/configMap/name"));
    each(Referent::Claim, text(volume, "/persistentVolumeClaim/claimName"));
    if volume.get("ephemeral").is_some_and(|e| !e.is_null()) {
        let claim = format!("{}-{}", text(pod, "/metadata/name"), text(volume, "/name"));
        each(Referent::Claim, &claim);
    }
    for source in list(volume, "/projected/sources") {
        each(Referent::ConfigMap, text(source, "/configMap/name"));
        each(Referent::Secret, text(source, "/secret/name"));
    }
    for place in [
        "/secret/secretName",
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
        each(Referent::Secret, text(volume, place));
    }
}

/// Calls `each` with the Secrets that a kubelet needs for a bound volume, and the volume's claim; both `namespace/name`.
fn each_volume_secret(volume: Option<&Cached>, mut each: impl FnMut(Box<str>, &str)) {
    let Some(Ok(tree)) = volume.map(Cached::tree) else {
        return;
    };
    let (home, claim) = (
        text(&tree, "/spec/claimRef/namespace"),
        text(&tree, "/spec/claimRef/name"),
    );
    if claim.is_empty() {
        return;
    }
    let bound = format!("{home}/{claim}");
    let mut secret = |namespace: &str, name: &str, fallback: &str| {
        let namespace = if namespace.is_empty() { fallback } else { namespace };
        if !name.is_empty() {
            each(format!("{namespace}/{name}").into(), &bound);
        }
    };
    let azure = "/spec/azureFile";
    secret(
        text(&tree, &format!("{azure}/secretNamespace")),
        text(&tree, &format!("{azure}/secretName")),
        home,
    );
    // some kinds of volumes find their Secret beside the claim when no namespace is given, others nowhere
    for (place, fallback) in [
        ("cephfs/secretRef", home),
        ("flexVolume/secretRef", home),
        ("rbd/secretRef", home),
        ("scaleIO/secretRef", home),
        ("iscsi/secretRef", home),
        ("cinder/secretRef", ""),
        ("storageos/secretRef", ""),
        ("csi/nodePublishSecretRef", ""),
        ("csi/nodeStageSecretRef", ""),
        ("csi/nodeExpandSecretRef", ""),
    ] {
        let at = |key: &str| text(&tree, &format!("/spec/{place}/{key}"));
        secret(at("namespace"), at("name"), fallback);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_refers_to_what_its_containers_and_volumes_name() {
        let pod = json!({
            "metadata": { "name": "p", "namespace": "n" },
            "spec": {
                "serviceAccountName": "sa",
                "imagePullSecrets": [{ "name": "pull" }],
                "ephemeralContainers": [{ "envFrom": [{ "secretRef": { "name": "from" } }] }],
                "containers": [{ "env": [{ "valueFrom": { "configMapKeyRef": { "name": "cm" } } }] }],
                "volumes": [
                    { "name": "v", "ephemeral": {} },
                    { "name": "w", "projected": { "sources": [{ "secret": { "name": "projected" } }] } },
                    { "name": "x", "csi": { "nodePublishSecretRef": { "name": "csi" } } },
                ],
                "resourceClaims": [{ "name": "a", "resourceClaimName": "direct" }],
            },
            "status": { "resourceClaimStatuses": [{ "name": "b", "resourceClaimName": "made" }] },
        });
        let mut found = Vec::new();
        references(&pod, &mut |kind, name| {
            if !name.is_empty() {
                found.push((kind, name.to_owned()));
            }
        });
        let want = [
            (Referent::ServiceAccount, "sa"),
            (Referent::Secret, "pull"),
            (Referent::ConfigMap, "cm"),
            (Referent::Secret, "from"),
            (Referent::Claim, "p-v"),
            (Referent::Secret, "projected"),
            (Referent::Secret, "csi"),
            (Referent::ResourceClaim, "made"),
            (Referent::ResourceClaim, "direct"),
        ];
        let want: Vec<_> = want.iter().map(|(kind, name)| (*kind, (*name).to_owned())).collect();
        assert_eq!(found, want);
    }

    #[test]
    fn what_is_taken_twice_is_there_until_it_is_given_back_twice() {
        let mut map: HashMap<u8, Counts> = HashMap::new();
        take(&mut map, 1, "a");
        take(&mut map, 1, "a");
        give_back(&mut map, &1, "a");
        assert!(map[&1].contains_key("a"));
        give_back(&mut map, &1, "a");
        give_back(&mut map, &1, "a");
        assert!(map.is_empty());
    }
}
