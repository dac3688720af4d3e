//! Links, addresses, routes and neighbours over rtnetlink, as far as the plugins need them.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use crate::netlink::{CREATE, EXCL, Error, Message, Protocol, REPLACE, Reply, Socket, find};

pub(crate) const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
pub(crate) const GETLINK: u16 = 18;
const SETLINK: u16 = 19;
const NEWADDR: u16 = 20;
const DELADDR: u16 = 21;
const GETADDR: u16 = 22;
pub(crate) const NEWROUTE: u16 = 24;

pub(crate) const IFLA_ADDRESS: u16 = 1;
pub(crate) const IFLA_IFNAME: u16 = 3;
pub(crate) const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
pub(crate) const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
pub(crate) const IFLA_INFO_KIND: u16 = 1;
pub(crate) const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_BR_VLAN_FILTERING: u16 = 7;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;

const IFF_UP: u32 = 1;
const IFF_PROMISC: u32 = 0x100;

/// A link as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number of the link in its namespace, from 1.
    pub index: i32,
    /// The link's name in its namespace, 15 bytes at most.
    pub name: String,
    /// The hardware address; zeros where the link has none.
    pub mac: [u8; 6],
    /// The largest packet the link takes, in bytes.
    pub mtu: u32,
    /// The administrator's switch (`IFF_UP`). It says nothing of a cable or a peer.
    pub up: bool,
    /// The other end of a veth pair: an index in the peer's namespace.
    pub peer: Option<i32>,
    /// The index of the bridge that the link is a port of.
    pub master: Option<i32>,
    /// "bridge", "veth" and so on; empty for hardware.
    pub kind: String,
}

impl Link {
    /// The hardware address as `02:42:ac:11:00:02`.
    pub fn mac_text(&self) -> String {
        let parts: Vec<String> = self.mac.iter().map(|b| format!("{b:02x}")).collect();
        parts.join(":")
    }
}

/// The MAC for whoever has an address; `None` in IPv6. Who still knows it from an earlier owner of the address sends to the right one at
/// once: the announcement of a new MAC is lost while the bridge's port comes up.
pub fn mac_of(ip: IpAddr) -> Option<[u8; 6]> {
    match ip {
        // locally administered, unicast
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            Some([0x0a, 0x58, a, b, c, d])
        }
        IpAddr::V6(_) => None,
    }
}

/// An address with the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Net {
    /// The address. Host bits may be set; [`Net::network`] clears them.
    pub ip: IpAddr,
    /// Bits of the network's prefix: at most 32, or 128 for IPv6.
    pub prefix: u8,
}

impl std::fmt::Display for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

/// A text that is no address with the length of a prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address with a prefix length")]
pub struct NetError(pub String);

impl std::str::FromStr for Net {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Net, NetError> {
        let bad = || NetError(text.to_owned());
        let (ip, prefix) = text.split_once('/').ok_or_else(bad)?;
        let ip: IpAddr = ip.parse().map_err(|_| bad())?;
        let prefix: u8 = prefix.parse().map_err(|_| bad())?;
        if prefix > Net::width(ip) {
            return Err(bad());
        }
        Ok(Net { ip, prefix })
    }
}

impl Net {
    /// Bits of an address of this family.
    pub fn width(ip: IpAddr) -> u8 {
        if ip.is_ipv4() { 32 } else { 128 }
    }

    /// The address with its host bits cleared.
    pub fn network(&self) -> IpAddr {
        match self.ip {
            IpAddr::V4(ip) => {
                let mask = u32::MAX
                    .checked_shl(32u32.saturating_sub(u32::from(self.prefix)))
                    .unwrap_or(0);
                IpAddr::V4((u32::from(ip) & mask).into())
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX
                    .checked_shl(128u32.saturating_sub(u32::from(self.prefix)))
                    .unwrap_or(0);
                IpAddr::V6((u128::from(ip) & mask).into())
            }
        }
    }

