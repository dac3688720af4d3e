//! What is particular to a kind when it is created, updated or deleted: one `Strategy` row each, most of them the default.

mod cluster;
pub mod convert;
pub mod disabled;
pub mod pod;
pub mod reset;
pub mod service;
mod storage;
pub mod validation;
pub mod warnings;
mod workload;

use serde_json::Value;

/// What `metadata.generation` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    None,
    /// One, whatever changes.
    One,
    /// Counts changes of everything but metadata and status.
    Counted,
    /// Counts these and changes of the annotations.
    WithAnnotations,
    /// Counts changes of everything but metadata and status; there is none before the first.
    Changes,
}

/// The rules of one resource.
#[derive(Debug)]
pub struct Strategy {
    /// `spec` and `status` are written by different paths.
    pub has_status: bool,
    pub generation: Generation,
    /// PUT of a name that does not exist creates it.
    pub create_on_update: bool,
    /// An update may leave out the resourceVersion.
    pub unconditional_update: bool,
    /// What reading an object of this kind always makes of it: done before the writer's fields are recorded.
    pub read: fn(&mut Value),
    /// Sets what clients may not, before admission; `now` is the present time as objects carry it.
    pub prepare_create: fn(&mut Value, now: &str),
    /// Restores what this path may not change.
    pub prepare_update: fn(new: &mut Value, old: &Value, now: &str),
    /// Seconds a deletion waits for the object to end by itself; `None` deletes at once.
    pub grace: fn(object: &Value, asked: Option<i64>) -> Option<i64>,
    /// The value of a selectable field that is absent.
    pub absent: fn(path: &str) -> &'static str,
    /// The value of a selectable field that stands elsewhere in what is stored.
    pub selected: for<'a> fn(stored: &'a Value, path: &str) -> Option<&'a str>,
    /// Dependents survive the deletion unless the caller says otherwise.
    pub orphan_by_default: bool,
}

pub const DEFAULT: Strategy = Strategy {
    has_status: true,
    generation: Generation::None,
    create_on_update: false,
    unconditional_update: true,
    read: |_| {},
    prepare_create: |_, _| {},
    prepare_update: |_, _, _| {},
    grace: |_, _| None,
    absent: |_| "",
    selected: |_, _| None,
    orphan_by_default: false,
};

/// A kind without status.
const PLAIN: Strategy = Strategy {
    has_status: false,
    ..DEFAULT
};
/// A kind whose spec is counted.
const COUNTED: Strategy = Strategy {
    generation: Generation::Counted,
    ..DEFAULT
};

static DEFAULT_ROW: Strategy = DEFAULT;
static PLAIN_ROW: Strategy = PLAIN;
static COUNTED_ROW: Strategy = COUNTED;
static CUSTOM_ROW: Strategy = Strategy {
    unconditional_update: false,
    generation: Generation::Counted,
    ..PLAIN
};
static CUSTOM_STATUS_ROW: Strategy = Strategy {
    unconditional_update: false,
    generation: Generation::Counted,
    ..DEFAULT
};
static LEASE_ROW: Strategy = Strategy {
    create_on_update: true,
    unconditional_update: false,
    ..PLAIN
};
/// A kind without status whose updates say of which version they are.
static VERSIONED_ROW: Strategy = Strategy {
    unconditional_update: false,
    ..PLAIN
};
static VERSIONED_STATUS_ROW: Strategy = Strategy {
    unconditional_update: false,
    ..DEFAULT
};
static VERSIONED_COUNTED_ROW: Strategy = Strategy {
    unconditional_update: false,
    ..COUNTED
};
static VERSIONED_CHANGES_ROW: Strategy = Strategy {
    unconditional_update: false,
    generation: Generation::Changes,
    ..PLAIN
};
static COUNTED_PLAIN_ROW: Strategy = Strategy {
    generation: Generation::Counted,
    ..PLAIN
};
static PRIORITY_CLASS_ROW: Strategy = Strategy {
    generation: Generation::One,
    ..PLAIN
};

