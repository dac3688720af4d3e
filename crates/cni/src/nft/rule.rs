//! A rule, put together step by step in the words of nft.

use std::net::IpAddr;

use crate::link::{Net, octets};

use super::{Expr, Family, Field, Key, Verdict};

/// What is looked at and done, in order, and an optional comment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// The steps. A step that does not hold ends the rule.
    pub exprs: Vec<Expr>,
    /// What `nft list` shows behind the rule, cut at 127 bytes.
    pub comment: Option<String>,
}

const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
const META_MARK: u32 = 3;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const EQ: u32 = 0;
const NE: u32 = 1;
const AT_MOST: u32 = 3;
const AT_LEAST: u32 = 5;

/// States of `ct state`, as bits.
pub mod ct_state {
    /// The packet belongs to no connection that can be tracked.
    pub const INVALID: u32 = 1;
    /// Packets went in both directions.
    pub const ESTABLISHED: u32 = 2;
    /// A connection that another one caused, or an ICMP error about one.
    pub const RELATED: u32 = 4;
    /// The first packet of a connection.
    pub const NEW: u32 = 8;
}

fn address(source: bool, v6: bool, to: u32) -> Expr {
    let (offset, len) = match (source, v6) {
        (true, false) => (12, 4),
        (false, false) => (16, 4),
        (true, true) => (8, 16),
        (false, true) => (24, 16),
    };
    Expr::Payload {
        to,
        base: NETWORK,
        offset,
        len,
    }
}

fn words(family: Family) -> u32 {
    if family == Family::Ipv6 { 4 } else { 1 }
}

impl Rule {
    /// A rule without steps, which holds for every packet and does nothing.
    pub fn new() -> Rule {
        Rule::default()
    }

    /// Gives the rule its comment.
    pub fn comment(mut self, text: impl Into<String>) -> Rule {
        self.comment = Some(text.into());
        self
    }

    /// Adds a step at the end.
    pub fn expr(mut self, expr: Expr) -> Rule {
        self.exprs.push(expr);
        self
    }

    fn compare(self, op: u32, data: impl Into<Vec<u8>>) -> Rule {
        self.expr(Expr::Compare {
            from: 0,
            op,
            data: data.into(),
        })
    }

    /// `meta nfproto`: of use in `inet` tables, where a rule must look at one family's header only.
    pub fn nfproto(self, family: Family) -> Rule {
        self.expr(Expr::Meta {
            to: 0,
            key: META_NFPROTO,
        })
        .compare(EQ, [family as u8])
    }

    /// `ip saddr net`, of the family that `net` has.
    pub fn saddr(self, net: Net) -> Rule {
        self.in_net(true, net, EQ)
    }

    /// `ip saddr != net`.
    pub fn not_saddr(self, net: Net) -> Rule {
        self.in_net(true, net, NE)
    }

    /// `ip daddr net`, of the family that `net` has.
    pub fn daddr(self, net: Net) -> Rule {
        self.in_net(false, net, EQ)
    }

    /// `ip daddr != net`.
    pub fn not_daddr(self, net: Net) -> Rule {
        self.in_net(false, net, NE)
    }

    /// `ip saddr address`.
    pub fn saddr_is(self, ip: IpAddr) -> Rule {
        self.saddr(Net {
            ip,
            prefix: Net::width(ip),
        })
    }

    /// `ip daddr address`.
    pub fn daddr_is(self, ip: IpAddr) -> Rule {
        self.daddr(Net {
            ip,
            prefix: Net::width(ip),
        })
    }

    fn in_net(self, source: bool, net: Net, op: u32) -> Rule {
        let rule = self.expr(address(source, net.ip.is_ipv6(), 0));
        let width = Net::width(net.ip);
        if net.prefix == width {
            return rule.compare(op, octets(net.ip));
        }
        let ones: IpAddr = match net.ip {
            IpAddr::V4(_) => [0xff; 4].into(),
            IpAddr::V6(_) => [0xff; 16].into(),
        };
        let mask = octets(
            Net {
                ip: ones,
                prefix: net.prefix,
            }
            .network(),
        );
        let xor = vec![0; mask.len()];
        rule.expr(Expr::Bitwise {
            from: 0,
            to: 0,
            mask,
            xor,
        })
        .compare(op, octets(net.network()))
    }

    /// `meta l4proto protocol`: 6 is TCP, 17 UDP, 132 SCTP.
    pub fn l4proto(self, protocol: u8) -> Rule {
        self.expr(Expr::Meta {
            to: 0,
            key: META_L4PROTO,
        })
        .compare(EQ, [protocol])
    }

    /// `th dport`.
    pub fn dport(self, port: u16) -> Rule {
        self.expr(Expr::Payload {
            to: 0,
            base: TRANSPORT,
            offset: 2,
            len: 2,
        })
        .compare(EQ, port.to_be_bytes())
    }

