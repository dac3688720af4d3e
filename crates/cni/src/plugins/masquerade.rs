//! What leaves a pod's network gets the host's address: one rule an address, in a table that is upstream's too.

use std::net::IpAddr;

use crate::link::Net;
use crate::nft::{self, Batch, Chain, Family, Hook, Rule};
use crate::types::{PluginError, code};

pub(super) const TABLE: &str = "cni_plugins_masquerade";
const CHAIN: &str = "masq_checks";

fn nft_error(e: &nft::Error) -> PluginError {
    PluginError::new(code::IO_FAILURE, e.to_string())
}

/// What leaves the pod's network gets the host's address.
pub(super) fn masquerade(nets: &[(Net, Option<IpAddr>)], comment: &str) -> Result<(), PluginError> {
    unmasquerade(|c| c == comment)?;
    let mut batch = Batch::new(Family::Inet, TABLE);
    batch.add_table();
    batch.add_chain(CHAIN, &Chain::regular());
    batch.add_chain("postrouting", &Chain::nat(Hook::Postrouting, 100));
    batch.flush_chain("postrouting");
    batch.add_rule("postrouting", &Rule::new().jump(CHAIN));
    for (net, _) in nets {
        let (family, multicast) = match net.ip {
            IpAddr::V4(_) => (Family::Ipv4, [224, 0, 0, 0].into()),
            IpAddr::V6(_) => (Family::Ipv6, [0xff00, 0, 0, 0, 0, 0, 0, 0].into()),
        };
        let multicast = Net {
            ip: multicast,
            prefix: if family == Family::Ipv4 { 4 } else { 8 },
        };
        let rule = Rule::new()
            .nfproto(family)
            .saddr_is(net.ip)
            .not_daddr(*net)
            .not_daddr(multicast)
            .masquerade();
        batch.add_rule(CHAIN, &rule.comment(comment));
    }
    batch.commit().map_err(|e| nft_error(&e))
}

/// Removes the masquerading rules whose comment is picked. A rule that somebody else removed meanwhile makes
/// the kernel refuse the batch: then it is read again.
pub(super) fn unmasquerade(picked: impl Fn(&str) -> bool) -> Result<(), PluginError> {
    super::remove_rules(Family::Inet, TABLE, picked).map_err(|e| nft_error(&e))
}
