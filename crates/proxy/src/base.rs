//! The part of the table that does not depend on any Service: hooks, shared maps and sets. Pure.

use std::net::IpAddr;

use cni::link::Net;
use cni::nft::{Batch, Chain, Family, Field, Hook, Key, Rule, Set, Verdict, ct_state};

use crate::rules::Node;

pub(crate) const TABLE: &str = "kube-proxy";
pub(crate) const SERVICE_IPS: &str = "service-ips";
pub(crate) const SERVICE_NODEPORTS: &str = "service-nodeports";
pub(crate) const NO_ENDPOINT_SERVICES: &str = "no-endpoint-services";
pub(crate) const NO_ENDPOINT_NODEPORTS: &str = "no-endpoint-nodeports";
pub(crate) const FIREWALL_IPS: &str = "firewall-ips";
pub(crate) const CLUSTER_IPS: &str = "cluster-ips";
pub(crate) const HAIRPIN_CONNECTIONS: &str = "hairpin-connections";
pub(crate) const REJECT_CHAIN: &str = "reject-chain";
const NODEPORT_IPS: &str = "nodeport-ips";

const SERVICES: &str = "services";
const MASQUERADING: &str = "masquerading";
const SERVICE_ENDPOINTS_CHECK: &str = "service-endpoints-check";
const NODEPORT_ENDPOINTS_CHECK: &str = "nodeport-endpoints-check";
const CLUSTER_IPS_CHECK: &str = "cluster-ips-check";
const FIREWALL_CHECK: &str = "firewall-check";

/// Before destination NAT, to judge by the address that the client used.
const PRE_DNAT: i32 = -110;
const DNAT: i32 = -100;
const SNAT: i32 = 100;

/// Empties the table, or makes it, and writes the part without Services.
pub(crate) fn write(batch: &mut Batch, node: &Node) {
    // Removing needs the table to be there; all of it happens at once.
    batch.add_table();
    batch.del_table();
    batch.add_table();
    sets(batch, node);
    chains(batch);
    rules(batch, node);
}

fn sets(batch: &mut Batch, node: &Node) {
    let address = if node.family == Family::Ipv6 {
        Field::Ipv6
    } else {
        Field::Ipv4
    };
    let service = [address, Field::Protocol, Field::Port];
    for map in [SERVICE_IPS, NO_ENDPOINT_SERVICES, FIREWALL_IPS] {
        batch.add_set(map, &Set::vmap(&service));
    }
    for map in [SERVICE_NODEPORTS, NO_ENDPOINT_NODEPORTS] {
        batch.add_set(map, &Set::vmap(&[Field::Protocol, Field::Port]));
    }
    batch.add_set(CLUSTER_IPS, &Set::new(&[address]));
    batch.add_set(NODEPORT_IPS, &Set::new(&[address]));
    let connection = [address, address, Field::Protocol, Field::Port];
    batch.add_set(HAIRPIN_CONNECTIONS, &Set::new(&connection));
    let ips: Vec<Key> = node.node_ips.iter().copied().map(Key::ip).collect();
    batch.add_elements(NODEPORT_IPS, ips.iter().map(|ip| (ip, None)));
}

fn chains(batch: &mut Batch) {
    for name in [
        SERVICES,
        MASQUERADING,
        SERVICE_ENDPOINTS_CHECK,
        NODEPORT_ENDPOINTS_CHECK,
        CLUSTER_IPS_CHECK,
        FIREWALL_CHECK,
        REJECT_CHAIN,
    ] {
        batch.add_chain(name, &Chain::regular());
    }
    let new = || Rule::new().ct_state(ct_state::NEW);
    let hooks: [(&str, Chain, &[&str]); 8] = [
        (
            "filter-prerouting-pre-dnat",
            Chain::filter(Hook::Prerouting, PRE_DNAT),
            &[FIREWALL_CHECK],
        ),
        (
            "filter-output-pre-dnat",
            Chain::filter(Hook::Output, PRE_DNAT),
            &[FIREWALL_CHECK],
        ),
        (
            "filter-input",
            Chain::filter(Hook::Input, 0),
            &[NODEPORT_ENDPOINTS_CHECK, SERVICE_ENDPOINTS_CHECK],
        ),
        (
            "filter-forward",
            Chain::filter(Hook::Forward, 0),
            &[SERVICE_ENDPOINTS_CHECK, CLUSTER_IPS_CHECK],
        ),
        (
            "filter-output",
            Chain::filter(Hook::Output, 0),
            &[SERVICE_ENDPOINTS_CHECK, CLUSTER_IPS_CHECK],
        ),
        ("nat-prerouting", Chain::nat(Hook::Prerouting, DNAT), &[SERVICES]),
        ("nat-output", Chain::nat(Hook::Output, DNAT), &[SERVICES]),
        ("nat-postrouting", Chain::nat(Hook::Postrouting, SNAT), &[MASQUERADING]),
    ];
    for (name, chain, jumps) in hooks {
        batch.add_chain(name, &chain);
        for jump in jumps {
            let rule = if name.starts_with("filter") { new() } else { Rule::new() };
            batch.add_rule(name, &rule.jump(jump));
        }
    }
}

fn rules(batch: &mut Batch, node: &Node) {
    let family = node.family;
    batch.add_rule(
        MASQUERADING,
        &Rule::new().mark_has(node.mark).clear_mark(node.mark).masquerade(),
    );
    // A pod that reaches itself through its Service must see another source, or it would answer itself directly.
    let hairpin = Rule::new().ct_status_dnat().connection_in(family, HAIRPIN_CONNECTIONS);
    batch.add_rule(MASQUERADING, &hairpin.masquerade());
    batch.add_rule(REJECT_CHAIN, &Rule::new().reject());
    batch.add_rule(CLUSTER_IPS_CHECK, &Rule::new().daddr_in(family, CLUSTER_IPS).reject());
    for cidr in &node.service_cidrs {
        // An address that no Service has must not leave the node: the way out may lead back in.
        batch.add_rule(CLUSTER_IPS_CHECK, &Rule::new().daddr(*cidr).verdict(Verdict::Drop));
    }
    batch.add_rule(
        SERVICE_ENDPOINTS_CHECK,
        &Rule::new().service_vmap(family, NO_ENDPOINT_SERVICES),
    );
    let node_port = || Rule::new().daddr_in(family, NODEPORT_IPS);
    batch.add_rule(NODEPORT_ENDPOINTS_CHECK, &node_port().port_vmap(NO_ENDPOINT_NODEPORTS));
    batch.add_rule(FIREWALL_CHECK, &Rule::new().service_vmap(family, FIREWALL_IPS));

    let cluster_ip = || Rule::new().daddr_in(family, CLUSTER_IPS);
    if node.masquerade_all {
        batch.add_rule(SERVICES, &cluster_ip().set_mark(node.mark));
    } else if !node.cluster_cidrs.is_empty() {
        // Who is no pod may have come through this node as a router, and must be answered through it.
        let outside = |rule: Rule, cidr: &Net| rule.not_saddr(*cidr);
        let rule = node.cluster_cidrs.iter().fold(cluster_ip(), outside);
        batch.add_rule(SERVICES, &rule.set_mark(node.mark));
    }
    batch.add_rule(SERVICES, &Rule::new().service_vmap(family, SERVICE_IPS));
    batch.add_rule(SERVICES, &node_port().port_vmap(SERVICE_NODEPORTS));
}

/// The kernel's address family of the node's addresses.
pub(crate) fn family_of(ip: IpAddr) -> Family {
    if ip.is_ipv6() { Family::Ipv6 } else { Family::Ipv4 }
}
