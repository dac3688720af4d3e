//! What a pod's status may become: `pods/status`.

use std::collections::{HashMap, HashSet};

use api::field::FieldError;
use api::names;

use crate::kinds::core::pod::update;
use crate::kinds::pod_template::container;
use crate::kinds::rules::{dns_subdomain, in_range, ip, problems, qualified_name, require};
use crate::kinds::{Check, Cursor, Errors};

/// User and group ids.
const LARGEST_ID: i64 = i32::MAX as i64;

/// What may be said of the health of a device.
const HEALTH_MESSAGE: usize = 1024;

/// `pods/status`.
pub fn update(errors: &mut Errors, check: &Check) {
    let (new, Some(old)) = (check.root(), check.before()) else {
        return;
    };
    update::annotations(errors, &new, &old);
    let (status, before) = (new.get("status"), old.get("status"));
    for condition in status.get("conditions").items() {
        let generation = condition.get("observedGeneration");
        if generation.int().is_some_and(|n| n < 0) {
            errors.push(generation.invalid("must be a non-negative integer"));
        }
        let kind = condition.get("type");
        if !matches!(kind.text(), "PodScheduled" | "Ready" | "Initialized") {
            qualified_name(errors, &kind.named(format!("{}.Type", condition.path)));
        }
    }
    let nominated = status.get("nominatedNodeName");
    if !nominated.text().is_empty() && nominated.text() != before.get("nominatedNodeName").text() {
        dns_subdomain(errors, &nominated);
        if !old.at(&["spec", "nodeName"]).text().is_empty() {
            errors.push(nominated.forbidden("may not be set on pods that are already bound to a node"));
        }
    }
    let generation = status.get("observedGeneration");
    if generation.int().is_some_and(|n| n < 0) {
        errors.push(generation.invalid("must be a non-negative integer"));
    }
    let class = status.get("qosClass");
    if class.text() != before.get("qosClass").text() {
        errors.push(class.wrong(class.text(), "field is immutable"));
    }
    let spec = old.get("spec");
    ended(errors, &spec, &status, &before);
    claims(errors, &spec, &status.get("resourceClaimStatuses"));
    extended_claim(errors, &spec, &status.get("extendedResourceClaimStatus"));
    addresses(errors, &status, &before);
    for list in STATUSES {
        users(errors, &spec, &status.get(list));
    }
    health(errors, &spec, &status);
}

const STATUSES: [&str; 3] = [
    "containerStatuses",
    "initContainerStatuses",
    "ephemeralContainerStatuses",
];

/// A pod and its node have at most one address of each family.
fn addresses(errors: &mut Errors, status: &Cursor, before: &Cursor) {
    for (field, first) in [("podIPs", "podIP"), ("hostIPs", "hostIP")] {
        let list = status.get(field);
        let were: Vec<&str> = before.get(field).items().map(|a| a.get("ip").text()).collect();
        if field == "hostIPs"
            && let Some(address) = list.items().next()
            && address.get("ip").text() != status.get(first).text()
        {
            errors.push(address.get("ip").invalid("must be equal to `hostIP`"));
        }
        for address in list.items() {
            ip(errors, &address.get("ip").named(&address.path), &were);
        }
        let six = |a: &Cursor| a.get("ip").text().contains(':');
        let families: Vec<bool> = list.items().map(|a| six(&a)).collect();
        if families.len() > 2 || (families.len() == 2 && families[0] == families[1]) {
            errors.push(list.invalid("may specify no more than one IP for each IP family"));
        }
    }
}

/// A container that has ended for good does not run again.
fn ended(errors: &mut Errors, spec: &Cursor, now: &Cursor, before: &Cursor) {
    let everything = |c: Cursor| {
        c.get("restartPolicyRules")
            .items()
            .any(|r| r.get("action").text() == "RestartAllContainers")
    };
    let all = container::every(spec).into_iter().any(everything);
    for (field, list) in STATUSES.into_iter().zip(["containers", "initContainers", ""]) {
        if all && !list.is_empty() {
            continue;
        }
        let at = now.get(field);
        for (i, was) in before.get(field).items().enumerate() {
            let Some(terminated) = was.at(&["state", "terminated"]).present() else {
                continue;
            };
            let name = was.get("name").text();
            let Some(status) = at.items().find(|s| s.get("name").text() == name) else {
                continue;
            };
            if status.at(&["state", "terminated"]).is_some() {
                continue;
            }
            let container = spec.get(list).items().find(|c| c.get("name").text() == name);
            let code = terminated.get("exitCode").int().unwrap_or(0);
            if !container.is_some_and(|c| runs_again(&c, spec, code)) {
                let state = at.named(format!("{}[{i}].state", at.path));
                errors.push(state.forbidden("may not be transitioned to non-terminated state"));
            }
        }
    }
}

fn runs_again(container: &Cursor, spec: &Cursor, code: i64) -> bool {
    for rule in container.get("restartPolicyRules").items() {
        let codes = rule.get("exitCodes");
        let named = codes.get("values").list().iter().any(|v| v.as_i64() == Some(code));
        if named == (codes.get("operator").text() == "In") {
            return true;
        }
    }
    let own = container.get("restartPolicy").text();
    let policy = if own.is_empty() {
        spec.get("restartPolicy").text()
    } else {
        own
    };
    match policy {
        "Always" => true,
        "OnFailure" => code != 0,
        _ => false,
    }
}

