//! Reading rules back: handles and comments, to find the ones to remove.

use nix::errno::Errno;

use crate::netlink::{Message, Protocol, Reply, Socket};

use super::{Error, Family, kind};

/// A rule of the kernel's, as far as it takes to find and remove it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRule {
    /// The chain it stands in.
    pub chain: String,
    /// The kernel's number of the rule in its table, for [`Batch::del_rule`](super::Batch::del_rule).
    pub handle: u64,
    /// The comment it was made with, or empty.
    pub comment: String,
}

/// All rules of a table; none if the table is not there.
pub fn list_rules(family: Family, table: &str) -> Result<Vec<ListedRule>, Error> {
    let mut socket = Socket::open(Protocol::Netfilter)?;
    let header = [family as u8, 0, 0, 0];
    let mut message = Message::new(kind::SUBSYSTEM << 8 | kind::GETRULE, 0, &header);
    message.body.text(1, table);
    let replies = match socket.dump(message) {
        Ok(replies) => replies,
        Err(e) if e.errno() == Some(Errno::ENOENT) => return Ok(Vec::new()),
        Err(e) => return Err(e.into()),
    };
    Ok(replies.iter().filter_map(|reply| listed(reply, table)).collect())
}

/// The rule that a message tells of, if it is one of the table.
pub(crate) fn listed(reply: &Reply, table: &str) -> Option<ListedRule> {
    let mut rule = ListedRule {
        chain: String::new(),
        handle: 0,
        comment: String::new(),
    };
    let mut of = String::new();
    for (kind, data) in reply.attributes(4) {
        let text = |d: &[u8]| String::from_utf8_lossy(d).trim_end_matches('\0').to_owned();
        match kind {
            1 => of = text(data),
            2 => rule.chain = text(data),
            3 => rule.handle = data.try_into().map_or(0, u64::from_be_bytes),
            // Type 0 of nft's notes is the comment.
            7 if data.first() == Some(&0) => rule.comment = text(data.get(2..).unwrap_or_default()),
            _ => {}
        }
    }
    (of == table).then_some(rule)
}
