//! Rules of the security contexts of pods and containers.

use std::collections::HashSet;

use crate::kinds::pod_template::Pod;
use crate::kinds::pod_template::container::every;
use crate::kinds::rules::{go_struct, local_descending_path, one_of_or_none};
use crate::kinds::{Cursor, Errors};

const SYSCTL_LONGEST: usize = 253;

fn id(errors: &mut Errors, at: &Cursor) {
    if at.int().is_some_and(|n| !(0..=i64::from(i32::MAX)).contains(&n)) {
        errors.push(at.invalid("must be between 0 and 2147483647, inclusive"));
    }
}

/// `spec.securityContext`.
pub fn pod(errors: &mut Errors, pod: &Pod) {
    let at = pod.spec.get("securityContext");
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(errors, &at.get(field));
    }
    for group in at.get("supplementalGroups").items() {
        id(errors, &group);
    }
    if pod.spec.get("hostPID").is_true() && pod.spec.get("shareProcessNamespace").is_true() {
        let shared = pod.spec.get("shareProcessNamespace");
        errors.push(shared.invalid("ShareProcessNamespace and HostPID cannot both be enabled"));
    }
    sysctls(errors, &at.get("sysctls"), pod);
    let policy = at.get("fsGroupChangePolicy");
    one_of_or_none(errors, &policy, &["Always", "OnRootMismatch"]);
    seccomp(errors, &at.get("seccompProfile"));
    windows(errors, &at.get("windowsOptions"));
    app_armor(errors, &at.get("appArmorProfile"));
    one_of_or_none(errors, &at.get("supplementalGroupsPolicy"), &["Merge", "Strict"]);
    one_of_or_none(errors, &at.get("seLinuxChangePolicy"), &["MountOption", "Recursive"]);
}

/// A container's `securityContext`.
pub fn container(errors: &mut Errors, at: &Cursor, pod: &Pod) {
    const FIELDS: [(&str, &str, &str); 12] = [
        ("Capabilities", "capabilities", "null"),
        ("Privileged", "privileged", "null"),
        ("SELinuxOptions", "seLinuxOptions", "null"),
        ("WindowsOptions", "windowsOptions", "null"),
        ("RunAsUser", "runAsUser", "null"),
        ("RunAsGroup", "runAsGroup", "null"),
        ("RunAsNonRoot", "runAsNonRoot", "null"),
        ("ReadOnlyRootFilesystem", "readOnlyRootFilesystem", "null"),
        ("AllowPrivilegeEscalation", "allowPrivilegeEscalation", "null"),
        ("ProcMount", "procMount", "null"),
        ("SeccompProfile", "seccompProfile", "null"),
        ("AppArmorProfile", "appArmorProfile", "null"),
    ];
    if !at.is_some() {
        return;
    }
    id(errors, &at.get("runAsUser"));
    id(errors, &at.get("runAsGroup"));
    let mount = at.get("procMount");
    one_of_or_none(errors, &mount, &["Default", "Unmasked"]);
    if mount.text() == "Unmasked" && !pod.spec.get("hostUsers").is_false() {
        errors.push(mount.invalid("`hostUsers` must be false to use `Unmasked`"));
    }
    seccomp(errors, &at.get("seccompProfile"));
    if at.get("allowPrivilegeEscalation").is_false() {
        let shown = |why: &str| at.invalid(why).shown(&go_struct(at, &FIELDS));
        if at.get("privileged").is_true() {
            errors.push(shown(
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            ));
        }
        let added = at.at(&["capabilities", "add"]);
        for _ in added.list().iter().filter(|c| c.as_str() == Some("CAP_SYS_ADMIN")) {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(shown(why));
        }
    }
    windows(errors, &at.get("windowsOptions"));
    app_armor(errors, &at.get("appArmorProfile"));
}

