//! The checks that the restricted level adds to the baseline ones: a hardened pod.
//! <https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted>

use std::collections::BTreeSet;

use serde_json::Value;

use super::baseline::{adds_capabilities, must_not_add, proc_mount, seccomp_is_valid, seccomp_profile, seccomp_type};
use super::pod::{Pod, Setters, at, containers, items, name, plural, quoted};
use super::policy::{Check, Finding, Look};

/// Sorted by id: the order that violations are told in.
pub static RESTRICTED: [Check; 7] = [
    Check {
        id: "allowPrivilegeEscalation",
        since: &[
            (8, privilege_escalation),
            (25, |pod| unless_windows(pod, privilege_escalation)),
        ],
        overrides: "",
    },
    Check {
        id: "capabilities_restricted",
        since: &[(22, capabilities), (25, |pod| unless_windows(pod, capabilities))],
        overrides: "capabilities_baseline",
    },
    Check {
        id: "procMount_restricted",
        since: &[(35, proc_mount)],
        overrides: "procMount",
    },
    Check {
        id: "restrictedVolumes",
        since: &[(0, volumes)],
        overrides: "hostPathVolumes",
    },
    Check {
        id: "runAsNonRoot",
        since: &[
            (0, run_as_non_root),
            (35, |pod| unless_user_namespace(pod, run_as_non_root)),
        ],
        overrides: "",
    },
    Check {
        id: "runAsUser",
        since: &[(23, run_as_user), (35, |pod| unless_user_namespace(pod, run_as_user))],
        overrides: "",
    },
    Check {
        id: "seccompProfile_restricted",
        since: &[(19, seccomp), (25, |pod| unless_windows(pod, seccomp))],
        overrides: "seccompProfile_baseline",
    },
];

/// Windows pods cannot set what Linux' security is made of.
fn unless_windows(pod: Pod<'_>, check: Look) -> Finding {
    (!pod.is_windows()).then(|| check(pod))?
}

fn unless_user_namespace(pod: Pod<'_>, check: Look) -> Finding {
    (!pod.has_user_namespace()).then(|| check(pod))?
}

fn privilege_escalation(pod: Pod<'_>) -> Finding {
    let is = |c: &&Value| at(c, &["securityContext", "allowPrivilegeEscalation"]) != Some(&Value::Bool(false));
    let bad: Vec<&str> = pod.containers().filter(is).map(name).collect();
    let detail = format!(
        "{} must set securityContext.allowPrivilegeEscalation=false",
        containers(&bad)
    );
    (!bad.is_empty()).then_some(("allowPrivilegeEscalation != false", detail))
}

fn capabilities(pod: Pod<'_>) -> Finding {
    let drops_all = |c: &Value| items(c, &["securityContext", "capabilities", "drop"]).any(|d| d == "ALL");
    let keeping: Vec<&str> = pod.containers().filter(|c| !drops_all(c)).map(name).collect();
    let mut added = BTreeSet::new();
    let adding: Vec<&str> = pod
        .containers()
        .filter(|c| adds_capabilities(c, &["NET_BIND_SERVICE"], &mut added))
        .map(name)
        .collect();
    let mut details = Vec::new();
    if !keeping.is_empty() {
        let keeping = containers(&keeping);
        details.push(format!(
            "{keeping} must set securityContext.capabilities.drop=[\"ALL\"]"
        ));
    }
    if !adding.is_empty() {
        details.push(must_not_add(&adding, &added));
    }
    (!details.is_empty()).then(|| ("unrestricted capabilities", details.join("; ")))
}

const ALLOWED_VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// In the order that they are looked for.
const RESTRICTED_VOLUMES: [&str; 21] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

fn volumes(pod: Pod<'_>) -> Finding {
    let source = |volume: &Value, known: &[&'static str]| known.iter().copied().find(|s| at(volume, &[s]).is_some());
    let bad: Vec<&Value> = items(pod.spec, &["volumes"])
        .filter(|volume| source(volume, &ALLOWED_VOLUMES).is_none())
        .collect();
    let types: BTreeSet<&str> = bad
        .iter()
        .map(|volume| source(volume, &RESTRICTED_VOLUMES).unwrap_or("unknown"))
        .collect();
    let detail = format!(
        "{} {} {} {} {}",
        plural(bad.len(), "volume", "volumes"),
        quoted(bad.iter().map(|v| name(v))),
        plural(bad.len(), "uses", "use"),
        plural(types.len(), "restricted volume type", "restricted volume types"),
        quoted(&types)
    );
    (!bad.is_empty()).then_some(("restricted volume types", detail))
}

/// Containers that leave a setting to a pod which does not have it either.
fn left_open<'a>(pod: Pod<'a>, set: impl Fn(&Value) -> bool) -> Vec<&'a str> {
    let open = |c: &&Value| !at(c, &["securityContext"]).is_some_and(&set);
    pod.containers().filter(open).map(name).collect()
}

fn run_as_non_root(pod: Pod<'_>) -> Finding {
    const REASON: &str = "runAsNonRoot != true";
    let value = |context: &Value| at(context, &["runAsNonRoot"]).and_then(Value::as_bool);
    let setters = Setters::find(pod, |context| value(context) == Some(false)).shown();
    if !setters.is_empty() {
        let setters = setters.join(" and ");
        return Some((
            REASON,
            format!("{setters} must not set securityContext.runAsNonRoot=false"),
        ));
    }
    if at(pod.spec, &["securityContext"]).is_some_and(|context| value(context) == Some(true)) {
        return None;
    }
    let open = left_open(pod, |context| value(context).is_some());
    let detail = format!(
        "pod or {} must set securityContext.runAsNonRoot=true",
        containers(&open)
    );
    (!open.is_empty()).then_some((REASON, detail))
}

fn run_as_user(pod: Pod<'_>) -> Finding {
    let is_root = |context: &Value| at(context, &["runAsUser"]).and_then(Value::as_i64) == Some(0);
    let setters = Setters::find(pod, is_root).shown().join(" and ");
    let detail = format!("{setters} must not set runAsUser=0");
    (!setters.is_empty()).then_some(("runAsUser=0", detail))
}

fn seccomp(pod: Pod<'_>) -> Finding {
    if let Some(found) = seccomp_profile(pod) {
        return Some(found);
    }
    let of_pod = at(pod.spec, &["securityContext"]).and_then(seccomp_type);
    if of_pod.is_some_and(seccomp_is_valid) {
        return None;
    }
    let open = left_open(pod, |context| seccomp_type(context).is_some());
    let detail = format!(
        "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        containers(&open)
    );
    (!open.is_empty()).then_some(("seccompProfile", detail))
}