impl Strategy {
    pub fn absent_field(&self, path: &str) -> &'static str {
        (self.absent)(path)
    }

    /// The rules of a built-in resource.
    pub fn of(group: &str, plural: &str) -> &'static Strategy {
        match (group, plural) {
            ("", "pods") => &pod::POD,
            ("", "services") => &service::SERVICE,
            ("", "namespaces") => &cluster::NAMESPACE,
            ("", "nodes") => &cluster::NODE,
            ("", "secrets") => &cluster::SECRET,
            ("", "persistentvolumes") => &cluster::VOLUME,
            ("", "persistentvolumeclaims") => &storage::CLAIM,
            ("", "resourcequotas") => &DEFAULT_ROW,
            ("", "events") | ("events.k8s.io", "events") => &cluster::EVENT,
            ("", "endpoints" | "limitranges") => &cluster::CREATABLE,
            ("node.k8s.io", _) => &VERSIONED_ROW,
            ("", "configmaps") => &PLAIN_ROW,
            ("", "serviceaccounts") => &cluster::SERVICE_ACCOUNT,
            ("", "podtemplates") => &COUNTED_PLAIN_ROW,
            ("", "replicationcontrollers") => &workload::ORPHANING,
            ("apps", "deployments") => &workload::DEPLOYMENT,
            ("apps", "replicasets" | "statefulsets") => &COUNTED_ROW,
            ("apps", "daemonsets") => &workload::DAEMON_SET,
            ("apps", "controllerrevisions") => &PLAIN_ROW,
            ("batch", "jobs") => &workload::JOB,
            ("batch", "cronjobs") => &COUNTED_ROW,
            ("coordination.k8s.io", _) => &LEASE_ROW,
            ("storage.k8s.io", "csidrivers") => &VERSIONED_CHANGES_ROW,
            ("storage.k8s.io", "csinodes" | "csistoragecapacities") => &VERSIONED_ROW,
            ("storage.k8s.io", "volumeattachments") => &VERSIONED_STATUS_ROW,
            ("apiregistration.k8s.io", _) => &cluster::API_SERVICE,
            ("rbac.authorization.k8s.io", _) => &cluster::CREATABLE,
            ("certificates.k8s.io", _) => &cluster::SIGNING_REQUEST,
            ("autoscaling", _) => &DEFAULT_ROW,
            ("policy", _) => &VERSIONED_COUNTED_ROW,
            ("networking.k8s.io", "ingresses") => &COUNTED_ROW,
            ("networking.k8s.io", "networkpolicies" | "ingressclasses") => &COUNTED_PLAIN_ROW,
            ("networking.k8s.io", "ipaddresses") => &PLAIN_ROW,
            ("networking.k8s.io", _) => &DEFAULT_ROW,
            ("discovery.k8s.io", _) => &COUNTED_PLAIN_ROW,
            ("apiextensions.k8s.io", _) => &cluster::DEFINITION,
            ("admissionregistration.k8s.io", _) => &VERSIONED_COUNTED_ROW,
            ("flowcontrol.apiserver.k8s.io", _) => &COUNTED_ROW,
            ("resource.k8s.io", "deviceclasses") => &COUNTED_PLAIN_ROW,
            ("resource.k8s.io", "resourceslices") => &cluster::RESOURCE_SLICE,
            ("resource.k8s.io", "resourceclaimtemplates") => &PLAIN_ROW,
            ("scheduling.k8s.io", _) => &PRIORITY_CLASS_ROW,
            ("storage.k8s.io", _) => &PLAIN_ROW,
            _ => &DEFAULT_ROW,
        }
    }

    /// The rules of a custom resource.
    pub fn custom(has_status: bool) -> &'static Strategy {
        if has_status { &CUSTOM_STATUS_ROW } else { &CUSTOM_ROW }
    }
}

/// The text at a path of keys.
pub fn text<'a>(tree: &'a Value, path: &[&str]) -> Option<&'a str> {
    path.iter().try_fold(tree, |at, key| at.get(key))?.as_str()
}

/// Copies a top-level field of `old` over `new`'s, or removes it.
pub fn keep(new: &mut Value, old: &Value, field: &str) {
    let Some(object) = new.as_object_mut() else { return };
    match old.get(field) {
        Some(value) => {
            object.insert(field.to_owned(), value.clone());
        }
        None => {
            object.remove(field);
        }
    }
}
