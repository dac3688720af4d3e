//! Rules of volumes that lie outside the cluster, of a pod or of a PersistentVolume.

use crate::kinds::rules::{dns_label, dns_subdomain, one_of_or_none, require};
use crate::kinds::{Cursor, Errors};

/// Whose volume it is: secrets of a PersistentVolume have a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner<'a> {
    Pod,
    /// With its name.
    PersistentVolume(&'a str),
}

const REGISTRY: &str = "must be a host:port pair or multiple pairs separated by commas";

/// The sources that errors name as upstream's own type does, and not as the field is called.
const SHOWN: [(&str, &str); 1] = [("gcePersistentDisk", "persistentDisk")];

/// The rules of one kind of source of a volume.
pub fn external(errors: &mut Errors, kind: &'static str, volume: &Cursor, owner: Owner<'_>) {
    let at = match SHOWN.iter().find(|(field, _)| *field == kind) {
        Some((field, shown)) => volume.get(field).named(format!("{}.{shown}", volume.path)),
        None => volume.get(kind),
    };
    let at = &at;
    let needed: &[&str] = match kind {
        "gcePersistentDisk" => &["pdName"],
        "awsElasticBlockStore" | "cinder" | "portworxVolume" => &["volumeID"],
        "iscsi" => &["targetPortal"],
        "glusterfs" => &["endpoints", "path"],
        "flexVolume" => &["driver"],
        "azureFile" => &["secretName", "shareName"],
        "vsphereVolume" => &["volumePath"],
        "photonPersistentDisk" => &["pdID"],
        "azureDisk" => &["diskName", "diskURI"],
        "scaleIO" => &["gateway", "system", "volumeName"],
        "rbd" => &["image"],
        _ => &[],
    };
    if matches!(kind, "rbd" | "cephfs") && at.get("monitors").list().is_empty() {
        errors.push(at.get("monitors").required(""));
    }
    for field in needed {
        require(errors, &at.get(field));
    }
    match kind {
        "azureDisk" => azure_disk(errors, at),
        "iscsi" => iscsi(errors, at, owner),
        "fc" => fibre_channel(errors, at),
        "quobyte" => quobyte(errors, at),
        "flocker" => flocker(errors, at),
        "storageos" => {
            let name = at.get("volumeName");
            if require(errors, &name) {
                dns_label(errors, &name);
            }
            let namespace = at.get("volumeNamespace");
            if !namespace.text().is_empty() {
                dns_label(errors, &namespace);
            }
            secret(errors, &at.get("secretRef"), owner);
        }
        "cinder" => secret(errors, &at.get("secretRef"), owner),
        "gcePersistentDisk" | "awsElasticBlockStore" => {
            let partition = at.get("partition");
            if !(0..=255).contains(&partition.int().unwrap_or(0)) {
                errors.push(partition.invalid("must be between 1 and 255, inclusive"));
            }
        }
        "flexVolume" => {
            for (name, option) in at.get("options").entries() {
                let namespace = name.split_once('/').map_or(name, |(namespace, _)| namespace);
                let namespace = format!(".{}", namespace.to_lowercase());
                if namespace.ends_with(".kubernetes.io") || namespace.ends_with(".k8s.io") {
                    errors.push(option.wrong(name, "kubernetes.io and k8s.io namespaces are reserved"));
                }
            }
        }
        "azureFile" => {
            let namespace = at.get("secretNamespace");
            if namespace.is_some() {
                require(errors, &namespace);
            }
        }
        "glusterfs" => {
            let namespace = at.get("endpointsNamespace");
            if namespace.is_some() && namespace.text().is_empty() {
                errors.push(namespace.invalid("if the endpointnamespace is set, it must be a valid namespace name"));
            } else if namespace.is_some() {
                dns_label(errors, &namespace);
            }
        }
        _ => {}
    }
}

/// A secret that a CSI driver of a PersistentVolume is given.
pub fn csi_secret(errors: &mut Errors, secret: &Cursor) {
    if !secret.is_some() {
        return;
    }
    let (name, namespace) = (secret.get("name"), secret.get("namespace"));
    if require(errors, &name) {
        dns_subdomain(errors, &name);
    }
    if require(errors, &namespace) {
        dns_label(errors, &namespace);
    }
}

fn secret(errors: &mut Errors, secret: &Cursor, owner: Owner<'_>) {
    if !secret.is_some() {
        return;
    }
    require(errors, &secret.get("name"));
    if owner != Owner::Pod {
        require(errors, &secret.get("namespace"));
    }
}

