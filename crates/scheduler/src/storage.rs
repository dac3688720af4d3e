//! What the scheduler knows of claims, volumes and storage classes.

use std::collections::HashMap;

use api::object::Object;
use api::quantity::Quantity;
use api::selectors::LabelSelector;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::node::NodeInfo;
use crate::node_affinity::Term;
use crate::pod::RawNodeSelector;

/// Where the pod goes that a claim waits for.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// A PersistentVolumeClaim, as far as it matters where its pods run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claim {
    pub uid: Box<str>,
    /// The volume it is bound to.
    pub volume: Option<String>,
    /// The volume that it was bound to and that is gone.
    pub lost: Option<String>,
    /// The uid of who made it for itself.
    pub owner: Box<str>,
    /// A volume is asked for by its name: the binder's business.
    pub named: bool,
    pub class: Option<String>,
    pub deleting: bool,
    /// May be used by one pod at a time (`ReadWriteOncePod`).
    pub one_pod: bool,
    /// Where its volume is being made.
    pub selected_node: Option<String>,
    pub wants: Wants,
}

/// What a claim asks of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wants {
    pub size: Option<Quantity>,
    pub modes: Vec<String>,
    pub block: bool,
    pub attributes: String,
    pub labels: Option<LabelSelector>,
}

/// A PersistentVolume, as far as it matters where its pods run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Volume {
    /// Where it can be used; everywhere without.
    pub terms: Option<Vec<Term>>,
    pub size: Option<Quantity>,
    pub modes: Vec<String>,
    pub block: bool,
    pub attributes: String,
    pub class: String,
    pub labels: Vec<(Box<str>, Box<str>)>,
    pub available: bool,
    pub deleting: bool,
    /// `namespace/name` and uid, perhaps empty, of the claim that it is kept for or bound to.
    pub owner: Option<(String, String)>,
}

/// What a StorageClass says of binding.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Class {
    /// Claims are bound when their first pod has a node.
    pub waits: bool,
    /// Nobody makes volumes of this class.
    pub no_provisioner: bool,
    /// Where volumes can be made; everywhere without.
    pub topologies: Vec<Term>,
}

/// Claims by `namespace/name`, volumes and classes by name.
#[derive(Debug, Default)]
pub struct Storage {
    pub claims: HashMap<String, Claim>,
    pub volumes: HashMap<String, Volume>,
    pub classes: HashMap<String, Class>,
    /// Claims of pods that got a node, until they are seen bound: with the volume that each is to get, if one is there.
    pub assumed: HashMap<String, Option<String>>,
}

