//! The pods and claims of a StatefulSet: their names, and what makes each the one it is.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::Error;
use crate::history::{self, REVISION_HASH};
use crate::meta::{controller_reference, name, namespace, uid};
use crate::pods::from_template;

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The number at the end of a pod's name, if the rest is the set's.
pub(super) fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let (parent, number) = name(pod).rsplit_once('-')?;
    (parent == name(set)).then(|| number.parse().ok()).flatten()
}

fn claim_templates(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    let spec = set.spec.as_ref();
    spec.and_then(|s| s.volume_claim_templates.as_deref())
        .unwrap_or_default()
}

fn claim_name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{}-{ordinal}", name(template), name(set))
}

/// Whether claims are deleted with the set, and when it is scaled down.
pub(super) fn claims_go(set: &StatefulSet) -> (bool, bool) {
    let policy = set
        .spec
        .as_ref()
        .and_then(|s| s.persistent_volume_claim_retention_policy.clone());
    let policy = policy.unwrap_or_default();
    let delete = |p: Option<String>| p.as_deref() == Some("Delete");
    (delete(policy.when_deleted), delete(policy.when_scaled))
}

fn set_reference(set: &StatefulSet) -> OwnerReference {
    OwnerReference {
        controller: None,
        block_owner_deletion: None,
        ..controller_reference(set)
    }
}

/// The owners a claim should have: the set if it dies with it, the pod if that is being scaled away.
pub(super) fn claim_owners(
    set: &StatefulSet,
    pod: Option<&Pod>,
    condemned: bool,
    existing: &[OwnerReference],
) -> Vec<OwnerReference> {
    let (with_set, with_scale) = claims_go(set);
    let ours = |o: &OwnerReference| o.uid == uid(set) || (o.kind == "Pod" && pod.is_some_and(|p| o.name == name(p)));
    let mut owners: Vec<OwnerReference> = existing.iter().filter(|o| !ours(o)).cloned().collect();
    match (condemned && with_scale, pod) {
        (true, Some(pod)) => owners.push(OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: name(pod).to_owned(),
            uid: uid(pod).to_owned(),
            controller: None,
            block_owner_deletion: None,
        }),
        _ if with_set => owners.push(set_reference(set)),
        _ => {}
    }
    owners
}

/// The claims of one pod, as they are created.
pub(super) fn claims(set: &StatefulSet, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let selector = set
        .spec
        .as_ref()
        .and_then(|s| s.selector.match_labels.clone())
        .unwrap_or_default();
    claim_templates(set)
        .iter()
        .map(|template| {
            let mut claim = template.clone();
            claim.metadata.name = Some(claim_name(set, template, ordinal));
            claim.metadata.namespace = Some(namespace(set).to_owned());
            claim.metadata.labels.get_or_insert_default().extend(selector.clone());
            let owners = claim_owners(set, None, false, &[]);
            claim.metadata.owner_references = (!owners.is_empty()).then_some(owners);
            claim.status = None;
            claim
        })
        .collect()
}

/// The pod of an ordinal at a revision.
pub(super) fn pod(set: &StatefulSet, ordinal: i32, revision: &ControllerRevision) -> Result<Pod, Error> {
    let template = history::template_of(revision)?;
    let pod_name = format!("{}-{ordinal}", name(set));
    let mut pod = from_template(
        &template,
        namespace(set),
        &controller_reference(set),
        Some(pod_name.clone()),
    );
    let labels: &mut BTreeMap<String, String> = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME.to_owned(), pod_name.clone());
    labels.insert(POD_INDEX.to_owned(), ordinal.to_string());
    labels.insert(REVISION_HASH.to_owned(), name(revision).to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(pod_name);
    spec.subdomain = set
        .spec
        .as_ref()
        .and_then(|s| s.service_name.clone())
        .filter(|s| !s.is_empty());
    let templates = claim_templates(set);
    let volumes = spec.volumes.get_or_insert_default();
    volumes.retain(|v| !templates.iter().any(|t| name(t) == v.name));
    volumes.extend(templates.iter().map(|template| Volume {
        name: name(template).to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim_name(set, template, ordinal),
            read_only: Some(false),
        }),
        ..Volume::default()
    }));
    if volumes.is_empty() {
        spec.volumes = None;
    }
    Ok(pod)
}
