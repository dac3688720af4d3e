//! What leaves the cluster gets the node's address; what stays inside keeps its own. As flannel's rules have it, a table a family.

use std::net::IpAddr;

use crate::link::Net;
use crate::nft::{Batch, Chain, Family, Hook, Rule, Verdict};

const HOOK: &str = "postrouting";
const FROM_PODS: &str = "from-pods";
const TO_PODS: &str = "to-pods";

pub(crate) fn table(bridge: &str) -> String {
    format!("{bridge}-masquerade")
}

/// The rules of one family, in place of those there were. `cluster` are the pod networks of all nodes, `own` those of this one.
pub(crate) fn batch(bridge: &str, v6: bool, cluster: &[Net], own: &[Net]) -> Batch {
    let of_family = |net: &&Net| net.ip.is_ipv6() == v6;
    let own: Vec<Net> = own.iter().filter(of_family).copied().collect();
    let mut cluster: Vec<Net> = cluster.iter().filter(of_family).copied().collect();
    let outside = |net: &&Net| !cluster.iter().any(|c| c.prefix <= net.prefix && c.contains(net.ip));
    let more: Vec<Net> = own.iter().filter(outside).copied().collect();
    cluster.extend(more);
    let family = if v6 { Family::Ipv6 } else { Family::Ipv4 };
    let mut batch = Batch::new(family, &table(bridge));
    batch.add_table();
    batch.del_table();
    batch.add_table();
    batch.add_chain(FROM_PODS, &Chain::regular());
    batch.add_chain(TO_PODS, &Chain::regular());
    batch.add_chain(HOOK, &Chain::nat(Hook::Postrouting, 100));
    let goto = |chain: &str| Verdict::Goto(chain.to_owned());
    for net in &cluster {
        batch.add_rule(HOOK, &Rule::new().saddr(*net).verdict(goto(FROM_PODS)));
    }
    for net in &cluster {
        batch.add_rule(HOOK, &Rule::new().daddr(*net).verdict(goto(TO_PODS)));
    }
    for net in cluster.iter().chain([&multicast(v6)]) {
        batch.add_rule(FROM_PODS, &Rule::new().daddr(*net).verdict(Verdict::Return));
    }
    batch.add_rule(FROM_PODS, &Rule::new().masquerade());
    // Who is no pod and reaches another node's pods through this node must be answered through it.
    for net in &own {
        batch.add_rule(TO_PODS, &Rule::new().daddr(*net).verdict(Verdict::Return));
    }
    batch.add_rule(TO_PODS, &Rule::new().masquerade());
    batch
}

/// Removes the rules of both families.
pub(crate) fn cleanup(bridge: &str) -> Result<(), crate::nft::Error> {
    for family in [Family::Ipv4, Family::Ipv6] {
        let mut batch = Batch::new(family, &table(bridge));
        batch.add_table();
        batch.del_table();
        batch.commit()?;
    }
    Ok(())
}

fn multicast(v6: bool) -> Net {
    let (ip, prefix): (IpAddr, u8) = if v6 {
        ([0xff00, 0, 0, 0, 0, 0, 0, 0].into(), 8)
    } else {
        ([224, 0, 0, 0].into(), 4)
    };
    Net { ip, prefix }
}
