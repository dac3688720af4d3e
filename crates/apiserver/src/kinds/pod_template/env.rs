//! Rules of environment variables and of the fields that the downward API may show.

use api::names;

use crate::kinds::rules::{dns_label, dns_subdomain, no_backsteps, problems, require};
use crate::kinds::{Cursor, Errors};

const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Fields that a file of a downward API volume may show.
pub const FILE_FIELDS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

/// Every field path that the downward API knows.
const KNOWN: [&str; 12] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.podIP",
];

const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

const UNITS: [&str; 13] = [
    "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
];

/// `env`.
pub fn variables(errors: &mut Errors, list: &Cursor) {
    for variable in list.items() {
        let name = variable.get("name");
        if require(errors, &name) {
            problems(errors, &name, names::env_name_errors(name.text()));
        }
        let from = variable.get("valueFrom");
        if from.is_some() {
            value_from(errors, &variable, &from);
        }
    }
}

fn value_from(errors: &mut Errors, variable: &Cursor, from: &Cursor) {
    let mut sources = 0;
    let mut source = |field: &'static str| {
        let at = from.get(field).present();
        sources += usize::from(at.is_some());
        at
    };
    if let Some(at) = source("fieldRef") {
        field_selector(errors, &at, &FIELDS);
    }
    if let Some(at) = source("resourceFieldRef") {
        resource_selector(errors, &at, false);
    }
    for field in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(at) = source(field) {
            dns_subdomain(errors, &at.get("name"));
            let key = at.get("key");
            if require(errors, &key) {
                problems(errors, &key, names::config_map_key_errors(key.text()));
            }
        }
    }
    if let Some(at) = source("fileKeyRef") {
        file_key(errors, &at);
    }
    if sources == 0 {
        let why =
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.push(from.wrong("", why));
    } else if !variable.get("value").text().is_empty() {
        errors.push(from.wrong("", "may not be specified when `value` is not empty"));
    } else if sources > 1 {
        errors.push(from.wrong("", "may not have more than one field specified at a time"));
    }
}

fn file_key(errors: &mut Errors, at: &Cursor) {
    let key = at.get("key");
    if require(errors, &key) {
        problems(errors, &key, names::env_name_errors(key.text()));
    }
    let volume = at.get("volumeName");
    if require(errors, &volume) {
        dns_label(errors, &volume);
    }
    let path = at.get("path");
    if require(errors, &path) {
        no_backsteps(errors, &path);
    }
}

/// A `fieldRef`: the path must be one of `allowed`, or name a label or annotation.
pub fn field_selector(errors: &mut Errors, at: &Cursor, allowed: &[&str]) {
    let version = at.get("apiVersion");
    let path = at.get("fieldPath");
    if !require(errors, &version) || !require(errors, &path) {
        return;
    }
    if version.text() != "v1" {
        let why = format!(
            "error converting fieldPath: unsupported pod version: {}",
            version.text()
        );
        errors.push(path.invalid(why));
        return;
    }
    let text = path.text();
    let (base, subscript) = match text.split_once("['") {
        Some((base, rest)) => (base, rest.strip_suffix("']")),
        None => (text, None),
    };
    let known = KNOWN.contains(&base) || FIELDS.contains(&base);
    let has_subscript = subscript.is_some();
    if !known || (has_subscript && !matches!(base, "metadata.annotations" | "metadata.labels")) {
        let why = if has_subscript {
            format!("error converting fieldPath: field label does not support subscript: {text}")
        } else {
            format!("error converting fieldPath: field label not supported: {text}")
        };
        errors.push(path.invalid(why));
        return;
    }
    match subscript {
        Some(key) if base == "metadata.annotations" => {
            let found = names::qualified_name_errors(&key.to_lowercase());
            errors.extend(found.into_iter().map(|p| at.wrong(key.to_lowercase(), p)));
        }
        Some(key) => {
            let found = names::qualified_name_errors(key);
            errors.extend(found.into_iter().map(|p| at.wrong(key, p)));
        }
        None if !allowed.contains(&text) => errors.push(path.not_supported(allowed)),
        None => {}
    }
}

/// A `resourceFieldRef`; in a volume it must name the container.
pub fn resource_selector(errors: &mut Errors, at: &Cursor, volume: bool) {
    let resource = at.get("resource");
    let name = resource.text();
    let huge = ["requests.hugepages-", "limits.hugepages-"]
        .iter()
        .any(|p| name.starts_with(p));
    if volume && at.get("containerName").text().is_empty() {
        errors.push(at.get("containerName").required(""));
    } else if name.is_empty() {
        errors.push(resource.required(""));
    } else if !RESOURCES.contains(&name) && !huge {
        errors.push(resource.not_supported(&RESOURCES));
    }
    let divisor = at.get("divisor");
    let Some(value) = divisor.quantity().filter(|q| !q.is_zero()) else {
        return;
    };
    let text = value.to_string();
    let units = UNITS.join(", ");
    let why = match name.split_once('.').map(|(_, resource)| resource) {
        Some("cpu") if !matches!(text.as_str(), "1m" | "1") => {
            "only divisor's values 1m and 1 are supported with the cpu resource".to_owned()
        }
        Some("cpu") | None => return,
        Some(_) if UNITS.contains(&text.as_str()) => return,
        Some("memory") => format!("only divisor's values {units} are supported with the memory resource"),
        Some("ephemeral-storage") => {
            format!("only divisor's values {units} are supported with the local ephemeral storage resource")
        }
        Some(_) if huge => format!("only divisor's values {units} are supported with the hugepages resource"),
        Some(_) => return,
    };
    errors.push(divisor.wrong(name, why));
}

/// `envFrom`.
pub fn from(errors: &mut Errors, list: &Cursor) {
    for source in list.items() {
        let prefix = source.get("prefix");
        if !prefix.text().is_empty() {
            problems(errors, &prefix, names::env_name_errors(prefix.text()));
        }
        let mut sources = 0;
        for field in ["configMapRef", "secretRef"] {
            let Some(at) = source.get(field).present() else {
                continue;
            };
            sources += 1;
            let name = at.get("name");
            if require(errors, &name) {
                // a prefix is enough here, as upstream: a dash may stand at the end
                let text = name.text().trim_end_matches('-');
                problems(errors, &name, names::dns1123_subdomain_errors(text));
            }
        }
        match sources {
            0 => errors.push(list.wrong("", "must specify one of: `configMapRef` or `secretRef`")),
            1 => {}
            _ => errors.push(list.wrong("", "may not have more than one field specified at a time")),
        }
    }
}

/// Variables read from a file need the file's volume to be an empty directory of this pod.
pub fn file_volumes(errors: &mut Errors, spec: &Cursor) {
    let volumes = spec.get("volumes");
    for container in super::container::every(spec) {
        for variable in container.get("env").items() {
            let Some(at) = variable.at(&["valueFrom", "fileKeyRef"]).present() else {
                continue;
            };
            let name = at.get("volumeName");
            match volumes.items().find(|v| v.get("name").text() == name.text()) {
                None => errors.push(name.not_found(name.text())),
                Some(volume) if !volume.get("emptyDir").is_some() => {
                    errors.push(name.invalid("referenced volume must be of type emptyDir"));
                }
                Some(_) => {}
            }
        }
    }
}
