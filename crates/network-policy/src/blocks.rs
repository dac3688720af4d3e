//! Address blocks with exceptions, as ranges that do not touch. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cni::link::Net;

/// `ipBlock` of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    pub cidr: Net,
    pub except: Vec<Net>,
}

/// First and last address.
pub(crate) type Range = (IpAddr, IpAddr);

type Numbers = (u128, u128);

fn numbers(net: Net) -> Numbers {
    let host_bits = u32::from(Net::width(net.ip)) - u32::from(net.prefix);
    let first = number(net.network());
    let size = 1u128.checked_shl(host_bits).map_or(u128::MAX, |size| size - 1);
    (first, first.saturating_add(size))
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

fn address(v6: bool, number: u128) -> IpAddr {
    if v6 {
        IpAddr::V6(Ipv6Addr::from(number))
    } else {
        IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)))
    }
}

/// What is in any of the blocks of one family: in order, with a gap between any two.
pub(crate) fn ranges(blocks: &[Block], v6: bool) -> Vec<Range> {
    let of_family = blocks.iter().filter(|b| b.cidr.ip.is_ipv6() == v6);
    let mut all: Vec<Numbers> = of_family.flat_map(without_exceptions).collect();
    all.sort_unstable();
    let mut merged: Vec<Numbers> = Vec::new();
    for (first, last) in all {
        match merged.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    let range = |(first, last): Numbers| (address(v6, first), address(v6, last));
    merged.into_iter().map(range).collect()
}

fn without_exceptions(block: &Block) -> Vec<Numbers> {
    let whole = numbers(block.cidr);
    let same_family = |net: &&Net| net.ip.is_ipv6() == block.cidr.ip.is_ipv6();
    let mut holes: Vec<Numbers> = block
        .except
        .iter()
        .filter(same_family)
        .map(|net| numbers(*net))
        .collect();
    holes.sort_unstable();
    let mut left = Vec::new();
    let mut next = Some(whole.0);
    for (first, last) in holes {
        let Some(at) = next else { break };
        if first > whole.1 {
            break;
        }
        if let Some(before) = first.checked_sub(1).filter(|before| *before >= at) {
            left.push((at, before));
        }
        next = if last < at { Some(at) } else { last.checked_add(1) };
    }
    left.extend(next.filter(|at| *at <= whole.1).map(|at| (at, whole.1)));
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(cidr: &str, except: &[&str]) -> Block {
        Block {
            cidr: cidr.parse().unwrap(),
            except: except.iter().map(|e| e.parse().unwrap()).collect(),
        }
    }

    fn text(blocks: &[Block], v6: bool) -> String {
        let texts: Vec<String> = ranges(blocks, v6).iter().map(|(a, b)| format!("{a}-{b}")).collect();
        texts.join(" ")
    }

    #[test]
    fn exceptions_are_cut_out_of_their_block_only() {
        for (blocks, want) in [
            (vec![block("10.0.0.0/8", &[])], "10.0.0.0-10.255.255.255"),
            (
                vec![block("10.0.0.0/8", &["10.1.0.0/16"])],
                "10.0.0.0-10.0.255.255 10.2.0.0-10.255.255.255",
            ),
            (vec![block("10.0.0.0/8", &["10.0.0.0/16"])], "10.1.0.0-10.255.255.255"),
            (
                vec![block("10.0.0.0/8", &["10.255.0.0/16", "10.0.0.0/9"])],
                "10.128.0.0-10.254.255.255",
            ),
            (vec![block("10.0.0.0/8", &["10.0.0.0/8"])], ""),
            (
                vec![block("10.0.0.0/8", &["10.0.0.0/9", "10.1.0.0/16"])],
                "10.128.0.0-10.255.255.255",
            ),
            (vec![block("0.0.0.0/0", &[])], "0.0.0.0-255.255.255.255"),
            (
                vec![block("0.0.0.0/0", &["255.255.255.255/32", "0.0.0.0/32"])],
                "0.0.0.1-255.255.255.254",
            ),
            (vec![block("192.0.2.7/24", &[])], "192.0.2.0-192.0.2.255"),
            // what one block leaves out another may let in
            (
                vec![block("10.0.0.0/8", &["10.1.0.0/16"]), block("10.1.2.0/24", &[])],
                "10.0.0.0-10.0.255.255 10.1.2.0-10.1.2.255 10.2.0.0-10.255.255.255",
            ),
            // neighbours become one
            (
                vec![
                    block("10.0.0.0/24", &[]),
                    block("10.0.1.0/24", &[]),
                    block("10.0.0.128/25", &[]),
                ],
                "10.0.0.0-10.0.1.255",
            ),
            (vec![block("fd00::/8", &[])], ""),
        ] {
            assert_eq!(text(&blocks, false), want, "{blocks:?}");
        }
    }

    #[test]
    fn the_whole_of_ipv6_is_one_range() {
        let all = "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        assert_eq!(text(&[block("::/0", &[])], true), all);
        assert_eq!(text(&[block("::/0", &["::/1"]), block("::/1", &[])], true), all);
        assert_eq!(text(&[block("10.0.0.0/8", &[])], true), "");
    }
}
