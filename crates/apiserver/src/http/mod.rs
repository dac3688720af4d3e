//! Requests and responses: what is asked, by whom, in which form; and errors.

pub mod front_proxy;
pub mod json_text;
pub mod negotiate;
pub mod request_info;
pub mod status;
pub mod user;
pub mod warnings;

/// Bytes of the largest body that is read, as upstream's.
pub const MAX_BODY: usize = 3 << 20;
