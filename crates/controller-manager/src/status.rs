//! Writing an object's status with everything else left as it was read.

use api::gvk::GroupVersionKind;
use api::object::Object;
use client::Client;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Error;
use crate::error::{decode, tree};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TypeMeta {
    api_version: String,
    kind: String,
}

/// The path of a cached object of a built-in kind.
pub(crate) fn path_of(object: &Object) -> Result<String, Error> {
    let kind: TypeMeta = decode(object)?;
    let gvk = GroupVersionKind::from_api_version(&kind.api_version, &kind.kind);
    let resource = api::resources::find_kind(&gvk)
        .ok_or_else(|| Error::State(format!("{} {} is no built-in kind", kind.api_version, kind.kind)))?;
    let base = crate::discovery::group_path(resource.group, resource.version);
    let scope = if resource.namespaced {
        format!("/namespaces/{}", object.meta.namespace)
    } else {
        String::new()
    };
    Ok(format!("{base}{scope}/{}/{}", resource.plural, object.meta.name))
}

/// Replaces the status of this version of the object; a newer version makes it a conflict. An object that is gone needs none.
pub(crate) async fn put(client: &Client, object: &Object, status: &impl Serialize) -> Result<(), Error> {
    let mut whole: Value = decode(object)?;
    whole["status"] = tree("status", status)?;
    let path = format!("{}/status", path_of(object)?);
    match client.json::<Value>(Method::PUT, &path, &[], Some(&whole)).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error.into()),
    }
}
