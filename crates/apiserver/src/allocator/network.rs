//! A network that Services draw from: which of its addresses it gives out, and in which order. KEP-3070.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;

/// What kind of addresses a network has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// 32 bits.
    V4,
    /// 128 bits.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// Its name in `ipFamilies`.
    pub fn as_str(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }

    /// The family of a name in `ipFamilies`.
    pub fn named(name: &str) -> Option<Family> {
        [Family::V4, Family::V6].into_iter().find(|f| f.as_str() == name)
    }

    /// The other one.
    pub fn other(self) -> Family {
        match self {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        }
    }

    fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }
}

/// A network of a ServiceCIDR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: u128,
    prefix: u8,
    family: Family,
}

/// Upstream's allocator gives out of no IPv6 network that is larger.
const LARGEST_V6: u8 = 64;

impl Network {
    /// The network of `prefix` bits that `address` is in; `None` if it has no such prefix, or is too large to give out of.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Network> {
        let family = Family::of(address);
        let raw = match address {
            IpAddr::V4(v4) => u128::from(u32::from(v4)),
            IpAddr::V6(v6) => u128::from(v6),
        };
        if prefix > family.bits() || (family == Family::V6 && prefix < LARGEST_V6) {
            return None;
        }
        let host = u32::from(family.bits() - prefix);
        Some(Network {
            base: raw >> host << host,
            prefix,
            family,
        })
    }

    /// `10.96.0.0/16`; `None` for what is no such network.
    pub fn parse(text: &str) -> Option<Network> {
        let (address, prefix) = text.split_once('/')?;
        Network::new(address.parse().ok()?, prefix.parse().ok()?)
    }

    /// The family of its addresses.
    pub fn family(self) -> Family {
        self.family
    }

    fn size(self) -> u128 {
        1 << (self.family.bits() - self.prefix)
    }

    /// All addresses but the network's own and the one for broadcasts, which IPv6 does not have.
    fn usable(self) -> u128 {
        let reserved = match self.family {
            Family::V4 => 2,
            Family::V6 => 1,
        };
        self.size().saturating_sub(reserved)
    }

    /// The `n`th address.
    pub fn nth(self, n: u128) -> IpAddr {
        let raw = self.base.wrapping_add(n);
        match self.family {
            Family::V4 => IpAddr::V4(Ipv4Addr::from(u32::try_from(raw).unwrap_or(u32::MAX))),
            Family::V6 => IpAddr::V6(Ipv6Addr::from(raw)),
        }
    }

    /// The address of the `kubernetes` Service.
    pub fn first(self) -> IpAddr {
        self.nth(1)
    }

    /// Whether `address` is one that a Service may have.
    pub fn contains(self, address: IpAddr) -> bool {
        let raw = match (address, self.family) {
            (IpAddr::V4(v4), Family::V4) => u128::from(u32::from(v4)),
            (IpAddr::V6(v6), Family::V6) => u128::from(v6),
            _ => return false,
        };
        let offset = raw.wrapping_sub(self.base);
        offset > 0 && offset <= self.usable()
    }

    /// The addresses in the order in which they are tried: the upper part of the network from a random place on, then
    /// the lower one, which is left to those who ask by number.
    pub fn candidates(self, random: u64) -> impl Iterator<Item = IpAddr> {
        let usable = self.usable();
        let lower = match self.size() {
            size if size <= 16 => 0,
            size => (size / 16).clamp(16, 256).min(usable),
        };
        let upper = usable - lower;
        let turn = move |from: u128, count: u128| {
            let start = u128::from(random) % count.max(1);
            (0..count).map(move |i| from + (start + i) % count)
        };
        turn(lower, upper)
            .chain(turn(0, lower))
            .map(move |offset| self.nth(1 + offset))
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.nth(0), self.prefix)
    }
}

/// The ServiceCIDR of the networks that the server was started with.
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
            ("10.96.0.0/16", "::ffff:10.96.0.1", false),
            ("fd00:43::/112", "fd00:43::", false),
            ("fd00:43::/112", "fd00:43::1", true),
            ("fd00:43::/112", "fd00:43::ffff", true),
            ("fd00:43::/112", "fd00:43::1:0", false),
            ("fd00:43::/64", "fd00:43::ffff:ffff:ffff:ffff", true),
            ("fd00:43::/64", "10.96.0.1", false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(network(text).contains(address), inside, "{text} {address}");
        }
        assert!(
            ["10.0.0.0", "10.0.0.0/33", "x/8", "fd00::/63", "fd00::/129"]
                .iter()
                .all(|t| Network::parse(t).is_none())
        );
    }

    #[test]
    fn every_address_is_tried_once_and_the_lower_ones_last() {
        let all: Vec<IpAddr> = network("10.0.0.0/24").candidates(1000).collect();
        assert_eq!(all.len(), 254);
        assert!(all.iter().all(|a| network("10.0.0.0/24").contains(*a)));
        let mut sorted = all.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), 254);
        let lower = network("10.0.0.0/24").nth(16);
        assert!(all[..238].iter().all(|a| *a > lower));
        let small: Vec<IpAddr> = network("10.0.0.0/28").candidates(5).collect();
        assert_eq!((small.len(), small[0]), (14, "10.0.0.6".parse().unwrap()));
        assert_eq!(network("10.0.0.0/31").candidates(5).count(), 0);
        assert_eq!(network("10.0.0.0/29").to_string(), "10.0.0.0/29");
        let large = network("fd00:43::/64");
        let mut candidates = large.candidates(u64::MAX);
        let first = candidates.next().unwrap();
        assert!(large.contains(first) && first > large.nth(256));
        assert!(candidates.next().unwrap() > first);
        assert_eq!(network("fd00:43::a:b/112").to_string(), "fd00:43::a:0/112");
        assert_eq!(
            network("fd00:43::/127").candidates(5).collect::<Vec<_>>(),
            [network("fd00:43::/127").first()]
        );
    }
}
