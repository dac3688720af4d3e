//! What a debugging container may do: upstream's profiles (`pkg/cmd/debug/profiles.go`). Pure.

use serde_json::{Value, json};

/// How something is debugged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A container more in the pod that runs.
    Ephemeral,
    /// A copy of the pod.
    Copy,
    /// A pod in the node's own namespaces.
    Node,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Legacy,
    General,
    Baseline,
    Restricted,
    Netadmin,
    Sysadmin,
}

/// What a copy keeps of its pod.
#[derive(Debug, Clone, Copy, Default)]
pub struct Keep {
    pub labels: bool,
    pub annotations: bool,
    pub liveness: bool,
    pub readiness: bool,
    pub startup: bool,
    pub init_containers: bool,
}

impl Profile {
    /// Returns the profile of this name.
    pub fn named(name: &str) -> Option<Profile> {
        Some(match name {
            "legacy" => Profile::Legacy,
            "general" => Profile::General,
            "baseline" => Profile::Baseline,
            "restricted" => Profile::Restricted,
            "netadmin" => Profile::Netadmin,
            "sysadmin" => Profile::Sysadmin,
            _ => return None,
        })
    }

    /// Changes a pod, and the one of its containers that has this name, for what is debugged.
    pub fn apply(self, pod: &mut Value, container: &str, style: Style, keep: Keep) {
        match self {
            Profile::Legacy => {}
            Profile::General => match style {
                Style::Node => clear(pod, container),
                Style::Copy | Style::Ephemeral => add_capability(pod, container, "SYS_PTRACE"),
            },
            Profile::Baseline => clear(pod, container),
            Profile::Restricted => {
                clear(pod, container);
                restrict(pod, container);
            }
            Profile::Netadmin => {
                add_capability(pod, container, "NET_ADMIN");
                add_capability(pod, container, "NET_RAW");
            }
            Profile::Sysadmin => with(pod, container, |one| one["securityContext"]["privileged"] = json!(true)),
        }
        let has_host = matches!(
            self,
            Profile::Legacy | Profile::General | Profile::Netadmin | Profile::Sysadmin
        );
        match style {
            Style::Node if has_host => {
                if self != Profile::Netadmin {
                    mount_root(pod, container);
                }
                for name in ["hostNetwork", "hostPID", "hostIPC"] {
                    pod["spec"][name] = json!(true);
                }
            }
            Style::Copy if self == Profile::Legacy => remove(pod, "metadata", "labels"),
            Style::Copy => {
                keep.only(pod);
                if pod["spec"]["shareProcessNamespace"].is_null() {
                    pod["spec"]["shareProcessNamespace"] = json!(true);
                }
            }
            Style::Node | Style::Ephemeral => {}
        }
    }
}

impl Keep {
    fn only(self, pod: &mut Value) {
        if !self.labels {
            remove(pod, "metadata", "labels");
        }
        if !self.annotations {
            remove(pod, "metadata", "annotations");
        }
        let probes = [
            ("livenessProbe", self.liveness),
            ("readinessProbe", self.readiness),
            ("startupProbe", self.startup),
        ];
        let containers = pod["spec"]["containers"].as_array_mut();
        for one in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
            for (probe, _) in probes.iter().filter(|(_, kept)| !kept) {
                one.remove(*probe);
            }
        }
        if !self.init_containers {
            remove(pod, "spec", "initContainers");
        }
    }
}

fn remove(pod: &mut Value, part: &str, field: &str) {
    if let Some(part) = pod[part].as_object_mut() {
        part.remove(field);
    }
}

/// Changes the container of this name, of whichever kind.
fn with(pod: &mut Value, name: &str, change: impl FnOnce(&mut Value)) {
    for field in ["initContainers", "containers", "ephemeralContainers"] {
        let containers = pod["spec"].get_mut(field).and_then(Value::as_array_mut);
        if let Some(found) = containers.into_iter().flatten().find(|c| c["name"] == name) {
            return change(found);
        }
    }
}

