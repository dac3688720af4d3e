//! ControllerRevisions: the templates that a DaemonSet or StatefulSet has had, for rolling updates and undo.

use std::collections::{BTreeMap, HashSet};

use client::{Cache, Client, DeleteParams, Patch};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::{Value, json};

use crate::Error;
use crate::error::{decode, tree};
use crate::informers::BY_CONTROLLER;
use crate::meta::{hash_of, is_deleting, label, name, namespace};

pub(crate) const REVISION_HASH: &str = "controller-revision-hash";
pub(crate) const HASH: &str = "controller.kubernetes.io/hash";

/// The patch that brings an object back to a template.
fn data_of(template: &PodTemplateSpec) -> Result<Value, Error> {
    let mut template = tree("template", template)?;
    template["$patch"] = json!("replace");
    Ok(json!({"spec": {"template": template}}))
}

/// The template a revision keeps.
pub(crate) fn template_of(revision: &ControllerRevision) -> Result<PodTemplateSpec, Error> {
    let mut template = revision.data.0["spec"]["template"].clone();
    if let Some(fields) = template.as_object_mut() {
        fields.remove("$patch");
    }
    serde_json::from_value(template).map_err(|source| Error::Decode {
        key: crate::meta::key_of(revision),
        source,
    })
}

/// The hash that pods of a revision carry.
pub(crate) fn hash(revision: &ControllerRevision) -> &str {
    label(revision, REVISION_HASH)
        .or_else(|| label(revision, HASH))
        .unwrap_or_else(|| name(revision))
}

/// Whether two revisions say the same of the template: compared as it is typed, so that writers may differ in nulls.
fn is_of(revision: &ControllerRevision, template: &PodTemplateSpec) -> bool {
    template_of(revision).is_ok_and(|t| t == *template)
}

/// What an owner's history is brought to.
pub(crate) struct Owner<'a> {
    pub reference: OwnerReference,
    pub namespace: &'a str,
    pub template: &'a PodTemplateSpec,
    pub collisions: Option<i32>,
    /// The label that bears the hash: each controller has its own.
    pub hash_label: &'static str,
    pub annotations: Option<&'a BTreeMap<String, String>>,
}

fn number_of(revision: &ControllerRevision) -> i64 {
    revision.revision.unwrap_or(0)
}

/// All revisions of an owner, oldest first.
pub(crate) fn revisions(cache: &Cache, owner: &str) -> Result<Vec<ControllerRevision>, Error> {
    let mut all = Vec::new();
    for object in cache.by_index(BY_CONTROLLER, owner) {
        let revision: ControllerRevision = decode(&object)?;
        if !is_deleting(&revision) {
            all.push(revision);
        }
    }
    all.sort_by(|a, b| number_of(a).cmp(&number_of(b)).then_with(|| name(a).cmp(name(b))));
    Ok(all)
}

/// How a history is to change so that its last revision is the current template.
#[derive(Debug)]
enum Advance {
    Current(ControllerRevision),
    /// A template that was there before becomes the newest again.
    Renumber(ControllerRevision, i64),
    Create(i64),
}

fn advance(all: &[ControllerRevision], template: &PodTemplateSpec) -> Advance {
    let newest = all.last().map_or(0, number_of);
    match all.iter().rev().find(|r| is_of(r, template)) {
        Some(found) if number_of(found) == newest => Advance::Current(found.clone()),
        Some(found) => Advance::Renumber(found.clone(), newest + 1),
        None => Advance::Create(newest + 1),
    }
}

/// Makes the last revision the owner's current template. `None`: another template has the same hash, to be tried again
/// with one more in the collision count.
pub(crate) async fn current(
    client: &Client,
    owner: &Owner<'_>,
    all: &[ControllerRevision],
) -> Result<Option<ControllerRevision>, Error> {
    let number = match advance(all, owner.template) {
        Advance::Current(revision) => return Ok(Some(revision)),
        Advance::Renumber(found, number) => {
            let version = found.metadata.resource_version.clone();
            let patch = json!({"metadata": {"resourceVersion": version}, "revision": number});
            let patched = client
                .patch(owner.namespace, name(&found), &Patch::Merge(patch))
                .await?;
            return Ok(Some(patched));
        }
        Advance::Create(number) => number,
    };
    let hash = hash_of(owner.template, owner.collisions)?;
    let template_labels = owner.template.metadata.as_ref().and_then(|m| m.labels.clone());
    let mut labels: BTreeMap<String, String> = template_labels.unwrap_or_default();
    labels.insert(owner.hash_label.to_owned(), hash.clone());
    let revision = ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", owner.reference.name)),
            namespace: Some(owner.namespace.to_owned()),
            labels: Some(labels),
            annotations: owner.annotations.filter(|a| !a.is_empty()).cloned(),
            owner_references: Some(vec![owner.reference.clone()]),
            ..ObjectMeta::default()
        },
        data: RawExtension(data_of(owner.template)?),
        revision: Some(number),
    };
    match client.create(&revision).await {
        Ok(created) => Ok(Some(created)),
        Err(error) if error.is_already_exists() => {
            let there: ControllerRevision = client.get(owner.namespace, name(&revision)).await?;
            if is_of(&there, owner.template) {
                Ok(Some(there))
            } else {
                Ok(None)
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// Deletes the oldest revisions beyond the limit that no pod is of.
pub(crate) async fn truncate(
    client: &Client,
    all: &[ControllerRevision],
    live: &HashSet<String>,
    limit: i32,
) -> Result<(), Error> {
    let idle: Vec<&ControllerRevision> = all
        .iter()
        .filter(|r| !live.contains(hash(r)) && !live.contains(name(*r)))
        .collect();
    let surplus = idle.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    for revision in idle.into_iter().take(surplus) {
        let deleted = client
            .delete::<ControllerRevision>(namespace(revision), name(revision), &DeleteParams::default())
            .await;
        match deleted {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(image: &str) -> PodTemplateSpec {
        serde_json::from_value(
            json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": image}]}}),
        )
        .unwrap()
    }

    fn revision(number: i64, image: &str) -> ControllerRevision {
        ControllerRevision {
            data: RawExtension(data_of(&template(image)).unwrap()),
            revision: Some(number),
            ..ControllerRevision::default()
        }
    }

    #[test]
    fn a_template_gets_a_revision_once() {
        let all = [revision(1, "v1"), revision(2, "v2")];
        assert!(matches!(advance(&all, &template("v2")), Advance::Current(r) if r.revision == Some(2)));
        assert!(matches!(advance(&all, &template("v1")), Advance::Renumber(r, 3) if r.revision == Some(1)));
        assert!(matches!(advance(&all, &template("v3")), Advance::Create(3)));
        assert!(matches!(advance(&[], &template("v1")), Advance::Create(1)));
        assert_eq!(template_of(&all[0]).unwrap(), template("v1"));
    }
}