fn fibre_channel(errors: &mut Errors, at: &Cursor) {
    let (targets, wwids, lun) = (at.get("targetWWNs"), at.get("wwids"), at.get("lun"));
    match (targets.list(), wwids.list()) {
        ([], []) => errors.push(targets.required("must specify either targetWWNs or wwids, but not both")),
        ([], _) => {}
        (_, both) => {
            if !both.is_empty() {
                errors.push(targets.invalid("targetWWNs and wwids can not be specified simultaneously"));
            }
            if !lun.is_some() {
                errors.push(lun.required("lun is required if targetWWNs is specified"));
            } else {
                unit(errors, &lun);
            }
        }
    }
}

/// The number of a disk behind a target.
fn unit(errors: &mut Errors, lun: &Cursor) {
    if !(0..=255).contains(&lun.int().unwrap_or(0)) {
        errors.push(lun.invalid("must be between 0 and 255, inclusive"));
    }
}

fn iscsi(errors: &mut Errors, at: &Cursor, owner: Owner<'_>) {
    let (portal, name, initiator) = (at.get("targetPortal"), at.get("iqn"), at.get("initiatorName"));
    if let Owner::PersistentVolume(volume) = owner
        && initiator.is_some()
        && volume.len() + 1 + portal.text().len() > 64
    {
        let why = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
        errors.push(portal.named(format!("{}.targetportal", at.path)).invalid(why));
    }
    if require(errors, &name) {
        qualified(errors, &name, owner);
    }
    unit(errors, &at.get("lun"));
    let asks = |field: &'static str| at.get(field).is_true();
    let secret = at.get("secretRef");
    if (asks("chapAuthDiscovery") || asks("chapAuthSession")) && !secret.is_some() {
        errors.push(secret.required(""));
    }
    if secret.is_some() && owner != Owner::Pod {
        require(errors, &secret.get("name"));
    }
    if initiator.is_some() {
        qualified(errors, &initiator.named(format!("{}.initiatorname", at.path)), owner);
    }
}

/// A name of an iSCSI node (RFC 3720).
fn qualified(errors: &mut Errors, at: &Cursor, owner: Owner<'_>) {
    let name = at.text();
    let fits = match name.get(..3) {
        Some("iqn") => is_iqn(name),
        Some("eui") => is_number(name, 16),
        Some("naa") => is_number(name, 32),
        _ if owner == Owner::Pod => {
            errors.push(at.invalid("must be valid format starting with iqn, eui, or naa"));
            return;
        }
        _ => false,
    };
    if !fits {
        errors.push(at.invalid("must be valid format"));
    }
}

/// A type, any character, and that many letters and digits.
fn is_number(name: &str, digits: usize) -> bool {
    let mut rest = name.chars().skip(3);
    let parted = rest.next().is_some_and(|c| c != '\n');
    let rest: Vec<char> = rest.collect();
    parted && rest.len() == digits && rest.iter().all(char::is_ascii_alphanumeric)
}

/// `iqn.2001-04.com.example:storage`.
fn is_iqn(name: &str) -> bool {
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|c| c.is_ascii_digit());
    let parts = || {
        let (date, rest) = name.strip_prefix("iqn.")?.split_once('.')?;
        let (year, month) = date.split_once('-')?;
        let (authority, own) = rest.split_once(':')?;
        Some((year, month, authority, own))
    };
    parts().is_some_and(|(year, month, authority, own)| {
        let authority_fits = authority
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.'));
        let own_fits = !own.contains([',', ';', '*', '&', '$', '|', ' ', '\t', '\n', '\r', '\u{c}']);
        digits(year, 4) && digits(month, 2) && !authority.is_empty() && authority_fits && !own.is_empty() && own_fits
    })
}

fn quobyte(errors: &mut Errors, at: &Cursor) {
    let (registry, tenant) = (at.get("registry"), at.get("tenant"));
    if registry.text().is_empty() {
        errors.push(registry.required(REGISTRY));
    } else if tenant.text().len() >= 65 {
        errors.push(tenant.required("must be a UUID and may not exceed a length of 64 characters"));
    } else {
        let wrong = registry.text().split(',').filter(|pair| !is_host_and_port(pair));
        wrong.for_each(|_| errors.push(registry.invalid(REGISTRY)));
    }
    require(errors, &at.get("volume"));
}

/// Whether Go can split a host from its port.
fn is_host_and_port(pair: &str) -> bool {
    match pair.strip_prefix('[') {
        Some(rest) => rest
            .split_once("]:")
            .is_some_and(|(host, port)| !host.contains(['[', ']']) && !port.contains(['[', ']', ':'])),
        None => pair.matches(':').count() == 1 && !pair.contains(['[', ']']),
    }
}

