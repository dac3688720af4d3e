//! Rules of Services.

use std::collections::HashSet;

use crate::kinds::core::endpoints::endpoint_ip;
use crate::kinds::core::service::{externally_accessible, is_headless, needs_health_check};
use crate::kinds::rules::{
    cidr, dns_label, ip, labels, one_of, one_of_or_none, port_number, port_or_name, problems, qualified_name,
};
use crate::kinds::{Check, Cursor, Errors};

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

const AFFINITY_LONGEST: i64 = 86400;

/// Two names of one choice, the older first.
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";

const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";

const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// Returns everything in which an object breaks the rules of its kind.
pub fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    let spec = root.get("spec");
    if check.is_status() {
        balancer_status(&mut errors, &root, check.before().as_ref());
        return errors;
    }
    let before = check.before().map(|old| old.get("spec"));
    if let (Some(before), Some(old)) = (&before, check.old) {
        update(&mut errors, &spec, before);
        if needs_health_check(old) && needs_health_check(check.new) {
            let port = spec.get("healthCheckNodePort");
            if port.value != before.get("healthCheckNodePort").value {
                errors.push(port.forbidden("field is immutable"));
            }
        }
    }
    topology(&mut errors, &root.at(&["metadata", "annotations"]));
    of_type(&mut errors, &spec, is_headless(check.new));
    ports(&mut errors, &spec.get("ports"));
    labels(&mut errors, &spec.get("selector"));
    affinity(&mut errors, &spec);
    addresses(&mut errors, &spec, before.as_ref());
    external_ips(&mut errors, &spec, before.as_ref());
    let kind = spec.get("type");
    one_of(&mut errors, &kind, &TYPES);
    duplicate_ports(&mut errors, &spec);
    source_ranges(&mut errors, &root, check.before().as_ref());
    balancer_fields(&mut errors, &spec);
    traffic(&mut errors, check, &spec);
    errors
}

fn topology(errors: &mut Errors, annotations: &Cursor) {
    let (hints, mode) = (annotations.key(TOPOLOGY_HINTS), annotations.key(TOPOLOGY_MODE));
    if hints.is_some() && mode.is_some() && hints.value != mode.value {
        let why = format!("must match annotations[{TOPOLOGY_HINTS}] when both are specified");
        errors.push(mode.invalid(why));
    }
}

fn of_type(errors: &mut Errors, spec: &Cursor, headless: bool) {
    let kind = spec.get("type").text();
    let list = spec.get("ports");
    if list.list().is_empty() && !headless && kind != "ExternalName" {
        errors.push(list.required(""));
    }
    if matches!(kind, "LoadBalancer" | "NodePort") && headless {
        let at = spec.get("clusterIPs").named(format!("{}.clusterIPs[0]", spec.path));
        errors.push(at.wrong("None", format!("may not be set to 'None' for {kind} services")));
    }
    if kind != "ExternalName" {
        return;
    }
    for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        let at = spec.get(field);
        if at.is_some() {
            errors.push(at.forbidden("may not be set for ExternalName services"));
        }
    }
    let name = spec.get("externalName");
    let plain = name.text().strip_suffix('.').unwrap_or(name.text());
    if plain.is_empty() {
        errors.push(name.required(""));
    } else {
        let found = api::names::dns1123_subdomain_errors(plain);
        errors.extend(found.into_iter().map(|p| name.wrong(plain, p)));
    }
}

fn ports(errors: &mut Errors, list: &Cursor) {
    let mut names = HashSet::new();
    for port in list.items() {
        let name = port.get("name");
        if !name.text().is_empty() {
            dns_label(errors, &name);
            if !names.insert(name.text()) {
                errors.push(name.duplicate(name.text()));
            }
        } else if list.list().len() > 1 {
            errors.push(name.required(""));
        }
        port_number(errors, &port.get("port"));
        one_of(errors, &port.get("protocol"), &["SCTP", "TCP", "UDP"]);
        port_or_name(errors, &port.get("targetPort"));
        let protocol = port.get("appProtocol");
        if protocol.is_some() {
            qualified_name(errors, &protocol);
        }
    }
}

