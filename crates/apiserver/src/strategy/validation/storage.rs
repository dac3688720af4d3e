//! Rules of claims, and of what drivers say of volumes.

use std::collections::{HashMap, HashSet};

use api::field::FieldError;
use serde_json::json;

use super::{Check, persistent_volume};
use crate::strategy::keep;
use crate::strategy::validation::common::{
    Errors, dns_label, dns_subdomain, immutable, in_range, is_native_resource, label_selector, non_negative,
    one_of_or_none, problems, qualified_name, require, resource_quantity,
};
use crate::strategy::validation::cursor::Cursor;

const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
pub const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];
/// Where a claim said its class before there was a field.
const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const METADATA_SIZE: usize = 256 << 10;
const NODE_ID: usize = 256;

/// The name of a CSI driver.
pub fn driver_name(errors: &mut Errors, at: &Cursor) {
    if !require(errors, at) {
        return;
    }
    if at.text().len() > 63 {
        errors.push(FieldError::too_long(&at.path, 63));
    }
    problems(
        errors,
        at,
        api::names::dns1123_subdomain_errors(&at.text().to_lowercase()),
    );
}

pub fn access_modes(errors: &mut Errors, spec: &Cursor, missing: &str) {
    let list = spec.get("accessModes");
    if list.list().is_empty() {
        errors.push(list.required(missing));
    }
}

pub fn known_modes(errors: &mut Errors, spec: &Cursor) {
    let list = spec.get("accessModes");
    for mode in list.items().filter(|m| !MODES.contains(&m.text())) {
        errors.push(mode.named(&list.path).not_supported(&MODES));
    }
    let single = list.list().iter().any(|m| m == "ReadWriteOncePod");
    let other = list
        .list()
        .iter()
        .any(|m| m != "ReadWriteOncePod" && MODES.iter().any(|k| m == k));
    if single && other {
        errors.push(list.forbidden("may not use ReadWriteOncePod with other access modes"));
    }
}

pub fn positive_quantity(errors: &mut Errors, at: &Cursor) -> bool {
    match at.quantity() {
        Some(q) if q.is_negative() || q.is_zero() => {
            errors.push(at.wrong(q.to_string(), "must be greater than zero"));
            false
        }
        _ => true,
    }
}

/// A claim's spec, alone or in a template.
pub fn claim_spec(errors: &mut Errors, spec: &Cursor) {
    access_modes(errors, spec, "at least 1 access mode is required");
    label_selector(errors, &spec.get("selector"));
    known_modes(errors, spec);
    let wanted = spec.at(&["resources", "requests", "storage"]);
    let wanted = wanted.named(format!("{}.resources[storage]", spec.path));
    if !wanted.is_some() {
        errors.push(wanted.required(""));
    } else if positive_quantity(errors, &wanted) {
        resource_quantity(errors, &wanted, "storage");
    }
    let class = spec.get("storageClassName");
    if !class.text().is_empty() {
        dns_subdomain(errors, &class);
    }
    one_of_or_none(errors, &spec.get("volumeMode"), &VOLUME_MODES);
    let (source, reference) = (spec.get("dataSource"), spec.get("dataSourceRef"));
    for at in [&source, &reference] {
        if at.is_some() {
            data_source(errors, at);
        }
    }
    if !reference.get("namespace").text().is_empty() {
        dns_label(errors, &reference.get("namespace"));
        if source.is_some() {
            errors.push(spec.wrong(
                json!({}),
                "may not be specified when dataSourceRef.namespace is specified",
            ));
        }
    } else if source.is_some() && reference.is_some() {
        let same = |field: &'static str| source.get(field).value == reference.get(field).value;
        if !["apiGroup", "kind", "name"].into_iter().all(same) {
            // upstream shows the place as a struct without members
            errors.push(spec.wrong(json!({}), "must match dataSourceRef"));
        }
    }
    let class = spec.get("volumeAttributesClassName");
    if !class.text().is_empty() {
        dns_subdomain(errors, &class);
    }
}

fn data_source(errors: &mut Errors, at: &Cursor) {
    require(errors, &at.get("name"));
    require(errors, &at.get("kind"));
    let (group, kind) = (at.get("apiGroup"), at.get("kind"));
    if group.text().is_empty() {
        if kind.text() != "PersistentVolumeClaim" {
            let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.push(at.wrong(kind.text(), why));
        }
    } else {
        dns_subdomain(errors, &group);
    }
}

pub fn claim(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    if check.is_status() {
        claim_status(&mut errors, &root.get("status"));
        return errors;
    }
    claim_spec(&mut errors, &root.get("spec"));
    if let Some(old) = check.before() {
        claim_update(&mut errors, &root, &old);
    }
    errors
}

