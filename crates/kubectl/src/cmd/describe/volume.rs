//! The volumes of a pod, of a template or of a PersistentVolume.

use serde_json::Value;

use super::text::{Text, int, items, str_of};
use crate::print::go;

/// What is shown of a field that is not there.
#[derive(Clone, Copy)]
enum Missing {
    Nothing,
    False,
    Zero,
    None,
    Unset,
}

type Field = (&'static str, &'static str, Missing);
/// The field of the volume, what it is called, and which of its fields are shown.
type Source = (&'static str, &'static str, &'static [Field]);

const SOURCES: &[Source] = &[
    (
        "hostPath",
        "HostPath (bare host directory volume)",
        &[
            ("Path", "path", Missing::Nothing),
            ("HostPathType", "type", Missing::None),
        ],
    ),
    (
        "emptyDir",
        "EmptyDir (a temporary directory that shares a pod's lifetime)",
        &[
            ("Medium", "medium", Missing::Nothing),
            ("SizeLimit", "sizeLimit", Missing::Unset),
        ],
    ),
    (
        "secret",
        "Secret (a volume populated by a Secret)",
        &[
            ("SecretName", "secretName", Missing::Nothing),
            ("Optional", "optional", Missing::False),
        ],
    ),
    (
        "configMap",
        "ConfigMap (a volume populated by a ConfigMap)",
        &[
            ("Name", "name", Missing::Nothing),
            ("Optional", "optional", Missing::False),
        ],
    ),
    (
        "nfs",
        "NFS (an NFS mount that lasts the lifetime of a pod)",
        &[
            ("Server", "server", Missing::Nothing),
            ("Path", "path", Missing::Nothing),
            ("ReadOnly", "readOnly", Missing::False),
        ],
    ),
    (
        "persistentVolumeClaim",
        "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)",
        &[
            ("ClaimName", "claimName", Missing::Nothing),
            ("ReadOnly", "readOnly", Missing::False),
        ],
    ),
    (
        "local",
        "LocalVolume (a persistent volume backed by local storage on a node)",
        &[("Path", "path", Missing::Nothing)],
    ),
    (
        "image",
        "Image (a container image or OCI artifact)",
        &[
            ("Reference", "reference", Missing::Nothing),
            ("PullPolicy", "pullPolicy", Missing::Nothing),
        ],
    ),
    (
        "iscsi",
        "ISCSI (an ISCSI Disk resource that is attached to a kubelet's host machine and then exposed to the pod)",
        &[
            ("TargetPortal", "targetPortal", Missing::Nothing),
            ("IQN", "iqn", Missing::Nothing),
            ("Lun", "lun", Missing::Zero),
            ("FSType", "fsType", Missing::Nothing),
            ("ReadOnly", "readOnly", Missing::False),
        ],
    ),
];

pub(crate) fn volumes(w: &mut Text, volumes: &Value, space: &str) {
    if items(volumes).next().is_none() {
        w.line(0, &format!("{space}Volumes:\t<none>"));
        return;
    }
    w.line(0, &format!("{space}Volumes:"));
    for volume in items(volumes) {
        let indent = if space.is_empty() { "" } else { " " };
        w.line(1, &format!("{indent}{}:", str_of(&volume["name"])));
        source(w, volume);
    }
}

/// What a volume is made of.
pub fn source(w: &mut Text, volume: &Value) {
    if let Some((field, title, fields)) = SOURCES.iter().find(|(field, ..)| volume[*field].is_object()) {
        w.pair(2, "Type", title);
        for (label, name, missing) in *fields {
            w.pair(2, label, &shown(&volume[*field][*name], *missing));
        }
    } else if volume["projected"].is_object() {
        projected(w, &volume["projected"]);
    } else if volume["downwardAPI"].is_object() {
        w.pair(
            2,
            "Type",
            "DownwardAPI (a volume populated by information about the pod)",
        );
        w.line(2, "Items:");
        for item in items(&volume["downwardAPI"]["items"]) {
            let from = match item["fieldRef"].is_object() {
                true => str_of(&item["fieldRef"]["fieldPath"]),
                false => str_of(&item["resourceFieldRef"]["resource"]),
            };
            w.line(3, &format!("{from} -> {}", str_of(&item["path"])));
        }
    } else if volume["csi"].is_object() {
        csi(w, &volume["csi"]);
    } else if volume["ephemeral"].is_object() {
        ephemeral(w, &volume["ephemeral"]["volumeClaimTemplate"]);
    } else {
        // Every other kind by the names of its own fields.
        let other = volume
            .as_object()
            .into_iter()
            .flatten()
            .find(|(k, v)| *k != "name" && v.is_object());
        match other {
            Some((kind, fields)) => {
                w.pair(2, "Type", kind);
                for (name, value) in fields.as_object().into_iter().flatten() {
                    w.pair(2, name, &go::sprint(value));
                }
            }
            None => w.line(1, "<unknown>"),
        }
    }
}

fn shown(value: &Value, missing: Missing) -> String {
    match (value, missing) {
        (Value::Null, Missing::Nothing) => String::new(),
        (Value::Null, Missing::False) => "false".to_owned(),
        (Value::Null, Missing::Zero) => "0".to_owned(),
        (Value::Null, Missing::None) => "<none>".to_owned(),
        (Value::Null, Missing::Unset) => "<unset>".to_owned(),
        (value, _) => go::sprint(value),
    }
}

fn projected(w: &mut Text, projected: &Value) {
    w.pair(
        2,
        "Type",
        "Projected (a volume that contains injected data from multiple sources)",
    );
    for source in items(&projected["sources"]) {
        if source["secret"].is_object() {
            w.pair(2, "SecretName", str_of(&source["secret"]["name"]));
            w.pair(2, "Optional", &shown(&source["secret"]["optional"], Missing::False));
        } else if source["downwardAPI"].is_object() {
            w.pair(2, "DownwardAPI", "true");
        } else if source["configMap"].is_object() {
            w.pair(2, "ConfigMapName", str_of(&source["configMap"]["name"]));
            w.pair(2, "Optional", &shown(&source["configMap"]["optional"], Missing::False));
        } else if source["serviceAccountToken"].is_object() {
            let seconds = int(&source["serviceAccountToken"]["expirationSeconds"]);
            w.pair(2, "TokenExpirationSeconds", &seconds.to_string());
        }
    }
}

fn csi(w: &mut Text, csi: &Value) {
    let handle = csi["volumeHandle"].as_str();
    w.pair(2, "Type", "CSI (a Container Storage Interface (CSI) volume source)");
    w.pair(2, "Driver", str_of(&csi["driver"]));
    w.pair(2, "FSType", str_of(&csi["fsType"]));
    if let Some(handle) = handle {
        w.pair(2, "VolumeHandle", handle);
    }
    w.pair(2, "ReadOnly", &shown(&csi["readOnly"], Missing::False));
    w.labels("    ", "VolumeAttributes", &csi["volumeAttributes"]);
}

fn ephemeral(w: &mut Text, template: &Value) {
    w.pair(
        2,
        "Type",
        "EphemeralVolume (an inline specification for a volume that gets created and deleted with the pod)",
    );
    if template.is_object() {
        let spec = &template["spec"];
        w.pair(2, "StorageClass", str_of(&spec["storageClassName"]));
        w.pair(2, "Volume", str_of(&spec["volumeName"]));
        w.labels("    ", "Labels", &template["metadata"]["labels"]);
        w.labels("    ", "Annotations", &template["metadata"]["annotations"]);
        w.pair(2, "Capacity", "");
        w.pair(2, "Access Modes", "");
        w.some(2, "VolumeMode", &spec["volumeMode"]);
    }
}
