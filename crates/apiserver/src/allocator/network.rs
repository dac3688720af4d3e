//! An IPv4 network that Services draw from: which of its addresses it gives out, and in which order. KEP-3070.

use std::net::Ipv4Addr;

use serde_json::Value;

/// A network of a ServiceCIDR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: u32,
    prefix: u8,
}

impl Network {
    /// The network of `prefix` bits that `address` is in.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Network {
        let host = 32 - u32::from(prefix.min(32));
        let mask = u32::MAX.checked_shl(host).unwrap_or(0);
        Network {
            base: u32::from(address) & mask,
            prefix: prefix.min(32),
        }
    }

    /// `10.96.0.0/16`; `None` for what is no IPv4 network.
    pub fn parse(text: &str) -> Option<Network> {
        let (address, prefix) = text.split_once('/')?;
        let prefix = prefix.parse().ok().filter(|p| *p <= 32)?;
        Some(Network::new(address.parse().ok()?, prefix))
    }

    fn size(self) -> u64 {
        1 << (32 - u32::from(self.prefix))
    }

    /// All addresses but the network's own and the one for broadcasts.
    fn usable(self) -> u32 {
        u32::try_from(self.size().saturating_sub(2)).unwrap_or(u32::MAX)
    }

    /// The address of the `kubernetes` Service.
    pub fn first(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base.wrapping_add(1))
    }

    /// Whether `address` is one that a Service may have.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        let offset = u32::from(address).wrapping_sub(self.base);
        offset > 0 && offset <= self.usable()
    }

    /// The addresses in the order in which they are tried: the upper part of the network from a random place on, then
    /// the lower one, which is left to those who ask by number.
    pub fn candidates(self, random: u32) -> impl Iterator<Item = Ipv4Addr> {
        let usable = self.usable();
        let lower = match self.size() {
            size if size <= 16 => 0,
            size => u32::try_from((size / 16).clamp(16, 256)).unwrap_or(256).min(usable),
        };
        let upper = usable - lower;
        let turn = move |from: u32, count: u32| {
            let start = random % count.max(1);
            (0..count).map(move |i| from + (start + i) % count)
        };
        turn(lower, upper)
            .chain(turn(0, lower))
            .map(move |offset| Ipv4Addr::from(self.base + 1 + offset))
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.prefix)
    }
}

/// The ServiceCIDR of the network that the server was started with.
pub const DEFAULT: &str = "kubernetes";

/// What the `Ready` condition of a ServiceCIDR says; `None` if it is not there or unknown.
pub fn is_ready(tree: &Value) -> Option<bool> {
    let conditions = tree.pointer("/status/conditions").and_then(Value::as_array);
    let ready = conditions.into_iter().flatten().find(|c| c["type"] == "Ready")?;
    match ready["status"].as_str() {
        Some("True") => Some(true),
        Some("False") => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        Network::parse(text).unwrap()
    }

    #[test]
    fn a_network_gives_out_neither_its_own_address_nor_the_broadcast_address() {
        for (text, address, inside) in [
            ("10.96.0.0/16", "10.96.0.0", false),
            ("10.96.0.0/16", "10.96.0.1", true),
            ("10.96.0.0/16", "10.96.255.254", true),
            ("10.96.0.0/16", "10.96.255.255", false),
            ("10.96.0.0/16", "10.97.0.1", false),
            ("10.96.0.0/16", "10.95.255.254", false),
            ("192.0.2.8/32", "192.0.2.8", false),
            ("192.0.2.8/31", "192.0.2.9", false),
            ("0.0.0.0/0", "255.255.255.254", true),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(network(text).contains(address), inside, "{text} {address}");
        }
        assert!(
            ["10.0.0.0", "10.0.0.0/33", "x/8", "fd00::/64"]
                .iter()
                .all(|t| Network::parse(t).is_none())
        );
    }

    #[test]
    fn every_address_is_tried_once_and_the_lower_ones_last() {
        let all: Vec<Ipv4Addr> = network("10.0.0.0/24").candidates(1000).collect();
        assert_eq!(all.len(), 254);
        assert!(all.iter().all(|a| network("10.0.0.0/24").contains(*a)));
        let mut sorted = all.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), 254);
        assert!(all[..238].iter().all(|a| a.octets()[3] > 16));
        let small: Vec<Ipv4Addr> = network("10.0.0.0/28").candidates(5).collect();
        assert_eq!((small.len(), small[0]), (14, "10.0.0.6".parse().unwrap()));
        assert_eq!(network("10.0.0.0/31").candidates(5).count(), 0);
        assert_eq!(network("10.0.0.0/29").to_string(), "10.0.0.0/29");
    }
}
