//! Rules of `volumeMounts` and `volumeDevices`.

use std::collections::HashSet;

use crate::kinds::pod_template::Pod;
use crate::kinds::rules::local_descending_path;
use crate::kinds::{Cursor, Errors};

/// Checks `volumeMounts` of a container: each names a volume, and no two share a path.
pub fn mounts(errors: &mut Errors, container: &Cursor, pod: &Pod) {
    let list = container.get("volumeMounts");
    let devices = container.get("volumeDevices");
    let mut seen = HashSet::new();
    let privileged = container.at(&["securityContext", "privileged"]).is_true();
    for mount in list.items() {
        let (name, path) = (mount.get("name"), mount.get("mountPath"));
        if name.text().is_empty() {
            errors.push(name.required(""));
        }
        if !pod.has_volume(name.text()) {
            errors.push(name.not_found(name.text()));
        }
        if path.text().is_empty() {
            errors.push(path.required(""));
        }
        if !seen.insert(path.text()) {
            errors.push(path.invalid("must be unique"));
        }
        if devices.items().any(|d| d.get("name").text() == name.text()) {
            errors.push(name.invalid("must not already exist in volumeDevices"));
        }
        if devices.items().any(|d| d.get("devicePath").text() == path.text()) {
            errors.push(path.invalid("must not already exist as a path in volumeDevices"));
        }
        // the errors of these fields name the list, as upstream's
        let of_list = |field: &'static str| mount.get(field).named(list.get(field).path);
        let (sub, expression) = (of_list("subPath"), of_list("subPathExpr"));
        if !sub.text().is_empty() {
            local_descending_path(errors, &sub);
        }
        if !expression.text().is_empty() {
            if !sub.text().is_empty() {
                let why = "subPathExpr and subPath are mutually exclusive";
                errors.push(mount.get("subPathExpr").invalid(why));
            }
            local_descending_path(errors, &expression);
        }
        propagation(errors, &of_list("mountPropagation"), privileged);
        recursive(errors, &mount, &of_list("recursiveReadOnly"));
    }
}

fn propagation(errors: &mut Errors, at: &Cursor, privileged: bool) {
    if !at.is_some() {
        return;
    }
    let known = ["Bidirectional", "HostToContainer", "None"];
    if !known.contains(&at.text()) {
        errors.push(at.not_supported(&known));
    }
    if at.text() == "Bidirectional" && !privileged {
        errors.push(at.forbidden("Bidirectional mount propagation is available only to privileged containers"));
    }
}

fn recursive(errors: &mut Errors, mount: &Cursor, at: &Cursor) {
    match at.text() {
        "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if !mount.get("readOnly").is_true() {
                errors.push(at.forbidden("may only be specified when readOnly is true"));
            }
            if !matches!(mount.get("mountPropagation").text(), "" | "None") {
                let why = "may only be specified when mountPropagation is None or not specified";
                errors.push(at.forbidden(why));
            }
        }
        _ if at.is_some() => errors.push(at.not_supported(&["Disabled", "Enabled", "IfPossible"])),
        _ => {}
    }
}

/// Checks `volumeDevices` of a container: each names a claim, and no two share a path.
pub fn devices(errors: &mut Errors, container: &Cursor, pod: &Pod) {
    let mounts = container.get("volumeMounts");
    let (mut names, mut paths) = (HashSet::new(), HashSet::new());
    for device in container.get("volumeDevices").items() {
        let (name, path) = (device.get("name"), device.get("devicePath"));
        if name.text().is_empty() {
            errors.push(name.required(""));
        }
        if names.contains(name.text()) {
            errors.push(name.invalid("must be unique"));
        }
        match pod.volume(name.text()) {
            Some(volume) if !volume.get("persistentVolumeClaim").is_some() && !volume.get("ephemeral").is_some() => {
                let why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(name.invalid(why));
            }
            Some(_) => {}
            None => errors.push(name.not_found(name.text())),
        }
        if path.text().is_empty() {
            errors.push(path.required(""));
        }
        if paths.contains(path.text()) {
            errors.push(path.invalid("must be unique"));
        }
        if path.text().split('/').any(|part| part == "..") {
            errors.push(path.invalid("can not contain backsteps ('..')"));
        } else {
            paths.insert(path.text());
        }
        if mounts.items().any(|m| m.get("name").text() == name.text()) {
            errors.push(name.invalid("must not already exist in volumeMounts"));
        }
        if mounts.items().any(|m| m.get("mountPath").text() == path.text()) {
            errors.push(path.invalid("must not already exist as a path in volumeMounts"));
        }
        if !name.text().is_empty() {
            names.insert(name.text());
        }
    }
}
