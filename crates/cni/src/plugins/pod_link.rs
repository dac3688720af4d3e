//! The pod's end of a link: addresses, routes, and telling the neighbours; and the sysctls that go with it.

use std::net::IpAddr;
use std::path::Path;

use crate::link::{Links, Net, RouteSpec};
use crate::netlink;
use crate::netns::inside;
use crate::types::{PluginError, Route, code};

pub(super) fn link_error(what: &str) -> impl Fn(netlink::Error) -> PluginError + use<> {
    let what = what.to_owned();
    move |e| PluginError::io(&what, e)
}

pub(super) fn sysctl(path: &str, value: &str) -> Result<(), PluginError> {
    crate::sysctl::set(path, value).map_err(|e| PluginError::io(path, e))
}

/// Addresses and routes of the pod's end, and the neighbours told.
pub(super) fn configure(
    netns: &Path,
    name: &str,
    nets: &[(Net, Option<IpAddr>)],
    routes: &[Route],
) -> Result<(), PluginError> {
    let work = || -> Result<(), PluginError> {
        let failed = link_error(name);
        let mut links = Links::open().map_err(&failed)?;
        let missing = || PluginError::new(code::IO_FAILURE, format!("{name} is not in the namespace"));
        let link = links.by_name(name).map_err(&failed)?.ok_or_else(missing)?;
        // The kernel announces the address (gratuitous ARP, unsolicited neighbour advertisement) when the link
        // comes up, so that neighbours who knew the address from an earlier pod learn the new MAC.
        for family in ["ipv4", "ipv6"] {
            let notify = if family == "ipv4" { "arp_notify" } else { "ndisc_notify" };
            let path = format!("/proc/sys/net/{family}/conf/{name}/{notify}");
            if let Err(e) = std::fs::write(&path, "1") {
                tracing::debug!("{path}: {e}");
            }
        }
        // On a bridge that sends packets back (hairpin) the link would take its own search for a duplicate as one.
        let path = format!("/proc/sys/net/ipv6/conf/{name}/accept_dad");
        if let Err(e) = std::fs::write(&path, "0") {
            tracing::debug!("{path}: {e}");
        }
        if nets.iter().any(|(net, _)| net.ip.is_ipv6()) {
            sysctl(&format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "0")?;
        }
        for (net, _) in nets {
            links
                .add_address(link.index, *net)
                .map_err(link_error(&format!("{name}: {net}")))?;
        }
        links.set_up(link.index).map_err(&failed)?;
        for route in routes {
            let to: Net = route
                .dst
                .parse()
                .map_err(|e: crate::link::NetError| PluginError::new(code::DECODING_FAILURE, e.to_string()))?;
            let default = nets
                .iter()
                .find(|(n, _)| n.ip.is_ipv4() == to.ip.is_ipv4())
                .and_then(|(_, gw)| *gw);
            let spec = RouteSpec {
                mtu: route.mtu,
                advmss: route.advmss,
                priority: route.priority,
                table: route.table,
                scope: route.scope,
                ..RouteSpec::new(to, route.gw.or(default))
            };
            links
                .add_route(link.index, &spec)
                .map_err(link_error(&format!("{name}: route to {to}")))?;
        }
        Ok(())
    };
    inside(netns, work).map_err(|e| PluginError::new(code::IO_FAILURE, e.to_string()))?
}