fn claim_status(errors: &mut Errors, status: &Cursor) {
    const STATUSES: [&str; 5] = [
        "ControllerResizeInProgress",
        "ControllerResizeInfeasible",
        "NodeResizeInProgress",
        "NodeResizeInfeasible",
        "NodeResizePending",
    ];
    for (_, amount) in status.get("capacity").entries() {
        basic(errors, &amount);
    }
    for (name, resize) in status.get("allocatedResourceStatuses").entries() {
        let at = status.get("allocatedResourceStatuses");
        if is_native_resource(name) && name != "storage" {
            errors.push(FieldError::not_supported(&at.path, json!(name), &["storage"]));
        }
        if !STATUSES.contains(&resize.text()) {
            errors.push(FieldError::not_supported(&at.path, json!(name), &STATUSES));
        }
    }
    for (name, amount) in status.get("allocatedResources").entries() {
        if is_native_resource(name) && name != "storage" {
            let at = status.get("allocatedResources");
            errors.push(FieldError::not_supported(&at.path, json!(name), &["storage"]));
        }
        basic(errors, &amount);
    }
}

pub fn basic(errors: &mut Errors, at: &Cursor) {
    if let Some(q) = at.quantity().filter(api::quantity::Quantity::is_negative) {
        errors.push(at.wrong(q.value(), "must be a valid resource quantity"));
    }
}

fn claim_update(errors: &mut Errors, root: &Cursor, old: &Cursor) {
    let (spec, before) = (root.get("spec"), old.get("spec"));
    let mut munged = spec.value.clone();
    if before.get("volumeName").text().is_empty() {
        keep(&mut munged, before.value, "volumeName");
    }
    let class = |at: &Cursor| at.get("storageClassName").value.as_str().map(str::to_owned);
    let annotation = |at: &Cursor| {
        at.at(&["metadata", "annotations", CLASS])
            .value
            .as_str()
            .map(str::to_owned)
    };
    let (was, now) = (annotation(old), annotation(root));
    // a claim without a class may get one once: of old the annotation said it
    let fits = class(&before).is_none() && class(&spec).is_some();
    let upgraded = fits && was.is_some() && class(&spec) == was && (now.is_none() || now == was);
    if !upgraded && now != was {
        let at = spec.named(format!("metadata.annotations.{CLASS}"));
        errors.push(at.wrong(now.unwrap_or_default(), "field is immutable"));
    }
    if fits && (was.is_none() || class(&spec) == was) {
        keep(&mut munged, before.value, "storageClassName");
    }
    if root.at(&["status", "phase"]).text() == "Bound" {
        if let (Some(to), Some(from)) = (
            munged.pointer_mut("/resources/requests"),
            before.value.pointer("/resources/requests"),
        ) {
            keep(to, from, "storage");
        }
        keep(&mut munged, before.value, "volumeAttributesClassName");
    }
    if munged != *before.value {
        let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound \
                   claims";
        errors.push(spec.forbidden(why));
    }
    let way = ["resources", "requests", "storage"];
    let (size, was) = (spec.at(&way), before.at(&way));
    if let (Some(now), Some(then)) = (size.quantity(), was.quantity())
        && now < then
        && old
            .at(&["status", "capacity", "storage"])
            .quantity()
            .map_or_else(|| now.is_zero() || now.is_negative(), |has| now <= has)
    {
        errors.push(size.forbidden("field can not be less than status.capacity"));
    }
    let mode = spec.get("volumeMode");
    immutable(errors, &mode.named("volumeMode"), &before.get("volumeMode"));
    let class = spec.get("volumeAttributesClassName");
    if class.value != before.get("volumeAttributesClassName").value
        && old.at(&["status", "currentVolumeAttributesClassName"]).is_some()
        && class.text().is_empty()
    {
        let what = if class.is_some() { "empty string" } else { "nil" };
        let why = format!("update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil");
        errors.push(class.forbidden(why));
    }
}

