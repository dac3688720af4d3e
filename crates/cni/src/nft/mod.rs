//! nftables over netlink: tables, chains, rules, sets and maps, sent as one transaction.
//!
//! ```no_run
//! use cni::nft::{Batch, Chain, Family, Hook, Rule, Verdict};
//! let mut batch = Batch::new(Family::Ipv4, "example");
//! batch.add_table();
//! batch.add_chain("in", &Chain::filter(Hook::Input, 0));
//! batch.add_rule("in", &Rule::new().l4proto(6).dport(80).verdict(Verdict::Accept));
//! batch.commit()?;
//! # Ok::<(), cni::nft::Error>(())
//! ```

mod batch;
mod expr;
mod list;
mod rule;
mod set;

pub use batch::{Batch, Chain, Error, Hook};
pub use expr::{Expr, Verdict};
pub(crate) use list::listed;
pub use list::{ListedRule, list_rules};
pub use rule::{Rule, ct_state};
pub use set::{Field, Key, Set};

/// The protocol family of a table. `Inet` sees IPv4 and IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Both (`NFPROTO_INET`): rules that look at addresses first ask for the family.
    Inet = 1,
    /// IPv4 alone.
    Ipv4 = 2,
    /// IPv6 alone.
    Ipv6 = 10,
}

/// The kernel's numbers: `include/uapi/linux/netfilter/nf_tables.h`.
mod kind {
    pub(super) const SUBSYSTEM: u16 = 10;
    pub(super) const NEWTABLE: u16 = 0;
    pub(super) const DELTABLE: u16 = 2;
    pub(super) const NEWCHAIN: u16 = 3;
    pub(super) const DELCHAIN: u16 = 5;
    pub(super) const NEWRULE: u16 = 6;
    pub(super) const GETRULE: u16 = 7;
    pub(super) const DELRULE: u16 = 8;
    pub(super) const NEWSET: u16 = 9;
    pub(super) const DELSET: u16 = 11;
    pub(super) const NEWSETELEM: u16 = 12;
    pub(super) const DELSETELEM: u16 = 14;
}
