//! The expressions a rule is made of, and their encoding.

use crate::netlink::Attributes;

use super::Family;
use super::set::Key;

/// What becomes of the packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// The packet is gone, and the sender hears nothing.
    Drop,
    /// The packet passes this base chain. Others at the same or later hooks may still drop it.
    Accept,
    /// Goes on after the jump that led here. In a base chain its policy decides.
    Return,
    /// Goes on in the named chain, and comes back at its end.
    Jump(String),
    /// Goes on in the named chain, and at its end returns to where this chain was jumped to from.
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
        /// The first register that is filled.
        to: u32,
        /// The header: 1 network, 2 transport.
        base: u32,
        /// Bytes from the header's begin.
        offset: u32,
        /// How many bytes.
        len: u32,
    },
    /// A fact about the packet that is not in its headers.
    Meta {
        /// The register that is filled.
        to: u32,
        /// `NFT_META_*`: 3 is the mark, 6 and 7 the names of the links in and out, 16 the transport protocol.
        key: u32,
    },
    /// Changes such a fact.
    SetMeta {
        /// The register that has the new value.
        from: u32,
        /// `NFT_META_*`.
        key: u32,
    },
    /// A fact about the packet's connection.
    Ct {
        /// The register that is filled.
        to: u32,
        /// `NFT_CT_*`: 0 is the state, 2 the status.
        key: u32,
    },
    /// Operations 0 to 5: equal, not equal, less, less or equal, greater, greater or equal.
    Compare {
        /// The first register that is compared.
        from: u32,
        /// Which comparison.
        op: u32,
        /// The other side, in the bytes' order of the register.
        data: Vec<u8>,
    },
    /// `to = (from & mask) ^ xor`.
    Bitwise {
        /// The first register that is read.
        from: u32,
        /// The first register that is filled.
        to: u32,
        /// Bits that stay, as many bytes as there are to change.
        mask: Vec<u8>,
        /// Bits that are turned over after it, as many bytes as the mask.
        xor: Vec<u8>,
    },
    /// Puts bytes into registers.
    Immediate {
        /// The first register that is filled.
        to: u32,
        /// The bytes.
        data: Vec<u8>,
    },
    /// Ends the rule with a verdict.
    Verdict(Verdict),
    /// Goes on only if the key is (with `inverted`: is not) in the set.
    Lookup {
        /// The first register of the key.
        from: u32,
        /// The set's name in the table.
        set: String,
        /// Goes on if the key is not there.
        inverted: bool,
    },
    /// The verdict that the map has for the key; goes on if there is none.
    Vmap {
        /// The first register of the key.
        from: u32,
        /// The map's name in the table.
        map: String,
    },
    /// A verdict map that belongs to this rule alone.
    InlineVmap {
        /// The register of the key.
        from: u32,
        /// What the keys are.
        field: super::Field,
        /// The verdict of each key.
        elements: Vec<(Key, Verdict)>,
    },
    /// A map of this rule alone from a number to an address and port, which fill registers from 0 on.
    InlineEndpoints {
        /// The register of the number.
        from: u32,
        /// What the numbers 0, 1 and so on lead to, all of one family.
        endpoints: Vec<(std::net::IpAddr, u16)>,
    },
    /// Adds the key to a dynamic set, or starts its timeout again. Milliseconds.
    Update {
        /// The first register of the key.
        from: u32,
        /// The set's name in the table.
        set: String,
        /// How long the element stays. None is the set's own timeout.
        timeout: Option<u64>,
    },
    /// A random number below `modulus`.
    Random {
        /// The register that is filled.
        to: u32,
        /// The first number that does not come.
        modulus: u32,
    },
    /// The type of the destination (or source) address as routing has it: `RTN_LOCAL` and so on.
    FibType {
        /// The register that is filled.
        to: u32,
        /// Asks about the source.
        source: bool,
    },
    /// Changes the destination of the packet's connection.
    Dnat {
        /// What the new address is.
        family: super::Family,
        /// The first register of the new address.
        address: u32,
        /// The register of the new port. None leaves the port.
        port: Option<u32>,
    },
    /// Changes the source of the packet's connection.
    Snat {
        /// What the new address is.
        family: super::Family,
        /// The first register of the new address.
        address: u32,
    },
    /// Changes the source to the address of the link that the packet leaves by.
    Masquerade {
        /// Ports are chosen at random, so that two connections at the same time do not meet.
        fully_random: bool,
    },
    /// ICMP port unreachable.
    Reject,
    /// A TCP reset.
    RejectReset,
    /// So many packets a second.
    Limit {
        /// Packets a second.
        rate: u64,
        /// Packets above the rate that may come at once.
        burst: u32,
    },
    /// Writes the packet into the kernel's log.
    Log {
        /// What the line begins with.
        prefix: String,
    },
    /// Counts packets and bytes.
    Counter,
    /// Leaves the packet's connection untracked; only before connection tracking sees it.
    Notrack,
}

fn fib_type(a: &mut Attributes, to: u32, source: bool) {
    const ADDRTYPE: u32 = 3;
    const SADDR: u32 = 1;
    const DADDR: u32 = 2;
    a.be32(1, register(to));
    a.be32(2, ADDRTYPE);
    a.be32(3, if source { SADDR } else { DADDR });
}

/// `kind` is 0 for the source, 1 for the destination.
fn nat(a: &mut Attributes, kind: u32, family: Family, address: u32, port: Option<u32>) {
    a.be32(1, kind);
    a.be32(2, family as u32);
    a.be32(3, register(address));
    if let Some(port) = port {
        a.be32(5, register(port));
    }
}

fn reject(a: &mut Attributes, of: Family) {
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
            Expr::Meta { to, key } | Expr::Ct { to, key } => {
                a.be32(1, register(*to));
                a.be32(2, *key);
            }
            Expr::SetMeta { from, key } => {
                a.be32(2, *key);
                a.be32(3, register(*from));
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
            Expr::FibType { to, source } => fib_type(a, *to, *source),
            Expr::Dnat { family, address, port } => nat(a, 1, *family, *address, *port),
            Expr::Snat { family, address } => nat(a, 0, *family, *address, None),
            Expr::Masquerade { fully_random } => {
                const RANDOM_FULLY: u32 = 0x10;
                if *fully_random {
                    a.be32(1, RANDOM_FULLY);
                }
            }
            Expr::Reject => reject(a, of),
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
