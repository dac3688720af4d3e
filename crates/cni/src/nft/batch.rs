//! A transaction: commands that the kernel takes all together or not at all.

use nix::errno::Errno;

use crate::netlink::{self, ACK, APPEND, Attributes, CREATE, Message, Protocol, Socket};

use super::expr::{Expr, Verdict};
use super::set::{Data, Key, Set, write_element};
use super::{Family, Rule, kind};

/// The kernel makes a name of its own of this.
pub(super) const INLINE: &str = "__map%d";
/// Elements go into one attribute, whose length is 16 bits.
const ELEMENTS_BYTES: usize = 48 * 1024;

/// Why a transaction or a listing did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused one command, and with it the whole transaction.
    #[error("nftables: {command}: {source}")]
    Command {
        /// Verb, table and object of that command.
        command: String,
        /// What the kernel said.
        source: netlink::Error,
    },
    /// The socket failed, or the refusal belongs to no command.
    #[error("nftables: {0}")]
    Netlink(#[from] netlink::Error),
}

impl Error {
    /// The system's error, if there is one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Command { source, .. } | Error::Netlink(source) => source.errno(),
        }
    }
}

/// Where in the packet's way a base chain sits. The numbers are the kernel's (`NF_INET_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Every packet that arrives, before routing decides.
    Prerouting = 0,
    /// Packets for this host.
    Input = 1,
    /// Packets that are routed through this host.
    Forward = 2,
    /// Packets of this host's own processes.
    Output = 3,
    /// Every packet that leaves, after routing decided.
    Postrouting = 4,
}

/// A chain without its rules: a regular one, or one at a hook.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// "filter" or "nat", where, and when among others of the hook.
    pub base: Option<(&'static str, Hook, i32)>,
}

impl Chain {
    /// A chain that only jumps lead to.
    pub fn regular() -> Chain {
        Chain::default()
    }

    /// A chain of type filter at a hook, with the policy accept. Lower priorities come first.
    pub fn filter(hook: Hook, priority: i32) -> Chain {
        Chain {
            base: Some(("filter", hook, priority)),
        }
    }

    /// A chain of type nat at a hook: it sees the first packet of each connection. Lower priorities come first.
    pub fn nat(hook: Hook, priority: i32) -> Chain {
        Chain {
            base: Some(("nat", hook, priority)),
        }
    }
}

/// Commands on one table, in order.
#[derive(Debug, Clone)]
pub struct Batch {
    family: Family,
    table: String,
    messages: Vec<Message>,
    /// Verb and object of each message.
    names: Vec<(&'static str, String)>,
    next_set_id: u32,
}

impl Batch {
    /// A transaction without commands.
    pub fn new(family: Family, table: &str) -> Batch {
        Batch {
            family,
            table: table.to_owned(),
            messages: Vec::new(),
            names: Vec::new(),
            next_set_id: 1,
        }
    }

    /// Returns whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The number of netlink messages, which may exceed that of calls: long lists of elements and rules with maps take
    /// several.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    fn push(&mut self, verb: &'static str, name: &str, command: u16, flags: u16, write: impl FnOnce(&mut Attributes)) {
        let header = [self.family as u8, 0, 0, 0];
        let mut message = Message::new(kind::SUBSYSTEM << 8 | command, flags, &header);
        message.body.text(1, &self.table);
        write(&mut message.body);
        self.messages.push(message);
        self.names.push((verb, name.to_owned()));
    }

    /// Makes the table, or finds it there.
    pub fn add_table(&mut self) {
        let table = self.table.clone();
        self.push("add table", &table, kind::NEWTABLE, CREATE, |a| a.be32(2, 0));
    }

    /// Removes the table with all in it. It must be there: `add_table` before it makes sure.
    pub fn del_table(&mut self) {
        let table = self.table.clone();
        self.push("delete table", &table, kind::DELTABLE, 0, |_| {});
    }

    /// Makes the chain, or finds it there.
    pub fn add_chain(&mut self, name: &str, chain: &Chain) {
        let base = chain.base;
        self.push("add chain", name, kind::NEWCHAIN, CREATE, |a| {
            a.text(3, name);
            if let Some((kind, hook, priority)) = base {
                a.nest(4, |h| {
                    h.be32(1, hook as u32);
                    h.put(2, &priority.to_be_bytes());
                });
                a.be32(5, 1);
                a.text(7, kind);
            }
        });
    }

