//! Routes that somebody owns: marked with the owner's protocol number, so that they are found again after a restart.

use std::net::IpAddr;

use nix::errno::Errno;

use crate::link::{Links, NEWROUTE, Net, family, int, octets};
use crate::netlink::{CREATE, Error, Message, REPLACE, Reply, find};

const DELROUTE: u16 = 25;
const GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const TABLE_MAIN: u8 = 254;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_NOWHERE: u8 = 255;
const UNICAST: u8 = 1;
const ONLINK: u32 = 4;

/// A route through a gateway, in the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct OwnedRoute {
    pub to: Net,
    pub via: IpAddr,
    /// The link. Zero: the one that leads to the gateway.
    pub link: i32,
}

impl Links {
    /// Puts the route in place of whatever leads to the same network. `onlink` takes the gateway to be on the link, also where no
    /// address of the link says so; without it the kernel refuses a gateway that it cannot reach directly.
    pub(crate) fn set_route(&mut self, protocol: u8, route: OwnedRoute, onlink: bool) -> Result<(), Error> {
        let flags = if onlink { ONLINK } else { 0 };
        self.route(
            NEWROUTE,
            CREATE | REPLACE,
            [protocol, SCOPE_UNIVERSE, UNICAST],
            flags,
            route,
        )
    }

    /// Removes it, or finds it gone.
    pub(crate) fn del_route(&mut self, protocol: u8, route: OwnedRoute) -> Result<(), Error> {
        match self.route(DELROUTE, 0, [protocol, SCOPE_NOWHERE, 0], 0, route) {
            Err(e) if matches!(e.errno(), Some(Errno::ESRCH | Errno::ENODEV)) => Ok(()),
            other => other,
        }
    }

    fn route(
        &mut self,
        kind: u16,
        how: u16,
        [protocol, scope, of]: [u8; 3],
        flags: u32,
        route: OwnedRoute,
    ) -> Result<(), Error> {
        let mut header = vec![family(route.to.ip), route.to.prefix, 0, 0];
        header.extend([TABLE_MAIN, protocol, scope, of]);
        header.extend(flags.to_ne_bytes());
        let mut message = Message::new(kind, how, &header);
        if route.to.prefix > 0 {
            message.body.put(RTA_DST, &octets(route.to.network()));
        }
        message.body.put(RTA_GATEWAY, &octets(route.via));
        if route.link > 0 {
            message.body.put(RTA_OIF, &route.link.to_ne_bytes());
        }
        self.socket.request(message).map(drop)
    }

    /// The routes of a family that carry the protocol number.
    pub(crate) fn routes(&mut self, protocol: u8, v6: bool) -> Result<Vec<OwnedRoute>, Error> {
        let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
        let mut header = vec![family as u8];
        header.resize(12, 0);
        let replies = self.socket.dump(Message::new(GETROUTE, 0, &header))?;
        Ok(replies.iter().filter_map(|r| parse(r, protocol)).collect())
    }
}

pub(crate) fn parse(reply: &Reply, protocol: u8) -> Option<OwnedRoute> {
    let [_, prefix, _, _, table, of, _, _] = *reply.body.get(..8)? else {
        return None;
    };
    if reply.kind != NEWROUTE || table != TABLE_MAIN || of != protocol {
        return None;
    }
    let body = reply.body.get(12..)?;
    let address = |bytes: &[u8]| match bytes.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        _ => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    };
    Some(OwnedRoute {
        to: Net {
            ip: address(find(body, RTA_DST)?)?,
            prefix,
        },
        via: address(find(body, RTA_GATEWAY)?)?,
        link: int(find(body, RTA_OIF)?)?,
    })
}
