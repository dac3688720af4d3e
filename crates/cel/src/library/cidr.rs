//! Networks (`kubernetes.net.cidr`): `cidr("10.0.0.0/8")`, what is in it, its address and length.

use std::any::Any;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use api::go::quote;

use super::ip::{self, AddressError, Ip};
use crate::cost::{Actual, Estimate, Estimated, Range, STRING};
use crate::environment::Declarations;
use crate::types::Type;
use crate::value::{Fault, Opaque, Value, error, no_overload};

/// A network as it was written: its address may have bits after the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cidr {
    address: IpAddr,
    bits: u8,
}

impl Opaque for Cidr {
    fn type_name(&self) -> &str {
        "net.CIDR"
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn equals(&self, other: &dyn Opaque) -> Option<bool> {
        other.as_any().downcast_ref::<Cidr>().map(|other| self == other)
    }

    fn size(&self) -> Option<u64> {
        Some(u64::from(self.bits).div_ceil(8))
    }

    fn show(&self) -> String {
        format!("{}/{}", self.address, self.bits)
    }
}

/// Why a text is no network, in upstream's words.
#[derive(Debug, thiserror::Error)]
enum CidrError {
    #[error("network address parse error during conversion from string: netip.ParsePrefix({}): {why}", quote(.text))]
    Prefix { text: String, why: Misfit },
    #[error("IPv4-mapped IPv6 address {} is not allowed", quote(.0))]
    Mapped(String),
}

/// What is wrong in a network, in the words of Go's `netip.ParsePrefix`.
#[derive(Debug, thiserror::Error)]
enum Misfit {
    #[error("no '/'")]
    NoSlash,
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("IPv6 zones cannot be present in a prefix")]
    Zone,
    #[error("bad bits after slash: {}", quote(.0))]
    Bits(String),
    #[error("prefix length out of range")]
    Range,
}

impl Cidr {
    fn parse(text: &str) -> Result<Cidr, CidrError> {
        let wrong = |why| CidrError::Prefix {
            text: text.to_owned(),
            why,
        };
        let (address, length) = text.rsplit_once('/').ok_or_else(|| wrong(Misfit::NoSlash))?;
        let (address, zone) = ip::parse_any(address).map_err(|why| wrong(why.into()))?;
        if zone {
            return Err(wrong(Misfit::Zone));
        }
        let bad = || wrong(Misfit::Bits(length.to_owned()));
        if length.len() > 1 && !length.starts_with(|c: char| ('1'..='9').contains(&c)) {
            return Err(bad());
        }
        let bits: i64 = length.parse().map_err(|_| bad())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        if !(0..=most).contains(&bits) {
            return Err(wrong(Misfit::Range));
        }
        if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
            return Err(CidrError::Mapped(text.to_owned()));
        }
        Ok(Cidr {
            address,
            bits: bits as u8,
        })
    }

    /// The bits of an address under the prefix.
    fn prefix(&self, of: IpAddr) -> Option<u128> {
        match (self.address, of) {
            (IpAddr::V4(_), IpAddr::V4(v4)) => {
                let shift = 32 - u32::from(self.bits);
                Some(u128::from(v4.to_bits()).checked_shr(shift).unwrap_or_default())
            }
            (IpAddr::V6(_), IpAddr::V6(v6)) => {
                Some(v6.to_bits().checked_shr(128 - u32::from(self.bits)).unwrap_or_default())
            }
            _ => None,
        }
    }

    fn contains(&self, ip: IpAddr) -> bool {
        let theirs = self.prefix(ip);
        theirs.is_some() && theirs == self.prefix(self.address)
    }

    fn masked(&self) -> Cidr {
        let prefix = self.prefix(self.address).unwrap_or_default();
        let address = match self.address {
            IpAddr::V4(_) => {
                let bits = prefix.checked_shl(32 - u32::from(self.bits)).unwrap_or_default();
                IpAddr::V4(Ipv4Addr::from_bits(bits as u32))
            }
            IpAddr::V6(_) => {
                let bits = prefix.checked_shl(128 - u32::from(self.bits)).unwrap_or_default();
                IpAddr::V6(Ipv6Addr::from_bits(bits))
            }
        };
        Cidr { address, ..*self }
    }
}