    /// Removes an empty chain that nothing refers to.
    pub fn del_chain(&mut self, name: &str) {
        self.push("delete chain", name, kind::DELCHAIN, 0, |a| a.text(3, name));
    }

    /// Removes all rules of a chain.
    pub fn flush_chain(&mut self, name: &str) {
        self.push("flush chain", name, kind::DELRULE, 0, |a| a.text(2, name));
    }

    /// Puts a rule at a chain's end.
    pub fn add_rule(&mut self, chain: &str, rule: &Rule) {
        let mut id = None;
        for expr in &rule.exprs {
            match expr {
                Expr::InlineVmap { field, elements, .. } => {
                    let all: Vec<_> = elements.iter().map(|(k, v)| (k, Data::Verdict(v))).collect();
                    id = Some(self.add_inline(Set::vmap(&[*field]), &all));
                }
                Expr::InlineEndpoints { endpoints, .. } => id = Some(self.add_endpoints(endpoints)),
                _ => {}
            }
        }
        let family = self.family;
        self.push("add rule to", chain, kind::NEWRULE, CREATE | APPEND, |a| {
            a.text(2, chain);
            a.nest(4, |list| {
                for expr in &rule.exprs {
                    expr.write(list, family, id);
                }
            });
            if let Some(comment) = &rule.comment {
                a.put(7, &note(comment));
            }
        });
    }

    /// Removes the rule that the kernel gave this handle.
    pub fn del_rule(&mut self, chain: &str, handle: u64) {
        self.push("delete rule of", chain, kind::DELRULE, 0, |a| {
            a.text(2, chain);
            a.be64(3, handle);
        });
    }

    fn set_id(&mut self) -> u32 {
        self.next_set_id += 1;
        self.next_set_id
    }

    fn add_inline(&mut self, mut set: Set, elements: &[(&Key, Data<'_>)]) -> u32 {
        let id = self.set_id();
        set.size = u32::try_from(elements.len()).unwrap_or(0);
        self.push("add map", INLINE, kind::NEWSET, CREATE, |a| {
            a.text(2, INLINE);
            set.write(a, id, true);
        });
        self.elements("add elements to", INLINE, kind::NEWSETELEM, CREATE, elements, Some(id));
        id
    }

    fn add_endpoints(&mut self, endpoints: &[(std::net::IpAddr, u16)]) -> u32 {
        let pairs: Vec<(Key, Vec<u8>)> = (0u32..)
            .zip(endpoints)
            .map(|(n, (ip, port))| {
                let mut value = crate::link::octets(*ip);
                value.extend(port.to_be_bytes());
                value.extend([0, 0]);
                (Key::number(n), value)
            })
            .collect();
        let all: Vec<_> = pairs.iter().map(|(k, v)| (k, Data::Value(v))).collect();
        self.add_inline(Set::endpoints(self.family == Family::Ipv6), &all)
    }

    /// Makes a set or map, or finds it there.
    pub fn add_set(&mut self, name: &str, set: &Set) {
        let id = self.set_id();
        self.push("add set", name, kind::NEWSET, CREATE, |a| {
            a.text(2, name);
            set.write(a, id, false);
        });
    }

    /// Removes a set that no rule refers to.
    pub fn del_set(&mut self, name: &str) {
        self.push("delete set", name, kind::DELSET, 0, |a| a.text(2, name));
    }

    /// Removes all elements of a set.
    pub fn flush_set(&mut self, name: &str) {
        self.push("flush set", name, kind::DELSETELEM, 0, |a| a.text(2, name));
    }

    /// Adds elements; one that is there already must have the same verdict.
    pub fn add_elements<'a>(&mut self, set: &str, elements: impl IntoIterator<Item = (&'a Key, Option<&'a Verdict>)>) {
        let data = |v: Option<&'a Verdict>| v.map_or(Data::None, Data::Verdict);
        let elements: Vec<_> = elements.into_iter().map(|(k, v)| (k, data(v))).collect();
        self.elements("add elements to", set, kind::NEWSETELEM, CREATE, &elements, None);
    }

    /// Adds ranges of addresses, both ends included, to a set made by [`Set::ranges`]. They must not touch each other.
    pub fn add_ranges(&mut self, set: &str, ranges: &[(std::net::IpAddr, std::net::IpAddr)]) {
        let ends: Vec<(Key, Option<Key>)> = ranges
            .iter()
            .map(|(first, last)| (Key::ip(*first), after(*last).map(Key::ip)))
            .collect();
        let mut elements = Vec::new();
        for (first, after) in &ends {
            elements.push((first, Data::None));
            // a range up to the last address there is has no end
            elements.extend(after.as_ref().map(|after| (after, Data::RangeEnd)));
        }
        self.elements("add ranges to", set, kind::NEWSETELEM, CREATE, &elements, None);
    }

    /// Removes elements, which must be there.
    pub fn del_elements<'a>(&mut self, set: &str, keys: impl IntoIterator<Item = &'a Key>) {
        let elements: Vec<_> = keys.into_iter().map(|k| (k, Data::None)).collect();
        self.elements("delete elements of", set, kind::DELSETELEM, 0, &elements, None);
    }