/// Each claim that has an object is one of the pod's.
fn claims(errors: &mut Errors, spec: &Cursor, list: &Cursor) {
    let known: HashSet<&str> = spec
        .get("resourceClaims")
        .items()
        .map(|c| c.get("name").text())
        .collect();
    let mut seen = HashSet::new();
    for claim in list.items() {
        let name = claim.get("name");
        if !known.contains(name.text()) {
            errors.push(name.wrong(name.text(), "must match the name of an entry in `spec.resourceClaims`"));
        }
        if !seen.insert(name.text()) {
            errors.push(name.duplicate(name.text()));
        }
        let object = claim.get("resourceClaimName");
        if object.is_some() {
            dns_subdomain(errors, &object);
        }
    }
}

/// The claim that stands for extended resources of the pod's containers. KEP-5004.
fn extended_claim<'a>(errors: &mut Errors, spec: &Cursor<'a>, status: &Cursor<'a>) {
    if !status.is_some() {
        return;
    }
    let containers: HashMap<&str, Cursor> = ["initContainers", "containers"]
        .iter()
        .flat_map(|list| spec.get(list).items())
        .map(|c| (c.get("name").text(), c))
        .collect();
    let list = status.get("requestMappings");
    if list.list().is_empty() {
        errors.push(list.required("at least one request mapping is required"));
    }
    let mut seen = HashSet::new();
    for mapping in list.items() {
        let [name, resource, request] =
            ["containerName", "resourceName", "requestName"].map(|field| mapping.get(field));
        match containers.get(name.text()) {
            Some(c) if c.at(&["resources", "requests"]).key(resource.text()).is_some() => {}
            Some(_) => {
                let why = "must match the extended resource name of an entry in \
                           spec.initContainers.resources.requests or spec.containers.resources.requests";
                errors.push(resource.wrong(resource.text(), why));
            }
            None => {
                let why = "must match the name of an entry in spec.initContainers.name or spec.containers.name";
                errors.push(name.wrong(name.text(), why));
            }
        }
        // upstream names it as if it were the status' own
        let shown = request.named(format!("{}.requestName", status.path));
        problems(errors, &shown, names::dns1123_label_errors(request.text()));
        if !seen.insert((name.text(), resource.text(), request.text())) {
            errors.extend([&name, &resource, &request].map(|at| at.duplicate(at.text())));
        }
    }
    let claim = status.get("resourceClaimName");
    if require(errors, &claim) {
        dns_subdomain(errors, &claim);
    }
}

/// Who a container runs as, on Linux.
fn users(errors: &mut Errors, spec: &Cursor, list: &Cursor) {
    let os = spec.at(&["os", "name"]).text();
    for status in list.items() {
        let user = status.at(&["user", "linux"]);
        match os {
            _ if !user.is_some() => {}
            "windows" => errors.push(user.forbidden("cannot be set for a windows pod")),
            "" | "linux" => {
                let groups = user.get("supplementalGroups");
                for id in [user.get("uid"), user.get("gid")].into_iter().chain(groups.items()) {
                    in_range(errors, &id, 0, LARGEST_ID);
                }
            }
            _ => {}
        }
    }
}

/// How the devices of containers are. KEP-4680.
fn health<'a>(errors: &mut Errors, spec: &Cursor<'a>, status: &Cursor<'a>) {
    for status in status.get(STATUSES[2]).items() {
        let resources = status.get("allocatedResourcesStatus");
        if !resources.list().is_empty() {
            errors.push(resources.forbidden("must not be specified in container status"));
        }
    }
    for (list, field) in STATUSES.into_iter().zip(["containers", "initContainers"]) {
        let containers: HashMap<&str, Cursor> = spec.get(field).items().map(|c| (c.get("name").text(), c)).collect();
        for status in status.get(list).items() {
            let container = containers.get(status.get("name").text());
            for resource in status.get("allocatedResourcesStatus").items() {
                if let Some(container) = container {
                    allocated(errors, container, &resource.get("name"));
                }
                device_health(errors, &resource.get("resources"));
            }
        }
    }
}

fn allocated<'a>(errors: &mut Errors, container: &Cursor<'a>, name: &Cursor<'a>) {
    let resources = container.get("resources");
    if let Some(claim) = name.text().strip_prefix("claim:") {
        let is = |c: Cursor| match c.get("request").text() {
            "" => c.get("name").text() == claim,
            request => claim.split_once('/') == Some((c.get("name").text(), request)),
        };
        if !resources.get("claims").items().any(is) {
            let why = "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or \
                       'claim:<claimName>' if request is empty";
            errors.push(name.invalid(why));
        }
    } else if !resources.get("requests").key(name.text()).is_some() {
        errors.push(name.wrong(name.text(), "must match one of the container's resource requests"));
    }
}

fn device_health(errors: &mut Errors, list: &Cursor) {
    let mut seen = HashSet::new();
    for device in list.items() {
        let health = device.get("health");
        if !matches!(health.text(), "Healthy" | "Unhealthy" | "Unknown") {
            errors.push(health.not_supported(&["Healthy", "Unhealthy", "Unknown"]));
        }
        let message = device.get("message");
        if message.is_some() && message.text().is_empty() {
            errors.push(message.required("must be non-empty if specified"));
        } else if message.text().len() > HEALTH_MESSAGE {
            errors.push(FieldError::too_long(&message.path, HEALTH_MESSAGE));
        }
        let id = device.get("resourceID");
        if !seen.insert(id.text()) {
            errors.push(id.duplicate(id.text()));
        }
    }
}
