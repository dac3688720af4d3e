//! `apply --server-side`, also of objects that were applied by the client before: their fields go over to the manager of
//! server-side apply, so that what leaves the file leaves the object.

use api::apply::field_set::{FieldSet, Step};
use serde_json::{Value, json};

use super::apply::{LAST_APPLIED, RETRIES, last_applied, warn_if_deleting};
use crate::change::{Changer, JSON_PATCH};
use crate::error::{Error, Result, message};
use crate::select::Info;

pub(super) const MANAGER: &str = "kubectl";
/// Keeps the annotation of client-side apply alive, which the server rewrites as long as `kubectl` applies.
const LAST_APPLIED_MANAGER: &str = "kubectl-last-applied";

/// Applies the object of `info`, hands over what client-side apply had, and applies again if there was any.
pub(super) async fn apply(
    changer: &Changer<'_>,
    info: &mut Info,
    force: bool,
    subresource: &str,
) -> Result<&'static str> {
    let object = info.object.clone();
    if let Err(error) = changer.apply(info, &object, force, subresource).await {
        return Err(if error.is_conflict() { conflict(&error) } else { error });
    }
    // The object is applied: what fails from here on is tried again by the next apply.
    let warn = |what: &str, error: Error| {
        changer.session.warn(&format!(
            "Warning: {what}. This is non-fatal and will be retried next time you apply. Error: {error}"
        ));
    };
    if let Err(error) = keep_annotation(changer, info).await {
        let what = format!("failed to migrate {LAST_APPLIED} for Server-Side Apply");
        warn(&what, error);
    } else {
        match hand_over(changer, info).await {
            Ok(false) => {}
            Ok(true) => {
                if let Err(error) = changer.apply(info, &object, force, "").await {
                    let what = "failed to re-apply configuration after performing Server-Side Apply migration";
                    warn(what, error);
                }
            }
            Err(error) => warn("server rejected managed fields migration to Server-Side Apply", error),
        }
    }
    warn_if_deleting(changer.session, &info.object);
    Ok("serverside-applied")
}

/// Applies the annotation of client-side apply under a manager of its own, unless one who applies has it.
async fn keep_annotation(changer: &Changer<'_>, info: &mut Info) -> Result<()> {
    let Some(text) = last_applied(&info.object).filter(|_| changer.manager == MANAGER) else {
        return Ok(());
    };
    if !owners(&info.object, "Apply").is_empty() {
        return Ok(());
    }
    let mut metadata = json!({"name": info.name, "annotations": {LAST_APPLIED: text}});
    if !info.namespace.is_empty() {
        metadata["namespace"] = json!(info.namespace);
    }
    let annotation = json!({"apiVersion": info.ty.api_version(), "kind": info.ty.kind, "metadata": metadata});
    changer.apply_as(LAST_APPLIED_MANAGER, info, &annotation).await
}

/// Makes the fields of the managers that wrote the annotation by updates those of ours. Whether there were any.
async fn hand_over(changer: &Changer<'_>, info: &mut Info) -> Result<bool> {
    let from = owners(&info.object, "Update");
    let mut tries = 0;
    loop {
        let before = managed_fields(&info.object);
        let after = upgraded(before, &from, &changer.manager)?;
        if after == before {
            return Ok(false);
        }
        let list = if after.is_empty() { Value::Null } else { after.into() };
        // The version is replaced, not tested: a newer object then is a conflict and no invalid request.
        let patch = json!([
            {"op": "replace", "path": "/metadata/managedFields", "value": list},
            {"op": "replace", "path": "/metadata/resourceVersion", "value": info.object["metadata"]["resourceVersion"]},
        ]);
        match changer.patch(info, JSON_PATCH, &patch).await {
            Ok(()) => return Ok(true),
            Err(error) if !error.is_conflict() => return Err(error),
            Err(error) => {
                info.refresh(changer.session).await?;
                tries += 1;
                if tries == RETRIES {
                    return Err(error);
                }
            }
        }
    }
}

fn managed_fields(object: &Value) -> &[Value] {
    object["metadata"]["managedFields"]
        .as_array()
        .map_or(&[], Vec::as_slice)
}

/// The managers that have the annotation of client-side apply by an operation.
fn owners(object: &Value, operation: &str) -> Vec<String> {
    let path = ["metadata", "annotations", LAST_APPLIED].map(Step::field);
    let has = |entry: &&Value| {
        entry["operation"] == operation && FieldSet::decode(&entry["fieldsV1"]).is_ok_and(|set| set.has(&path))
    };
    let names = managed_fields(object).iter().filter(has);
    names.filter_map(|e| e["manager"].as_str().map(str::to_owned)).collect()
}

