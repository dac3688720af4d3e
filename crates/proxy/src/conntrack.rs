//! UDP knows no end of a connection: a client that keeps its port would be sent to an endpoint that is gone for as
//! long as it goes on sending. So its entry is removed.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use cni::conntrack::{Flow, flush};

use crate::model::{Endpoint, Protocol, ServicePort};

const UDP: u8 = 17;

/// UDP services, and who may answer for them.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    by_address: HashMap<(IpAddr, u16), HashSet<(IpAddr, u16)>>,
    by_node_port: HashMap<u16, HashSet<(IpAddr, u16)>>,
}

impl Expected {
    /// A service without endpoints is left alone: there is nobody to move its clients to.
    pub(crate) fn add(&mut self, port: &ServicePort, endpoints: &[Endpoint]) {
        let serving = endpoints.iter().filter(|e| e.serving);
        let serving: HashSet<(IpAddr, u16)> = serving.map(|e| (e.ip, e.port)).collect();
        if port.protocol != Protocol::Udp || serving.is_empty() {
            return;
        }
        for ip in port.service_ips() {
            self.by_address.insert((ip, port.port), serving.clone());
        }
        if let Some(node_port) = port.node_port {
            self.by_node_port.insert(node_port, serving);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_address.is_empty()
    }

    /// Goes to one of the services, but not to an endpoint that serves it.
    fn is_stale(&self, flow: &Flow) -> bool {
        let (to, from) = (&flow.original, &flow.reply);
        if to.protocol != UDP {
            return false;
        }
        let address = self.by_address.get(&(to.destination, to.destination_port));
        let serving = address.or_else(|| self.by_node_port.get(&to.destination_port));
        serving.is_some_and(|serving| !serving.contains(&(from.source, from.source_port)))
    }

    /// Removes the stale entries. Blocks.
    pub(crate) fn clean(&self, v6: bool) -> Result<usize, cni::netlink::Error> {
        flush(v6, |flow| self.is_stale(flow))
    }
}