pub fn volume_attachment(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    let spec = root.get("spec");
    driver_name(&mut errors, &spec.get("attacher"));
    let source = spec.get("source");
    let (name, inline) = (source.get("persistentVolumeName"), source.get("inlineVolumeSpec"));
    let one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (name.is_some(), inline.is_some()) {
        (false, false) => errors.push(source.required(one)),
        (true, true) => errors.push(source.forbidden(one)),
        (true, false) if name.text().is_empty() => {
            errors.push(name.required("must specify non empty persistentVolumeName"));
        }
        (true, false) => {}
        (false, true) => persistent_volume::inline(&mut errors, &inline),
    }
    if name.is_some() {
        dns_subdomain(&mut errors, &name);
    }
    dns_subdomain(&mut errors, &spec.get("nodeName"));
    let metadata = root.at(&["status", "attachmentMetadata"]);
    let size: usize = metadata
        .entries()
        .map(|(key, value)| key.len() + value.text().len())
        .sum();
    if size > METADATA_SIZE {
        errors.push(FieldError::too_long(&metadata.path, METADATA_SIZE));
    }
    for field in ["attachError", "detachError"] {
        let code = root.at(&["status", field, "errorCode"]);
        if code.is_some() {
            in_range(&mut errors, &code, 0, i64::from(i32::MAX));
        }
    }
    if let Some(old) = check.before() {
        immutable(&mut errors, &spec, &old.get("spec"));
    }
    errors
}

pub fn csi_node(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let drivers = check.root().at(&["spec", "drivers"]);
    let mut seen = HashSet::new();
    for driver in drivers.items() {
        let name = driver.get("name");
        driver_name(&mut errors, &name);
        let id = driver.get("nodeID");
        require(&mut errors, &id);
        if id.text().len() > NODE_ID {
            errors.push(id.invalid(format!("must be {NODE_ID} characters or less")));
        }
        non_negative(&mut errors, &driver.at(&["allocatable", "count"]));
        if !seen.insert(name.text()) {
            errors.push(name.duplicate(name.text()));
        }
        let mut keys = HashSet::new();
        for key in driver.get("topologyKeys").items() {
            let at = key.named(&driver.path);
            require(&mut errors, &at);
            if !keys.insert(key.text()) {
                errors.push(at.duplicate(key.text()));
            }
            qualified_name(&mut errors, &at);
        }
    }
    let Some(old) = check.before() else { return errors };
    let mut by_name: HashMap<&str, Cursor> = HashMap::new();
    for driver in drivers.items() {
        by_name.entry(driver.get("name").text()).or_insert(driver);
    }
    for was in old.at(&["spec", "drivers"]).items() {
        let now = by_name.get(was.get("name").text());
        let plain = |at: &Cursor| {
            let mut value = at.value.clone();
            value.as_object_mut().map(|d| d.remove("allocatable"));
            value
        };
        if let Some(now) = now.filter(|now| plain(now) != plain(&was)) {
            errors.push(now.named(&drivers.path).invalid("field is immutable"));
        }
    }
    errors
}

pub fn csi_driver(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let spec = check.root().get("spec");
    for (field, shown) in [
        ("attachRequired", "attachedRequired"),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
    ] {
        let at = spec.get(field).named(format!("{}.{shown}", spec.path));
        if !at.is_some() {
            errors.push(at.required(""));
        }
    }
    let policy = spec.get("fsGroupPolicy");
    one_of_or_none(&mut errors, &policy, &["File", "None", "ReadWriteOnceWithFSType"]);
    let mut audiences = HashSet::new();
    for request in spec.get("tokenRequests").items() {
        let audience = request.get("audience");
        if !audiences.insert(audience.text()) {
            errors.push(audience.duplicate(audience.text()));
        }
        let seconds = request.get("expirationSeconds");
        if seconds.int().is_some_and(|n| n < 600) {
            errors.push(seconds.invalid("may not specify a duration less than 10 minutes"));
        }
        if seconds.int().is_some_and(|n| n > 1 << 32) {
            errors.push(seconds.invalid("may not specify a duration larger than 2^32 seconds"));
        }
    }
    let modes = spec.get("volumeLifecycleModes");
    for mode in modes
        .items()
        .filter(|m| !matches!(m.text(), "Persistent" | "Ephemeral"))
    {
        errors.push(mode.named(&modes.path).not_supported(&["Ephemeral", "Persistent"]));
    }
    let period = spec.get("nodeAllocatableUpdatePeriodSeconds");
    if period.int().is_some_and(|seconds| seconds < 10) {
        errors.push(period.invalid("must be greater than or equal to 10 seconds"));
    }
    let secrets = spec.get("serviceAccountTokenInSecrets");
    if secrets.is_some() && spec.get("tokenRequests").list().is_empty() {
        errors.push(secrets.invalid("serviceAccountTokenInSecrets is set but no tokenRequests are specified"));
    }
    if let Some(old) = check.before() {
        let before = old.get("spec");
        let attach = spec
            .get("attachRequired")
            .named(format!("{}.attachedRequired", spec.path));
        immutable(&mut errors, &attach, &before.get("attachRequired"));
        immutable(&mut errors, &modes, &before.get("volumeLifecycleModes"));
    }
    errors
}
