//! Rules of resource requests and limits, of containers and of whole pods.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use api::names;
use api::quantity::Quantity;

use crate::kinds::cursor::quantity;
use crate::kinds::pod_template::Pod;
use crate::kinds::rules::{dns_label, is_extended_resource, is_native_resource, resource_quantity};
use crate::kinds::{Cursor, Errors};

/// Names that an error shows of those there are.
const NAMES_SHOWN: usize = 100;

fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// More may be promised of it than there is.
fn may_be_overcommitted(name: &str) -> bool {
    is_native_resource(name) && !is_huge_page(name)
}

/// A resource is one of Kubernetes' own or has a domain.
pub fn known(errors: &mut Errors, at: &Cursor, name: &str) -> bool {
    let found = names::qualified_name_errors(name);
    if !found.is_empty() {
        errors.extend(found.into_iter().map(|p| at.wrong(name, p)));
        return false;
    }
    let standard = QUOTA_RESOURCES.contains(&name) || name == "storage";
    let huge_page = is_huge_page(name) || name.starts_with("requests.hugepages-");
    if !name.contains('/') && !standard && !huge_page {
        errors.push(at.wrong(name, "must be a standard resource type or fully qualified"));
        return false;
    }
    true
}

/// The name of something that a container may ask for.
pub fn container_name(errors: &mut Errors, at: &Cursor, name: &str) {
    known(errors, at, name);
    if !name.contains('/') {
        if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !is_huge_page(name) {
            errors.push(at.wrong(name, "must be a standard resource for containers"));
        }
    } else if !is_native_resource(name) && !is_extended_resource(name) {
        errors.push(at.wrong(name, "doesn't follow extended resource name standard"));
    }
}

/// The name of something that a pod as a whole may ask for.
fn pod_name(errors: &mut Errors, at: &Cursor, name: &str) {
    if known(errors, at, name) && !matches!(name, "cpu" | "memory") && !is_huge_page(name) {
        let error = api::field::FieldError::not_supported(&at.path, name.into(), &["cpu", "hugepages-", "memory"]);
        errors.push(error);
    }
}

/// A huge page amount must be made of whole pages.
fn pages(errors: &mut Errors, at: &Cursor, name: &str, amount: &Quantity) {
    let size = name
        .strip_prefix("hugepages-")
        .and_then(|size| size.parse::<Quantity>().ok());
    // what is no size has no pages
    let size = size
        .filter(|size| size.milli_value() % 1000 == 0)
        .map_or(0, |size| size.value());
    if size <= 0 || amount.value() % size != 0 {
        let why = format!("{amount} is not positive integer multiple of {name}");
        errors.push(at.wrong(amount.to_string(), why));
    }
}

/// What a pod costs besides its containers, which is checked as the limits of one.
pub fn overhead(errors: &mut Errors, at: &Cursor, list: &Cursor) {
    let (mut compute, mut huge) = (false, false);
    for (name, amount) in list.named(format!("{}.limits", at.path)).entries() {
        container_name(errors, &amount, name);
        resource_quantity(errors, &amount, name);
        if let (true, Some(total)) = (is_huge_page(name), amount.quantity()) {
            huge = true;
            pages(errors, &amount, name, &total);
        }
        compute |= matches!(name, "cpu" | "memory");
    }
    if huge && !compute {
        errors.push(at.forbidden("HugePages require cpu or memory"));
    }
}

/// A `ResourceRequirements`; `name_rule` says which resources there are.
pub fn requirements(errors: &mut Errors, at: &Cursor, pod: &Pod, name_rule: fn(&mut Errors, &Cursor, &str)) {
    let (limits, requests) = (at.get("limits"), at.get("requests"));
    let (mut compute, mut huge) = (false, false);
    for (kind, list) in [("limits", &limits), ("requests", &requests)] {
        for (name, value) in list.entries() {
            name_rule(errors, &value, name);
            resource_quantity(errors, &value, name);
            let Some(amount) = value.quantity() else { continue };
            let limit = limits.value.get(name).and_then(quantity);
            if kind == "requests" {
                match limit {
                    Some(limit) if amount != limit && !may_be_overcommitted(name) => {
                        let why = format!("must be equal to {name} limit of {limit}");
                        errors.push(requests.wrong(amount.to_string(), why));
                    }
                    Some(limit) if amount > limit => {
                        let why = format!("must be less than or equal to {name} limit of {limit}");
                        errors.push(requests.wrong(amount.to_string(), why));
                    }
                    None if !may_be_overcommitted(name) => {
                        errors.push(limits.required("Limit must be set for non overcommitable resources"));
                    }
                    _ => {}
                }
            }
            if is_huge_page(name) {
                huge = true;
                pages(errors, &value, name, &amount);
            }
            compute |= matches!(name, "cpu" | "memory");
        }
    }
    if huge && !compute {
        errors.push(at.forbidden("HugePages require cpu or memory"));
    }
    claims(errors, &at.get("claims"), pod);
}