fn clear(pod: &mut Value, container: &str) {
    with(pod, container, |one| {
        if let Some(fields) = one.as_object_mut() {
            fields.remove("securityContext");
        }
    });
}

fn restrict(pod: &mut Value, container: &str) {
    with(pod, container, |one| {
        one["securityContext"] = json!({
            "runAsNonRoot": true,
            "capabilities": {"drop": ["ALL"]},
            "allowPrivilegeEscalation": false,
            "seccompProfile": {"type": "RuntimeDefault"},
        });
    });
}

fn add_capability(pod: &mut Value, container: &str, capability: &str) {
    with(pod, container, |one| {
        let added = &mut one["securityContext"]["capabilities"]["add"];
        match added {
            Value::Array(all) => all.push(json!(capability)),
            other => *other = json!([capability]),
        }
    });
}

/// The node's files, below /host.
fn mount_root(pod: &mut Value, container: &str) {
    push(
        &mut pod["spec"]["volumes"],
        json!({"name": "host-root", "hostPath": {"path": "/"}}),
    );
    with(pod, container, |one| {
        push(
            &mut one["volumeMounts"],
            json!({"mountPath": "/host", "name": "host-root"}),
        );
    });
}

fn push(list: &mut Value, item: Value) {
    match list {
        Value::Array(all) => all.push(item),
        other => *other = json!([item]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(profile: Profile, style: Style, keep: Keep) -> Value {
        let field = if style == Style::Ephemeral {
            "ephemeralContainers"
        } else {
            "containers"
        };
        let mut pod = json!({
            "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}},
            "spec": {"initContainers": [{"name": "i"}]},
        });
        pod["spec"][field] = json!([
            {"name": "app", "livenessProbe": {}, "readinessProbe": {}},
            {"name": "x", "securityContext": {"runAsUser": 1}},
        ]);
        profile.apply(&mut pod, "x", style, keep);
        pod
    }

    #[test]
    fn general_traces_processes_in_pods_and_sees_all_of_a_node() {
        let pod = applied(Profile::General, Style::Ephemeral, Keep::default());
        let context = &pod["spec"]["ephemeralContainers"][1]["securityContext"];
        assert_eq!(
            *context,
            json!({"runAsUser": 1, "capabilities": {"add": ["SYS_PTRACE"]}})
        );
        let pod = applied(Profile::General, Style::Node, Keep::default());
        assert_eq!(pod["spec"]["hostPID"], true);
        assert_eq!(
            pod["spec"]["containers"][1],
            json!({"name": "x", "volumeMounts": [{"mountPath": "/host", "name": "host-root"}]})
        );
    }

    #[test]
    fn a_copy_keeps_what_it_is_told_to() {
        let pod = applied(
            Profile::Netadmin,
            Style::Copy,
            Keep {
                readiness: true,
                ..Keep::default()
            },
        );
        assert_eq!(pod["metadata"], json!({}));
        assert_eq!(
            pod["spec"]["containers"][0],
            json!({"name": "app", "readinessProbe": {}})
        );
        assert!(pod["spec"]["initContainers"].is_null());
        assert_eq!(pod["spec"]["shareProcessNamespace"], true);
        let all = Keep {
            labels: true,
            annotations: true,
            liveness: true,
            readiness: true,
            startup: true,
            init_containers: true,
        };
        let pod = applied(Profile::Legacy, Style::Copy, all);
        assert_eq!(pod["metadata"], json!({"annotations": {"c": "d"}}));
    }

    #[test]
    fn restricted_satisfies_the_restricted_standard() {
        let pod = applied(Profile::Restricted, Style::Node, Keep::default());
        let context = &pod["spec"]["containers"][1]["securityContext"];
        assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));
        assert!(context["runAsUser"].is_null());
        assert!(pod["spec"]["hostPID"].is_null());
    }
}
