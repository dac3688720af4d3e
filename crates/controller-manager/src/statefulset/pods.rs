//! The pods and claims of a StatefulSet: their names, and what makes each the one it is.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, Volume};

use crate::Error;
use crate::history::{self, REVISION_HASH};
use crate::meta::{controller_reference, label, name, namespace};
use crate::pods::from_template;

pub(super) const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
pub(super) const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// Whether a pod is the set's by its name: others that have the labels are not.
pub(super) fn is_member(set: &str, pod: &str) -> bool {
    let number = pod.strip_prefix(set).and_then(|rest| rest.strip_prefix('-'));
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// The number at the end of a pod's name, if the rest is the set's.
pub(super) fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let (parent, number) = name(pod).rsplit_once('-')?;
    (parent == name(set)).then(|| number.parse().ok()).flatten()
}

fn claim_templates(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    set.spec.volume_claim_templates.as_deref().unwrap_or_default()
}

fn claim_name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{}-{ordinal}", name(template), name(set))
}

/// The names of a pod's claims.
pub(super) fn claim_names(set: &StatefulSet, pod: &Pod) -> Vec<String> {
    let Some(at) = ordinal(set, pod) else {
        return Vec::new();
    };
    let templates = claim_templates(set).iter();
    templates.map(|template| claim_name(set, template, at)).collect()
}

/// What is known of a pod before it is made.
pub(super) fn unborn(set: &StatefulSet, ordinal: i32) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.name = Some(format!("{}-{ordinal}", name(set)));
    pod.metadata.namespace = Some(namespace(set).to_owned());
    pod
}

/// Whether a pod says itself which one it is.
pub(super) fn has_identity(pod: &Pod) -> bool {
    label(pod, POD_NAME) == Some(name(pod))
}

/// The claims of one pod, as they are created.
pub(super) fn claims(set: &StatefulSet, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let selector = set.spec.selector.match_labels.clone().unwrap_or_default();
    claim_templates(set)
        .iter()
        .map(|template| {
            let mut claim = template.clone();
            claim.metadata.name = Some(claim_name(set, template, ordinal));
            claim.metadata.namespace = Some(namespace(set).to_owned());
            claim.metadata.labels.get_or_insert_default().extend(selector.clone());
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
    pod.metadata.generate_name = Some(format!("{}-", name(set)));
    let labels: &mut BTreeMap<String, String> = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME.to_owned(), pod_name.clone());
    labels.insert(POD_INDEX.to_owned(), ordinal.to_string());
    labels.insert(REVISION_HASH.to_owned(), name(revision).to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(pod_name);
    spec.subdomain = set.spec.service_name.clone().filter(|s| !s.is_empty());
    let templates = claim_templates(set);
    let mut others = spec.volumes.take().unwrap_or_default();
    others.retain(|v| !templates.iter().any(|t| name(t) == v.name));
    let claimed = templates.iter().map(|template| Volume {
        name: name(template).to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim_name(set, template, ordinal),
            read_only: None,
        }),
        ..Volume::default()
    });
    let volumes: Vec<Volume> = claimed.chain(others).collect();
    spec.volumes = (!volumes.is_empty()).then_some(volumes);
    Ok(pod)
}
