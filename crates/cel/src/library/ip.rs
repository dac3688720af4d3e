//! Addresses (`kubernetes.net.ip`): `ip("::1")`, its family and kind. Addresses are read and refused as Go's `net/netip` does.

use std::any::Any;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use api::go::quote;

use crate::cost::{Actual, Estimate, Estimated, Range, STRING};
use crate::environment::Declarations;
use crate::types::Type;
use crate::value::{Opaque, Outcome, Value, no_overload, refused};

/// An address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ip(pub IpAddr);

impl Opaque for Ip {
    fn type_name(&self) -> &str {
        "net.IP"
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn equals(&self, other: &dyn Opaque) -> Option<bool> {
        other.as_any().downcast_ref::<Ip>().map(|other| self == other)
    }

    fn size(&self) -> Option<u64> {
        Some(if self.0.is_ipv4() { 4 } else { 16 })
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

pub(super) fn declare(into: &mut Declarations) {
    into.named_type("net.IP", Type::Opaque("net.IP".into(), [].into()));
    into.global("ip", "string_to_ip", "string -> net.IP", |args| {
        match args[0].as_str() {
            Some(text) => parse(text).map_or_else(refused, |ip| Ok(Value::opaque(Ip(ip)))),
            None => no_overload(),
        }
    });
    into.global(
        "ip.isCanonical",
        "ip_is_canonical",
        "string -> bool",
        |args| match args[0].as_str() {
            Some(text) => parse(text).map_or_else(refused, |ip| Ok(Value::Bool(ip.to_string() == text))),
            None => no_overload(),
        },
    );
    into.global("isIP", "is_ip", "string -> bool", |args| match args[0].as_str() {
        Some(text) => Ok(Value::Bool(parse(text).is_ok())),
        None => no_overload(),
    });
    into.global("string", "ip_to_string", "net.IP -> string", |args| {
        match args[0].downcast::<Ip>() {
            Some(ip) => Ok(Value::text(ip.0.to_string())),
            None => no_overload(),
        }
    });
    into.member("family", "ip_family", "net.IP -> int", |args| {
        match args[0].downcast::<Ip>() {
            Some(ip) => Ok(Value::Int(if ip.0.is_ipv4() { 4 } else { 6 })),
            None => no_overload(),
        }
    });
    let mut kind =
        |name: &str, id: &str, does: crate::environment::Implementation| into.member(name, id, "net.IP -> bool", does);
    kind("isUnspecified", "ip_is_unspecified", |a| {
        is(a, |ip| ip.is_unspecified())
    });
    kind("isLoopback", "ip_is_loopback", |a| is(a, |ip| ip.is_loopback()));
    kind("isLinkLocalMulticast", "ip_is_link_local_multicast", |a| {
        is(a, link_local_multicast)
    });
    kind("isLinkLocalUnicast", "ip_is_link_local_unicast", |a| {
        is(a, link_local_unicast)
    });
    kind("isGlobalUnicast", "ip_is_global_unicast", |a| {
        is(a, |ip| {
            let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
            !(broadcast || ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_local_unicast(ip))
        })
    });
}

fn is<'a>(args: &[Value<'a>], holds: fn(&IpAddr) -> bool) -> Outcome<'a> {
    match args[0].downcast::<Ip>() {
        Some(ip) => Ok(Value::Bool(holds(&ip.0))),
        None => no_overload(),
    }
}

fn link_local_multicast(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.octets()[0] == 0xff && v6.octets()[1] & 0x0f == 2,
    }
}

fn link_local_unicast(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    }
}

/// Why a text is no address for expressions, in upstream's words.
#[derive(Debug, thiserror::Error)]
pub(super) enum IpError {
    #[error("IP Address {} parse error during conversion from string: {source}", quote(.text))]
    Address { text: String, source: AddressError },
    #[error("IP address {} with zone value is not allowed", quote(.0))]
    Zone(String),
    #[error("IPv4-mapped IPv6 address {} is not allowed", quote(.0))]
    Mapped(String),
}

/// Why a text is no address, in the words of Go's `netip.ParseAddr`.
#[derive(Debug, thiserror::Error)]
#[error("ParseAddr({}): {why}", quote(.text))]
pub(super) struct AddressError {
    text: String,
    why: Misfit,
}