fn is_sysctl(name: &str) -> bool {
    let segment = |s: &str| {
        let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        end(s.chars().next())
            && end(s.chars().last())
            && s.chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_'))
    };
    name.len() <= SYSCTL_LONGEST && name.split(['.', '/']).all(segment)
}

fn sysctls(errors: &mut Errors, list: &Cursor, pod: &Pod) {
    let mut seen = HashSet::new();
    for sysctl in list.items() {
        let at = sysctl.get("name");
        let name = at.text();
        if name.is_empty() {
            errors.push(at.required(""));
        } else if !is_sysctl(name) {
            errors.push(at.invalid(format!(
                "must have at most {SYSCTL_LONGEST} characters and match regex \
                 ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
            )));
        } else if seen.contains(name) {
            errors.push(at.duplicate(name));
        }
        let plain = name.replace('/', ".");
        if pod.host_network() && plain.starts_with("net.") {
            errors.push(at.invalid("may not be specified when 'hostNetwork' is true"));
        }
        let of_ipc = ["kernel.msg", "kernel.sem", "kernel.shm", "fs.mqueue."];
        if pod.spec.get("hostIPC").is_true() && of_ipc.iter().any(|p| plain.starts_with(p)) {
            errors.push(at.invalid("may not be specified when 'hostIPC' is true"));
        }
        seen.insert(name);
    }
}

fn seccomp(errors: &mut Errors, at: &Cursor) {
    if !at.is_some() {
        return;
    }
    let kind = at.get("type");
    let kinds = ["Localhost", "RuntimeDefault", "Unconfined"];
    if kind.text().is_empty() {
        errors.push(kind.required("type is required when seccompProfile is set"));
    } else if !kinds.contains(&kind.text()) {
        errors.push(kind.not_supported(&kinds));
    }
    let file = at.get("localhostProfile");
    if kind.text() != "Localhost" {
        if file.is_some() {
            let shown = go_struct(
                at,
                &[
                    ("Type", "type", "\"\""),
                    ("LocalhostProfile", "localhostProfile", "null"),
                ],
            );
            errors.push(
                file.invalid("can only be set when seccomp type is Localhost")
                    .shown(&shown),
            );
        }
    } else if file.is_some() {
        local_descending_path(errors, &file);
    } else {
        errors.push(file.required("must be set when seccomp type is Localhost"));
    }
}

