//! ServiceAccount: every pod runs as a service account and gets its token as a projected volume.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::admission::{Attributes, Operation, Plugin};
use crate::authorization::node_graph::{Referent, references};
use crate::http::status::{ApiError, Result};
use crate::registry::metadata;
use crate::tree::text;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Seconds: one hour and seven, so that a kubelet renews before an hour has passed.
const EXPIRATION: i64 = 3607;
const MIRROR: &str = "kubernetes.io/config.mirror";

/// What pods take of their service account.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Account {
    automount_service_account_token: Option<bool>,
    image_pull_secrets: Option<Value>,
}

/// Gives pods their account.
pub struct ServiceAccount;

impl Plugin for ServiceAccount {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        asked.is("", "pods", Operation::Create)
    }

    fn admit(&self, asked: &Attributes<'_>, tree: &mut Value, _: Option<&Value>) -> Result<()> {
        // what is made from a name without one of its own is called by that
        let name = |key: &str| tree["metadata"][key].clone();
        let named = json!({ "metadata": { "name": name("name"), "generateName": name("generateName") } });
        let refuse = |why: &str| Err(asked.refuse(&named, why));
        if tree
            .pointer("/metadata/annotations")
            .is_some_and(|a| a.get(MIRROR).is_some())
        {
            if text(tree, &["spec", "serviceAccountName"]).is_some_and(|n| !n.is_empty()) {
                return refuse("a mirror pod may not reference service accounts");
            }
            let mut secrets = false;
            references(tree, &mut |kind, name| {
                secrets |= kind == Referent::Secret && !name.is_empty();
            });
            if secrets {
                return refuse("a mirror pod may not reference secrets");
            }
            if projects_token(tree) {
                return refuse("a mirror pod may not use ServiceAccountToken volume projections");
            }
            return Ok(());
        }
        if text(tree, &["spec", "serviceAccountName"])
            .unwrap_or_default()
            .is_empty()
        {
            tree["spec"]["serviceAccountName"] = json!("default");
        }
        let name = text(tree, &["spec", "serviceAccountName"])
            .unwrap_or_default()
            .to_owned();
        tree["spec"]["serviceAccount"] = json!(name);
        let Some(account) = asked.registry.get("", "serviceaccounts", asked.namespace, &name) else {
            let why = format!(
                "error looking up service account {}/{name}: serviceaccount {name:?} not found",
                asked.namespace
            );
            return refuse(&why);
        };
        let account: Account = account.object.decode().map_err(ApiError::internal)?;
        let own = tree
            .pointer("/spec/automountServiceAccountToken")
            .and_then(Value::as_bool);
        if own.or(account.automount_service_account_token).unwrap_or(true) {
            mount_token(asked, tree);
        }
        let own = tree
            .pointer("/spec/imagePullSecrets")
            .and_then(Value::as_array)
            .is_some_and(|s| !s.is_empty());
        if let Some(secrets) = account.image_pull_secrets.filter(|_| !own) {
            tree["spec"]["imagePullSecrets"] = secrets;
        }
        Ok(())
    }
}

fn projects_token(pod: &Value) -> bool {
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array);
    let sources = volumes
        .into_iter()
        .flatten()
        .filter_map(|v| v.pointer("/projected/sources")?.as_array())
        .flatten();
    sources.into_iter().any(|s| s.get("serviceAccountToken").is_some())
}

fn mount_token(attributes: &Attributes<'_>, tree: &mut Value) {
    let volumes = tree
        .pointer("/spec/volumes")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let existing = volumes.iter().find_map(|v| {
        let name = text(v, &["name"])?;
        name.starts_with("kube-api-access-").then(|| name.to_owned())
    });
    let volume = existing
        .clone()
        .unwrap_or_else(|| format!("kube-api-access-{}", metadata::suffix(attributes.registry)));
    let mut used = false;
    for field in ["initContainers", "containers"] {
        let Some(list) = tree["spec"].get_mut(field).and_then(Value::as_array_mut) else {
            continue;
        };
        for container in list {
            let mounts = container
                .get("volumeMounts")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default();
            if mounts.iter().any(|m| text(m, &["mountPath"]) == Some(MOUNT_PATH)) {
                continue;
            }
            let mut mounts = mounts;
            mounts.push(json!({ "name": volume, "readOnly": true, "mountPath": MOUNT_PATH }));
            container["volumeMounts"] = Value::Array(mounts);
            used = true;
        }
    }
    if !used || existing.is_some() {
        return;
    }
    let mut volumes = volumes;
    volumes.push(json!({
        "name": volume,
        "projected": {
            "defaultMode": 420,
            "sources": [
                { "serviceAccountToken": { "expirationSeconds": EXPIRATION, "path": "token" } },
                { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
                { "downwardAPI": { "items": [{ "path": "namespace", "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" } }] } },
            ],
        },
    }));
    tree["spec"]["volumes"] = Value::Array(volumes);
}