    /// Returns whether the address is in the network. An address of the other family never is.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let of = Net {
            ip,
            prefix: self.prefix,
        };
        ip.is_ipv4() == self.ip.is_ipv4() && of.network() == self.network()
    }
}

/// The address in network order: 4 bytes, or 16 for IPv6.
pub fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

pub(crate) fn family(ip: IpAddr) -> u8 {
    let family = if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    family as u8
}

/// A handle on the links of the namespace it was opened in.
pub struct Links {
    pub(crate) socket: Socket,
}

pub(crate) fn ifinfo(index: i32, flags: u32, change: u32) -> Vec<u8> {
    let mut header = vec![0u8; 4];
    header.extend(index.to_ne_bytes());
    header.extend(flags.to_ne_bytes());
    header.extend(change.to_ne_bytes());
    header
}

impl Links {
    /// Opens a netlink socket in the network namespace of this thread.
    ///
    /// # Errors
    /// When the kernel gives no such socket.
    pub fn open() -> Result<Links, Error> {
        Ok(Links {
            socket: Socket::open(Protocol::Route)?,
        })
    }

    /// Returns the link of this name, or none.
    ///
    /// # Errors
    /// What the kernel answers other than that there is none.
    pub fn by_name(&mut self, name: &str) -> Result<Option<Link>, Error> {
        let mut message = Message::new(GETLINK, 0, &ifinfo(0, 0, 0));
        message.body.text(IFLA_IFNAME, name);
        self.one(message)
    }

    /// Returns the link of this index, or none.
    ///
    /// # Errors
    /// What the kernel answers other than that there is none.
    pub fn by_index(&mut self, index: i32) -> Result<Option<Link>, Error> {
        self.one(Message::new(GETLINK, 0, &ifinfo(index, 0, 0)))
    }

