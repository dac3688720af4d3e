//! The expressions a rule is made of, and their encoding.

use crate::netlink::Attributes;

use super::Family;
use super::set::Key;

/// What becomes of the packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    Drop,
    Accept,
    Return,
    Jump(String),
    Goto(String),
}

impl Verdict {
    fn write(&self, to: &mut Attributes) {
        let (code, chain) = match self {
            Verdict::Drop => (0i32, None),
            Verdict::Accept => (1, None),
            Verdict::Jump(chain) => (-3, Some(chain)),
            Verdict::Goto(chain) => (-4, Some(chain)),
            Verdict::Return => (-5, None),
        };
        to.nest(2, |verdict| {
            verdict.put(1, &code.to_be_bytes());
            if let Some(chain) = chain {
                verdict.text(2, chain);
            }
        });
    }

    /// As the data of a map's element or an immediate.
    pub(super) fn data(&self, to: &mut Attributes, attribute: u16) {
        to.nest(attribute, |data| self.write(data));
    }
}

/// One step of a rule. Registers are the 32-bit ones, counted from 0: a four-byte value fills one, an IPv6
/// address four. Multi-byte values are in network order unless they are the kernel's own (marks, indexes).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    /// Bytes of the network (1) or transport (2) header.
    Payload {
        to: u32,
        base: u32,
        offset: u32,
        len: u32,
    },
    Meta {
        to: u32,
        key: u32,
    },
    SetMeta {
        from: u32,
        key: u32,
    },
    Ct {
        to: u32,
        key: u32,
    },
    /// Operations 0 to 5: equal, not equal, less, less or equal, greater, greater or equal.
    Compare {
        from: u32,
        op: u32,
        data: Vec<u8>,
    },
    /// `to = (from & mask) ^ xor`.
    Bitwise {
        from: u32,
        to: u32,
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    Immediate {
        to: u32,
        data: Vec<u8>,
    },
    Verdict(Verdict),
    /// Goes on only if the key is (with `inverted`: is not) in the set.
    Lookup {
        from: u32,
        set: String,
        inverted: bool,
    },
    /// The verdict that the map has for the key; goes on if there is none.
    Vmap {
        from: u32,
        map: String,
    },
    /// A verdict map that belongs to this rule alone.
    InlineVmap {
        from: u32,
        field: super::Field,
        elements: Vec<(Key, Verdict)>,
    },
    /// A map of this rule alone from a number to an address and port, which fill registers from 0 on.
    InlineEndpoints {
        from: u32,
        endpoints: Vec<(std::net::IpAddr, u16)>,
    },
    /// Adds the key to a dynamic set, or starts its timeout again. Milliseconds.
    Update {
        from: u32,
        set: String,
        timeout: Option<u64>,
    },
    /// A random number below `modulus`.
    Random {
        to: u32,
        modulus: u32,
    },
    /// The type of the destination (or source) address as routing has it: `RTN_LOCAL` and so on.
    FibType {
        to: u32,
        source: bool,
    },
    Dnat {
        family: super::Family,
        address: u32,
        port: Option<u32>,
    },
    Snat {
        family: super::Family,
        address: u32,
    },
    Masquerade {
        fully_random: bool,
    },
    /// ICMP port unreachable.
    Reject,
    /// A TCP reset.
    RejectReset,
    /// So many packets a second.
    Limit {
        rate: u64,
        burst: u32,
    },
    Log {
        prefix: String,
    },
    Counter,
    Notrack,
}

/// The netlink number of a 32-bit register.
fn register(n: u32) -> u32 {
    8 + n
}

impl Expr {
    /// `inline` is the id of the rule's own map, made beforehand in the same transaction.
    pub(super) fn write(&self, list: &mut Attributes, family: Family, inline: Option<u32>) {
        list.nest(1, |element| {
            element.text(1, self.name());
            element.nest(2, |a| self.attributes(a, family, inline));
        });
    }

