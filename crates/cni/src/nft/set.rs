//! Sets and maps: their keys, declarations and elements.

use std::net::IpAddr;

use crate::link::octets;

use super::expr::Verdict;

/// One field of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// A layer-4 protocol number.
    Protocol,
    /// A port, in network order.
    Port,
    /// A 32-bit number in the host's order.
    Number,
}

impl Field {
    /// nft's number of the type, so that `nft list` shows the values well.
    fn number(self) -> u32 {
        match self {
            Field::Number => 4,
            Field::Ipv4 => 7,
            Field::Ipv6 => 8,
            Field::Protocol => 12,
            Field::Port => 13,
        }
    }

    fn len(self) -> u32 {
        match self {
            Field::Number | Field::Ipv4 => 4,
            Field::Ipv6 => 16,
            Field::Protocol => 1,
            Field::Port => 2,
        }
    }
}

/// A value to look up: the fields one after the other, each padded to four bytes if there are several.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub Vec<u8>);

impl Key {
    /// An address alone.
    pub fn ip(ip: IpAddr) -> Key {
        Key(octets(ip))
    }

    /// A number alone.
    pub fn number(n: u32) -> Key {
        Key(n.to_ne_bytes().to_vec())
    }

    /// A port alone.
    pub fn port(port: u16) -> Key {
        Key(port.to_be_bytes().to_vec())
    }

    /// Address, protocol, port.
    pub fn service(ip: IpAddr, protocol: u8, port: u16) -> Key {
        let mut bytes = octets(ip);
        bytes.extend(Key::protocol_port(protocol, port).0);
        Key(bytes)
    }

    /// Protocol, port.
    pub fn protocol_port(protocol: u8, port: u16) -> Key {
        let [high, low] = port.to_be_bytes();
        Key(vec![protocol, 0, 0, 0, high, low, 0, 0])
    }

    /// Source, destination, protocol, port.
    pub fn connection(source: IpAddr, destination: IpAddr, protocol: u8, port: u16) -> Key {
        let mut bytes = octets(source);
        bytes.extend(Key::service(destination, protocol, port).0);
        Key(bytes)
    }
}

/// A set (`verdicts` false) or a verdict map, without its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// What a key is made of.
    pub fields: Vec<Field>,
    /// Each element has a verdict.
    pub verdicts: bool,
    /// A map to values of these fields. Only rules' own maps are so.
    pub(super) values: Vec<Field>,
    /// Elements are ends of ranges.
    pub(super) ranges: bool,
    /// Rules add elements.
    pub dynamic: bool,
    /// After so many milliseconds an element goes; zero is never.
    pub timeout: u64,
    /// The most elements; zero is no limit.
    pub size: u32,
}

const CONCATENATION: u32 = 0x80;
const ANONYMOUS_CONSTANT: u32 = 3;
const INTERVAL: u32 = 4;
const MAP: u32 = 8;
const TIMEOUT: u32 = 0x10;
const EVALUATED: u32 = 0x20;
const DATA_IS_VERDICT: u32 = 0xffff_ff00;

fn len_of(fields: &[Field]) -> u32 {
    match fields {
        [field] => field.len(),
        fields => fields.iter().map(|f| f.len().next_multiple_of(4)).sum(),
    }
}

/// nft packs the types of a concatenation six bits each.
fn type_of(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |all, field| (all << 6) | field.number())
}

impl Set {
    /// A set of keys of these fields, without limit or timeout.
    pub fn new(fields: &[Field]) -> Set {
        Set {
            fields: fields.to_vec(),
            verdicts: false,
            values: Vec::new(),
            ranges: false,
            dynamic: false,
            timeout: 0,
            size: 0,
        }
    }

    /// A map from keys of these fields to verdicts.
    pub fn vmap(fields: &[Field]) -> Set {
        Set {
            verdicts: true,
            ..Set::new(fields)
        }
    }

    /// A set of ranges of one field's values, which [`super::Batch::add_ranges`] fills.
    pub fn ranges(field: Field) -> Set {
        Set {
            ranges: true,
            ..Set::new(&[field])
        }
    }

    pub(super) fn endpoints(v6: bool) -> Set {
        Set {
            values: vec![if v6 { Field::Ipv6 } else { Field::Ipv4 }, Field::Port],
            ..Set::new(&[Field::Number])
        }
    }

    /// A set that rules fill and time empties.
    pub fn recent(field: Field, timeout_ms: u64) -> Set {
        Set {
            dynamic: true,
            timeout: timeout_ms,
            size: 65535,
            ..Set::new(&[field])
        }
    }

    pub(super) fn write(&self, a: &mut crate::netlink::Attributes, id: u32, anonymous: bool) {
        let mut flags = 0;
        flags |= if anonymous { ANONYMOUS_CONSTANT } else { 0 };
        flags |= if self.verdicts || !self.values.is_empty() {
            MAP
        } else {
            0
        };
        flags |= if self.ranges { INTERVAL } else { 0 };
        flags |= if self.timeout > 0 { TIMEOUT } else { 0 };
        flags |= if self.dynamic { EVALUATED } else { 0 };
        let concatenation = self.fields.len() > 1;
        flags |= if concatenation { CONCATENATION } else { 0 };
        a.be32(3, flags);
        a.be32(4, type_of(&self.fields));
        a.be32(5, len_of(&self.fields));
        if self.verdicts {
            a.be32(6, DATA_IS_VERDICT);
            a.be32(7, 0);
        } else if !self.values.is_empty() {
            a.be32(6, type_of(&self.values));
            a.be32(7, len_of(&self.values));
        }
        if concatenation || self.size > 0 {
            a.nest(9, |description| {
                if self.size > 0 {
                    description.be32(1, self.size);
                }
                if concatenation {
                    description.nest(2, |list| {
                        for field in &self.fields {
                            list.nest(1, |one| one.be32(1, field.len()));
                        }
                    });
                }
            });
        }
        a.be32(10, id);
        if self.timeout > 0 {
            a.be64(11, self.timeout);
        }
        // nft's own note of the key's byte order: 1 is the host's, 2 the network's.
        let order: u32 = if self.fields == [Field::Number] { 1 } else { 2 };
        let mut note = vec![0u8, 4];
        note.extend(order.to_ne_bytes());
        a.put(13, &note);
    }
}

/// What a key stands for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Data<'a> {
    None,
    Verdict(&'a Verdict),
    Value(&'a [u8]),
    /// The first value after a range.
    RangeEnd,
}

pub(super) fn write_element(list: &mut crate::netlink::Attributes, key: &Key, data: Data<'_>) {
    list.nest(1, |element| {
        element.nest(1, |k| k.put(1, &key.0));
        match data {
            Data::None => {}
            Data::Verdict(verdict) => verdict.data(element, 2),
            Data::Value(value) => element.nest(2, |d| d.put(1, value)),
            Data::RangeEnd => element.be32(3, 1),
        }
    });
}