    fn one(&mut self, message: Message) -> Result<Option<Link>, Error> {
        match self.socket.request(message) {
            Ok(replies) => Ok(replies.iter().find_map(parse_link)),
            Err(e) if e.errno() == Some(Errno::ENODEV) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Returns every link of the namespace.
    ///
    /// # Errors
    /// When the kernel refuses, or the list changed a hundred times while it was read.
    pub fn all(&mut self) -> Result<Vec<Link>, Error> {
        let replies = self.socket.dump(Message::new(GETLINK, 0, &ifinfo(0, 0, 0)))?;
        Ok(replies.iter().filter_map(parse_link).collect())
    }

    /// Makes a bridge. An `mtu` of zero leaves the kernel's default.
    ///
    /// # Errors
    /// `EEXIST` if a link has the name.
    pub fn add_bridge(&mut self, name: &str, mtu: u32, vlan_filtering: bool) -> Result<(), Error> {
        let mut message = Message::new(NEWLINK, CREATE | EXCL, &ifinfo(0, 0, 0));
        message.body.text(IFLA_IFNAME, name);
        if mtu > 0 {
            message.body.u32(IFLA_MTU, mtu);
        }
        message.body.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "bridge");
            if vlan_filtering {
                info.nest(IFLA_INFO_DATA, |data| data.u8(IFLA_BR_VLAN_FILTERING, 1));
            }
        });
        self.socket.request(message).map(drop)
    }

    /// A pair: `name` here, `peer` in the namespace `peer_netns`.
    pub fn add_veth(
        &mut self,
        name: &str,
        peer: &str,
        peer_netns: BorrowedFd<'_>,
        mtu: u32,
        peer_mac: Option<[u8; 6]>,
    ) -> Result<(), Error> {
        let mut message = Message::new(NEWLINK, CREATE | EXCL, &ifinfo(0, 0, 0));
        message.body.text(IFLA_IFNAME, name);
        if mtu > 0 {
            message.body.u32(IFLA_MTU, mtu);
        }
        message.body.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "veth");
            info.nest(IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, |p| {
                    p.raw(&ifinfo(0, 0, 0));
                    p.text(IFLA_IFNAME, peer);
                    p.u32(IFLA_NET_NS_FD, peer_netns.as_raw_fd().unsigned_abs());
                    if mtu > 0 {
                        p.u32(IFLA_MTU, mtu);
                    }
                    if let Some(mac) = peer_mac {
                        p.put(IFLA_ADDRESS, &mac);
                    }
                });
            });
        });
        self.socket.request(message).map(drop)
    }

    /// Deletes the link, or finds it gone. The other end of a veth pair goes with it.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for links that cannot be deleted, as hardware.
    pub fn del(&mut self, index: i32) -> Result<(), Error> {
        match self.socket.request(Message::new(DELLINK, 0, &ifinfo(index, 0, 0))) {
            Err(e) if e.errno() == Some(Errno::ENODEV) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Switches the link on.
    ///
    /// # Errors
    /// `ENODEV` if the link is gone.
    pub fn set_up(&mut self, index: i32) -> Result<(), Error> {
        self.flags(index, IFF_UP, IFF_UP)
    }

    /// Has the link take frames that are for others, or no longer.
    ///
    /// # Errors
    /// `ENODEV` if the link is gone.
    pub fn set_promiscuous(&mut self, index: i32, on: bool) -> Result<(), Error> {
        self.flags(index, if on { IFF_PROMISC } else { 0 }, IFF_PROMISC)
    }

    fn flags(&mut self, index: i32, flags: u32, change: u32) -> Result<(), Error> {
        let message = Message::new(NEWLINK, 0, &ifinfo(index, flags, change));
        self.socket.request(message).map(drop)
    }

    /// Makes the link a port of the bridge with the index `master`; zero takes it out of the bridge it is in.
    ///
    /// # Errors
    /// What the kernel refuses: `ENODEV` if either is gone.
    pub fn set_master(&mut self, index: i32, master: i32) -> Result<(), Error> {
        let mut message = Message::new(NEWLINK, 0, &ifinfo(index, 0, 0));
        message.body.put(IFLA_MASTER, &master.to_ne_bytes());
        self.socket.request(message).map(drop)
    }

    /// The largest packet it takes.
    pub fn set_mtu(&mut self, index: i32, mtu: u32) -> Result<(), Error> {
        let mut message = Message::new(NEWLINK, 0, &ifinfo(index, 0, 0));
        message.body.u32(IFLA_MTU, mtu);
        self.socket.request(message).map(drop)
    }

    /// Changes the hardware address.
    ///
    /// # Errors
    /// What the kernel refuses: `EADDRNOTAVAIL` for an address that no single link may have.
    pub fn set_mac(&mut self, index: i32, mac: [u8; 6]) -> Result<(), Error> {
        let mut message = Message::new(NEWLINK, 0, &ifinfo(index, 0, 0));
        message.body.put(IFLA_ADDRESS, &mac);
        self.socket.request(message).map(drop)
    }

    /// Lets a bridge send a frame back through the port it came from.
    pub fn set_hairpin(&mut self, port: i32, on: bool) -> Result<(), Error> {
        self.port_flag(port, IFLA_BRPORT_MODE, on)
    }

    /// An isolated port reaches only ports that are not.
    pub fn set_isolated(&mut self, port: i32, on: bool) -> Result<(), Error> {
        self.port_flag(port, IFLA_BRPORT_ISOLATED, on)
    }

    fn port_flag(&mut self, port: i32, flag: u16, on: bool) -> Result<(), Error> {
        let mut header = ifinfo(port, 0, 0);
        if let Some(family) = header.first_mut() {
            *family = libc::AF_BRIDGE as u8;
        }
        // Only SETLINK reaches the bridge's own handler.
        let mut message = Message::new(SETLINK, 0, &header);
        message.body.nest(IFLA_PROTINFO, |info| info.u8(flag, u8::from(on)));
        self.socket.request(message).map(drop)
    }

    /// Returns the link's addresses of both families.
    ///
    /// # Errors
    /// When the kernel refuses, or the list changed a hundred times while it was read.
    pub fn addresses(&mut self, index: i32) -> Result<Vec<Net>, Error> {
        let replies = self.socket.dump(Message::new(GETADDR, 0, &[0u8; 8]))?;
        Ok(replies.iter().filter_map(|r| parse_address(r, index)).collect())
    }

    /// The link that has this address.
    pub fn with_address(&mut self, ip: IpAddr) -> Result<Option<Link>, Error> {
        let replies = self.socket.dump(Message::new(GETADDR, 0, &[0u8; 8]))?;
        let of = |r: &Reply| int(r.body.get(4..8)?).filter(|i| parse_address(r, *i).is_some_and(|net| net.ip == ip));
        let at = replies.iter().find_map(of);
        match at {
            Some(index) => self.by_index(index),
            None => Ok(None),
        }
    }

    /// Adds it, or finds it there. IPv6 addresses skip duplicate detection: the address is usable at once.
    pub fn add_address(&mut self, index: i32, net: Net) -> Result<(), Error> {
        const IFA_F_NODAD: u8 = 2;
        let flags = if net.ip.is_ipv6() { IFA_F_NODAD } else { 0 };
        self.address(NEWADDR, CREATE | REPLACE, index, net, flags)
    }

    /// Takes the address from the link.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` if the link does not have it.
    pub fn del_address(&mut self, index: i32, net: Net) -> Result<(), Error> {
        self.address(DELADDR, 0, index, net, 0)
    }

    fn address(&mut self, kind: u16, how: u16, index: i32, net: Net, flags: u8) -> Result<(), Error> {
        let mut header = vec![family(net.ip), net.prefix, flags, 0];
        header.extend(index.to_ne_bytes());
        let mut message = Message::new(kind, how, &header);
        let ip = octets(net.ip);
        message.body.put(1, &ip);
        message.body.put(2, &ip);
        if let IpAddr::V4(v4) = net.ip
            && net.prefix < 31
        {
            let broadcast = u32::from(v4) | u32::MAX.checked_shr(u32::from(net.prefix)).unwrap_or(0);
            message.body.put(4, &broadcast.to_be_bytes());
        }
        self.socket.request(message).map(drop)
    }

    /// Adds a route through link `index`; without gateway the destination is on the link.
    pub fn add_route(&mut self, index: i32, route: &RouteSpec) -> Result<(), Error> {
        const RTPROT_BOOT: u8 = 3;
        const SCOPE_UNIVERSE: u8 = 0;
        const SCOPE_LINK: u8 = 253;
        const UNICAST: u8 = 1;
        const TABLE_MAIN: u8 = 254;
        let scope = route.scope.unwrap_or(if route.gateway.is_some() {
            SCOPE_UNIVERSE
        } else {
            SCOPE_LINK
        });
        let mut header = vec![family(route.to.ip), route.to.prefix, 0, 0];
        header.extend([TABLE_MAIN, RTPROT_BOOT, scope, UNICAST, 0, 0, 0, 0]);
        let mut message = Message::new(NEWROUTE, CREATE | EXCL, &header);
        if route.to.prefix > 0 {
            message.body.put(1, &octets(route.to.network()));
        }
        message.body.put(4, &index.to_ne_bytes());
        if let Some(gateway) = route.gateway {
            message.body.put(5, &octets(gateway));
        }
        if route.priority > 0 {
            message.body.u32(6, route.priority);
        }
        if route.mtu > 0 || route.advmss > 0 {
            message.body.nest(8, |metrics| {
                if route.mtu > 0 {
                    metrics.u32(2, route.mtu);
                }
                if route.advmss > 0 {
                    metrics.u32(8, route.advmss);
                }
            });
        }
        if let Some(table) = route.table {
            message.body.u32(15, table);
        }
        match self.socket.request(message) {
            Err(e) if e.errno() == Some(Errno::EEXIST) => Ok(()),
            other => other.map(drop),
        }
    }
}

/// A route as plugins may ask for one (`routes` of a CNI result), for [`Links::add_route`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteSpec {
    /// The destination. A prefix of zero is the default route.
    pub to: Net,
    /// The next hop, which must be reachable on the link. None: the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The largest packet on this route, in bytes. Zero is the link's.
    pub mtu: u32,
    /// The segment size that TCP announces, in bytes. Zero is the kernel's choice.
    pub advmss: u32,
    /// Among routes to the same destination the lowest wins. Zero is the kernel's default.
    pub priority: u32,
    /// The routing table's number. None is the main table.
    pub table: Option<u32>,
    /// The kernel's scope of the destination (`RT_SCOPE_*`). None: the whole world behind a gateway, else the link.
    pub scope: Option<u8>,
}