#[derive(Deserialize)]
struct RawClaim {
    metadata: RawMetadata,
    spec: RawClaimSpec,
    #[serde(default)]
    status: RawPhase,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawClaimSpec {
    volume_name: Option<String>,
    storage_class_name: Option<String>,
    #[serde(default)]
    access_modes: Option<Vec<String>>,
    volume_mode: Option<String>,
    volume_attributes_class_name: Option<String>,
    selector: Option<Value>,
    #[serde(default)]
    resources: RawResources,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawResources {
    requests: Option<HashMap<String, String>>,
}

#[derive(Deserialize)]
struct RawMetadata {
    #[serde(default)]
    annotations: Option<HashMap<String, String>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawPhase {
    phase: String,
}

#[derive(Deserialize)]
struct RawVolume {
    spec: RawVolumeSpec,
    #[serde(default)]
    status: RawPhase,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawVolumeSpec {
    node_affinity: Option<RawVolumeAffinity>,
    capacity: Option<HashMap<String, String>>,
    access_modes: Option<Vec<String>>,
    volume_mode: Option<String>,
    volume_attributes_class_name: Option<String>,
    storage_class_name: Option<String>,
    claim_ref: Option<RawReference>,
}

#[derive(Deserialize)]
struct RawReference {
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    uid: String,
}

#[derive(Deserialize)]
struct RawVolumeAffinity {
    required: Option<RawNodeSelector>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawClass {
    #[serde(default)]
    provisioner: String,
    volume_binding_mode: Option<String>,
    allowed_topologies: Option<Vec<Value>>,
}

fn size(list: Option<&HashMap<String, String>>) -> Option<Quantity> {
    list?.get("storage")?.parse().ok()
}

fn is_block(mode: Option<&str>) -> bool {
    mode == Some("Block")
}

impl Claim {
    /// Reads it.
    ///
    /// # Errors
    /// When the object is not of its type.
    pub fn of(object: &Object) -> Result<Claim, serde_json::Error> {
        let raw: RawClaim = object.decode()?;
        let bound = raw.status.phase == "Bound";
        let volume = raw.spec.volume_name.filter(|v| !v.is_empty());
        let modes = raw.spec.access_modes.unwrap_or_default();
        // a selector that cannot be read selects nothing
        let labels = raw.spec.selector.filter(|s| !s.is_null());
        let labels = labels.map(|s| LabelSelector::from_tree(&s).unwrap_or_else(|_| LabelSelector::nothing()));
        Ok(Claim {
            uid: object.meta.uid.clone(),
            lost: volume.clone().filter(|_| raw.status.phase == "Lost"),
            owner: object.meta.controller().map(|o| o.uid.clone()).unwrap_or_default(),
            named: volume.is_some(),
            volume: volume.filter(|_| bound),
            class: raw.spec.storage_class_name,
            deleting: object.meta.deleting,
            one_pod: modes.iter().any(|m| m == "ReadWriteOncePod"),
            selected_node: raw.metadata.annotations.and_then(|mut a| a.remove(SELECTED_NODE)),
            wants: Wants {
                size: size(raw.spec.resources.requests.as_ref()),
                modes,
                block: is_block(raw.spec.volume_mode.as_deref()),
                attributes: raw.spec.volume_attributes_class_name.unwrap_or_default(),
                labels,
            },
        })
    }
}

impl Volume {
    /// Reads it.
    ///
    /// # Errors
    /// When the object is not of its type.
    pub fn of(object: &Object) -> Result<Volume, serde_json::Error> {
        let raw: RawVolume = object.decode()?;
        let required = raw.spec.node_affinity.and_then(|a| a.required);
        let labels = object.meta.labels.iter();
        Ok(Volume {
            terms: required.map(|r| r.node_selector_terms.iter().map(Term::of).collect()),
            size: size(raw.spec.capacity.as_ref()),
            modes: raw.spec.access_modes.unwrap_or_default(),
            block: is_block(raw.spec.volume_mode.as_deref()),
            attributes: raw.spec.volume_attributes_class_name.unwrap_or_default(),
            class: raw.spec.storage_class_name.unwrap_or_default(),
            labels: labels.map(|(k, v)| (k.clone(), v.clone())).collect(),
            available: raw.status.phase == "Available",
            deleting: object.meta.deleting,
            owner: raw
                .spec
                .claim_ref
                .map(|r| (format!("{}/{}", r.namespace, r.name), r.uid)),
        })
    }

    /// Whether the volume can be used on a node.
    pub fn usable_on(&self, node: &NodeInfo) -> bool {
        self.terms.as_ref().is_none_or(|t| t.iter().any(|t| t.matches(node)))
    }

    /// Whether it is what the claim asks for, whoever may have it.
    fn fits(&self, claim: &Claim) -> bool {
        let wants = &claim.wants;
        let wanted = wants.size.as_ref();
        wanted.is_none_or(|w| self.size.as_ref().is_some_and(|s| s >= w))
            && !self.deleting
            && self.block == wants.block
            && self.attributes == wants.attributes
    }

    /// Whether nobody has it, and the claim may.
    fn is_free_for(&self, claim: &Claim) -> bool {
        let label = |key: &str| self.labels.iter().find(|(k, _)| **k == *key).map(|(_, v)| &**v);
        self.owner.is_none()
            && self.available
            && self.class == claim.class.as_deref().unwrap_or_default()
            && claim.wants.labels.as_ref().is_none_or(|w| w.matches(label))
            && claim.wants.modes.iter().all(|m| self.modes.contains(m))
    }

    fn is_of(&self, key: &str, claim: &Claim) -> bool {
        let owner = self.owner.as_ref();
        owner.is_some_and(|(name, uid)| name == key && (uid.is_empty() || **uid == *claim.uid))
    }
}

impl Class {
    /// Reads it.
    ///
    /// # Errors
    /// When the object is not of its type.
    pub fn of(object: &Object) -> Result<Class, serde_json::Error> {
        let raw: RawClass = object.decode()?;
        let mut topologies = Vec::new();
        for term in raw.allowed_topologies.iter().flatten() {
            let all = term["matchLabelExpressions"].as_array().into_iter().flatten();
            let all = all.map(|e| json!({ "key": e["key"], "operator": "In", "values": e["values"] }));
            let term = json!({ "matchExpressions": all.collect::<Vec<_>>() });
            topologies.push(Term::of(&serde_json::from_value(term)?));
        }
        Ok(Class {
            waits: raw.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"),
            no_provisioner: matches!(raw.provisioner.as_str(), "" | "kubernetes.io/no-provisioner"),
            topologies,
        })
    }
}

/// What is done for a claim once its pod has a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimPlan {
    /// The volume is kept for it.
    Volume { claim: String, volume: String },
    /// Its provisioner is told the node.
    Provision { claim: String },
}

impl ClaimPlan {
    /// The name of the claim.
    pub fn claim(&self) -> &str {
        match self {
            ClaimPlan::Volume { claim, .. } | ClaimPlan::Provision { claim } => claim,
        }
    }
}

impl Storage {
    /// Whether the claim is bound when its first pod has a node, and is not yet.
    pub fn is_delayed(&self, claim: &Claim) -> bool {
        let class = claim.class.as_ref().and_then(|c| self.classes.get(c));
        claim.volume.is_none() && !claim.named && class.is_some_and(|c| c.waits)
    }

    /// How the unbound claims among these get volumes on the node; `None` if one of them cannot. The smallest claim
    /// chooses first, and takes the smallest volume.
    pub fn plan<'a>(&self, claims: impl Iterator<Item = &'a str>, node: &NodeInfo) -> Option<Vec<ClaimPlan>> {
        let known = claims.filter_map(|key| Some((key, self.claims.get(key)?)));
        let mut open: Vec<(&str, &Claim)> = known.filter(|(_, c)| self.is_delayed(c)).collect();
        open.sort_by_key(|(_, claim)| claim.wants.size);
        let mut plans: Vec<ClaimPlan> = Vec::new();
        for (key, claim) in open {
            let elsewhere = claim.selected_node.as_ref().is_some_and(|n| **n != *node.name);
            if elsewhere {
                return None;
            }
            let taken = |name: &str| {
                let planned = |p: &ClaimPlan| matches!(p, ClaimPlan::Volume { volume, .. } if volume == name);
                let assumed = self
                    .assumed
                    .iter()
                    .any(|(by, v)| by != key && v.as_deref() == Some(name));
                plans.iter().any(planned) || assumed
            };
            let fitting = self.volumes.iter().filter(|(name, v)| v.fits(claim) && !taken(name));
            // Upstream: `FindMatchingVolume`. One that is kept for the claim excludes the others, also where it cannot be used.
            let best = match fitting.clone().find(|(_, v)| v.is_of(key, claim)) {
                Some((name, kept)) => Some(name).filter(|_| kept.usable_on(node)),
                None => {
                    let free = fitting.filter(|(_, v)| v.is_free_for(claim) && v.usable_on(node));
                    free.min_by_key(|(name, v)| (&v.size, *name)).map(|(name, _)| name)
                }
            };
            let claim_key = key.to_owned();
            if let Some(volume) = best.filter(|_| claim.selected_node.is_none()) {
                let volume = volume.clone();
                plans.push(ClaimPlan::Volume {
                    claim: claim_key,
                    volume,
                });
                continue;
            }
            let class = claim.class.as_ref().and_then(|c| self.classes.get(c))?;
            let reachable = class.topologies.is_empty() || class.topologies.iter().any(|t| t.matches(node));
            if class.no_provisioner || !reachable {
                return None;
            }
            plans.push(ClaimPlan::Provision { claim: claim_key });
        }
        Some(plans)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::NodeFacts;
    use crate::snapshot::Snapshot;

    fn object(tree: &Value) -> std::sync::Arc<Object> {
        Object::parse(tree.to_string().into()).unwrap()
    }

    fn claim(name: &str, class: &str, size: &str) -> (String, Claim) {
        let tree = json!({ "metadata": { "name": name, "namespace": "n", "uid": name }, "status": { "phase": "Pending" },
            "spec": { "storageClassName": class, "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": size } } } });
        (format!("n/{name}"), Claim::of(&object(&tree)).unwrap())
    }

    fn snapshot() -> Snapshot {
        let mut snapshot = Snapshot::default();
        for node in ["a", "b"] {
            let tree = json!({ "metadata": { "name": node, "labels": { "host": node } }, "spec": {}, "status": {} });
            let facts = NodeFacts::of(&object(&tree)).unwrap();
            snapshot.set_node(node, facts);
        }
        for (name, node, size) in [("va", "a", "5Gi"), ("va-big", "a", "9Gi"), ("vb", "b", "5Gi")] {
            let tree = json!({ "metadata": { "name": name }, "status": { "phase": "Available" }, "spec": {
                "capacity": { "storage": size }, "accessModes": ["ReadWriteOnce"], "storageClassName": "local",
                "nodeAffinity": { "required": { "nodeSelectorTerms": [
                    { "matchExpressions": [{ "key": "host", "operator": "In", "values": [node] }] }] } } } });
            let volume = Volume::of(&object(&tree)).unwrap();
            snapshot.storage.volumes.insert(name.to_owned(), volume);
        }
        for (name, provisioner) in [("local", "kubernetes.io/no-provisioner"), ("made", "example.com/x")] {
            let tree = json!({ "metadata": { "name": name }, "provisioner": provisioner,
                "volumeBindingMode": "WaitForFirstConsumer", "allowedTopologies": [
                    { "matchLabelExpressions": [{ "key": "host", "values": ["b"] }] }] });
            let class = Class::of(&object(&tree)).unwrap();
            snapshot.storage.classes.insert(name.to_owned(), class);
        }
        snapshot
    }

    fn plan(snapshot: &Snapshot, claims: &[&str], node: &str) -> Option<Vec<String>> {
        let plan = snapshot
            .storage
            .plan(claims.iter().copied(), snapshot.node(node).unwrap())?;
        let shown = plan.iter().map(|p| match p {
            ClaimPlan::Volume { claim, volume } => format!("{claim}={volume}"),
            ClaimPlan::Provision { claim } => format!("{claim} made"),
        });
        Some(shown.collect())
    }

    #[test]
    fn claims_get_the_smallest_volumes_of_the_node_or_are_made_there() {
        let mut snapshot = snapshot();
        snapshot.storage.claims = [
            claim("large", "local", "4Gi"),
            claim("small", "local", "1Gi"),
            claim("new", "made", "1Gi"),
        ]
        .into();
        let both = ["n/large", "n/small"];
        assert_eq!(
            plan(&snapshot, &both, "a"),
            Some(vec!["n/small=va".into(), "n/large=va-big".into()])
        );
        assert_eq!(plan(&snapshot, &both, "b"), None, "one volume for two claims");
        assert_eq!(plan(&snapshot, &["n/new"], "a"), None, "not in that zone");
        assert_eq!(plan(&snapshot, &["n/new"], "b"), Some(vec!["n/new made".into()]));

        let kept = snapshot.storage.volumes.get_mut("va-big").unwrap();
        kept.owner = Some(("n/small".into(), String::new()));
        assert_eq!(plan(&snapshot, &["n/small"], "a"), Some(vec!["n/small=va-big".into()]));
        assert_eq!(plan(&snapshot, &["n/small"], "b"), None, "its own volume is elsewhere");
        snapshot.storage.volumes.get_mut("va-big").unwrap().owner = None;

        snapshot.storage.assumed.insert("n/other".into(), Some("va".into()));
        assert_eq!(plan(&snapshot, &["n/small"], "a"), Some(vec!["n/small=va-big".into()]));
        snapshot.storage.claims.get_mut("n/new").unwrap().selected_node = Some("a".into());
        assert_eq!(plan(&snapshot, &["n/new"], "b"), None, "it is being made elsewhere");
    }
}
