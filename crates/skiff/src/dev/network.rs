//! The network of a cluster of `skiff dev`: a bridge that its nodes hang on, with this machine as their way out, and the ports of this
//! machine that lead to a node.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;

use cni::link::{Links, Net, RouteSpec};
use cni::netlink;
use cni::nft::{Batch, Chain, Family, Hook, Rule};

use super::DevError;
use super::record::{Port, Record};

const PREFIX: u8 = 24;
/// Priorities of nftables: where addresses of destinations, and of sources, are translated.
const DSTNAT: i32 = -100;
const SRCNAT: i32 = 100;

fn bridge(record: &Record) -> String {
    format!("skdev{}", record.network)
}

/// The machine's end of a node's link.
fn port_name(record: &Record, number: u8) -> String {
    format!("{}n{number}", bridge(record))
}

fn table(record: &Record) -> String {
    format!("skiff-dev-{}", record.name)
}

fn net(record: &Record) -> Net {
    Net {
        ip: record.gateway().into(),
        prefix: PREFIX,
    }
}

fn set(path: &str, value: &str) -> Result<(), DevError> {
    cni::sysctl::set(path, value).map_err(DevError::at(Path::new(path)))
}

/// Makes the bridge and the rules, or finds them there.
pub fn raise(record: &Record) -> Result<(), DevError> {
    let name = bridge(record);
    let mut links = Links::open()?;
    let index = match links.by_name(&name)? {
        Some(link) => link.index,
        None => {
            links.add_bridge(&name, 0, false)?;
            let made = links.by_name(&name)?;
            made.ok_or_else(|| DevError::Network(format!("the bridge {name} went as it came")))?
                .index
        }
    };
    links.add_address(index, net(record))?;
    links.set_up(index)?;
    set("/proc/sys/net/ipv4/ip_forward", "1")?;
    // connections to this machine's own address may lead to a node
    set(&format!("/proc/sys/net/ipv4/conf/{name}/route_localnet"), "1")?;
    rules(record).commit()?;
    Ok(())
}

/// All rules, in place of those that are there.
fn rules(record: &Record) -> Batch {
    let mut batch = Batch::new(Family::Ipv4, &table(record));
    batch.add_table();
    batch.del_table();
    batch.add_table();
    batch.add_chain("prerouting", &Chain::nat(Hook::Prerouting, DSTNAT));
    batch.add_chain("output", &Chain::nat(Hook::Output, DSTNAT));
    batch.add_chain("postrouting", &Chain::nat(Hook::Postrouting, SRCNAT));
    for port in &record.ports {
        for chain in ["prerouting", "output"] {
            batch.add_rule(chain, &published(record, *port));
        }
    }
    let loopback = Net {
        ip: IpAddr::from([127, 0, 0, 0]),
        prefix: 8,
    };
    // what leaves the cluster has this machine's address; so has what this machine sends itself, for nothing answers to loopback
    let inside = net(record);
    batch.add_rule("postrouting", &Rule::new().saddr(inside).not_daddr(inside).masquerade());
    batch.add_rule("postrouting", &Rule::new().saddr(loopback).daddr(inside).masquerade());
    batch
}

fn published(record: &Record, port: Port) -> Rule {
    let protocol = if port.udp { libc::IPPROTO_UDP } else { libc::IPPROTO_TCP };
    let rule = Rule::new().daddr_local().l4proto(protocol as u8).dport(port.machine);
    rule.dnat(record.address(0).into(), Some(port.node))
}

/// Gives a node, whose namespaces a process holds, its place in the network.
pub fn attach(record: &Record, number: u8, holder: u32) -> Result<(), DevError> {
    let path = format!("/proc/{holder}/ns/net");
    let path = Path::new(&path);
    let namespace = std::fs::File::open(path).map_err(DevError::at(path))?;
    let mut links = Links::open()?;
    let master = links.by_name(&bridge(record))?;
    let master = master.ok_or_else(|| DevError::Network(format!("there is no bridge {}", bridge(record))))?;
    let port = port_name(record, number);
    // the link of a node that has just ended goes a moment after its namespace
    if let Some(old) = links.by_name(&port)? {
        links.del(old.index)?;
    }
    // the same after each start: who has just talked to a node that was killed sends to the old one's for half a minute
    let mac = cni::link::mac_of(record.address(number).into());
    links.add_veth(&port, "eth0", namespace.as_fd(), 0, mac)?;
    let link = links.by_name(&port)?;
    let link = link.ok_or_else(|| DevError::Network(format!("the link {port} went as it came")))?;
    links.set_master(link.index, master.index)?;
    links.set_up(link.index)?;
    cni::netns::inside(path, || inside(record, number))??;
    Ok(())
}

/// The node's side.
fn inside(record: &Record, number: u8) -> Result<(), netlink::Error> {
    let mut links = Links::open()?;
    for link in links.all()? {
        match link.name.as_str() {
            "lo" => links.set_up(link.index)?,
            "eth0" => {
                let address = Net {
                    ip: record.address(number).into(),
                    prefix: PREFIX,
                };
                links.add_address(link.index, address)?;
                links.set_up(link.index)?;
                let everywhere = Net {
                    ip: IpAddr::from([0, 0, 0, 0]),
                    prefix: 0,
                };
                links.add_route(link.index, &RouteSpec::new(everywhere, Some(record.gateway().into())))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Takes the bridge, the nodes' links and the rules down.
pub fn lower(record: &Record) -> Result<(), DevError> {
    let mut links = Links::open()?;
    for number in 0..record.nodes {
        if let Some(link) = links.by_name(&port_name(record, number))? {
            links.del(link.index)?;
        }
    }
    if let Some(link) = links.by_name(&bridge(record))? {
        links.del(link.index)?;
    }
    // added first, so that it is there to be deleted
    let mut batch = Batch::new(Family::Ipv4, &table(record));
    batch.add_table();
    batch.del_table();
    batch.commit()?;
    Ok(())
}