impl RouteSpec {
    /// A route in the main table with the kernel's defaults.
    pub fn new(to: Net, gateway: Option<IpAddr>) -> RouteSpec {
        RouteSpec {
            to,
            gateway,
            mtu: 0,
            advmss: 0,
            priority: 0,
            table: None,
            scope: None,
        }
    }
}

pub(crate) fn int(bytes: &[u8]) -> Option<i32> {
    Some(i32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

pub(crate) fn parse_link(reply: &Reply) -> Option<Link> {
    if reply.kind != NEWLINK {
        return None;
    }
    let flags = int(reply.body.get(8..12)?)?;
    let mut link = Link {
        index: int(reply.body.get(4..8)?)?,
        name: String::new(),
        mac: [0; 6],
        mtu: 0,
        up: flags.unsigned_abs() & IFF_UP != 0,
        peer: None,
        master: None,
        kind: String::new(),
    };
    for (kind, data) in reply.attributes(16) {
        match kind {
            IFLA_ADDRESS => link.mac = data.try_into().unwrap_or_default(),
            IFLA_IFNAME => link.name = text(data),
            IFLA_MTU => link.mtu = int(data).unwrap_or(0).unsigned_abs(),
            IFLA_LINK => link.peer = int(data),
            IFLA_MASTER => link.master = int(data),
            IFLA_LINKINFO => link.kind = find(data, IFLA_INFO_KIND).map(text).unwrap_or_default(),
            _ => {}
        }
    }
    Some(link)
}

pub(crate) fn parse_address(reply: &Reply, index: i32) -> Option<Net> {
    if reply.kind != NEWADDR || int(reply.body.get(4..8)?)? != index {
        return None;
    }
    let prefix = *reply.body.get(1)?;
    // IFA_LOCAL is the own address where it differs from IFA_ADDRESS, the peer's.
    let body = reply.body.get(8..)?;
    let bytes = find(body, 2).or_else(|| find(body, 1))?;
    let ip = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
    };
    Some(Net { ip, prefix })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gets_an_address_again_has_the_same_mac() {
        let mac = |ip: &str| mac_of(ip.parse().unwrap());
        assert_eq!(mac("10.42.0.2"), Some([0x0a, 0x58, 10, 42, 0, 2]));
        assert_eq!(mac("fd42::2"), None);
    }

    #[test]
    fn a_network_contains_its_addresses() {
        let net: Net = "10.42.0.7/24".parse().unwrap();
        assert_eq!(net.network().to_string(), "10.42.0.0");
        assert!(net.contains("10.42.0.255".parse().unwrap()));
        assert!(!net.contains("10.42.1.0".parse().unwrap()));
        assert!(!net.contains("::1".parse().unwrap()));
        let all: Net = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("1.2.3.4".parse().unwrap()));
        assert!("1.2.3.4/33".parse::<Net>().is_err());
        assert!("1.2.3.4".parse::<Net>().is_err());
    }
}