    /// `th dport first-last`, both included.
    pub fn dport_range(self, first: u16, last: u16) -> Rule {
        self.expr(Expr::Payload {
            to: 0,
            base: TRANSPORT,
            offset: 2,
            len: 2,
        })
        .compare(AT_LEAST, first.to_be_bytes())
        .compare(AT_MOST, last.to_be_bytes())
    }

    /// `icmpv6 type first-last`, both included.
    pub fn icmpv6_types(self, first: u8, last: u8) -> Rule {
        const ICMPV6: u8 = 58;
        self.l4proto(ICMPV6)
            .expr(Expr::Payload {
                to: 0,
                base: TRANSPORT,
                offset: 0,
                len: 1,
            })
            .compare(AT_LEAST, [first])
            .compare(AT_MOST, [last])
    }

    /// `iifname name`: the packet came in by this link.
    pub fn iifname(self, name: &str) -> Rule {
        self.ifname(META_IIFNAME, name)
    }

    /// `oifname name`: the packet leaves by this link.
    pub fn oifname(self, name: &str) -> Rule {
        self.ifname(META_OIFNAME, name)
    }

    fn ifname(self, key: u32, name: &str) -> Rule {
        let mut padded = name.as_bytes().to_vec();
        padded.resize(16, 0);
        self.expr(Expr::Meta { to: 0, key }).compare(EQ, padded)
    }

    /// `ct state` has one of these bits.
    pub fn ct_state(self, states: u32) -> Rule {
        self.expr(Expr::Ct { to: 0, key: 0 }).any_bit(states)
    }

    /// `ct status dnat`: the connection's destination was changed.
    pub fn ct_status_dnat(self) -> Rule {
        const STATUS: u32 = 2;
        const DST_NAT: u32 = 0x20;
        self.expr(Expr::Ct { to: 0, key: STATUS }).any_bit(DST_NAT)
    }

    /// `meta mark & bit != 0`.
    pub fn mark_has(self, bit: u32) -> Rule {
        self.expr(Expr::Meta { to: 0, key: META_MARK }).any_bit(bit)
    }

    /// `meta mark & bit == 0`.
    pub fn mark_lacks(self, bit: u32) -> Rule {
        self.expr(Expr::Meta { to: 0, key: META_MARK })
            .masked(bit)
            .compare(EQ, [0; 4])
    }

    fn any_bit(self, bits: u32) -> Rule {
        self.masked(bits).compare(NE, [0; 4])
    }

    fn masked(self, bits: u32) -> Rule {
        self.expr(Expr::Bitwise {
            from: 0,
            to: 0,
            mask: bits.to_ne_bytes().to_vec(),
            xor: vec![0; 4],
        })
    }

    /// Sets a bit of the packet's mark.
    pub fn set_mark(self, bit: u32) -> Rule {
        self.change_mark(!bit, bit)
    }

    /// Clears a bit of the packet's mark.
    pub fn clear_mark(self, bit: u32) -> Rule {
        self.change_mark(!bit, 0)
    }

    fn change_mark(self, mask: u32, xor: u32) -> Rule {
        self.expr(Expr::Meta { to: 0, key: META_MARK })
            .expr(Expr::Bitwise {
                from: 0,
                to: 0,
                mask: mask.to_ne_bytes().to_vec(),
                xor: xor.to_ne_bytes().to_vec(),
            })
            .expr(Expr::SetMeta {
                from: 0,
                key: META_MARK,
            })
    }

    /// The destination is an address of this host.
    pub fn daddr_local(self) -> Rule {
        self.local(false)
    }

    /// The source is an address of this host.
    pub fn saddr_local(self) -> Rule {
        self.local(true)
    }

    fn local(self, source: bool) -> Rule {
        const RTN_LOCAL: u32 = 2;
        self.expr(Expr::FibType { to: 0, source })
            .compare(EQ, RTN_LOCAL.to_ne_bytes())
    }

    fn load_service(self, family: Family) -> Rule {
        let next = words(family);
        self.expr(address(false, family == Family::Ipv6, 0))
            .load_protocol_port(next)
    }

    fn load_protocol_port(self, at: u32) -> Rule {
        self.expr(Expr::Meta {
            to: at,
            key: META_L4PROTO,
        })
        .expr(Expr::Payload {
            to: at + 1,
            base: TRANSPORT,
            offset: 2,
            len: 2,
        })
    }

    /// `ip daddr . meta l4proto . th dport vmap @map`.
    pub fn service_vmap(self, family: Family, map: &str) -> Rule {
        self.load_service(family).expr(Expr::Vmap {
            from: 0,
            map: map.to_owned(),
        })
    }

    /// `meta l4proto . th dport vmap @map`.
    pub fn port_vmap(self, map: &str) -> Rule {
        self.load_protocol_port(0).expr(Expr::Vmap {
            from: 0,
            map: map.to_owned(),
        })
    }

    /// `ip daddr @set`.
    pub fn daddr_in(self, family: Family, set: &str) -> Rule {
        self.expr(address(false, family == Family::Ipv6, 0)).lookup(set)
    }

    /// `ip saddr @set`.
    pub fn saddr_in(self, family: Family, set: &str) -> Rule {
        self.expr(address(true, family == Family::Ipv6, 0)).lookup(set)
    }