/// The entries with those of `from` that update the object put into the one by which `to` applies it, of the same version.
/// What they had in other versions is forgotten.
fn upgraded(entries: &[Value], from: &[String], to: &str) -> Result<Vec<Value>> {
    let mut entries = entries.to_vec();
    let is = |e: &Value, manager: &str, operation: &str| {
        e["manager"] == manager
            && e["operation"] == operation
            && e["subresource"].as_str().unwrap_or_default().is_empty()
    };
    let fields = |e: &Value| {
        FieldSet::decode(&e["fieldsV1"]).map_err(|why| message(format!("failed to convert fields to set: {why}")))
    };
    for manager in from {
        let updates = |e: &Value| is(e, manager, "Update");
        let at = match entries.iter().position(|e| is(e, to, "Apply")) {
            Some(at) => at,
            None => {
                let Some(at) = entries.iter().position(updates) else {
                    continue;
                };
                let mut own = entries[at].clone();
                (own["operation"], own["manager"]) = (json!("Apply"), json!(to));
                // The one it was made of stays beside it until the end.
                entries.insert(at, own);
                at
            }
        };
        let version = entries[at]["apiVersion"].clone();
        if let Some(theirs) = entries.iter().find(|e| updates(e) && e["apiVersion"] == version) {
            let mut all = fields(&entries[at])?;
            all.union(&fields(theirs)?);
            entries[at]["fieldsV1"] = all.encode();
        }
        entries.retain(|e| !updates(e));
    }
    Ok(entries)
}

fn conflict(error: &Error) -> Error {
    message(format!(
        "{error}
Please review the fields above--they currently have other managers. Here
are the ways you can resolve this warning:
* If you intend to manage all of these fields, please re-run the apply
  command with the `--force-conflicts` flag.
* If you do not intend to manage all of the fields, please edit your
  manifest to remove references to the fields that should keep their
  current managers.
* You may co-own fields by updating your manifest to match the existing
  value; in this case, you'll become the manager if the other manager(s)
  stop managing the field (remove it from their configuration).
See https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(manager: &str, operation: &str, version: &str, fields: Value) -> Value {
        json!({"manager": manager, "operation": operation, "apiVersion": version, "fieldsType": "FieldsV1", "fieldsV1": fields})
    }

    #[test]
    fn fields_of_client_side_apply_become_those_of_the_one_who_applies() {
        let from = ["csa".to_owned()];
        let ours = entry("kubectl", "Apply", "v1", json!({"f:data": {"f:a": {}}}));
        let theirs = entry("csa", "Update", "v1", json!({"f:data": {"f:a": {}, "f:b": {}}}));
        let other = entry("other", "Update", "v1", json!({"f:data": {"f:c": {}}}));
        let mut status = theirs.clone();
        status["subresource"] = json!("status");
        let both = entry("kubectl", "Apply", "v1", json!({"f:data": {"f:a": {}, "f:b": {}}}));
        let all = [ours.clone(), theirs.clone(), other.clone(), status.clone()];
        assert_eq!(
            upgraded(&all, &from, "kubectl").unwrap(),
            [both.clone(), other.clone(), status]
        );
        assert_eq!(
            upgraded(&[other.clone(), theirs.clone()], &from, "kubectl").unwrap(),
            [other.clone(), both]
        );
        let old = entry("csa", "Update", "v1beta1", json!({"f:data": {"f:z": {}}}));
        assert_eq!(upgraded(&[ours.clone(), old], &from, "kubectl").unwrap(), [ours]);
        let alone = [other];
        assert_eq!(upgraded(&alone, &from, "kubectl").unwrap(), alone);
    }

    #[test]
    fn client_side_apply_is_known_by_its_annotation() {
        let annotation = json!({"f:metadata": {"f:annotations": {format!("f:{LAST_APPLIED}"): {}}}});
        let object = json!({"metadata": {"managedFields": [
            entry("csa", "Update", "v1", annotation.clone()),
            entry("other", "Update", "v1", json!({"f:data": {}})),
            entry("ssa", "Apply", "v1", annotation),
        ]}});
        assert_eq!(owners(&object, "Update"), ["csa"]);
        assert_eq!(owners(&object, "Apply"), ["ssa"]);
        assert!(owners(&json!({}), "Apply").is_empty());
    }
}
