//! Rules and warnings of pods and of the templates that pods are made from.

pub mod app_armor;
pub mod container;
mod env;
mod mount;
pub mod placement;
mod probe;
pub mod resources;
pub mod seccomp;
mod security;
pub mod volume;
pub mod warnings;

use std::collections::HashSet;

use api::names;

use crate::kinds::rules::{annotations, dns_label, dns_subdomain, ip, labels, one_of, problems, qualified_name};
use crate::kinds::{Cursor, Errors};

/// What a system's resolver takes.
const NAMESERVERS: usize = 3;

const SEARCH_PATHS: usize = 32;

const SEARCH_CHARACTERS: usize = 2048;

/// The annotation of pods that a kubelet made by itself.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// A pod's spec and the volumes in it that are fine.
pub struct Pod<'a> {
    pub spec: Cursor<'a>,
    volumes: HashSet<&'a str>,
}

impl<'a> Pod<'a> {
    fn names(&self, field: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        container::names(self.spec.value, field)
    }

    fn has_volume(&self, name: &str) -> bool {
        self.volumes.contains(name)
    }

    fn volume(&self, name: &str) -> Option<Cursor<'a>> {
        let found = self
            .spec
            .get("volumes")
            .items()
            .find(|v| v.get("name").text() == name)?;
        self.has_volume(name).then_some(found)
    }

    fn restart_policy(&self) -> &'a str {
        self.spec.get("restartPolicy").text()
    }

    fn host_network(&self) -> bool {
        self.spec.get("hostNetwork").is_true()
    }
}

/// What annotations mean of the pod.
pub fn annotations_of(errors: &mut Errors, annotations: &Cursor, spec: &Cursor) {
    let mirror = annotations.key(MIRROR);
    if mirror.is_some() && spec.get("nodeName").text().is_empty() {
        errors.push(mirror.invalid("must set spec.nodeName if mirror pod annotation is set"));
    }
    let cost = annotations.key(DELETION_COST);
    if cost.is_some() && !is_cost(cost.text()) {
        errors.push(cost.invalid("must be a 32bit integer"));
    }
    seccomp::annotations(errors, annotations);
    app_armor::annotations(errors, annotations, spec);
}

/// A number as one writes it: no plus, no leading zeros.
fn is_cost(text: &str) -> bool {
    text.parse::<i32>().is_ok_and(|n| n.to_string() == text)
}

/// The labels and annotations of a template, which errors name as if they were the template's own.
pub fn template_marks(errors: &mut Errors, at: &Cursor) {
    labels(errors, &template_mark(at, "labels"));
    annotations(errors, &template_mark(at, "annotations"));
}

fn template_mark<'a>(at: &Cursor<'a>, field: &'static str) -> Cursor<'a> {
    at.at(&["metadata", field]).named(at.get(field).path)
}

/// A pod template.
pub fn template(errors: &mut Errors, at: &Cursor) {
    template_marks(errors, at);
    let spec = at.get("spec");
    annotations_of(errors, &template_mark(at, "annotations"), &spec);
    spec_of(errors, spec.clone(), "", false);
    seccomp::agree(errors, &at.get("metadata"), &spec);
    app_armor::agree(errors, at);
    let ephemeral = spec.get("ephemeralContainers");
    if !ephemeral.list().is_empty() {
        errors.push(ephemeral.forbidden("ephemeral containers not allowed in pod template"));
    }
}

/// A pod's spec, in upstream's order.
pub fn spec_of<'a>(errors: &mut Errors, spec: Cursor<'a>, pod_name: &str, is_pod: bool) -> Pod<'a> {
    let grace = spec.get("terminationGracePeriodSeconds");
    if !grace.is_some() {
        errors.push(grace.required(""));
    }
    let volumes = volume::volumes(errors, &spec, pod_name);
    let pod = Pod { spec, volumes };
    let spec = &pod.spec;
    claims(errors, &spec.get("resourceClaims"));
    container::regular(errors, &pod);
    container::init(errors, &pod);
    container::ephemeral(errors, &pod);
    resources::of_pod(errors, &pod);
    host_ports(errors, &pod, is_pod);
    one_of(errors, &spec.get("restartPolicy"), &["Always", "OnFailure", "Never"]);
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    one_of(errors, &spec.get("dnsPolicy"), &policies);
    labels(errors, &spec.get("nodeSelector"));
    security::pod(errors, &pod);
    placement::affinity(errors, &spec.get("affinity"));
    dns(errors, spec);
    for gate in spec.get("readinessGates").items() {
        qualified_name(errors, &gate.get("conditionType"));
    }
    scheduling_gates(errors, &spec.get("schedulingGates"));
    placement::spread(errors, &spec.get("topologySpreadConstraints"));
    security::host_processes(errors, &pod);
    security::own_users(errors, &pod);
    hostname_override(errors, spec);
    for field in ["serviceAccountName", "nodeName"] {
        let at = spec.get(field);
        if !at.text().is_empty() {
            dns_subdomain(errors, &at);
        }
    }
    let deadline = spec.get("activeDeadlineSeconds");
    if deadline.is_some() {
        crate::kinds::rules::in_range(errors, &deadline, 1, i64::from(i32::MAX));
    }
    for field in ["hostname", "subdomain"] {
        let at = spec.get(field);
        if !at.text().is_empty() {
            dns_label(errors, &at);
        }
    }
    placement::tolerations(errors, &spec.get("tolerations"));
    for alias in spec.get("hostAliases").items() {
        ip(errors, &alias.get("ip"), &[]);
        for name in alias.get("hostnames").items() {
            dns_subdomain(errors, &name);
        }
    }
    for field in ["priorityClassName", "runtimeClassName"] {
        let at = spec.get(field);
        if !at.text().is_empty() || (field == "runtimeClassName" && at.is_some()) {
            dns_subdomain(errors, &at);
        }
    }
    let preemption = spec.get("preemptionPolicy");
    if preemption.is_some() {
        one_of(errors, &preemption, &["PreemptLowerPriority", "Never"]);
    }
    let overhead = spec.get("overhead");
    resources::overhead(errors, &overhead, &overhead);
    security::operating_system(errors, &pod);
    env::file_volumes(errors, spec);
    pod
}

