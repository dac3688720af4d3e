//! Rules of containers: init, regular and ephemeral ones.

use std::collections::{BTreeSet, HashSet};

use serde_json::Value;

use crate::kinds::pod_template::{Pod, env, mount, probe, resources, security};
use crate::kinds::rules::{dns_label, in_range, one_of, port_number, problems, require};
use crate::kinds::{Cursor, Errors};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

const INIT_ONLY: &str = "may not be set for init containers without restartPolicy=Always";

/// `spec.containers`.
pub fn regular(errors: &mut Errors, pod: &Pod) {
    let list = pod.spec.get("containers");
    if list.list().is_empty() {
        errors.push(list.required(""));
        return;
    }
    let mut seen = HashSet::new();
    for container in list.items() {
        common(errors, &container, pod);
        let name = container.get("name");
        if !seen.insert(name.text()) {
            errors.push(name.duplicate(name.text()));
        }
        probe::all(errors, &container, pod);
        restart_rules(errors, &container);
    }
    host_ports(errors, &list, list.items());
}

/// `spec.initContainers`.
pub fn init(errors: &mut Errors, pod: &Pod) {
    let mut seen: HashSet<&str> = pod.names("containers").collect();
    let list = pod.spec.get("initContainers");
    for container in list.items() {
        common(errors, &container, pod);
        restart_rules(errors, &container);
        let sidecar = container.get("restartPolicy").text() == "Always";
        let name = container.get("name");
        if !seen.insert(name.text()) && !name.text().is_empty() {
            errors.push(name.duplicate(name.text()));
        }
        host_ports(errors, &list, std::iter::once(container.clone()));
        if sidecar {
            probe::all(errors, &container, pod);
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            errors.extend(container.get(field).present().map(|at| at.forbidden(INIT_ONLY)));
        }
        for policy in container.get("resizePolicy").items() {
            let at = policy.get("restartPolicy");
            if at.text() == "RestartContainer" {
                let why = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                errors.push(at.invalid(why));
            }
        }
    }
}

/// `spec.ephemeralContainers`.
pub fn ephemeral(errors: &mut Errors, pod: &Pod) {
    // in the order of Go's struct
    const REFUSED: [&str; 8] = [
        "ports",
        "resources",
        "resizePolicy",
        "restartPolicyRules",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
    ];
    let others: HashSet<&str> = pod.names("containers").chain(pod.names("initContainers")).collect();
    let mut seen = others.clone();
    let why = "cannot be set for an Ephemeral Container";
    for container in pod.spec.get("ephemeralContainers").items() {
        common(errors, &container, pod);
        only_for_pods(errors, &container);
        let name = container.get("name");
        if !seen.insert(name.text()) {
            errors.push(name.duplicate(name.text()));
        }
        let target = container.get("targetContainerName");
        if !target.text().is_empty() && !others.contains(target.text()) {
            errors.push(target.not_found(target.text()));
        }
        for field in REFUSED {
            let at = container.get(field);
            let empty = at.map().is_some_and(|m| m.is_empty()) || at.value.as_array().is_some_and(Vec::is_empty);
            if at.is_some() && !empty {
                errors.push(at.forbidden(why));
            }
        }
        for mount in container.get("volumeMounts").items() {
            for field in ["subPath", "subPathExpr"] {
                let at = mount.get(field);
                if !at.text().is_empty() {
                    errors.push(at.forbidden(why));
                }
            }
        }
    }
}

/// What a pod's container must keep to, but one in a template need not.
pub fn only_for_pods(errors: &mut Errors, container: &Cursor) {
    let image = container.get("image");
    if image.text().trim() != image.text() {
        errors.push(image.invalid("must not have leading or trailing whitespace"));
    }
}

fn common(errors: &mut Errors, container: &Cursor, pod: &Pod) {
    let name = container.get("name");
    if require(errors, &name) {
        dns_label(errors, &name);
    }
    require(errors, &container.get("image"));
    let policies = ["File", "FallbackToLogsOnError"];
    one_of(errors, &container.get("terminationMessagePolicy"), &policies);
    ports(errors, container);
    env::variables(errors, &container.get("env"));
    env::from(errors, &container.get("envFrom"));
    mount::mounts(errors, container, pod);
    mount::devices(errors, container, pod);
    let policies = ["Always", "IfNotPresent", "Never"];
    one_of(errors, &container.get("imagePullPolicy"), &policies);
    resources::requirements(errors, &container.get("resources"), pod, resources::container_name);
    resize_policy(errors, &container.get("resizePolicy"), pod);
    security::container(errors, &container.get("securityContext"), pod);
}