pub(super) fn declare(into: &mut Declarations) {
    into.named_type("net.CIDR", Type::Opaque("net.CIDR".into(), [].into()));
    into.global("cidr", "string_to_cidr", "string -> net.CIDR", |args| {
        read(&args[0]).map(Value::opaque)
    });
    into.global("isCIDR", "is_cidr", "string -> bool", |args| match args[0].as_str() {
        Some(text) => Ok(Value::Bool(Cidr::parse(text).is_ok())),
        None => no_overload(),
    });
    into.global("string", "cidr_to_string", "net.CIDR -> string", |args| {
        Ok(Value::text(of(args, 0)?.show()))
    });
    into.member(
        "containsIP",
        "cidr_contains_ip_string",
        "net.CIDR, string -> bool",
        |args| {
            let text = args[1].as_str().map_or_else(no_overload, Ok)?;
            match ip::parse(text) {
                Ok(ip) => Ok(Value::Bool(of(args, 0)?.contains(ip))),
                // upstream looks at the target, finds nothing wrong with it, and says no more than this
                Err(_) => no_overload(),
            }
        },
    );
    into.member(
        "containsIP",
        "cidr_contains_ip_ip",
        "net.CIDR, net.IP -> bool",
        |args| match args[1].downcast::<Ip>() {
            Some(ip) => Ok(Value::Bool(of(args, 0)?.contains(ip.0))),
            None => no_overload(),
        },
    );
    into.member(
        "containsCIDR",
        "cidr_contains_cidr_string",
        "net.CIDR, string -> bool",
        |args| {
            let other = read(&args[1])?;
            Ok(within(of(args, 0)?, &other))
        },
    );
    into.member(
        "containsCIDR",
        "cidr_contains_cidr",
        "net.CIDR, net.CIDR -> bool",
        |args| Ok(within(of(args, 0)?, of(args, 1)?)),
    );
    into.member("ip", "cidr_ip", "net.CIDR -> net.IP", |args| {
        Ok(Value::opaque(Ip(of(args, 0)?.address)))
    });
    into.member("prefixLength", "cidr_prefix_length", "net.CIDR -> int", |args| {
        Ok(Value::Int(i64::from(of(args, 0)?.bits)))
    });
    into.member("masked", "cidr_masked", "net.CIDR -> net.CIDR", |args| {
        Ok(Value::opaque(of(args, 0)?.masked()))
    });
}

fn read(value: &Value<'_>) -> Result<Cidr, Fault> {
    let text = value.as_str().map_or_else(no_overload, Ok)?;
    Cidr::parse(text).or_else(|why| {
        error(format!(
            "network address parse error during conversion from string: {why}"
        ))
    })
}

fn of<'v>(args: &'v [Value<'_>], at: usize) -> Result<&'v Cidr, Fault> {
    args[at].downcast::<Cidr>().map_or_else(no_overload, Ok)
}

fn within<'a>(net: &Cidr, other: &Cidr) -> Value<'a> {
    Value::Bool(net.bits <= other.bits && net.contains(other.address))
}

fn factor(size: f64) -> u64 {
    (size * STRING).ceil() as u64
}

pub(super) fn actual(call: &Actual<'_, '_>) -> Option<u64> {
    if !matches!(call.function, "containsIP" | "containsCIDR") || call.args.len() < 2 {
        return None;
    }
    let (net, other) = (call.own_size(0), call.own_size(1));
    let mut cost = factor((net + net) as f64);
    if call.function == "containsCIDR" {
        cost += factor(net as f64) + 1;
    }
    if matches!(call.overload, "cidr_contains_ip_string" | "cidr_contains_cidr_string") {
        cost += factor(other as f64);
    }
    Some(cost)
}

pub(super) fn estimate(call: &Estimated<'_, '_>) -> Option<Estimate> {
    let arg = call.args.first()?;
    if !matches!(call.function, "containsIP" | "containsCIDR") {
        return None;
    }
    let bytes = Range::new(4, 16);
    let mut cost = bytes.add(bytes).factor(STRING);
    if call.function == "containsCIDR" {
        cost = cost.add(bytes.factor(STRING)).add(Range::fixed(1));
    }
    if matches!(call.overload, "cidr_contains_ip_string" | "cidr_contains_cidr_string") {
        cost = cost.add(call.size(arg).factor(STRING));
    }
    Some(Estimate::cost(cost))
}
