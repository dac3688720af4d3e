//! Policies in the words of nftables. Pure.
//!
//! A packet that is forwarded passes two chains. One judges for the pod that it comes from, one for the pod that it goes to: a map
//! leads from the pod's address to the chain of all policies that select it, whose end is a refusal. Each policy is one chain, so
//! that its change is one chain's; each selector is one set. What the node itself sends or receives is not forwarded: it passes, as
//! upstream has it. Answers pass, and go on passing when a policy changes.

use std::sync::Arc;

use cni::nft::{Batch, Chain, Family, Field, Hook, Rule, Set, Verdict, ct_state};

use crate::policy::Direction;

/// Pods' addresses to the chains of the policies that select them.
pub(crate) const INGRESS_PODS: &str = "ingress-pods";
pub(crate) const EGRESS_PODS: &str = "egress-pods";
/// Pairs of one address twice: a pod always reaches itself, also through a Service.
pub(crate) const SELVES: &str = "selves";
/// Address, protocol and port of what every pod may reach: the cluster's DNS where it is a part of a node and no pod that a policy
/// could name.
pub(crate) const NODE_SERVICES: &str = "node-services";
pub(crate) const BASE_SETS: [&str; 4] = [INGRESS_PODS, EGRESS_PODS, SELVES, NODE_SERVICES];

/// Types of ICMPv6: router and neighbour solicitation and advertisement, redirection.
const NEIGHBOUR_DISCOVERY: (u8, u8) = (133, 137);
const EGRESS_HOOK: &str = "egress";
const INGRESS_HOOK: &str = "ingress";

pub(crate) fn map_of(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => INGRESS_PODS,
        Direction::Egress => EGRESS_PODS,
    }
}

/// Empties the table, or makes it, and writes what does not depend on any policy.
pub(crate) fn base(batch: &mut Batch, family: Family) {
    batch.add_table();
    batch.del_table();
    batch.add_table();
    let field = if family == Family::Ipv6 {
        Field::Ipv6
    } else {
        Field::Ipv4
    };
    batch.add_set(INGRESS_PODS, &Set::vmap(&[field]));
    batch.add_set(EGRESS_PODS, &Set::vmap(&[field]));
    batch.add_set(SELVES, &Set::new(&[field, field]));
    batch.add_set(NODE_SERVICES, &Set::new(&[field, Field::Protocol, Field::Port]));
    // An acceptance ends the first chain and not the second.
    for (name, priority) in [(EGRESS_HOOK, -2), (INGRESS_HOOK, -1)] {
        batch.add_chain(name, &Chain::filter(Hook::Forward, priority));
        let answers = ct_state::ESTABLISHED | ct_state::RELATED;
        batch.add_rule(name, &Rule::new().ct_state(answers).verdict(Verdict::Accept));
        if family == Family::Ipv6 {
            // Pods of one bridge look for each other by packets that are seen here; ARP is not.
            let (first, last) = NEIGHBOUR_DISCOVERY;
            batch.add_rule(name, &Rule::new().icmpv6_types(first, last).verdict(Verdict::Accept));
        }
        batch.add_rule(name, &Rule::new().pair_in(family, SELVES).verdict(Verdict::Accept));
        if name == EGRESS_HOOK {
            let dns = Rule::new().service_in(family, NODE_SERVICES);
            batch.add_rule(name, &dns.verdict(Verdict::Accept));
        }
        let judged = match name {
            EGRESS_HOOK => Rule::new().saddr_vmap(family, EGRESS_PODS),
            _ => Rule::new().daddr_vmap(family, INGRESS_PODS),
        };
        batch.add_rule(name, &judged);
    }
}

/// Who may be at the other end, as a test of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PeerTest {
    Anybody,
    In(Arc<str>),
}

/// Where a packet may go to, as a test of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PortTest {
    Any,
    All {
        protocol: u8,
    },
    Range {
        protocol: u8,
        first: u16,
        last: u16,
    },
    /// Destination address, protocol and port are in the set.
    Services(Arc<str>),
}

/// The chain of all policies that select a pod.
pub(crate) fn group(policies: &[(Arc<str>, String)]) -> Vec<Rule> {
    let jump = |(chain, policy): &(Arc<str>, String)| Rule::new().jump(chain).comment(policy.clone());
    policies.iter().map(jump).chain([Rule::new().reject()]).collect()
}

/// Goes on for what meets both tests.
pub(crate) fn test(family: Family, direction: Direction, peer: &PeerTest, port: &PortTest) -> Rule {
    let rule = match (peer, direction) {
        (PeerTest::Anybody, _) => Rule::new(),
        (PeerTest::In(set), Direction::Ingress) => Rule::new().saddr_in(family, set),
        (PeerTest::In(set), Direction::Egress) => Rule::new().daddr_in(family, set),
    };
    match port {
        PortTest::Any => rule,
        PortTest::All { protocol } => rule.l4proto(*protocol),
        PortTest::Range { protocol, first, last } if first == last => rule.l4proto(*protocol).dport(*first),
        PortTest::Range { protocol, first, last } => rule.l4proto(*protocol).dport_range(*first, *last),
        PortTest::Services(set) => rule.service_in(family, set),
    }
}
