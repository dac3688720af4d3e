//! VXLAN devices: making one, and reading back what one was made with.

use std::net::IpAddr;

use crate::link::{
    GETLINK, IFLA_ADDRESS, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MTU, Link, Links, NEWLINK,
    ifinfo, int, octets, parse_link,
};
use crate::netlink::{CREATE, EXCL, Error, Message, Reply, find};

const IFLA_IFALIAS: u16 = 20;
const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_LINK: u16 = 3;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_LOCAL6: u16 = 17;

/// What a device is made with and cannot change later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vxlan {
    pub id: u32,
    /// The link that outer packets go through.
    pub link: i32,
    /// The source of outer packets.
    pub local: IpAddr,
    /// UDP port of outer packets.
    pub port: u16,
}

impl Links {
    /// The device without learning: whoever makes it tells it where each MAC is.
    pub(crate) fn add_vxlan(&mut self, name: &str, vxlan: &Vxlan, mac: [u8; 6], mtu: u32) -> Result<(), Error> {
        let mut message = Message::new(NEWLINK, CREATE | EXCL, &ifinfo(0, 0, 0));
        message.body.text(IFLA_IFNAME, name);
        message.body.put(IFLA_ADDRESS, &mac);
        message.body.u32(IFLA_MTU, mtu);
        message.body.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "vxlan");
            info.nest(IFLA_INFO_DATA, |data| {
                data.u32(IFLA_VXLAN_ID, vxlan.id);
                data.u32(IFLA_VXLAN_LINK, vxlan.link.unsigned_abs());
                let local = if vxlan.local.is_ipv4() {
                    IFLA_VXLAN_LOCAL
                } else {
                    IFLA_VXLAN_LOCAL6
                };
                data.put(local, &octets(vxlan.local));
                data.u8(IFLA_VXLAN_LEARNING, 0);
                data.be16(IFLA_VXLAN_PORT, vxlan.port);
            });
        });
        self.socket.request(message).map(drop)
    }

    /// The link of this name, what makes it a VXLAN device if it is one, and its alias.
    pub(crate) fn vxlan(&mut self, name: &str) -> Result<Option<(Link, Option<Vxlan>, String)>, Error> {
        let mut message = Message::new(GETLINK, 0, &ifinfo(0, 0, 0));
        message.body.text(IFLA_IFNAME, name);
        match self.socket.request(message) {
            Ok(replies) => Ok(replies.iter().find_map(|r| Some((parse_link(r)?, parse(r), alias(r))))),
            Err(e) if e.errno() == Some(nix::errno::Errno::ENODEV) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// A note of at most 255 bytes that `ip link` shows; says whose the link is.
    pub(crate) fn set_alias(&mut self, index: i32, alias: &str) -> Result<(), Error> {
        let mut message = Message::new(NEWLINK, 0, &ifinfo(index, 0, 0));
        message.body.put(IFLA_IFALIAS, alias.as_bytes());
        self.socket.request(message).map(drop)
    }
}

fn alias(reply: &Reply) -> String {
    let bytes = find(reply.body.get(16..).unwrap_or_default(), IFLA_IFALIAS).unwrap_or_default();
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

fn parse(reply: &Reply) -> Option<Vxlan> {
    let info = find(reply.body.get(16..)?, IFLA_LINKINFO)?;
    if !find(info, IFLA_INFO_KIND)?.starts_with(b"vxlan") {
        return None;
    }
    let data = find(info, IFLA_INFO_DATA)?;
    let local = match (find(data, IFLA_VXLAN_LOCAL), find(data, IFLA_VXLAN_LOCAL6)) {
        (Some(v4), _) => IpAddr::from(<[u8; 4]>::try_from(v4).ok()?),
        (None, v6) => IpAddr::from(<[u8; 16]>::try_from(v6?).ok()?),
    };
    Some(Vxlan {
        id: int(find(data, IFLA_VXLAN_ID)?)?.unsigned_abs(),
        link: find(data, IFLA_VXLAN_LINK).and_then(int).unwrap_or(0),
        local,
        port: u16::from_be_bytes(find(data, IFLA_VXLAN_PORT)?.try_into().ok()?),
    })
}
