//! Connection tracking: forgetting connections whose destination has moved. Without this a UDP client that
//! keeps its port would go on sending to an endpoint that is gone.

use std::net::IpAddr;

use nix::errno::Errno;

use crate::netlink::{self, Message, Protocol, Socket, attributes, find};

const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;

/// One direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    /// The sender's address.
    pub source: IpAddr,
    /// The receiver's address.
    pub destination: IpAddr,
    /// The IP protocol's number: 6 is TCP, 17 UDP, 132 SCTP.
    pub protocol: u8,
    /// The sender's port. Zero for protocols without ports.
    pub source_port: u16,
    /// The receiver's port. Zero for protocols without ports.
    pub destination_port: u16,
}

/// A tracked connection. After DNAT the source of `reply` is the endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// The direction of the first packet, before any NAT.
    pub original: Tuple,
    /// The direction of the answers, with the addresses that NAT put in.
    pub reply: Tuple,
    family: u8,
    original_bytes: Vec<u8>,
    id: Option<Vec<u8>>,
}

/// Deletes the tracked connections of a family that `gone` picks; says how many.
pub fn flush(v6: bool, gone: impl Fn(&Flow) -> bool) -> Result<usize, netlink::Error> {
    let mut socket = Socket::open(Protocol::Netfilter)?;
    let family = if v6 { libc::AF_INET6 } else { libc::AF_INET } as u8;
    let header = [family, 0, 0, 0];
    let replies = socket.dump(Message::new(SUBSYSTEM << 8 | GET, 0, &header))?;
    let mut count = 0;
    for flow in replies.iter().filter_map(|r| parse(&r.body)).filter(|f| gone(f)) {
        let mut message = Message::new(SUBSYSTEM << 8 | DELETE, 0, &[flow.family, 0, 0, 0]);
        message.body.nest(CTA_TUPLE_ORIG, |t| t.raw(&flow.original_bytes));
        if let Some(id) = &flow.id {
            message.body.put(CTA_ID, id);
        }
        match socket.request(message) {
            Ok(_) => count += 1,
            Err(e) if e.errno() == Some(Errno::ENOENT) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(count)
}

pub(crate) fn parse(body: &[u8]) -> Option<Flow> {
    let family = *body.first()?;
    let rest = body.get(4..)?;
    let original = find(rest, CTA_TUPLE_ORIG)?;
    Some(Flow {
        original: tuple(original)?,
        reply: tuple(find(rest, CTA_TUPLE_REPLY)?)?,
        family,
        original_bytes: original.to_vec(),
        id: find(rest, CTA_ID).map(<[u8]>::to_vec),
    })
}

fn tuple(bytes: &[u8]) -> Option<Tuple> {
    let addresses = find(bytes, 1)?;
    let ports = find(bytes, 2)?;
    let port = |kind| {
        find(ports, kind)
            .and_then(|b| b.try_into().ok())
            .map_or(0, u16::from_be_bytes)
    };
    let mut ends = [None, None];
    for (kind, data) in attributes(addresses) {
        let ip = match data.len() {
            4 => IpAddr::from(<[u8; 4]>::try_from(data).ok()?),
            16 => IpAddr::from(<[u8; 16]>::try_from(data).ok()?),
            _ => continue,
        };
        // 1 and 2 are IPv4's source and destination, 3 and 4 IPv6's.
        let [source, destination] = &mut ends;
        *(if kind % 2 == 1 { source } else { destination }) = Some(ip);
    }
    Some(Tuple {
        source: ends[0]?,
        destination: ends[1]?,
        protocol: *find(ports, 1)?.first()?,
        source_port: port(2),
        destination_port: port(3),
    })
}