    fn elements(
        &mut self,
        verb: &'static str,
        set: &str,
        command: u16,
        flags: u16,
        elements: &[(&Key, Data<'_>)],
        id: Option<u32>,
    ) {
        let mut rest = elements;
        while !rest.is_empty() {
            let mut list = Attributes::default();
            while let Some(((key, data), next)) = rest.split_first() {
                write_element(&mut list, key, *data);
                rest = next;
                if list.len() > ELEMENTS_BYTES {
                    break;
                }
            }
            self.push(verb, set, command, flags, |a| {
                a.text(2, set);
                a.nest(3, |all| all.raw(list.as_bytes()));
                if let Some(id) = id {
                    a.be32(4, id);
                }
            });
        }
    }

    /// Sends it, in the network namespace of this thread. Either all of it is in force afterwards or nothing.
    pub fn commit(self) -> Result<(), Error> {
        if self.is_empty() {
            return Ok(());
        }
        let mut socket = Socket::open(Protocol::Netfilter)?;
        self.commit_on(&mut socket)
    }

    /// Sends it on a socket of [`Protocol::Netfilter`], in the namespace of that socket. Nothing is sent of an empty
    /// batch.
    ///
    /// # Errors
    /// As [`Batch::commit`].
    pub fn commit_on(mut self, socket: &mut Socket) -> Result<(), Error> {
        const BEGIN: u16 = 0x10;
        const END: u16 = 0x11;
        let [high, low] = kind::SUBSYSTEM.to_be_bytes();
        let header = [0, 0, high, low];
        let Some(last) = self.messages.last_mut() else {
            return Ok(());
        };
        last.flags |= ACK;
        let mut all = Vec::with_capacity(self.messages.len() + 2);
        all.push(Message::new(BEGIN, 0, &header));
        all.append(&mut self.messages);
        all.push(Message::new(END, 0, &header));
        socket.exchange(&all).map(drop).map_err(|source| {
            let index = match &source {
                netlink::Error::Refused { index, .. } => index.checked_sub(1),
                _ => None,
            };
            match index.and_then(|i| self.names.get(i)) {
                Some((verb, name)) => Error::Command {
                    command: format!("{verb} {} {name}", self.table),
                    source,
                },
                None => Error::Netlink(source),
            }
        })
    }
}

/// The next address, if there is one.
fn after(ip: std::net::IpAddr) -> Option<std::net::IpAddr> {
    match ip {
        std::net::IpAddr::V4(ip) => Some(std::net::Ipv4Addr::from(u32::from(ip).checked_add(1)?).into()),
        std::net::IpAddr::V6(ip) => Some(std::net::Ipv6Addr::from(u128::from(ip).checked_add(1)?).into()),
    }
}

/// A comment as nft keeps it: type, length, text with closing zero; at most 128 bytes.
fn note(comment: &str) -> Vec<u8> {
    let mut end = comment.len().min(127);
    while !comment.is_char_boundary(end) {
        end -= 1;
    }
    let text = comment.get(..end).unwrap_or_default();
    let mut bytes = vec![0u8, u8::try_from(text.len() + 1).unwrap_or(128)];
    bytes.extend(text.as_bytes());
    bytes.push(0);
    bytes
}
