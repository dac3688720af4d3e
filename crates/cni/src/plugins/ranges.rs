//! Ranges of addresses, and in which order they are tried. Pure.

use std::net::IpAddr;

use serde::Deserialize;

use crate::link::{Net, NetError};

/// Why ranges cannot be given addresses from.
#[derive(Debug, thiserror::Error)]
pub(super) enum RangeError {
    #[error("host-local: no ranges are configured")]
    None,
    #[error("host-local: a set of ranges is empty or mixes families")]
    Mixed,
    #[error(transparent)]
    Subnet(#[from] NetError),
    #[error("subnet {0} has host bits set")]
    HostBits(String),
    #[error("subnet {0} is too small")]
    Small(String),
    #[error("{ip} is not in subnet {subnet}")]
    Outside { ip: IpAddr, subnet: String },
    #[error("the range of {0} is empty")]
    Empty(String),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RangeConf {
    pub subnet: String,
    pub range_start: Option<IpAddr>,
    pub range_end: Option<IpAddr>,
    pub gateway: Option<IpAddr>,
}

/// Addresses `first` to `last` of a subnet, without the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub subnet: Net,
    first: u128,
    last: u128,
    pub gateway: IpAddr,
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

impl Range {
    pub(crate) fn of(conf: &RangeConf) -> Result<Range, RangeError> {
        let net: Net = conf.subnet.parse()?;
        if net.network() != net.ip {
            return Err(RangeError::HostBits(conf.subnet.clone()));
        }
        let width = Net::width(net.ip);
        if width - net.prefix < 2 {
            return Err(RangeError::Small(conf.subnet.clone()));
        }
        let base = number(net.ip);
        let host_bits = u32::from(width - net.prefix);
        let top = base | 1u128.checked_shl(host_bits).map_or(u128::MAX, |n| n - 1);
        let end = if net.ip.is_ipv4() { top - 1 } else { top };
        let within = |ip: Option<IpAddr>, default: u128| match ip {
            Some(ip) if !net.contains(ip) => Err(RangeError::Outside {
                ip,
                subnet: conf.subnet.clone(),
            }),
            Some(ip) => Ok(number(ip)),
            None => Ok(default),
        };
        let range = Range {
            subnet: net,
            first: within(conf.range_start, base + 1)?,
            last: within(conf.range_end, end)?,
            gateway: conf.gateway.unwrap_or_else(|| ip_of(net.ip, base + 1)),
        };
        if range.first > range.last {
            return Err(RangeError::Empty(conf.subnet.clone()));
        }
        Ok(range)
    }

    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        self.subnet.contains(ip) && (self.first..=self.last).contains(&number(ip))
    }

    fn ip(&self, number: u128) -> IpAddr {
        ip_of(self.subnet.ip, number)
    }
}

fn ip_of(like: IpAddr, number: u128) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(u32::try_from(number).unwrap_or(u32::MAX).into()),
        IpAddr::V6(_) => IpAddr::V6(number.into()),
    }
}

/// The candidates of a set of ranges, beginning after `last` and going round once, without gateways.
pub(super) fn candidates(ranges: &[Range], last: Option<IpAddr>) -> impl Iterator<Item = (usize, IpAddr)> {
    let begin = last.and_then(|ip| Some((ranges.iter().position(|r| r.contains(ip))?, number(ip))));
    let (at, after) = begin.map_or((0, None), |(at, n)| (at, Some(n)));
    let head = ranges.iter().enumerate().skip(at).map(move |(i, r)| {
        let first = after.filter(|_| i == at).map_or(r.first, |n| n + 1);
        (i, r, first, r.last)
    });
    let tail = ranges.iter().enumerate().take(at + 1).map(move |(i, r)| {
        let end = after.filter(|_| i == at).unwrap_or(r.last);
        (i, r, r.first, end)
    });
    // Without a last address the tail would only repeat the head.
    let tail = tail.filter(move |_| after.is_some());
    head.chain(tail)
        .flat_map(|(i, r, first, last)| (first..=last).map(move |n| (i, r.ip(n))))
        .filter(|(i, ip)| ranges.get(*i).is_some_and(|r| r.gateway != *ip))
}
