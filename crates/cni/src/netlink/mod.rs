//! Netlink: messages, attributes and a blocking socket. The families are built on top: `link` (links and
//! routes), `nft` (nftables), `conntrack`.

mod message;
mod socket;

pub use message::{ACK, APPEND, Attributes, CREATE, DUMP, EXCL, Message, REPLACE, attributes};
pub(crate) use socket::replies;
pub use socket::{Error, Protocol, Reply, Socket, find};
