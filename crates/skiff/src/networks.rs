//! The networks of a cluster's pods and Services: one, or one of each family with the cluster's own first.

use std::net::IpAddr;

use cni::link::{Net, NetError};

/// Prefix lengths that a network may have, IPv4 and IPv6.
#[derive(Debug, Clone)]
pub struct Lengths(pub std::ops::RangeInclusive<u8>, pub std::ops::RangeInclusive<u8>);

/// Each address of a pod is of a node's part: 24 bits for a node in IPv4, 64 in IPv6, and at most 65,536 nodes.
pub const PODS: Lengths = Lengths(8..=28, 48..=64);
/// Upstream gives addresses out of no larger network of IPv6.
pub const SERVICES: Lengths = Lengths(8..=28, 64..=124);

/// Why a text does not name a cluster's networks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworksError {
    #[error(transparent)]
    Net(#[from] NetError),
    #[error("{net}: its prefix length must be between {least} and {most}")]
    Length { net: Net, least: u8, most: u8 },
    #[error("names two networks of one family")]
    Family,
}

/// Reads `10.42.0.0/16` or `10.42.0.0/16,fd00:42::/56`.
///
/// # Errors
/// Says what is wrong with the text.
pub fn parse(text: &str, lengths: &Lengths) -> Result<Vec<Net>, NetworksError> {
    let mut networks: Vec<Net> = Vec::new();
    for part in text.split(',') {
        let net: Net = part.trim().parse()?;
        let allowed = match net.ip {
            IpAddr::V4(_) => &lengths.0,
            IpAddr::V6(_) => &lengths.1,
        };
        if !allowed.contains(&net.prefix) {
            return Err(NetworksError::Length {
                net,
                least: *allowed.start(),
                most: *allowed.end(),
            });
        }
        if networks.iter().any(|n| n.ip.is_ipv4() == net.ip.is_ipv4()) {
            return Err(NetworksError::Family);
        }
        networks.push(net);
    }
    Ok(networks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_or_one_of_each_family() {
        for (text, count) in [
            ("10.42.0.0/16", 1),
            ("fd00:42::/56", 1),
            ("10.42.0.0/16,fd00:42::/56", 2),
            ("fd00:42::/56, 10.42.0.0/16", 2),
        ] {
            assert_eq!(parse(text, &PODS).unwrap().len(), count, "{text}");
        }
        for text in [
            "",
            "10.42.0.0",
            "10.42.0.0/16,10.44.0.0/16",
            "10.42.0.0/29",
            "fd00:42::/65",
            "10.42.0.0/16,",
        ] {
            assert!(parse(text, &PODS).is_err(), "{text}");
        }
        assert!(parse("10.43.0.0/16,fd00:43::/112", &SERVICES).is_ok() && parse("fd00:43::/56", &SERVICES).is_err());
    }
}