    /// `ip saddr vmap @map`.
    pub fn saddr_vmap(self, family: Family, map: &str) -> Rule {
        self.address_vmap(true, family, map)
    }

    /// `ip daddr vmap @map`.
    pub fn daddr_vmap(self, family: Family, map: &str) -> Rule {
        self.address_vmap(false, family, map)
    }

    fn address_vmap(self, source: bool, family: Family, map: &str) -> Rule {
        self.expr(address(source, family == Family::Ipv6, 0)).expr(Expr::Vmap {
            from: 0,
            map: map.to_owned(),
        })
    }

    /// `ip saddr . ip daddr @set`.
    pub fn pair_in(self, family: Family, set: &str) -> Rule {
        let v6 = family == Family::Ipv6;
        self.expr(address(true, v6, 0))
            .expr(address(false, v6, words(family)))
            .lookup(set)
    }

    /// `ip daddr . meta l4proto . th dport @set`.
    pub fn service_in(self, family: Family, set: &str) -> Rule {
        self.load_service(family).lookup(set)
    }

    /// `ip saddr . ip daddr . meta l4proto . th dport @set`.
    pub fn connection_in(self, family: Family, set: &str) -> Rule {
        let v6 = family == Family::Ipv6;
        let at = words(family);
        self.expr(address(true, v6, 0))
            .expr(address(false, v6, at))
            .load_protocol_port(2 * at)
            .lookup(set)
    }

    fn lookup(self, set: &str) -> Rule {
        self.expr(Expr::Lookup {
            from: 0,
            set: set.to_owned(),
            inverted: false,
        })
    }

    /// `update @set { ip saddr }`.
    pub fn remember_saddr(self, family: Family, set: &str) -> Rule {
        self.expr(address(true, family == Family::Ipv6, 0)).expr(Expr::Update {
            from: 0,
            set: set.to_owned(),
            timeout: None,
        })
    }

    /// `numgen random mod n == 0`: goes on for one packet of `n`.
    pub fn one_in(self, n: u32) -> Rule {
        self.expr(Expr::Random { to: 0, modulus: n }).compare(EQ, [0; 4])
    }

    /// Each of the chains is as likely as the others.
    pub fn random_goto(self, chains: &[String]) -> Rule {
        let elements = (0u32..).zip(chains);
        let elements = elements.map(|(n, chain)| (Key::number(n), Verdict::Goto(chain.clone())));
        self.expr(Expr::Random {
            to: 0,
            modulus: u32::try_from(chains.len()).unwrap_or(u32::MAX),
        })
        .expr(Expr::InlineVmap {
            from: 0,
            field: Field::Number,
            elements: elements.collect(),
        })
    }

    /// Destination NAT to one of the endpoints, each as likely as the others.
    pub fn random_dnat(self, family: Family, endpoints: &[(IpAddr, u16)]) -> Rule {
        if let [(ip, port)] = endpoints {
            return self.dnat(*ip, Some(*port));
        }
        self.expr(Expr::Random {
            to: 0,
            modulus: u32::try_from(endpoints.len()).unwrap_or(u32::MAX),
        })
        .expr(Expr::InlineEndpoints {
            from: 0,
            endpoints: endpoints.to_vec(),
        })
        .expr(Expr::Dnat {
            family,
            address: 0,
            port: Some(words(family)),
        })
    }

    /// `dnat to address`, with a port `dnat to address:port`.
    pub fn dnat(self, ip: IpAddr, port: Option<u16>) -> Rule {
        let family = if ip.is_ipv6() { Family::Ipv6 } else { Family::Ipv4 };
        let at = words(family);
        let rule = self.expr(Expr::Immediate {
            to: 0,
            data: octets(ip),
        });
        match port {
            Some(port) => rule.expr(Expr::Immediate {
                to: at,
                data: port.to_be_bytes().to_vec(),
            }),
            None => rule,
        }
        .expr(Expr::Dnat {
            family,
            address: 0,
            port: port.map(|_| at),
        })
    }

    /// `snat to address`.
    pub fn snat(self, ip: IpAddr) -> Rule {
        let family = if ip.is_ipv6() { Family::Ipv6 } else { Family::Ipv4 };
        self.expr(Expr::Immediate {
            to: 0,
            data: octets(ip),
        })
        .expr(Expr::Snat { family, address: 0 })
    }

    /// `masquerade fully-random`.
    pub fn masquerade(self) -> Rule {
        self.expr(Expr::Masquerade { fully_random: true })
    }

    /// `reject`: the sender gets an ICMP message that nobody listens on the port.
    pub fn reject(self) -> Rule {
        self.expr(Expr::Reject)
    }

    /// Ends the rule with the verdict.
    pub fn verdict(self, verdict: Verdict) -> Rule {
        self.expr(Expr::Verdict(verdict))
    }

    /// `jump chain`.
    pub fn jump(self, chain: &str) -> Rule {
        self.verdict(Verdict::Jump(chain.to_owned()))
    }
}
