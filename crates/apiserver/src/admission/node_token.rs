//! NodeRestriction of tokens: a kubelet gets those that its pods need, bound to them.

use serde_json::Value;

use crate::authorization;
use crate::http::status::{ApiError, Result};
use crate::http::user::User;
use crate::registry::Registry;
use crate::server::ApiServer;
use crate::strategy::text;

/// Refuses a request for a token of a service account that a node may not make.
pub fn admit(server: &ApiServer, user: &User, namespace: &str, account: &str, request: &Value) -> Result<()> {
    let Some(node) = user.node_name() else {
        return Ok(());
    };
    let refuse = |why: &str| Err(ApiError::forbidden("", "serviceaccounts", account, why));
    let reference = &request["spec"]["boundObjectRef"];
    let of = |key: &str| text(reference, &[key]).unwrap_or_default();
    if of("apiVersion") != "v1" || of("kind") != "Pod" || of("name").is_empty() {
        return refuse("node requested token not bound to a pod");
    }
    let uid = of("uid");
    if uid.is_empty() {
        return refuse("node requested token with a pod binding without a uid");
    }
    let Some(pod) = server.registry.get("", "pods", namespace, of("name")) else {
        return Err(ApiError::not_found("", "pods", of("name")));
    };
    if *uid != *pod.object.meta.uid {
        return refuse(&format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        ));
    }
    let pod = pod.tree()?;
    if text(&pod, &["spec", "nodeName"]) != Some(node) {
        return refuse("node requested token bound to a pod scheduled on a different node");
    }
    let audiences = request["spec"]["audiences"].as_array().map(Vec::as_slice);
    let audience = match audiences.unwrap_or_default() {
        [] => "",
        [one] => one.as_str().unwrap_or_default(),
        _ => return refuse("node may only request 0 or 1 audiences"),
    };
    if audiences_of(&server.registry, namespace, &pod)?
        .iter()
        .any(|a| a == audience)
    {
        return Ok(());
    }
    let attributes = authorization::Attributes {
        verb: "request-serviceaccounts-token-audience",
        is_resource: true,
        namespace,
        resource: audience,
        name: account,
        ..authorization::Attributes::default()
    };
    if server.authorizer.allows(user, &attributes) {
        return Ok(());
    }
    let name = &user.name;
    refuse(&format!(
        "audience {audience:?} not found in pod spec volume, {name} is not authorized to request tokens for this audience"
    ))
}

/// Whom the tokens are for that a pod's volumes have or their drivers need; the server itself is the empty text.
fn audiences_of(registry: &Registry, namespace: &str, pod: &Value) -> Result<Vec<String>> {
    let list = |tree: &Value, path: &str| {
        tree.pointer(path)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let audience = |of: &Value| text(of, &["audience"]).unwrap_or_default().to_owned();
    let mut all = Vec::new();
    for volume in list(pod, "/spec/volumes") {
        for source in list(&volume, "/projected/sources") {
            all.extend(source.get("serviceAccountToken").map(audience));
        }
        let Some(driver) = driver(registry, namespace, pod, &volume)? else {
            continue;
        };
        if let Some(driver) = registry.get("storage.k8s.io", "csidrivers", "", &driver) {
            all.extend(list(&driver.tree()?, "/spec/tokenRequests").iter().map(audience));
        }
    }
    Ok(all)
}

/// The CSI driver of a volume: its own, or that of its claim's volume.
fn driver(registry: &Registry, namespace: &str, pod: &Value, volume: &Value) -> Result<Option<String>> {
    if let Some(driver) = text(volume, &["csi", "driver"]) {
        return Ok(Some(driver.to_owned()));
    }
    let claim = match text(volume, &["persistentVolumeClaim", "claimName"]) {
        Some(claim) => claim.to_owned(),
        None if volume.get("ephemeral").is_some() => {
            let pod = text(pod, &["metadata", "name"]).unwrap_or_default();
            format!("{pod}-{}", text(volume, &["name"]).unwrap_or_default())
        }
        None => return Ok(None),
    };
    let Some(claim) = registry.get("", "persistentvolumeclaims", namespace, &claim) else {
        return Ok(None);
    };
    let claim = claim.tree()?;
    let name = text(&claim, &["spec", "volumeName"]).unwrap_or_default();
    let Some(volume) = registry.get("", "persistentvolumes", "", name) else {
        return Ok(None);
    };
    Ok(text(&volume.tree()?, &["spec", "csi", "driver"]).map(str::to_owned))
}
