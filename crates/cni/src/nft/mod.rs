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
    Inet = 1,
    Ipv4 = 2,
    Ipv6 = 10,
}

/// The kernel's numbers: `include/uapi/linux/netfilter/nf_tables.h`.
mod kind {
    pub const SUBSYSTEM: u16 = 10;
    pub const NEWTABLE: u16 = 0;
    pub const DELTABLE: u16 = 2;
    pub const NEWCHAIN: u16 = 3;
    pub const DELCHAIN: u16 = 5;
    pub const NEWRULE: u16 = 6;
    pub const GETRULE: u16 = 7;
    pub const DELRULE: u16 = 8;
    pub const NEWSET: u16 = 9;
    pub const DELSET: u16 = 11;
    pub const NEWSETELEM: u16 = 12;
    pub const DELSETELEM: u16 = 14;
}
