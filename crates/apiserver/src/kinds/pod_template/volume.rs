//! Rules of `spec.volumes`.

use std::collections::HashSet;

use api::names;

use crate::kinds::certificates::cluster_trust_bundle::reference_problems;
use crate::kinds::certificates::signer::{is_kubernetes, signer_name, user_annotations};
use crate::kinds::core::persistent_volume_claim;
use crate::kinds::external_volume::{Owner, external};
use crate::kinds::pod_template::{Pod, env};
use crate::kinds::rules::{
    dns_label, file_mode, label_selector, local_descending_path, local_free_path, no_backsteps, problems, require,
    template_metadata,
};
use crate::kinds::{Cursor, Errors, volume};

/// Every source, in the order in which upstream looks for them.
const SOURCES: [&str; 30] = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];

/// Checks the volumes and returns the names of those that are fine.
pub fn volumes<'a>(errors: &mut Errors, spec: &Cursor<'a>, pod_name: &str) -> HashSet<&'a str> {
    let list = spec.get("volumes");
    let made: HashSet<String> = list
        .items()
        .filter(|v| !pod_name.is_empty() && v.get("ephemeral").is_some())
        .map(|v| format!("{pod_name}-{}", v.get("name").text()))
        .collect();
    let mut fine = HashSet::new();
    for volume in list.items() {
        let mut found = Errors::new();
        source(&mut found, &volume, pod_name);
        let name = volume.get("name");
        if require(&mut found, &name) {
            dns_label(&mut found, &name);
        }
        if fine.contains(name.text()) {
            found.push(name.duplicate(name.text()));
        }
        if found.is_empty() {
            fine.insert(name.text());
        }
        errors.extend(found);
        let claim = volume.at(&["persistentVolumeClaim", "claimName"]);
        if made.contains(claim.text()) {
            errors.push(claim.invalid("must not reference a PVC that gets created for an ephemeral volume"));
        }
    }
    fine
}

fn source(errors: &mut Errors, volume: &Cursor, pod_name: &str) {
    let mut found = false;
    for kind in SOURCES {
        let Some(at) = volume.get(kind).present() else { continue };
        if found {
            // two of the names are spelt otherwise in upstream's errors
            let shown = match kind {
                "cephfs" => "cephFS",
                "downwardAPI" => "downwarAPI",
                other => other,
            };
            let at = at.named(format!("{}.{shown}", volume.path));
            errors.push(at.forbidden("may not specify more than 1 volume type"));
            continue;
        }
        found = true;
        one(errors, kind, &at, volume, pod_name);
    }
    if !found {
        errors.push(volume.required("must specify a volume type"));
    }
}