fn ports(errors: &mut Errors, container: &Cursor) {
    let mut seen = HashSet::new();
    for port in container.get("ports").items() {
        let name = port.get("name");
        if !name.text().is_empty() {
            let found = api::names::port_name_errors(name.text());
            if found.is_empty() {
                if !seen.insert(name.text()) {
                    errors.push(name.duplicate(name.text()));
                }
            } else {
                problems(errors, &name, found);
            }
        }
        let number = port.get("containerPort");
        if number.int().unwrap_or(0) == 0 {
            errors.push(number.required(""));
        } else {
            port_number(errors, &number);
        }
        let host = port.get("hostPort");
        if host.int().unwrap_or(0) != 0 {
            in_range(errors, &host, 1, 65535);
        }
        one_of(errors, &port.get("protocol"), &PROTOCOLS);
    }
}

/// No two of these containers may want the same port of the host.
fn host_ports<'a>(errors: &mut Errors, list: &Cursor, containers: impl Iterator<Item = Cursor<'a>>) {
    let mut seen = HashSet::new();
    for (i, container) in containers.enumerate() {
        for (j, port) in container.get("ports").items().enumerate() {
            let number = port.get("hostPort").int().unwrap_or(0);
            if number == 0 {
                continue;
            }
            let key = format!("{}/{}/{number}", port.get("protocol").text(), port.get("hostIP").text());
            if !seen.insert(key.clone()) {
                let at = port.named(format!("{}[{i}].ports[{j}].hostPort", list.path));
                errors.push(at.duplicate(key));
            }
        }
    }
}

fn resize_policy(errors: &mut Errors, list: &Cursor, pod: &Pod) {
    let mut seen = BTreeSet::new();
    for policy in list.items() {
        let (resource, restart) = (policy.get("resourceName"), policy.get("restartPolicy"));
        if !seen.insert(resource.text()) {
            errors.push(policy.duplicate(resource.text()));
        }
        one_of(errors, &resource.named(&list.path), &["cpu", "memory"]);
        one_of(errors, &restart.named(&list.path), &["NotRequired", "RestartContainer"]);
        if pod.restart_policy() == "Never" && restart.text() != "NotRequired" {
            let why = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.push(list.wrong(restart.text(), why));
        }
    }
}

fn restart_rules(errors: &mut Errors, container: &Cursor) {
    let (policy, rules) = (container.get("restartPolicy"), container.get("restartPolicyRules"));
    if !policy.is_some() {
        if rules.list().is_empty() {
            return;
        }
        errors.push(policy.required("must specify restartPolicy when restart rules are used"));
    } else if !matches!(policy.text(), "Always" | "Never" | "OnFailure") {
        errors.push(policy.not_supported(&["Always", "Never", "OnFailure"]));
    }
    if rules.list().len() > 20 {
        errors.push(api::field::FieldError::too_many(&rules.path, rules.list().len(), 20));
    }
    for rule in rules.items() {
        let action = rule.get("action");
        if !matches!(action.text(), "Restart" | "RestartAllContainers") {
            errors.push(action.not_supported(&["Restart", "RestartAllContainers"]));
        }
        let codes = rule.get("exitCodes");
        if !codes.is_some() {
            errors.push(codes.required("must be specified"));
            continue;
        }
        let operator = codes.get("operator");
        if !matches!(operator.text(), "In" | "NotIn") {
            errors.push(operator.not_supported(&["In", "NotIn"]));
        }
        let values = codes.get("values");
        if values.list().len() > 255 {
            errors.push(api::field::FieldError::too_many(&values.path, values.list().len(), 255));
        }
    }
}

/// The containers of all three lists with the paths they are named by.
pub fn every<'a>(spec: &Cursor<'a>) -> Vec<Cursor<'a>> {
    ["initContainers", "containers", "ephemeralContainers"]
        .iter()
        .flat_map(|list| spec.get(list).items())
        .collect()
}

/// The names in a list of containers.
pub fn names<'a>(spec: &'a Value, field: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    let list = spec.get(field).and_then(Value::as_array).into_iter().flatten();
    list.map(|c| c.get("name").and_then(Value::as_str).unwrap_or_default())
}