fn app_armor(errors: &mut Errors, at: &Cursor) {
    // the longest path a system knows, without its end
    const LONGEST: usize = 4095;
    if !at.is_some() {
        return;
    }
    let (kind, file) = (at.get("type"), at.get("localhostProfile"));
    let needed = "must be set when AppArmor type is Localhost";
    match kind.text() {
        "Localhost" if !file.is_some() => errors.push(file.required(needed)),
        "Localhost" => {
            if file.text().trim() != file.text() {
                errors.push(file.invalid("must not be padded with whitespace"));
            } else if file.text().is_empty() {
                errors.push(file.required(needed));
            }
            if file.text().len() > LONGEST {
                errors.push(api::field::FieldError::too_long(&file.path, LONGEST));
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if file.is_some() {
                errors.push(file.invalid("can only be set when AppArmor type is Localhost"));
            }
        }
        "" => errors.push(kind.required("type is required when appArmorProfile is set")),
        _ => errors.push(kind.not_supported(&["Localhost", "RuntimeDefault", "Unconfined"])),
    }
}

fn windows(errors: &mut Errors, at: &Cursor) {
    let spec = at.get("gmsaCredentialSpec");
    if spec.is_some() && spec.text().is_empty() {
        errors.push(spec.invalid("gmsaCredentialSpec cannot be an empty string"));
    }
    let name = at.get("gmsaCredentialSpecName");
    if name.is_some() {
        let found = api::names::dns1123_subdomain_errors(name.text());
        crate::kinds::rules::problems(errors, &name, found);
    }
    let user = at.get("runAsUserName");
    if user.is_some() && user.text().is_empty() {
        errors.push(user.invalid("runAsUserName cannot be an empty string"));
    }
}

/// On Windows either all containers of a pod are processes of the host, or none is. KEP-1981.
pub fn host_processes(errors: &mut Errors, pod: &Pod) {
    const WAY: [&str; 3] = ["securityContext", "windowsOptions", "hostProcess"];
    let of_pod = pod.spec.at(&WAY);
    let all = every(&pod.spec);
    let mut count = 0;
    for container in &all {
        let own = container.at(&WAY);
        if of_pod.is_some() && own.is_some() && own.value != of_pod.value {
            let why = format!(
                "pod hostProcess value must be identical if both are specified, was {}",
                of_pod.value
            );
            errors.push(own.invalid(why));
        }
        count += usize::from(if own.is_some() { own.is_true() } else { of_pod.is_true() });
    }
    if count == 0 {
        return;
    }
    if count != all.len() {
        let why = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.push(pod.spec.wrong("", why));
    }
    if !pod.host_network() {
        let network = pod.spec.get("hostNetwork");
        errors.push(network.wrong(
            false,
            "hostNetwork must be true if pod contains any hostProcess containers",
        ));
    }
}

/// Pods with users of their own may not share the host's other namespaces.
pub fn own_users(errors: &mut Errors, pod: &Pod) {
    if !pod.spec.get("hostUsers").is_false() {
        return;
    }
    let why = "when `hostUsers` is false";
    if pod.host_network() {
        errors.push(pod.spec.get("hostNetwork").forbidden(why));
    }
    for (field, shown) in [("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if pod.spec.get(field).is_true() {
            errors.push(pod.spec.get(shown).forbidden(why));
        }
    }
    for container in every(&pod.spec) {
        let devices = container.get("volumeDevices");
        if !devices.list().is_empty() {
            errors.push(devices.forbidden(why));
        }
    }
}

/// What only the other operating system knows.
pub fn operating_system(errors: &mut Errors, pod: &Pod) {
    const WINDOWS_POD: [&str; 11] = [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "fsGroup",
        "fsGroupChangePolicy",
        "sysctls",
        "runAsUser",
        "runAsGroup",
        "supplementalGroups",
        "supplementalGroupsPolicy",
        "seLinuxChangePolicy",
    ];
    const WINDOWS_CONTAINER: [&str; 10] = [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "capabilities",
        "readOnlyRootFilesystem",
        "privileged",
        "allowPrivilegeEscalation",
        "procMount",
        "runAsUser",
        "runAsGroup",
    ];
    let Some(os) = pod.spec.get("os").present() else { return };
    let name = os.get("name");
    let (refused_pod, refused_container, why): (&[&str], &[&str], &str) = match name.text() {
        "" => {
            errors.push(name.required(""));
            return;
        }
        "linux" => {
            let only = &["windowsOptions"];
            (only, only, "windows options cannot be set for a linux pod")
        }
        "windows" => (&WINDOWS_POD, &WINDOWS_CONTAINER, "cannot be set for a windows pod"),
        _ => {
            errors.push(name.named(&os.path).not_supported(&["linux", "windows"]));
            return;
        }
    };
    let refuse = |errors: &mut Errors, context: &Cursor, fields: &[&'static str]| {
        let found = fields.iter().filter_map(|f| context.get(f).present());
        errors.extend(found.map(|at| at.forbidden(why)));
    };
    refuse(errors, &pod.spec.get("securityContext"), refused_pod);
    if name.text() == "windows" {
        for field in ["hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"] {
            let at = pod.spec.get(field);
            let set = if matches!(field, "hostPID" | "hostIPC") {
                at.is_true()
            } else {
                at.is_some()
            };
            if set {
                errors.push(at.forbidden(why));
            }
        }
    }
    for container in every(&pod.spec) {
        refuse(errors, &container.get("securityContext"), refused_container);
    }
}
