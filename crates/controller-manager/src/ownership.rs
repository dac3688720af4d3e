//! Which dependents belong to a controller object: adopts matching orphans, releases what no longer matches.

use std::sync::Arc;

use api::object::Object;
use api::selectors::LabelSelector;
use client::{Cache, Client, Patch};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::{Metadata, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::Error;
use crate::informers::{BY_CONTROLLER, orphans};
use crate::meta::{controller_reference, is_deleting, namespace, selects, uid};

/// What to do about one candidate.
#[derive(Debug, PartialEq, Eq)]
enum Claim {
    Own,
    Adopt,
    Release,
    Ignore,
}

fn judge(candidate: &Object, owner_uid: &str, owner_deleting: bool, matches: bool) -> Claim {
    match candidate.meta.controller() {
        Some(owner) if &*owner.uid != owner_uid => Claim::Ignore,
        Some(_) if matches => Claim::Own,
        Some(_) if owner_deleting => Claim::Ignore,
        Some(_) => Claim::Release,
        None if owner_deleting || !matches || candidate.meta.deleting => Claim::Ignore,
        None => Claim::Adopt,
    }
}

/// The patch that makes `owner` the controller.
pub(crate) fn adopt_patch(owner: &OwnerReference, candidate_uid: &str) -> Value {
    json!({"metadata": {"ownerReferences": [owner], "uid": candidate_uid}})
}

fn release_patch(owner_uid: &str, candidate_uid: &str) -> Value {
    json!({"metadata": {"ownerReferences": [{"$patch": "delete", "uid": owner_uid}], "uid": candidate_uid}})
}

/// The objects of kind `D` that `owner` controls and selects, after adoption and release.
pub(crate) async fn claim<O, D>(
    client: &Client,
    owner: &O,
    selector: &LabelSelector,
    dependents: &Cache,
) -> Result<Vec<Arc<Object>>, Error>
where
    O: Resource + Metadata<Ty = ObjectMeta> + DeserializeOwned,
    D: Resource + DeserializeOwned,
{
    claim_as::<O, D>(
        client,
        owner,
        controller_reference(owner),
        selector,
        dependents,
        fits_any,
    )
    .await
}

/// All that the selector selects.
fn fits_any(_: &Object) -> Fit {
    Fit::Yes
}

/// Whether a dependent that the selector selects can be the owner's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    Yes,
    /// It is another's; the owner lets go of it.
    No,
    /// It is neither taken nor let go.
    Apart,
}

