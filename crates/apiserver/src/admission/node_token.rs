//! NodeRestriction of tokens: a kubelet gets those that its pods need, bound to them.

use serde_json::Value;

use crate::admission::Attributes;
use crate::authorization;
use crate::http::status::{ApiError, Result};
use crate::registry::Registry;
use crate::tree::text;

/// Refuses a request for a token of a service account that a node may not make.
pub fn admit(asked: &Attributes<'_>, request: &Value) -> Result<()> {
    let (registry, user, namespace, account) = (asked.registry, asked.user, asked.namespace, asked.name);
    let Some(node) = user.node_name() else {
        return Ok(());
    };
    let refuse = |why: &str| Err(ApiError::forbidden("", "serviceaccounts", account, why));
    if node.is_empty() {
        return refuse(&format!("could not determine node from user {:?}", user.name));
    }
    let reference = &request["spec"]["boundObjectRef"];
    let of = |key: &str| text(reference, &[key]).unwrap_or_default();
    if of("apiVersion") != "v1" || of("kind") != "Pod" || of("name").is_empty() {
        return refuse("node requested token not bound to a pod");
    }
    let uid = of("uid");
    if uid.is_empty() {
        return refuse("node requested token with a pod binding without a uid");
    }
    let Some(pod) = registry.get("", "pods", namespace, of("name")) else {
        // the plugin that looks calls a pod by its kind
        return Err(ApiError::not_found("", "pod", of("name")));
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
    match has_audience(registry, namespace, &pod, audience)? {
        Audience::Found => return Ok(()),
        Audience::Absent => {}
        Audience::Unknown(why) => return refuse(&format!("error validating audience {audience:?}: {why}")),
    }
    let attributes = authorization::Attributes {
        verb: "request-serviceaccounts-token-audience",
        is_resource: true,
        namespace,
        resource: audience,
        name: account,
        ..authorization::Attributes::default()
    };
    if asked.authorizer.allows(user, &attributes) {
        return Ok(());
    }
    let name = &user.name;
    refuse(&format!(
        "{name} is not authorized to request tokens for audience {audience:?}"
    ))
}

/// Whether a pod needs tokens for an audience.
enum Audience {
    Found,
    Absent,
    /// What could not be looked up, where nothing else has it.
    Unknown(String),
}

/// Looks in the pod's volumes, and in the drivers that they need; the server itself is the empty text.
fn has_audience(registry: &Registry, namespace: &str, pod: &Value, audience: &str) -> Result<Audience> {
    let list = |tree: &Value, path: &str| {
        let list = tree.pointer(path).and_then(Value::as_array);
        list.cloned().unwrap_or_default()
    };
    let wanted = |of: &Value| text(of, &["audience"]).unwrap_or_default() == audience;
    let mut unknown = Vec::new();
    for volume in list(pod, "/spec/volumes") {
        let mut sources = list(&volume, "/projected/sources").into_iter();
        if sources.any(|source| source.get("serviceAccountToken").is_some_and(wanted)) {
            return Ok(Audience::Found);
        }
        let driver = match driver(registry, namespace, pod, &volume)? {
            Ok(Some(driver)) => driver,
            Ok(None) => continue,
            Err(why) => {
                unknown.push(why.to_string());
                continue;
            }
        };
        match registry.get("storage.k8s.io", "csidrivers", "", &driver) {
            Some(found) if list(&found.tree()?, "/spec/tokenRequests").iter().any(wanted) => {
                return Ok(Audience::Found);
            }
            Some(_) => {}
            None => {
                let kind = "csidriver.storage.k8s.io";
                unknown.push(Missing { kind, name: driver }.to_string());
            }
        }
    }
    Ok(match authorization::rbac::all_of(unknown) {
        Some(why) => Audience::Unknown(why),
        None => Audience::Absent,
    })
}

/// An object on the way to a volume's driver is not there: its kind and its name.
#[derive(Debug, thiserror::Error)]
#[error("{kind} {name:?} not found")]
struct Missing {
    kind: &'static str,
    name: String,
}

/// The CSI driver of a volume: its own, or that of its claim's volume.
fn driver(
    registry: &Registry,
    namespace: &str,
    pod: &Value,
    volume: &Value,
) -> Result<Result<Option<String>, Missing>> {
    let missing = |kind, name: &str| {
        let name = name.to_owned();
        Ok(Err(Missing { kind, name }))
    };
    let pod_name = text(pod, &["metadata", "name"]).unwrap_or_default();
    let claim = if volume.pointer("/ephemeral/volumeClaimTemplate").is_some() {
        format!("{pod_name}-{}", text(volume, &["name"]).unwrap_or_default())
    } else if let Some(claim) = text(volume, &["persistentVolumeClaim", "claimName"]) {
        claim.to_owned()
    } else {
        return Ok(Ok(text(volume, &["csi", "driver"]).map(str::to_owned)));
    };
    let Some(found) = registry.get("", "persistentvolumeclaims", namespace, &claim) else {
        return missing("persistentvolumeclaim", &claim);
    };
    let found = found.tree()?;
    let name = text(&found, &["spec", "volumeName"]).unwrap_or_default();
    let Some(volume) = registry.get("", "persistentvolumes", "", name) else {
        return missing("persistentvolume", name);
    };
    Ok(Ok(text(&volume.tree()?, &["spec", "csi", "driver"]).map(str::to_owned)))
}
