//! Rules of PersistentVolumes.

use serde_json::Value;

use crate::kinds::core::persistent_volume_claim::basic;
use crate::kinds::external_volume::{Owner, csi_secret, external};
use crate::kinds::pod_template::{placement, volume};
use crate::kinds::rules::{dns_subdomain, immutable, no_backsteps, one_of_or_none, require};
use crate::kinds::volume::{VOLUME_MODES, access_modes, driver_name, known_modes, positive_quantity};
use crate::kinds::{Check, Cursor, Errors};

/// Labels of nodes that have another name today.
const RENAMED: [(&str, &str); 5] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "topology.kubernetes.io/region",
    ),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
];

/// Sources of a PersistentVolume, in the order in which upstream looks for them.
const SOURCES: [&str; 22] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "azureDisk",
    "portworxVolume",
    "photonPersistentDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

/// Where options of mounting stood before there was a field, and the sources that know it.
const MOUNT_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";

const MOUNTABLE: [&str; 13] = [
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "nfs",
    "rbd",
    "quobyte",
    "iscsi",
    "cinder",
    "cephfs",
    "azureFile",
    "vsphereVolume",
    "azureDisk",
    "photonPersistentDisk",
];

/// Returns everything in which an object breaks the rules of its kind.
pub fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    // upstream looks at the finalizers of a changed volume once more
    if check.old.is_some() && check.subresource.is_empty() {
        crate::kinds::metadata::finalizers(&mut errors, check.new);
    }
    let root = check.root();
    if check.is_status() {
        return errors;
    }
    let spec = root.get("spec");
    whole(&mut errors, &root);
    if let Some(old) = check.before() {
        // upstream asks the rules of a changed volume twice
        whole(&mut errors, &root);
        update(&mut errors, &spec, &old.get("spec"));
    }
    errors
}

fn whole(errors: &mut Errors, root: &Cursor) {
    let spec = root.get("spec");
    access_modes(errors, &spec, "");
    known_modes(errors, &spec);
    let capacity = spec.get("capacity");
    let entries = capacity.map().map_or(0, serde_json::Map::len);
    if entries == 0 {
        errors.push(capacity.required(""));
    }
    if entries != 1 || !capacity.get("storage").is_some() {
        errors.push(capacity.not_supported(&["storage"]).shown(&capacity.value.to_string()));
    }
    for (_, amount) in capacity.entries() {
        basic(errors, &amount);
        positive_quantity(errors, &amount);
    }
    let policy = spec.get("persistentVolumeReclaimPolicy");
    one_of_or_none(errors, &policy, &["Delete", "Recycle", "Retain"]);
    let affinity = spec.get("nodeAffinity");
    if affinity.is_some() {
        let required = affinity.get("required");
        if required.is_some() {
            placement::node_selector(errors, &required);
        } else {
            errors.push(required.required("must specify required node constraints"));
        }
    }
    source(errors, &spec, root.at(&["metadata", "name"]).text());
    recycled(errors, &spec);
    let class = spec.get("storageClassName");
    if !class.text().is_empty() {
        dns_subdomain(errors, &class);
    }
    one_of_or_none(errors, &spec.get("volumeMode"), &VOLUME_MODES);
    attributes(errors, &spec);
    let mountable = MOUNTABLE.iter().any(|kind| spec.get(kind).is_some());
    let options = root.at(&["metadata", "annotations", MOUNT_OPTIONS]);
    if options.is_some() && !mountable {
        errors.push(options.forbidden("may not specify mount options for this volume type"));
    }
}

/// The specification of a volume that stands in an attachment and not in a volume of its own.
pub fn inline(errors: &mut Errors, spec: &Cursor) {
    let context = "in the context of inline volumes";
    let refuse = |errors: &mut Errors, field: &'static str, set: bool| {
        if set {
            errors.push(spec.get(field).forbidden(format!("may not be specified {context}")));
        }
    };
    let has = |field: &'static str| spec.get(field).is_some();
    refuse(errors, "claimRef", has("claimRef"));
    refuse(
        errors,
        "capacity",
        spec.get("capacity").map().is_some_and(|map| !map.is_empty()),
    );
    if !has("csi") {
        errors.push(spec.get("csi").required(&format!("has to be specified {context}")));
    }
    access_modes(errors, spec, "");
    known_modes(errors, spec);
    let policy = spec.get("persistentVolumeReclaimPolicy");
    if !matches!(policy.text(), "" | "Retain") {
        errors.push(policy.forbidden(format!("may only be Retain {context}")));
    }
    refuse(errors, "nodeAffinity", has("nodeAffinity"));
    source(errors, spec, "");
    recycled(errors, spec);
    refuse(
        errors,
        "storageClassName",
        !spec.get("storageClassName").text().is_empty(),
    );
    let mode = spec.get("volumeMode");
    if mode.is_some() && mode.text() != "Filesystem" {
        errors.push(mode.forbidden(format!("may not specify volumeMode other than Filesystem {context}")));
    }
}

/// What is deleted to be used again must not be the node itself.
fn recycled(errors: &mut Errors, spec: &Cursor) {
    let path = spec.at(&["hostPath", "path"]);
    let policy = spec.get("persistentVolumeReclaimPolicy");
    if path.is_some() && policy.text() == "Recycle" && is_root(path.text()) {
        errors.push(policy.forbidden("may not be 'recycle' for a hostPath mount of '/'"));
    }
}