fn affinity(errors: &mut Errors, spec: &Cursor) {
    let kind = spec.get("sessionAffinity");
    one_of(errors, &kind, &["ClientIP", "None"]);
    let config = spec.get("sessionAffinityConfig");
    match kind.text() {
        "None" if config.is_some() => {
            errors.push(config.forbidden("must not be set when session affinity is None"));
        }
        "ClientIP" => {
            let client = config.get("clientIP");
            let seconds = client.get("timeoutSeconds");
            let missing = [&config, &client, &seconds].into_iter().find(|at| !at.is_some());
            if let Some(at) = missing {
                errors.push(at.required("when session affinity type is ClientIP"));
            } else if seconds.int().is_none_or(|n| !(1..=AFFINITY_LONGEST).contains(&n)) {
                errors.push(seconds.invalid(format!("must be greater than 0 and less than {AFFINITY_LONGEST}")));
            }
        }
        _ => {}
    }
}

/// `clusterIP`, `clusterIPs` and the families they are of.
pub fn addresses(errors: &mut Errors, spec: &Cursor, before: Option<&Cursor>) {
    if spec.get("type").text() == "ExternalName" {
        return;
    }
    let (single, list) = (spec.get("clusterIP"), spec.get("clusterIPs"));
    let all: Vec<&str> = list.list().iter().filter_map(|v| v.as_str()).collect();
    if single.text().is_empty() {
        if !all.is_empty() {
            errors.push(list.invalid("must be empty when `clusterIP` is not specified"));
        }
    } else if all.is_empty() {
        errors.push(list.required(""));
    } else if all[0] != single.text() {
        errors.push(list.invalid("first value must match `clusterIP`"));
    }
    let mut seen = HashSet::new();
    for family in spec.get("ipFamilies").items() {
        if !matches!(family.text(), "IPv4" | "IPv6") {
            errors.push(family.not_supported(&["IPv4", "IPv6"]));
        }
        if !seen.insert(family.text()) {
            errors.push(family.duplicate(family.text()));
        }
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    one_of_or_none(errors, &spec.get("ipFamilyPolicy"), &policies);
    let were: Vec<&str> = before
        .map(|b| b.get("clusterIPs").items().map(|a| a.text()).collect())
        .unwrap_or_default();
    let count = errors.len();
    for (i, address) in list.items().enumerate() {
        if i == 0 && address.text() == "None" {
            if all.len() > 1 {
                errors.push(list.invalid("'None' must be the first and only value"));
            }
            continue;
        }
        ip(errors, &address, &were);
    }
    let broken = errors.len() > count;
    if all.len() > 2 {
        errors.push(list.invalid("may only hold up to 2 values"));
    }
    if broken {
        return;
    }
    let six = |a: &str| a.contains(':');
    if all.len() > 1 && all.iter().all(|a| six(a) == six(all[0])) {
        errors.push(list.invalid("may specify no more than one IP for each IP family"));
    }
    if all.first() == Some(&"None") {
        return;
    }
    for (i, (address, family)) in list.items().zip(spec.get("ipFamilies").items()).enumerate() {
        if six(address.text()) != (family.text() == "IPv6") {
            let why = format!("expected an {} value as indicated by `ipFamilies[{i}]`", family.text());
            errors.push(address.invalid(why));
        }
    }
}

fn external_ips(errors: &mut Errors, spec: &Cursor, before: Option<&Cursor>) {
    let were: Vec<&str> = before
        .map(|b| b.get("externalIPs").items().map(|a| a.text()).collect())
        .unwrap_or_default();
    for address in spec.get("externalIPs").items() {
        let count = errors.len();
        ip(errors, &address, &were);
        if errors.len() == count {
            endpoint_ip(errors, &address);
        }
    }
}

fn duplicate_ports(errors: &mut Errors, spec: &Cursor) {
    let list = spec.get("ports");
    let (mut node_ports, mut numbers) = (HashSet::new(), HashSet::new());
    if spec.get("type").text() == "ClusterIP" {
        for port in list
            .items()
            .map(|p| p.get("nodePort"))
            .filter(|p| p.int().unwrap_or(0) != 0)
        {
            errors.push(port.forbidden("may not be used when `type` is 'ClusterIP'"));
        }
    }
    for port in list.items() {
        let (number, protocol) = (port.get("nodePort"), port.get("protocol").text());
        if number.int().unwrap_or(0) != 0 && !node_ports.insert((number.int(), protocol)) {
            errors.push(number.duplicate(number.int().unwrap_or(0)));
        }
    }
    for port in list.items() {
        let (number, protocol) = (port.get("port").int().unwrap_or(0), port.get("protocol").text());
        if !numbers.insert((number, protocol)) {
            let shown = format!(
                "{{\"Name\":\"\",\"Protocol\":\"{protocol}\",\"AppProtocol\":null,\"Port\":{number},\"TargetPort\":0,\
                 \"NodePort\":0}}"
            );
            errors.push(port.duplicate("").shown(&shown));
        }
    }
}

fn source_ranges(errors: &mut Errors, root: &Cursor, old: Option<&Cursor>) {
    let spec = root.get("spec");
    let list = spec
        .get("loadBalancerSourceRanges")
        .named(format!("{}.LoadBalancerSourceRanges", spec.path));
    let balancer = spec.get("type").text() == "LoadBalancer";
    let why = "may only be used when `type` is 'LoadBalancer'";
    if !list.list().is_empty() {
        if !balancer {
            errors.push(list.forbidden(why));
        }
        let were = old.map(|o| o.at(&["spec", "loadBalancerSourceRanges"]));
        let were: Vec<&str> = were
            .map(|w| w.items().map(|r| r.text().trim()).collect())
            .unwrap_or_default();
        for range in list.items() {
            let plain = serde_json::Value::String(range.text().trim().to_owned());
            cidr(errors, &Cursor::of(Some(&plain), range.path.to_string()), &were);
        }
        return;
    }
    let annotation = root.at(&["metadata", "annotations"]).key(SOURCE_RANGES);
    if annotation.is_some() && !balancer {
        errors.push(annotation.forbidden(why));
    }
    let was = old.map(|old| old.at(&["metadata", "annotations"]).key(SOURCE_RANGES));
    if was.is_some_and(|was| was.value == annotation.value) || annotation.text().trim().is_empty() {
        return;
    }
    for range in annotation.text().split(',') {
        let plain = serde_json::Value::from(range.trim());
        cidr(errors, &Cursor::of(Some(&plain), annotation.path.to_string()), &[]);
    }
}

fn balancer_fields(errors: &mut Errors, spec: &Cursor) {
    let balancer = spec.get("type").text() == "LoadBalancer";
    let allocate = spec.get("allocateLoadBalancerNodePorts");
    let why = "may only be used when `type` is 'LoadBalancer'";
    if allocate.is_some() && !balancer {
        errors.push(allocate.forbidden(why));
    }
    if !allocate.is_some() && balancer {
        errors.push(allocate.named("allocateLoadBalancerNodePorts").required(""));
    }
    balancer_class(errors, spec);
}

fn balancer_class(errors: &mut Errors, spec: &Cursor) {
    let class = spec.get("loadBalancerClass");
    if !class.is_some() {
        return;
    }
    if spec.get("type").text() == "LoadBalancer" {
        qualified_name(errors, &class);
    } else {
        errors.push(class.forbidden("may only be used when `type` is 'LoadBalancer'"));
    }
}

fn traffic(errors: &mut Errors, check: &Check, spec: &Cursor) {
    let policies = ["Cluster", "Local"];
    let external = spec.get("externalTrafficPolicy");
    if externally_accessible(check.new) {
        one_of(errors, &external, &policies);
    } else if !external.text().is_empty() {
        errors.push(external.invalid("may only be set for externally-accessible services"));
    }
    let health = spec.get("healthCheckNodePort");
    let set = health.int().unwrap_or(0) != 0;
    if needs_health_check(check.new) {
        if set {
            port_number(errors, &health);
        } else {
            errors.push(health.required(""));
        }
    } else if set {
        let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.push(health.invalid(why));
    }
    let internal = spec.get("internalTrafficPolicy");
    let kind = spec.get("type").text();
    if !internal.is_some() && matches!(kind, "NodePort" | "LoadBalancer" | "ClusterIP") {
        errors.push(internal.required(""));
    }
    one_of_or_none(errors, &internal, &policies);
    let distribution = spec.get("trafficDistribution");
    one_of_or_none(
        errors,
        &distribution,
        &["PreferClose", "PreferSameZone", "PreferSameNode"],
    );
}

/// Addresses, families and the balancer's class stay as they are once they are given out.
fn update(errors: &mut Errors, spec: &Cursor, before: &Cursor) {
    let kind = |at: &Cursor| at.get("type").text().to_owned();
    let external = kind(spec) == "ExternalName" || kind(before) == "ExternalName";
    let none = |at: &Cursor| at.get("clusterIP").text() == "None";
    let both_headless = none(spec) && none(before);
    if !external && !both_headless {
        kept_in_order(errors, spec, before, "clusterIPs", "clusterIP");
    }
    if !external && !none(spec) && !none(before) {
        kept_in_order(errors, spec, before, "ipFamilies", "ipFamily");
    }
    let class = spec.get("loadBalancerClass");
    if kind(spec) == "LoadBalancer"
        && kind(before) == "LoadBalancer"
        && class.value != before.get("loadBalancerClass").value
    {
        errors.push(class.invalid("may not change once set"));
    }
    // upstream asks it of a change once more
    balancer_class(errors, spec);
}

fn kept_in_order(errors: &mut Errors, spec: &Cursor, before: &Cursor, field: &'static str, one: &str) {
    let (now, was) = (spec.get(field), before.get(field));
    let (a, b) = (now.list(), was.list());
    let at = |i: usize| now.named(format!("{}[{i}]", now.path));
    if a.len() == b.len() {
        for i in (0..a.len()).filter(|i| a[*i] != b[*i]) {
            errors.push(at(i).invalid("may not change once set"));
        }
        return;
    }
    if a.is_empty() {
        errors.push(at(0).invalid(format!("primary {one} can not be unset")));
    } else if !b.is_empty() && a[0] != b[0] {
        errors.push(at(0).invalid("may not change once set"));
    }
    let policy = spec.get("ipFamilyPolicy");
    if a.len() == 1 && b.len() > 1 && policy.text() != "SingleStack" {
        let why = format!("must be set to 'SingleStack' when releasing the secondary {one}");
        errors.push(policy.invalid(why));
    }
}

fn balancer_status(errors: &mut Errors, root: &Cursor, old: Option<&Cursor>) {
    let way = ["status", "loadBalancer", "ingress"];
    let list = root.at(&way);
    let kind = root.at(&["spec", "type"]).text();
    if kind != "LoadBalancer" && !list.list().is_empty() {
        errors.push(list.forbidden("may only be used when `spec.type` is 'LoadBalancer'"));
        return;
    }
    let were: Vec<&str> = old
        .map(|o| o.at(&way).items().map(|i| i.get("ip").text()).collect())
        .unwrap_or_default();
    for ingress in list.items() {
        let (address, name, mode) = (ingress.get("ip"), ingress.get("hostname"), ingress.get("ipMode"));
        if address.text().is_empty() {
            if mode.is_some() {
                errors.push(mode.forbidden("may not be specified when `ip` is not set"));
            }
        } else {
            ip(errors, &address, &were);
            if mode.is_some() {
                one_of(errors, &mode, &["Proxy", "VIP"]);
            } else {
                errors.push(mode.required("must be specified when `ip` is set"));
            }
        }
        if !name.text().is_empty() {
            problems(errors, &name, api::names::dns1123_subdomain_errors(name.text()));
            if name.text().parse::<std::net::IpAddr>().is_ok() {
                errors.push(name.invalid("must be a DNS name, not an IP address"));
            }
        }
    }
}
