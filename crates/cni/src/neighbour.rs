//! Neighbours that are told instead of asked for: which MAC an address has, and behind which outer address a MAC is.

use std::net::IpAddr;

use nix::errno::Errno;

use crate::link::{Links, family, ifinfo, int, octets};
use crate::netlink::{CREATE, Error, Message, REPLACE, Reply, find};

const NEWNEIGH: u16 = 28;
const DELNEIGH: u16 = 29;
const GETNEIGH: u16 = 30;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u16 = 0x80;
/// The entry is the device's own, not the bridge's that it may be a port of.
const NTF_SELF: u8 = 2;

/// An address or, in a forwarding database, an outer address; and a MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Neighbour {
    pub ip: IpAddr,
    pub mac: [u8; 6],
}

fn header(family: u8, index: i32, flags: u8) -> Vec<u8> {
    let mut header = vec![family, 0, 0, 0];
    header.extend(index.to_ne_bytes());
    header.extend(NUD_PERMANENT.to_ne_bytes());
    header.extend([flags, 0]);
    header
}

const BRIDGE: u8 = libc::AF_BRIDGE as u8;

impl Links {
    /// Says which MAC an address on the link has, for good.
    pub(crate) fn set_neighbour(&mut self, index: i32, neighbour: Neighbour) -> Result<(), Error> {
        let header = header(family(neighbour.ip), index, 0);
        self.neighbour(NEWNEIGH, CREATE | REPLACE, &header, neighbour)
    }

    /// Forgets it, or finds it gone.
    pub(crate) fn del_neighbour(&mut self, index: i32, neighbour: Neighbour) -> Result<(), Error> {
        gone(self.neighbour(DELNEIGH, 0, &header(family(neighbour.ip), index, 0), neighbour))
    }

    /// Says behind which outer address a VXLAN device finds a MAC.
    pub(crate) fn set_forwarding(&mut self, index: i32, entry: Neighbour) -> Result<(), Error> {
        let header = header(BRIDGE, index, NTF_SELF);
        self.neighbour(NEWNEIGH, CREATE | REPLACE, &header, entry)
    }

    /// Forgets it, or finds it gone.
    pub(crate) fn del_forwarding(&mut self, index: i32, entry: Neighbour) -> Result<(), Error> {
        gone(self.neighbour(DELNEIGH, 0, &header(BRIDGE, index, NTF_SELF), entry))
    }

    fn neighbour(&mut self, kind: u16, how: u16, header: &[u8], neighbour: Neighbour) -> Result<(), Error> {
        let mut message = Message::new(kind, how, header);
        message.body.put(NDA_DST, &octets(neighbour.ip));
        message.body.put(NDA_LLADDR, &neighbour.mac);
        self.socket.request(message).map(drop)
    }

    /// The link's neighbours of one family that are there for good.
    pub(crate) fn neighbours(&mut self, index: i32, v6: bool) -> Result<Vec<Neighbour>, Error> {
        let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
        let message = Message::new(GETNEIGH, 0, &header(family as u8, 0, 0));
        let replies = self.socket.dump(message)?;
        Ok(replies.iter().filter_map(|r| parse(r, index)).collect())
    }

    /// What the device's forwarding database has for good.
    pub(crate) fn forwardings(&mut self, index: i32) -> Result<Vec<Neighbour>, Error> {
        let mut header = ifinfo(0, 0, 0);
        if let Some(family) = header.first_mut() {
            *family = BRIDGE;
        }
        let replies = self.socket.dump(Message::new(GETNEIGH, 0, &header))?;
        Ok(replies.iter().filter_map(|r| parse(r, index)).collect())
    }
}

fn gone(done: Result<(), Error>) -> Result<(), Error> {
    match done {
        Err(e) if matches!(e.errno(), Some(Errno::ENOENT | Errno::ENODEV)) => Ok(()),
        other => other,
    }
}

pub(crate) fn parse(reply: &Reply, index: i32) -> Option<Neighbour> {
    let state = u16::from_ne_bytes(reply.body.get(8..10)?.try_into().ok()?);
    if reply.kind != NEWNEIGH || int(reply.body.get(4..8)?)? != index || state & NUD_PERMANENT == 0 {
        return None;
    }
    let body = reply.body.get(12..)?;
    let ip = find(body, NDA_DST)?;
    let ip = match ip.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(ip).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(ip).ok()?),
    };
    let mac = find(body, NDA_LLADDR)?.try_into().ok()?;
    Some(Neighbour { ip, mac })
}