fn one(errors: &mut Errors, kind: &'static str, at: &Cursor, volume: &Cursor, pod_name: &str) {
    match kind {
        "emptyDir" => {
            let limit = at.get("sizeLimit");
            if limit.quantity().is_some_and(|q| q.is_negative()) {
                errors.push(limit.forbidden("SizeLimit field must be a valid resource quantity"));
            }
        }
        "hostPath" => host_path(errors, at),
        "gitRepo" => {
            require(errors, &at.get("repository"));
            local_descending_path(errors, &at.get("directory"));
        }
        "secret" | "configMap" => {
            let name = if kind == "secret" { "secretName" } else { "name" };
            require(errors, &at.get(name));
            file_mode(errors, &at.get("defaultMode"));
            for item in at.get("items").items() {
                key_to_path(errors, &item);
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
        "persistentVolumeClaim" => {
            require(errors, &at.get("claimName"));
        }
        "downwardAPI" => {
            file_mode(errors, &at.get("defaultMode"));
            for file in at.get("items").items() {
                // errors name the volume and not the item, as upstream's
                downward_file(errors, &file.named(&at.path));
            }
        }
        "projected" => projected(errors, at),
        "csi" => csi(errors, at),
        "ephemeral" => {
            let template = at.get("volumeClaimTemplate");
            if !template.is_some() {
                errors.push(template.required(""));
                return;
            }
            template_metadata(errors, &template.get("metadata"));
            persistent_volume_claim::spec(errors, &template.get("spec"));
            let name = volume.get("name");
            if !pod_name.is_empty() && !name.text().is_empty() {
                let claim = format!("{pod_name}-{}", name.text());
                for problem in names::dns1123_subdomain_errors(&claim) {
                    errors.push(name.wrong(name.text(), format!("PVC name {claim:?}: {problem}")));
                }
            }
        }
        "image" => {
            require(errors, &at.get("reference"));
            let policy = at.get("pullPolicy");
            crate::kinds::rules::one_of(errors, &policy, &["Always", "IfNotPresent", "Never"]);
        }
        other => external(errors, other, volume, Owner::Pod),
    }
}

/// Checks a volume of a path on the node.
pub fn host_path(errors: &mut Errors, at: &Cursor) {
    const KINDS: [&str; 8] = [
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ];
    let path = at.get("path");
    if !require(errors, &path) {
        return;
    }
    no_backsteps(errors, &path);
    let kind = at.get("type");
    if kind.is_some() && !KINDS.contains(&kind.text()) {
        errors.push(kind.not_supported(&KINDS));
    }
}

fn key_to_path(errors: &mut Errors, item: &Cursor) {
    require(errors, &item.get("key"));
    let path = item.get("path");
    require(errors, &path);
    local_free_path(errors, &path);
    file_mode(errors, &item.get("mode"));
}

fn downward_file(errors: &mut Errors, file: &Cursor) {
    let path = file.get("path");
    require(errors, &path);
    local_free_path(errors, &path);
    match (file.get("fieldRef").present(), file.get("resourceFieldRef").present()) {
        (Some(field), resource) => {
            env::field_selector(errors, &field, &env::FILE_FIELDS);
            if resource.is_some() {
                let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(file.wrong("resource", why));
            }
        }
        (None, Some(resource)) => env::resource_selector(errors, &resource, true),
        (None, None) => errors.push(file.required("one of fieldRef and resourceFieldRef is required")),
    }
    file_mode(errors, &file.get("mode"));
}

fn projected(errors: &mut Errors, volume: &Cursor) {
    file_mode(errors, &volume.get("defaultMode"));
    let mut taken: HashSet<&str> = HashSet::new();
    for source in volume.get("sources").items() {
        let mut sources = 0;
        for kind in ["secret", "configMap"] {
            let Some(at) = source.get(kind).present() else { continue };
            sources += 1;
            let name = at.get("name");
            require(errors, &name);
            for item in at.get("items").items() {
                key_to_path(errors, &item);
                let path = item.get("path").text();
                if !path.is_empty() && !taken.insert(path) {
                    errors.push(volume.wrong(name.text(), "conflicting duplicate paths"));
                }
            }
        }
        if let Some(at) = source.get("downwardAPI").present() {
            sources += 1;
            for file in at.get("items").items() {
                downward_file(errors, &file.named(&at.path));
                let path = file.get("path").text();
                if !path.is_empty() && !taken.insert(path) {
                    errors.push(volume.wrong(path, "conflicting duplicate paths"));
                }
            }
        }
        if let Some(at) = source.get("serviceAccountToken").present() {
            sources += 1;
            let seconds = at.get("expirationSeconds");
            let n = seconds.int().unwrap_or(0);
            if n < 600 {
                errors.push(seconds.wrong(n, "may not specify a duration less than 10 minutes"));
            }
            if n > 1 << 32 {
                errors.push(seconds.wrong(n, "may not specify a duration larger than 2^32 seconds"));
            }
            let path = at.get("path").named(format!("{}.path", volume.path));
            if require(errors, &path) {
                local_free_path(errors, &path);
            }
        }
        if let Some(at) = source.get("clusterTrustBundle").present() {
            sources += 1;
            trust_bundle(errors, &at);
            let path = at.get("path");
            require(errors, &path);
            local_free_path(errors, &path);
            if !taken.insert(path.text()) {
                errors.push(volume.wrong(path.text(), "conflicting duplicate paths"));
            }
        }
        if let Some(at) = source.get("podCertificate").present() {
            sources += 1;
            pod_certificate(errors, &at);
            let paths = ["credentialBundlePath", "keyPath", "certificateChainPath"].map(|field| at.get(field));
            let mut any = false;
            for path in paths.iter().filter(|path| !path.text().is_empty()) {
                any = true;
                local_free_path(errors, path);
                if !taken.insert(path.text()) {
                    errors.push(volume.wrong(path.text(), "conflicting duplicate paths"));
                }
            }
            if !any {
                let why = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
                errors.push(at.required(why));
            }
        }
        if sources > 1 {
            errors.push(source.forbidden("may not specify more than 1 volume type per source"));
        }
    }
}

/// A certificate that a signer gives a pod. KEP-4317.
fn pod_certificate(errors: &mut Errors, at: &Cursor) {
    const KEYS: [&str; 6] = ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];
    const HOUR: i64 = 3600;
    let signer = at.get("signerName");
    signer_name(errors, &signer);
    user_annotations(errors, &at.get("userAnnotations"));
    let key = at.get("keyType");
    if !KEYS.contains(&key.text()) {
        errors.push(key.not_supported(&KEYS));
    }
    let longest = at.get("maxExpirationSeconds");
    if let Some(seconds) = longest.int() {
        if seconds < HOUR {
            errors.push(longest.invalid("if provided, maxExpirationSeconds must be >= 3600"));
        }
        let most = if is_kubernetes(signer.text()) {
            24 * HOUR
        } else {
            91 * 24 * HOUR
        };
        if seconds > most {
            errors.push(longest.invalid(format!("if provided, maxExpirationSeconds must be <= {most}")));
        }
    }
}

fn trust_bundle(errors: &mut Errors, at: &Cursor) {
    let (name, signer, selector) = (at.get("name"), at.get("signerName"), at.get("labelSelector"));
    match (name.is_some(), signer.is_some()) {
        (true, true) => errors.push(at.invalid("only one of name and signerName may be used")),
        (true, false) => {
            if name.text().is_empty() {
                errors.push(name.required("must be a valid object name"));
            }
            for problem in reference_problems(name.text()) {
                errors.push(name.invalid(format!("not a valid clustertrustbundlename: {problem}")));
            }
            if selector.is_some() {
                errors.push(selector.invalid("labelSelector must be unset if name is specified"));
            }
        }
        (false, true) => {
            if signer.text().is_empty() {
                errors.push(signer.required("must be a valid signer name"));
            }
            signer_name(errors, &signer);
            label_selector(errors, &selector);
        }
        (false, false) => errors.push(at.required("either name or signerName must be specified")),
    }
}

fn csi(errors: &mut Errors, at: &Cursor) {
    volume::driver_name(errors, &at.get("driver"));
    if let Some(secret) = at.get("nodePublishSecretRef").present() {
        let name = secret.get("name");
        if require(errors, &name) {
            let found = names::dns1123_subdomain_errors(name.text());
            problems(errors, &name.named(format!("{}.name", at.path)), found);
        }
    }
}

/// A service account's token in a volume needs a service account.
pub fn tokens_without_account(errors: &mut Errors, pod: &Pod) {
    if !pod.spec.get("serviceAccountName").text().is_empty() {
        return;
    }
    for volume in pod.spec.get("volumes").items() {
        for source in volume.at(&["projected", "sources"]).items() {
            if let Some(token) = source.get("serviceAccountToken").present() {
                errors.push(token.forbidden("must not be specified when serviceAccountName is not set"));
            }
        }
    }
}
