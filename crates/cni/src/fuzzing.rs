//! The doors of the fuzz targets to parsers that are private otherwise. Not a part of what the crate offers.

use crate::netlink::{Error, Reply};
use crate::{conntrack, link, neighbour, nft, route};

/// Reads a datagram of the kernel as the answer to one request or one dump.
///
/// # Errors
/// What the kernel refuses, or `NoAnswer`.
pub fn replies(datagram: &[u8], dump: bool) -> Result<Vec<Reply>, Error> {
    crate::netlink::replies(datagram, dump)
}

/// Reads a message as everything that a message can be, and says how much of that it was.
pub fn parts(reply: &Reply) -> usize {
    let address = link::parse_address(reply, 1);
    let networks = address.iter().filter(|net| net.contains(net.network())).count();
    usize::from(link::parse_link(reply).is_some())
        + networks
        + usize::from(route::parse(reply, 80).is_some())
        + usize::from(neighbour::parse(reply, 1).is_some())
        + usize::from(conntrack::parse(&reply.body).is_some())
        + usize::from(nft::listed(reply, "skiff").is_some())
}

/// Reads a configuration list, and makes what each plugin is given; how many plugins it has.
pub fn configuration(list: serde_json::Value) -> Option<usize> {
    let network = crate::conf::NetworkConf::parse(list).ok()?;
    let capabilities = serde_json::Map::from_iter([("portMappings".to_owned(), serde_json::json!([]))]);
    for index in 0..network.plugins.len() {
        network.input(index, &capabilities, None);
        network.plugin_type(index);
    }
    Some(network.plugins.len())
}