/// [`claim`] for owners that are decoded as another kind than they are, or do not take all that they select.
pub(crate) async fn claim_as<O, D>(
    client: &Client,
    owner: &O,
    reference: OwnerReference,
    selector: &LabelSelector,
    dependents: &Cache,
    fit: impl Fn(&Object) -> Fit,
) -> Result<Vec<Arc<Object>>, Error>
where
    O: Resource + Metadata<Ty = ObjectMeta> + DeserializeOwned,
    D: Resource + DeserializeOwned,
{
    let namespace = namespace(owner);
    let mut claimed = Vec::new();
    let mut checked = false;
    let mut candidates = dependents.by_index(BY_CONTROLLER, uid(owner));
    candidates.extend(dependents.by_index(BY_CONTROLLER, &orphans(namespace)));
    for candidate in candidates {
        let meta = &candidate.meta;
        let fit = fit(&candidate);
        if fit == Fit::Apart {
            continue;
        }
        let matches = selects(selector, &candidate) && fit == Fit::Yes;
        match judge(&candidate, uid(owner), is_deleting(owner), matches) {
            Claim::Own => claimed.push(candidate),
            Claim::Ignore => {}
            Claim::Adopt => {
                if !checked {
                    check_alive(client, &reference, namespace).await?;
                    checked = true;
                }
                let patch = Patch::Strategic(adopt_patch(&reference, &meta.uid));
                match client.patch::<D>(namespace, &meta.name, &patch).await {
                    Ok(_) => claimed.push(candidate),
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Claim::Release => {
                let patch = Patch::Strategic(release_patch(uid(owner), &meta.uid));
                match client.patch::<D>(namespace, &meta.name, &patch).await {
                    // Invalid: the object was made anew under the name, or has no owners any more.
                    Err(error) if error.is_not_found() || error.is_invalid() => {}
                    Err(error) => return Err(error.into()),
                    Ok(_) => {}
                }
            }
        }
    }
    Ok(claimed)
}

/// A stale cache must not make a dying owner adopt: asks the server itself.
async fn check_alive(client: &Client, owner: &OwnerReference, namespace: &str) -> Result<(), Error> {
    let (group, version) = api::gvk::split_api_version(&owner.api_version);
    let gvk = api::gvk::GroupVersionKind::new(group, version, owner.kind.as_str());
    let resource = api::resources::find_kind(&gvk)
        .ok_or_else(|| Error::State(format!("{} {} is no built-in kind", owner.api_version, owner.kind)))?;
    let path = format!(
        "{}/namespaces/{namespace}/{}/{}",
        crate::discovery::group_path(group, version),
        resource.plural,
        owner.name
    );
    let live: Value = client.json(http::Method::GET, &path, &[], None::<&()>).await?;
    let meta = &live["metadata"];
    if meta["uid"].as_str() != Some(&owner.uid) {
        return Err(Error::State(format!(
            "original {} {namespace}/{} is gone",
            owner.kind, owner.name
        )));
    }
    if !meta["deletionTimestamp"].is_null() {
        return Err(Error::State(format!(
            "{namespace}/{} has just been deleted at {}",
            owner.name, meta["deletionTimestamp"]
        )));
    }
    Ok(())
}

/// Whether a dependent names this owner as its controller.
pub(crate) fn is_controlled_by<K: Metadata<Ty = ObjectMeta>>(object: &K, owner_uid: &str) -> bool {
    crate::meta::controller_of(object).is_some_and(|o| o.uid == owner_uid)
}

/// The queue's key of the controller of an object, if it is of this kind.
pub(crate) fn controller_key(object: &Object, kind: &str, group: &str) -> Option<String> {
    let owner = object.meta.controller()?;
    let (owner_group, _) = api::gvk::split_api_version(&owner.api_version);
    (&*owner.kind == kind && owner_group == group).then(|| format!("{}/{}", object.meta.namespace, owner.name))
}

/// For an orphan: the keys of the owners in its namespace that `selects` it.
pub(crate) fn matching_owners(
    owners: &Cache,
    object: &Object,
    selects: impl Fn(&Object, &Object) -> bool,
) -> Vec<String> {
    let owners = owners.by_index(crate::informers::BY_NAMESPACE, &object.meta.namespace);
    owners.iter().filter(|o| selects(o, object)).map(|o| o.key()).collect()
}

/// Whether an object with `spec.selector` (a `LabelSelector`) selects another; an empty selector selects nothing.
pub(crate) fn spec_selects(owner: &Object, object: &Object) -> bool {
    #[derive(serde::Deserialize)]
    struct Owner {
        spec: Spec,
    }
    #[derive(serde::Deserialize)]
    struct Spec {
        #[serde(default)]
        selector: Value,
    }
    owner
        .decode::<Owner>()
        .ok()
        .and_then(|o| LabelSelector::from_tree(&o.spec.selector).ok())
        .is_some_and(|s| !s.is_empty() && selects(&s, object))
}

/// The keys to put in line after a dependent changed: its controller before and after, or who could adopt it.
pub(crate) fn affected_owners(change: &client::Change, owners: &Cache, kind: &str, group: &str) -> Vec<String> {
    let old = change.old.as_ref().and_then(|o| controller_key(o, kind, group));
    let new = change.new.as_ref().and_then(|o| controller_key(o, kind, group));
    let mut keys: Vec<String> = old.into_iter().chain(new).collect();
    if let Some(object) = &change.new
        && object.meta.controller().is_none()
        && !object.meta.deleting
        && change
            .old
            .as_ref()
            .is_none_or(|old| old.meta.labels != object.meta.labels || old.meta.owners != object.meta.owners)
    {
        keys.extend(matching_owners(owners, object, spec_selects));
    }
    keys.dedup();
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(owner: Option<&str>, deleting: bool) -> Arc<Object> {
        let owners = owner.map_or(
            json!([]),
            |uid| json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": uid, "controller": true}]),
        );
        let mut tree = json!({"metadata": {"name": "a", "namespace": "n", "ownerReferences": owners}});
        if deleting {
            tree["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        Object::parse(tree.to_string().into()).unwrap()
    }

    #[test]
    fn candidates_are_owned_adopted_released_or_left_alone() {
        let table = [
            (Some("me"), false, false, true, Claim::Own),
            (Some("me"), true, false, true, Claim::Own),
            (Some("me"), false, false, false, Claim::Release),
            (Some("me"), false, true, false, Claim::Ignore),
            (Some("other"), false, false, true, Claim::Ignore),
            (None, false, false, true, Claim::Adopt),
            (None, true, false, true, Claim::Ignore),
            (None, false, true, true, Claim::Ignore),
            (None, false, false, false, Claim::Ignore),
        ];
        for (owner, deleting, owner_deleting, matches, expected) in table {
            let found = judge(&object(owner, deleting), "me", owner_deleting, matches);
            assert_eq!(found, expected, "{owner:?} {deleting} {owner_deleting} {matches}");
        }
    }
}