/// What is wrong in an address, with what follows in the text where Go shows it.
#[derive(Debug, thiserror::Error)]
enum Misfit {
    #[error("{0}")]
    Whole(&'static str),
    #[error("{why} (at {})", quote(.rest))]
    At { why: &'static str, rest: String },
}

fn at<T>(why: &'static str, rest: &str) -> Result<T, Misfit> {
    Err(Misfit::At {
        why,
        rest: rest.to_owned(),
    })
}

/// Reads an address that has no zone and is not IPv4 written as IPv6.
pub(super) fn parse(text: &str) -> Result<IpAddr, IpError> {
    match parse_any(text) {
        Err(source) => Err(IpError::Address {
            text: text.to_owned(),
            source,
        }),
        Ok((_, true)) => Err(IpError::Zone(text.to_owned())),
        Ok((IpAddr::V6(v6), _)) if v6.to_ipv4_mapped().is_some() => Err(IpError::Mapped(text.to_owned())),
        Ok((ip, _)) => Ok(ip),
    }
}

/// Reads an address as `netip.ParseAddr` does; says too whether it has a zone.
pub(super) fn parse_any(text: &str) -> Result<(IpAddr, bool), AddressError> {
    let wrong = |why| AddressError {
        text: text.to_owned(),
        why,
    };
    let whole = |why| Err(wrong(Misfit::Whole(why)));
    match text.find(['.', ':', '%']).map(|at| text.as_bytes()[at]) {
        Some(b'.') => match ipv4(text) {
            Ok(v4) => Ok((IpAddr::V4(v4), false)),
            Err(why) => Err(wrong(why)),
        },
        Some(b':') => {
            let (address, zone) = match text.split_once('%') {
                Some((_, "")) => return whole("zone must be a non-empty string"),
                Some((address, _)) => (address, true),
                None => (text, false),
            };
            match ipv6(address) {
                Ok(v6) => Ok((IpAddr::V6(v6), zone)),
                Err(why) => Err(wrong(why)),
            }
        }
        Some(_) => whole("missing IPv6 address"),
        None => whole("unable to parse IP"),
    }
}

fn ipv4(text: &str) -> Result<Ipv4Addr, Misfit> {
    let bytes = text.as_bytes();
    let mut fields: Vec<u8> = Vec::with_capacity(4);
    let (mut value, mut digits) = (0_u32, 0);
    for (n, byte) in bytes.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                if digits == 1 && value == 0 {
                    return Err(Misfit::Whole("IPv4 field has octet with leading zero"));
                }
                value = value * 10 + u32::from(byte - b'0');
                digits += 1;
                if value > 255 {
                    return Err(Misfit::Whole("IPv4 field has value >255"));
                }
            }
            b'.' => {
                if n == 0 || n == bytes.len() - 1 || bytes[n - 1] == b'.' {
                    return at("IPv4 field must have at least one digit", &text[n..]);
                }
                if fields.len() == 3 {
                    return Err(Misfit::Whole("IPv4 address too long"));
                }
                fields.push(value as u8);
                (value, digits) = (0, 0);
            }
            _ => return at("unexpected character", &text[n..]),
        }
    }
    fields.push(value as u8);
    match <[u8; 4]>::try_from(fields) {
        Ok(fields) => Ok(fields.into()),
        Err(_) => Err(Misfit::Whole("IPv4 address too short")),
    }
}

fn ipv6(text: &str) -> Result<Ipv6Addr, Misfit> {
    let mut rest = text;
    let mut groups: Vec<u8> = Vec::with_capacity(16);
    let mut gap = None;
    if let Some(after) = rest.strip_prefix("::") {
        gap = Some(0);
        rest = after;
        if rest.is_empty() {
            return Ok(Ipv6Addr::UNSPECIFIED);
        }
    }
    while groups.len() < 16 {
        let digits = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
        if digits > 4 {
            return at("each group must have 4 or less digits", rest);
        }
        if digits == 0 {
            return at("each colon-separated field must have at least one digit", rest);
        }
        if rest.as_bytes().get(digits) == Some(&b'.') {
            if gap.is_none() && groups.len() != 12 {
                return at(
                    "embedded IPv4 address must replace the final 2 fields of the address",
                    rest,
                );
            }
            if groups.len() + 4 > 16 {
                return at(
                    "too many hex fields to fit an embedded IPv4 at the end of the address",
                    rest,
                );
            }
            groups.extend(ipv4(rest)?.octets());
            rest = "";
            break;
        }
        let group = u16::from_str_radix(&rest[..digits], 16).unwrap_or_default();
        groups.extend(group.to_be_bytes());
        rest = &rest[digits..];
        if rest.is_empty() {
            break;
        }
        let Some(after) = rest.strip_prefix(':') else {
            return at("unexpected character, want colon", rest);
        };
        if after.is_empty() {
            return at("colon must be followed by more characters", rest);
        }
        rest = after;
        if let Some(after) = rest.strip_prefix(':') {
            if gap.is_some() {
                return at("multiple :: in address", rest);
            }
            gap = Some(groups.len());
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
    }
    if !rest.is_empty() {
        return at("trailing garbage after address", rest);
    }
    match (gap, 16 - groups.len()) {
        (None, 0) => {}
        (None, _) => return Err(Misfit::Whole("address string too short")),
        (Some(_), 0) => return Err(Misfit::Whole("the :: must expand to at least one field of zeros")),
        (Some(at), missing) => {
            groups.splice(at..at, std::iter::repeat_n(0, missing));
        }
    }
    let octets: [u8; 16] = groups.try_into().unwrap_or_default();
    Ok(octets.into())
}

/// The functions that cost one walk through a text.
fn walks(function: &str) -> Option<f64> {
    match function {
        "cidr" | "isIP" | "isCIDR" | "ip" => Some(1.0),
        "ip.isCanonical" => Some(2.0),
        _ => None,
    }
}

fn nominal(function: &str, overload: &str) -> bool {
    const ACCESSORS: [&str; 8] = [
        "masked",
        "prefixLength",
        "family",
        "isUnspecified",
        "isLoopback",
        "isLinkLocalMulticast",
        "isLinkLocalUnicast",
        "isGlobalUnicast",
    ];
    ACCESSORS.contains(&function) || (function == "ip" && overload == "cidr_ip")
}

pub(super) fn actual(call: &Actual<'_, '_>) -> Option<u64> {
    if nominal(call.function, call.overload) {
        return Some(1);
    }
    let times = walks(call.function).filter(|_| !call.args.is_empty())?;
    Some((call.own_size(0) as f64 * times * STRING).ceil() as u64)
}

pub(super) fn estimate(call: &Estimated<'_, '_>) -> Option<Estimate> {
    if nominal(call.function, call.overload) {
        return Some(Estimate::cost(Range::fixed(1)));
    }
    let times = walks(call.function)?;
    let size = call.size(call.args.first()?);
    Some(Estimate::cost(size.factor(times * STRING)))
}