/// Whether a path, without what it takes back, is the root.
fn is_root(path: &str) -> bool {
    let mut depth = 0_usize;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => depth = depth.saturating_sub(1),
            _ => depth += 1,
        }
    }
    path.starts_with('/') && depth == 0
}

fn attributes(errors: &mut Errors, spec: &Cursor) {
    let attributes = spec.get("volumeAttributesClassName");
    if !attributes.is_some() {
        return;
    }
    if attributes.text().is_empty() {
        errors.push(attributes.required("an empty string is disallowed"));
    } else {
        dns_subdomain(errors, &attributes);
    }
    let csi = spec.get("csi");
    if !csi.is_some() {
        errors.push(csi.required("has to be specified when using volumeAttributesClassName"));
    }
}

fn source(errors: &mut Errors, spec: &Cursor, name: &str) {
    let mut found = false;
    for kind in SOURCES {
        let Some(at) = spec.get(kind).present() else { continue };
        if found {
            errors.push(at.forbidden("may not specify more than 1 volume type"));
            continue;
        }
        found = true;
        match kind {
            "hostPath" => volume::host_path(errors, &at),
            "local" => {
                let path = at.get("path");
                if require(errors, &path) {
                    no_backsteps(errors, &path);
                }
                if !spec.get("nodeAffinity").is_some() {
                    errors.push(spec.get("nodeAffinity").required("Local volume requires node affinity"));
                }
            }
            "csi" => {
                driver_name(errors, &at.get("driver"));
                require(errors, &at.get("volumeHandle"));
                for secret in [
                    "controllerPublishSecretRef",
                    "controllerExpandSecretRef",
                    "nodePublishSecretRef",
                    "nodeExpandSecretRef",
                ] {
                    csi_secret(errors, &at.get(secret));
                }
            }
            "nfs" => {
                require(errors, &at.get("server"));
                let path = at.get("path");
                require(errors, &path);
                if !path.text().starts_with('/') {
                    errors.push(path.wrong(path.text(), "must be an absolute path"));
                }
            }
            other => external(errors, other, spec, Owner::PersistentVolume(name)),
        }
    }
    if !found {
        errors.push(spec.required("must specify a volume type"));
    }
}

/// Whether a tree of terms is as it was but for labels that have today's names.
fn renamed(now: &Value, was: &Value) -> bool {
    match (now, was) {
        (Value::Object(now), Value::Object(was)) => {
            now.len() == was.len()
                && now.iter().all(|(field, now)| {
                    let Some(was) = was.get(field) else { return false };
                    let today = |(old, new): &(&str, &str)| was == old && now == new;
                    renamed(now, was) || field == "key" && RENAMED.iter().any(today)
                })
        }
        (Value::Array(now), Value::Array(was)) => {
            now.len() == was.len() && now.iter().zip(was).all(|(now, was)| renamed(now, was))
        }
        _ => now == was,
    }
}

fn update(errors: &mut Errors, spec: &Cursor, before: &Cursor) {
    let sources = |spec: &Cursor| -> Vec<Value> { SOURCES.iter().map(|kind| spec.get(kind).value.clone()).collect() };
    let mut now = sources(spec);
    let key = "controllerExpandSecretRef";
    if let Some(csi) = now.last_mut().and_then(Value::as_object_mut)
        && before.get("csi").is_some()
        && !before.at(&["csi", key]).is_some()
    {
        csi.remove(key);
    }
    if now != sources(before) {
        let at = spec.get("persistentvolumesource");
        errors.push(at.forbidden("spec.persistentvolumesource is immutable after creation"));
    }
    immutable(
        errors,
        &spec.get("volumeMode").named("volumeMode"),
        &before.get("volumeMode"),
    );
    let (affinity, was) = (spec.get("nodeAffinity"), before.get("nodeAffinity"));
    if was.is_some() && !renamed(affinity.value, was.value) {
        let at = affinity.named("nodeAffinity");
        errors.push(at.invalid("field is immutable, except for updating from beta label to GA"));
    }
    let class = spec.get("volumeAttributesClassName");
    if before.get("volumeAttributesClassName").is_some() && !class.is_some() {
        errors.push(class.forbidden("update from non-nil value to nil is forbidden"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(new: Value, old: Value) -> Vec<String> {
        let mut errors = Errors::new();
        update(
            &mut errors,
            &Cursor::of(Some(&new), "spec"),
            &Cursor::of(Some(&old), "spec"),
        );
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_nodes_of_a_volume_change_only_to_todays_names_of_labels() {
        let spec = |key: &str| {
            json!({ "nodeAffinity": { "required": { "nodeSelectorTerms": [
            { "matchExpressions": [{ "key": key, "operator": "In", "values": ["a"] }] }
        ] } } })
        };
        let (old, new) = RENAMED[0];
        assert!(found(spec(new), spec(old)).is_empty());
        assert!(found(spec(new), json!({})).is_empty(), "it may be set once");
        assert_eq!(found(spec(old), spec(new)).len(), 1);
        assert_eq!(found(json!({}), spec(old)).len(), 1);
    }

    #[test]
    fn the_root_is_the_root_however_it_is_written() {
        assert!(["/", "/a/..", "//", "/../."].into_iter().all(is_root));
        assert!(!["/a", "a/..", "/a/../b"].into_iter().any(is_root));
    }
}