    fn name(&self) -> &'static str {
        match self {
            Expr::Payload { .. } => "payload",
            Expr::Meta { .. } | Expr::SetMeta { .. } => "meta",
            Expr::Ct { .. } => "ct",
            Expr::Compare { .. } => "cmp",
            Expr::Bitwise { .. } => "bitwise",
            Expr::Immediate { .. } | Expr::Verdict(_) => "immediate",
            Expr::Lookup { .. } | Expr::Vmap { .. } | Expr::InlineVmap { .. } | Expr::InlineEndpoints { .. } => {
                "lookup"
            }
            Expr::Update { .. } => "dynset",
            Expr::Random { .. } => "numgen",
            Expr::FibType { .. } => "fib",
            Expr::Dnat { .. } | Expr::Snat { .. } => "nat",
            Expr::Masquerade { .. } => "masq",
            Expr::Reject | Expr::RejectReset => "reject",
            Expr::Limit { .. } => "limit",
            Expr::Log { .. } => "log",
            Expr::Counter => "counter",
            Expr::Notrack => "notrack",
        }
    }

    fn attributes(&self, a: &mut Attributes, of: Family, inline: Option<u32>) {
        let value = |a: &mut Attributes, kind: u16, data: &[u8]| a.nest(kind, |d| d.put(1, data));
        match self {
            Expr::Payload { to, base, offset, len } => {
                a.be32(1, register(*to));
                a.be32(2, *base);
                a.be32(3, *offset);
                a.be32(4, *len);
            }
            Expr::Meta { to, key } => {
                a.be32(1, register(*to));
                a.be32(2, *key);
            }
            Expr::SetMeta { from, key } => {
                a.be32(2, *key);
                a.be32(3, register(*from));
            }
            Expr::Ct { to, key } => {
                a.be32(1, register(*to));
                a.be32(2, *key);
            }
            Expr::Compare { from, op, data } => {
                a.be32(1, register(*from));
                a.be32(2, *op);
                value(a, 3, data);
            }
            Expr::Bitwise { from, to, mask, xor } => {
                a.be32(1, register(*from));
                a.be32(2, register(*to));
                a.be32(3, u32::try_from(mask.len()).unwrap_or(0));
                value(a, 4, mask);
                value(a, 5, xor);
            }
            Expr::Immediate { to, data } => {
                a.be32(1, register(*to));
                value(a, 2, data);
            }
            Expr::Verdict(verdict) => {
                a.be32(1, 0);
                verdict.data(a, 2);
            }
            Expr::Lookup { from, set, inverted } => {
                a.text(1, set);
                a.be32(2, register(*from));
                if *inverted {
                    a.be32(5, 1);
                }
            }
            Expr::Vmap { from, map } => {
                a.text(1, map);
                a.be32(2, register(*from));
                a.be32(3, 0);
            }
            Expr::InlineVmap { from, .. } | Expr::InlineEndpoints { from, .. } => {
                let endpoints = matches!(self, Expr::InlineEndpoints { .. });
                a.text(1, super::batch::INLINE);
                a.be32(2, register(*from));
                a.be32(3, if endpoints { register(0) } else { 0 });
                if let Some(id) = inline {
                    a.be32(4, id);
                }
            }
            Expr::Update { from, set, timeout } => {
                a.text(1, set);
                a.be32(3, 1);
                a.be32(4, register(*from));
                if let Some(timeout) = timeout {
                    a.be64(6, *timeout);
                }
            }
            Expr::Random { to, modulus } => {
                a.be32(1, register(*to));
                a.be32(2, *modulus);
                a.be32(3, 1);
            }
            Expr::FibType { to, source } => {
                const ADDRTYPE: u32 = 3;
                const SADDR: u32 = 1;
                const DADDR: u32 = 2;
                a.be32(1, register(*to));
                a.be32(2, ADDRTYPE);
                a.be32(3, if *source { SADDR } else { DADDR });
            }
            Expr::Dnat { family, address, port } => {
                a.be32(1, 1);
                a.be32(2, *family as u32);
                a.be32(3, register(*address));
                if let Some(port) = port {
                    a.be32(5, register(*port));
                }
            }
            Expr::Snat { family, address } => {
                a.be32(1, 0);
                a.be32(2, *family as u32);
                a.be32(3, register(*address));
            }
            Expr::Masquerade { fully_random } => {
                const RANDOM_FULLY: u32 = 0x10;
                if *fully_random {
                    a.be32(1, RANDOM_FULLY);
                }
            }
            Expr::Reject => {
                // Port unreachable, in the numbers of ICMP, ICMPv6 and nftables' own for both. The latter only
                // drops in a table of one family.
                let (kind, code) = match of {
                    Family::Ipv4 => (0, 3),
                    Family::Ipv6 => (0, 4),
                    Family::Inet => (2, 1),
                };
                a.be32(1, kind);
                a.u8(2, code);
            }
            Expr::RejectReset => a.be32(1, 1),
            Expr::Limit { rate, burst } => {
                a.be64(1, *rate);
                a.be64(2, 1);
                a.be32(3, *burst);
            }
            Expr::Log { prefix } => a.text(2, prefix),
            Expr::Counter => {
                a.be64(1, 0);
                a.be64(2, 0);
            }
            Expr::Notrack => {}
        }
    }
}