fn flocker(errors: &mut Errors, at: &Cursor) {
    let (name, id) = (at.get("datasetName"), at.get("datasetUUID"));
    match (name.text(), id.text()) {
        ("", "") => errors.push(at.required("one of datasetName and datasetUUID is required")),
        ("", _) | (_, "") => {}
        _ => errors.push(at.wrong(
            "resource",
            "datasetName and datasetUUID can not be specified simultaneously",
        )),
    }
    if name.text().contains('/') {
        errors.push(name.invalid("must not contain '/'"));
    }
}

/// A disk that Azure manages is named in another way than a blob.
fn azure_disk(errors: &mut Errors, at: &Cursor) {
    let (kind, uri) = (at.get("kind"), at.get("diskURI"));
    let modes = ["None", "ReadOnly", "ReadWrite"];
    one_of_or_none(errors, &at.get("cachingMode"), &modes);
    one_of_or_none(errors, &kind, &["Dedicated", "Managed", "Shared"]);
    let (start, form) = match kind.text() {
        "Managed" => (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        ),
        _ => (
            "https://",
            "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd",
        ),
    };
    if kind.is_some() && !uri.text().starts_with(start) {
        errors.push(uri.not_supported(&[form]));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn found(kind: &'static str, source: Value, owner: Owner<'_>) -> Vec<String> {
        let mut errors = Errors::new();
        let volume = json!({ kind: source });
        external(&mut errors, kind, &Cursor::of(Some(&volume), "v"), owner);
        errors.iter().map(ToString::to_string).collect()
    }

    /// `validateISCSIVolumeSource` and its twin of PersistentVolumes.
    #[test]
    fn names_of_iscsi_nodes_have_a_form() {
        let of = |iqn: &str| found("iscsi", json!({ "targetPortal": "p", "iqn": iqn }), Owner::Pod);
        for name in ["iqn.2001-04.com.example:storage", "eui.0123456789abcdef"] {
            assert!(of(name).is_empty(), "{name}");
        }
        for name in [
            "iqn.01-04.com:x",
            "iqn.2001-04.com",
            "iqn.2001-04.com:a b",
            "eui.1",
            "naa.x",
        ] {
            assert_eq!(
                of(name),
                [format!("v.iscsi.iqn: Invalid value: {name:?}: must be valid format")]
            );
        }
        let why = ["v.iscsi.iqn: Invalid value: \"x\": must be valid format starting with iqn, eui, or naa"];
        assert_eq!(of("x"), why);
        let volume = json!({ "targetPortal": "p".repeat(60), "iqn": "eui.0123456789abcdef", "initiatorName": "eui.0123456789abcdef" });
        assert!(found("iscsi", volume, Owner::PersistentVolume("volume"))[0].starts_with("v.iscsi.targetportal: "));
    }

    #[test]
    fn a_volume_outside_says_what_it_needs() {
        for (kind, volume, told) in [
            (
                "fc",
                json!({}),
                "v.fc.targetWWNs: Required value: must specify either targetWWNs or wwids, but not both",
            ),
            (
                "fc",
                json!({ "targetWWNs": ["a"] }),
                "v.fc.lun: Required value: lun is required if targetWWNs is specified",
            ),
            (
                "fc",
                json!({ "targetWWNs": ["a"], "lun": 256 }),
                "v.fc.lun: Invalid value: 256: must be between 0 and 255, inclusive",
            ),
            // not by the name of its field
            (
                "gcePersistentDisk",
                json!({}),
                "v.persistentDisk.pdName: Required value",
            ),
            (
                "flocker",
                json!({}),
                "v.flocker: Required value: one of datasetName and datasetUUID is required",
            ),
            (
                "quobyte",
                json!({ "registry": "r", "volume": "x" }),
                "v.quobyte.registry: Invalid value: \"r\": must be a host:port pair or multiple pairs separated by commas",
            ),
            (
                "cinder",
                json!({ "volumeID": "i", "secretRef": { "name": "s" } }),
                "v.cinder.secretRef.namespace: Required value",
            ),
            (
                "flexVolume",
                json!({ "driver": "d", "options": { "K8s.io/x": "" } }),
                "v.flexVolume.options[K8s.io/x]: Invalid value: \"K8s.io/x\": kubernetes.io and k8s.io namespaces are reserved",
            ),
        ] {
            assert_eq!(found(kind, volume, Owner::PersistentVolume("a")), [told], "{kind}");
        }
        assert!(
            found(
                "quobyte",
                json!({ "registry": "r:1,[::1]:2", "volume": "x" }),
                Owner::Pod
            )
            .is_empty()
        );
    }
}