fn claims(errors: &mut Errors, list: &Cursor) {
    let mut seen = HashSet::new();
    for claim in list.items() {
        let name = claim.get("name");
        if name.text().is_empty() {
            errors.push(name.required(""));
        } else if !seen.insert(name.text()) {
            errors.push(name.duplicate(name.text()));
        } else {
            dns_label(errors, &name);
        }
        let (claim_name, template) = (claim.get("resourceClaimName"), claim.get("resourceClaimTemplateName"));
        for at in [&claim_name, &template].into_iter().filter(|at| at.is_some()) {
            dns_subdomain(errors, at);
        }
        match (claim_name.is_some(), template.is_some()) {
            (true, true) => {
                let why = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                errors.push(claim.invalid(why));
            }
            (false, false) => {
                let why = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                errors.push(claim.invalid(why));
            }
            _ => {}
        }
    }
}

/// With the host's network a container's port is the host's.
fn host_ports(errors: &mut Errors, pod: &Pod, is_pod: bool) {
    if !pod.host_network() {
        return;
    }
    for container in pod.spec.get("containers").items() {
        for port in container.get("ports").items() {
            let host = port.get("hostPort");
            let (own, wanted) = (host.int().unwrap_or(0), port.get("containerPort").int().unwrap_or(0));
            if (is_pod || own != 0) && own != wanted {
                errors.push(host.wrong(own, "must match `containerPort` when `hostNetwork` is true"));
            }
        }
    }
}

fn dns(errors: &mut Errors, spec: &Cursor) {
    let config = spec.get("dnsConfig");
    let servers = config.get("nameservers");
    if spec.get("dnsPolicy").text() == "None" {
        if !config.is_some() {
            errors.push(config.required("must provide `dnsConfig` when `dnsPolicy` is None"));
            return;
        }
        if servers.list().is_empty() {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.push(servers.required(why));
            return;
        }
    }
    if servers.list().len() > NAMESERVERS {
        errors.push(servers.invalid(format!("must not have more than {NAMESERVERS} nameservers")));
    }
    for server in servers.items() {
        ip(errors, &server, &[]);
    }
    let searches = config.get("searches");
    let all: Vec<Cursor> = searches.items().collect();
    if all.len() > SEARCH_PATHS {
        errors.push(searches.invalid(format!("must not have more than {SEARCH_PATHS} search paths")));
    }
    if all.iter().map(|s| s.text().len() + 1).sum::<usize>() > SEARCH_CHARACTERS + 1 {
        errors.push(searches.invalid(format!(
            "must not have more than {SEARCH_CHARACTERS} characters (including spaces) in the search list"
        )));
    }
    for search in all.iter().filter(|s| s.text() != ".") {
        let text = search.text().strip_suffix('.').unwrap_or(search.text());
        // an underscore may start a label, and stand in it
        let plain = text
            .split('.')
            .map(|l| l.strip_prefix('_').unwrap_or(l).replace('_', "-"));
        if plain
            .clone()
            .any(|label| !names::dns1123_label_errors(&label).is_empty())
        {
            let why = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', \
                       and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation \
                       is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')";
            errors.push(search.wrong(text, why));
        }
    }
    for option in config.get("options").items() {
        if option.get("name").text().is_empty() {
            errors.push(option.required("must not be empty"));
        }
    }
}

fn scheduling_gates(errors: &mut Errors, list: &Cursor) {
    let mut seen = HashSet::new();
    for gate in list.items() {
        let name = gate.get("name").text();
        problems(
            errors,
            &gate.get("name").named(&gate.path),
            names::qualified_name_errors(name),
        );
        if !seen.insert(name) {
            errors.push(gate.duplicate(name));
        }
    }
}

fn hostname_override(errors: &mut Errors, spec: &Cursor) {
    let Some(at) = spec.get("hostnameOverride").present() else {
        return;
    };
    if spec.get("setHostnameAsFQDN").is_true() {
        errors.push(at.forbidden("may not be specified when setHostnameAsFQDN is true"));
    }
    if spec.get("hostNetwork").is_true() {
        errors.push(at.forbidden("may not be specified when hostNetwork is true"));
    }
    if at.text().len() > 64 {
        errors.push(api::field::FieldError::too_long(&at.path, 64));
    }
    dns_subdomain(errors, &at);
}