fn claims(errors: &mut Errors, list: &Cursor, pod: &Pod) {
    let known: BTreeSet<&str> = pod
        .spec
        .get("resourceClaims")
        .items()
        .map(|c| c.get("name").text())
        .collect();
    let names: String = known.iter().take(NAMES_SHOWN).copied().collect::<Vec<_>>().join(", ");
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut used: HashSet<&str> = HashSet::new();
    for claim in list.items() {
        let name = claim.get("name").text();
        let request = claim.get("request");
        if name.is_empty() {
            errors.push(claim.required(""));
            continue;
        }
        if seen.contains(name) {
            errors.push(claim.duplicate(name));
        } else {
            let mut key = name.to_owned();
            if !request.text().is_empty() {
                dns_label(errors, &request);
                key = format!("{name}/{}", request.text());
            }
            let overlaps = !used.insert(name) && request.text().is_empty();
            if seen.contains(&key) || overlaps {
                errors.push(claim.duplicate(key.clone()));
            }
            seen.insert(key);
        }
        if !known.contains(name) {
            let mut error = claim.not_found(name);
            error.detail = "must be one of the names in pod.spec.resourceClaims".into();
            if known.is_empty() {
                error.detail.push_str(" which is empty");
            } else {
                error.detail.push_str(&format!(": {names}"));
            }
            errors.push(error);
        }
    }
}

/// `spec.resources`: what the pod as a whole asks for covers what its containers ask for.
pub fn of_pod(errors: &mut Errors, pod: &Pod) {
    let Some(at) = pod.spec.get("resources").present() else {
        return;
    };
    if pod.spec.at(&["os", "name"]).text() == "windows" {
        errors.push(at.forbidden("may not be set for a windows pod"));
        return;
    }
    let claims = at.get("claims");
    if claims.is_some() {
        errors.push(claims.forbidden("claims may not be set for Resources at pod-level"));
    }
    requirements(errors, &at, pod, pod_name);
    for (kind, aggregate) in [("requests", sum(pod, "requests")), ("limits", sum(pod, "limits"))] {
        for (name, total) in aggregate {
            if kind == "limits" && !is_huge_page(name) {
                continue;
            }
            let value = at.get(kind).key(name);
            if let Some(own) = value.quantity().filter(|own| total > *own) {
                let why = format!("must be greater than or equal to aggregate container {kind} of {total}");
                errors.push(value.wrong(own.to_string(), why));
            }
        }
    }
    for (i, container) in pod.spec.get("containers").items().enumerate() {
        for (name, value) in container.at(&["resources", "limits"]).entries() {
            let (Some(limit), Some(own)) = (value.quantity(), at.get("limits").key(name).quantity()) else {
                continue;
            };
            if limit > own {
                let place = value.named(format!("{}.containers[{i}][{name}].limits", at.path));
                let why = format!("must be less than or equal to pod limits of {own}");
                errors.push(place.wrong(limit.to_string(), why));
            }
        }
    }
}

/// What all containers together ask for: those that run at once, or the largest init container.
fn sum<'a>(pod: &Pod<'a>, kind: &'static str) -> BTreeMap<&'a str, Quantity> {
    let mut total: BTreeMap<&'a str, Quantity> = BTreeMap::new();
    let add = |total: &mut BTreeMap<&'a str, Quantity>, container: &Cursor<'a>| {
        for (name, value) in container.at(&["resources", kind]).entries() {
            let Some(amount) = value.quantity() else { continue };
            let sum = total.get(name).map_or(amount, |t| t.add(&amount));
            total.insert(name, sum);
        }
    };
    for container in pod.spec.get("containers").items() {
        add(&mut total, &container);
    }
    let (mut sidecars, mut largest) = (BTreeMap::new(), BTreeMap::<&'a str, Quantity>::new());
    for container in pod.spec.get("initContainers").items() {
        if container.get("restartPolicy").text() == "Always" {
            add(&mut sidecars, &container);
            add(&mut total, &container);
        }
        let mut running = sidecars.clone();
        if container.get("restartPolicy").text() != "Always" {
            add(&mut running, &container);
        }
        for (name, amount) in running {
            let most = largest.get(name).copied().filter(|l| *l > amount).unwrap_or(amount);
            largest.insert(name, most);
        }
    }
    for (name, amount) in largest {
        let most = total.get(name).copied().filter(|t| *t > amount).unwrap_or(amount);
        total.insert(name, most);
    }
    total
}

/// What quotas of Kubernetes' own know, beside huge pages.
pub const QUOTA_RESOURCES: [&str; 19] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];
